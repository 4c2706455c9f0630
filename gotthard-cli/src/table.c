/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "table.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define WIDTH_MIN 20

int table_terminal_width(void)
{
    struct winsize size;

    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 0;
    return GT_MAX((int)size.ws_col, WIDTH_MIN);
}

static int line_width(const struct table_column *columns, size_t n)
{
    int width = 0;

    for (size_t i = 0; i < n; i++)
        if (columns[i].width > 0)
            width += columns[i].width + (width > 0 ? TABLE_GAP : 0);
    return width;
}

/* Shortens the widest columns that may be shortened. Returns the excess that remains. */
static int table_shorten(struct table_column *columns, size_t n, int excess)
{
    while (excess > 0) {
        struct table_column *widest = NULL;

        for (size_t i = 0; i < n; i++)
            if (columns[i].min > 0 && columns[i].width > columns[i].min &&
                (!widest || columns[i].width > widest->width))
                widest = &columns[i];
        if (!widest)
            break;
        widest->width--;
        excess--;
    }
    return excess;
}

static bool table_leave_out(struct table_column *columns, size_t n)
{
    struct table_column *last = NULL;

    for (size_t i = 0; i < n; i++)
        if (columns[i].width > 0 && columns[i].priority > (last ? last->priority : 0))
            last = &columns[i];
    if (last)
        last->width = 0;
    return last != NULL;
}

void table_fit(struct table_column *columns, size_t n, int width)
{
    if (width == 0)
        return;
    while (table_shorten(columns, n, line_width(columns, n) - width) > 0)
        if (!table_leave_out(columns, n))
            return;
}

const char *table_cell(const char *text, int width, char *ret, size_t cap)
{
    size_t max = GT_MIN((size_t)GT_MAX(width, 0), cap - 1), n = strlen(text);

    memcpy(ret, text, GT_MIN(n, max));
    ret[GT_MIN(n, max)] = 0;
    if (n > max && max >= 4)
        memcpy(ret + max - 3, "...", 3);
    return ret;
}
