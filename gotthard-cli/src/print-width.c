/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "print-width.h"

#include <string.h>
#include <sys/ioctl.h>

#include "gotthard/base/bytes.h"

#define INDENT_MIN 2
#define INDENT_MAX 8

unsigned print_terminal_width(int fd)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 0;
    return GT_MAX(size.ws_col, PRINT_WIDTH_MIN);
}

static bool is_first_byte(char byte)
{
    return ((unsigned char)byte & 0xc0) != 0x80;
}

static size_t count_columns(const char *text, size_t n)
{
    size_t n_columns = 0;

    for (size_t i = 0; i < n; i++)
        n_columns += is_first_byte(text[i]);
    return n_columns;
}

struct wrapped {
    char *ret;
    size_t n, cap;
    size_t column, indent;
};

static void put(struct wrapped *wrapped, const char *text, size_t n)
{
    n = GT_MIN(n, wrapped->cap - 1 - wrapped->n);
    memcpy(wrapped->ret + wrapped->n, text, n);
    wrapped->n += n;
    wrapped->column += count_columns(text, n);
}

static void begin_line(struct wrapped *wrapped, size_t indent)
{
    static const char blanks[INDENT_MAX + 1] = "        ";

    put(wrapped, "\n", 1);
    wrapped->column = 0;
    put(wrapped, blanks, indent);
}

/* A word with the blanks before it, which are dropped at a break. */
static void put_word(struct wrapped *wrapped, const char *text, size_t n_blanks, size_t n_word,
                     unsigned width)
{
    size_t end = wrapped->column + n_blanks + count_columns(text + n_blanks, n_word);

    if (width > 0 && end > width && wrapped->column > wrapped->indent) {
        begin_line(wrapped, wrapped->indent);
        put(wrapped, text + n_blanks, n_word);
    } else {
        put(wrapped, text, n_blanks + n_word);
    }
}

size_t print_wrap(const char *text, unsigned width, char *ret, size_t cap)
{
    struct wrapped wrapped = {.ret = ret, .cap = cap};

    for (bool is_first = true; is_first || *text == '\n'; is_first = false) {
        if (!is_first) {
            begin_line(&wrapped, 0);
            text++;
        }
        wrapped.indent = GT_MIN(GT_MAX(strspn(text, " "), (size_t)INDENT_MIN), (size_t)INDENT_MAX);
        while (*text && *text != '\n') {
            size_t n_blanks = strspn(text, " "), n_word = strcspn(text + n_blanks, " \n");

            put_word(&wrapped, text, n_blanks, n_word, width);
            text += n_blanks + n_word;
        }
    }
    ret[wrapped.n] = 0;
    return wrapped.n;
}

size_t print_columns(const char *text)
{
    return count_columns(text, strlen(text));
}

char *print_shorten(char *text, unsigned width)
{
    size_t n = strlen(text), n_columns = 0;

    if (width < 4 || count_columns(text, n) <= width)
        return text;
    for (size_t i = 0; i < n; i++) {
        if (is_first_byte(text[i]) && n_columns++ == width - 3) {
            memcpy(text + i, "...", 4); /* at least 4 bytes follow */
            break;
        }
    }
    return text;
}
