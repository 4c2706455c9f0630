/* SPDX-License-Identifier: ISC */
/*
 * Remote strings in the log: escaped to a buffer whose size the first byte selects, and as parts of
 * a line. The result is printable ASCII only, nothing is written after the end of the buffer, and
 * the text adds no field to the line.
 */
#include "gotthard/base/format.h"
#include "gotthard/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_printable(const char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~')
            abort();
    }
}

/* Aborts unless the fields of @line are a, b and d, or the first of them. */
static void check_fields(const char *line)
{
    const char *names = "abd";

    while (*line) {
        size_t n_name = strspn(line, "abcdefghijklmnopqrstuvwxyz_-");

        if (n_name > 0 && line[n_name] == '=') {
            if (n_name != 1 || *line != *names++)
                abort();
            line += 2;
            line += *line == '"' ? 1 + strcspn(line + 1, "\"") : 0;
        }
        line += strcspn(line, " ");
        line += strspn(line, " ");
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
    size_t n_line = gt_format(GT_FORMAT_LOG, shown, cap, "a=%s b=\"%s\" c %s, %.5s d=%u:%s", line,
                              line, line, line, 7u, line);
    if (strlen(shown) != GT_MIN(n_line, cap - 1))
        abort();
    check_printable(shown);
    check_fields(shown);
    free(shown);
    free(line);
    return 0;
}
