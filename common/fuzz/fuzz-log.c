/* SPDX-License-Identifier: ISC */
/*
 * What strangers cause to be logged: escaped into a buffer whose size the first byte chooses, and
 * cleaned as a line. Nothing but printable ASCII comes out, and nothing is written past the end.
 */
#include "gotthard/log.h"
#include "gotthard/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_printable(const char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~')
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    size_t cap = data[0] + 1u;
    char *shown = malloc(cap), *line = malloc(n);
    if (!shown || !line)
        abort();
    gt_text_escape(gt_span(data + 1, n - 1), shown, cap);
    if (strlen(shown) >= cap)
        abort();
    check_printable(shown);

    memcpy(line, data + 1, n - 1);
    line[n - 1] = 0;
    size_t n_line = strlen(line);
    gt_log_clean(line);
    if (strlen(line) != n_line)
        abort();
    check_printable(line);
    free(shown);
    free(line);
    return 0;
}
