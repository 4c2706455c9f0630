/* SPDX-License-Identifier: ISC */
/*
 * A greedy line breaker. A word longer than the width gets a line of its own.
 */
#include "gotthard/config/wrap.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void add_word(struct gt_wrap *wrap, const char *word, size_t n)
{
    if (wrap->column > 0 && wrap->column + 1 + n > GT_WRAP_WIDTH)
        gt_wrap_end(wrap);
    bool is_first = wrap->column == 0;
    dprintf(wrap->fd, "%s%.*s", is_first ? wrap->prefix : " ", (int)n, word);
    wrap->column += (is_first ? strlen(wrap->prefix) : 1) + n;
}

void gt_wrap_text(struct gt_wrap *wrap, const char *text)
{
    while (*(text += strspn(text, " "))) {
        size_t n = strcspn(text, " ");

        add_word(wrap, text, n);
        text += n;
    }
}

void gt_wrap_end(struct gt_wrap *wrap)
{
    if (wrap->column > 0)
        dprintf(wrap->fd, "\n");
    wrap->column = 0;
}

void gt_wrap_paragraph(int fd, const char *prefix, const char *text)
{
    struct gt_wrap wrap = {fd, prefix, 0};

    gt_wrap_text(&wrap, text);
    gt_wrap_end(&wrap);
}

const char *gt_wrap_escape(const char *text, char *ret, size_t cap)
{
    size_t n = 0;

    for (; *text && n + 3 < cap; text++) {
        if (strchr("\\*_<>", *text))
            ret[n++] = '\\';
        ret[n++] = *text;
    }
    ret[n] = 0;
    return ret;
}
