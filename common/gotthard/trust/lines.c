/* SPDX-License-Identifier: ISC */
/* The lines and words of pin files and access lists; see the header. */
#include "gotthard/trust/lines.h"

#define BOM "\xef\xbb\xbf"

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

struct gt_span gt_line_word(struct gt_span *line)
{
    while (line->n && is_blank(*line->data))
        *line = gt_span(line->data + 1, line->n - 1);
    size_t n = 0;
    while (n < line->n && !is_blank(line->data[n]))
        n++;
    struct gt_span word = gt_span(line->data, n);
    *line = gt_span(line->data + n, line->n - n);
    return word;
}

struct gt_span gt_line_until(struct gt_span *text, char separator)
{
    const uint8_t *at = text->n ? memchr(text->data, separator, text->n) : NULL;
    size_t n = at ? (size_t)(at - text->data) : text->n;
    struct gt_span taken = gt_span(text->data, n);

    *text = at ? gt_span(at + 1, text->n - n - 1) : gt_span(text->data + n, 0);
    return taken;
}

static bool is_printable(struct gt_span line)
{
    for (size_t i = 0; i < line.n; i++)
        if ((line.data[i] < 0x20 && line.data[i] != '\t') || line.data[i] > 0x7e)
            return false;
    return true;
}

/* Removes the CR of a line that ends with CRLF. */
static struct gt_span without_cr(struct gt_span line)
{
    return gt_span(line.data, line.n - (line.n > 0 && line.data[line.n - 1] == '\r'));
}

static bool has_word(struct gt_span line)
{
    struct gt_span first = gt_line_word(&line);

    return first.n && *first.data != '#';
}

void gt_lines_init(struct gt_lines *lines, struct gt_span text)
{
    size_t n = strlen(BOM);

    if (text.n >= n && memcmp(text.data, BOM, n) == 0)
        text = gt_span(text.data + n, text.n - n);
    *lines = (struct gt_lines){.left = text};
}

int gt_lines_next(struct gt_lines *lines, struct gt_span *ret_line, const char **ret_why)
{
    while (lines->left.n) {
        struct gt_span line = without_cr(gt_line_until(&lines->left, '\n'));

        lines->n++;
        if (line.n > GT_LINE_MAX || !is_printable(line)) {
            *ret_why =
                line.n > GT_LINE_MAX ? "line too long" : "control character or non-ASCII character";
            return GT_LINES_E_SYNTAX;
        }
        if (has_word(line)) {
            *ret_line = line;
            return 0;
        }
    }
    return GT_LINES_E_END;
}
