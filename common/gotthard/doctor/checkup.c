/* SPDX-License-Identifier: ISC */
/* Rows and their lines; see the header. */
#include "gotthard/doctor/checkup.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "gotthard/base/text.h"

#define WIDTH_MIN 40 /* columns: a narrower terminal breaks the lines itself */
#define INDENT    4

/* --- rows ------------------------------------------------------------------------------------- */

GT_PRINTF(3, 0)
static void checkup_add(struct gt_checkup *checkup, struct gt_check_row *row, const char *fmt,
                        va_list args)
{
    vsnprintf(row->text, sizeof(row->text), fmt, args);
    if (checkup->is_interrupted)
        return;
    checkup->n[row->result]++;
    if (row->result == GT_CHECK_FAILURE && checkup->exit == 0)
        checkup->exit = row->exit;
    checkup->on_row(checkup->userdata, row);
}

void gt_checkup_ok(struct gt_checkup *checkup, const char *name, const char *fmt, ...)
{
    struct gt_check_row row = {.name = name, .result = GT_CHECK_OK};
    va_list args;

    va_start(args, fmt);
    checkup_add(checkup, &row, fmt, args);
    va_end(args);
}

void gt_checkup_warn(struct gt_checkup *checkup, const char *name, const char *remedy,
                     const char *fmt, ...)
{
    struct gt_check_row row = {.name = name, .result = GT_CHECK_WARNING};
    va_list args;

    snprintf(row.remedy, sizeof(row.remedy), "%s", remedy);
    va_start(args, fmt);
    checkup_add(checkup, &row, fmt, args);
    va_end(args);
}

void gt_checkup_fail(struct gt_checkup *checkup, const char *name,
                     const struct gt_check_fault *fault, const char *fmt, ...)
{
    struct gt_check_row row = {
        .name = name, .result = GT_CHECK_FAILURE, .id = fault->id, .exit = fault->exit};
    va_list args;

    snprintf(row.remedy, sizeof(row.remedy), "%s", fault->remedy);
    va_start(args, fmt);
    checkup_add(checkup, &row, fmt, args);
    va_end(args);
}

GT_PRINTF(3, 4)
static void checkup_add_text(struct gt_checkup *checkup, struct gt_check_row *row, const char *fmt,
                             ...)
{
    va_list args;

    va_start(args, fmt);
    checkup_add(checkup, row, fmt, args);
    va_end(args);
}

void gt_checkup_skip(struct gt_checkup *checkup, const char *name, const char *why)
{
    struct gt_check_row row = {.name = name, .result = GT_CHECK_SKIPPED};

    checkup_add_text(checkup, &row, "%s", why);
}

/* --- lines for people ------------------------------------------------------------------------- */

static const struct {
    const char *text, *mark, *word, *color;
} results[GT_CHECK_RESULTS] = {
    [GT_CHECK_OK] = {"ok", "✓ ", "ok: ", "\033[32m"},
    [GT_CHECK_WARNING] = {"warning", "! ", "warning: ", "\033[33m"},
    [GT_CHECK_FAILURE] = {"failure", "✗ ", "error: ", "\033[31m"},
    [GT_CHECK_SKIPPED] = {"skipped", "- ", "skipped: ", ""},
};

const char *gt_check_result_text(enum gt_check_result result)
{
    return results[result].text;
}

struct page { /* text that is broken between words */
    char *text;
    size_t n, cap;
    unsigned column, width; /* 0: unlimited */
};

static void page_write(struct page *page, const char *text, size_t n)
{
    n = GT_MIN(n, page->cap - 1 - page->n);
    memcpy(page->text + page->n, text, n);
    page->n += n;
    page->text[page->n] = 0;
}

static void page_begin_line(struct page *page)
{
    page_write(page, "\n                ", 1 + INDENT);
    page->column = INDENT;
}

/* @text: ASCII. A word that is longer than a line is not broken: it may be a command or a path. */
static void page_write_words(struct page *page, const char *text)
{
    while (*text) {
        size_t n_blanks = strspn(text, " "), n = strcspn(text + n_blanks, " ");
        bool is_begun = page->column > INDENT;

        if (page->width > 0 && is_begun && page->column + n_blanks + n > page->width) {
            page_begin_line(page);
            n_blanks = 0;
            text += strspn(text, " ");
        }
        page_write(page, text, n_blanks + n);
        page->column += (unsigned)(n_blanks + n);
        text += n_blanks + n;
    }
}

static void page_write_escaped(struct page *page, const char *text)
{
    char escaped[2 * GT_CHECK_TEXT];

    page_write_words(page, gt_text_escape(gt_span_text(text), escaped, sizeof(escaped)));
}

static void page_write_mark(struct page *page, const struct gt_check_row *row,
                            const struct gt_check_style *style)
{
    const char *mark = style->has_marks ? results[row->result].mark : results[row->result].word;
    const char *color = style->has_color ? results[row->result].color : "";

    page_write(page, color, strlen(color));
    page_write(page, mark, strlen(mark));
    if (*color)
        page_write(page, "\033[0m", strlen("\033[0m"));
    page->column = style->has_marks ? 2 : (unsigned)strlen(mark);
}

const char *gt_check_format(const struct gt_check_row *row, const struct gt_check_style *style,
                            char *ret, size_t cap)
{
    struct page page = {.text = ret, .cap = cap, .width = style->width};
    char id[24] = "";

    page_write_mark(&page, row, style);
    page_write_words(&page, row->name);
    page_write(&page, ": ", 2);
    page.column += 2;
    page_write_escaped(&page, row->text);
    if (*row->remedy) {
        page_begin_line(&page);
        page_write_escaped(&page, row->remedy);
    }
    if (row->id > 0)
        snprintf(id, sizeof(id), "  [GTD-E%d]", row->id);
    page_write_words(&page, id);
    page_write(&page, "\n", 1);
    return ret;
}

/* Appends a member, after the first one with a comma. Text from outside becomes ASCII first. */
static size_t append_json(char *ret, size_t cap, size_t n, const char *key, const char *text)
{
    char escaped[2 * GT_CHECK_TEXT];

    gt_text_escape(gt_span_text(text), escaped, sizeof(escaped));
    n += (size_t)snprintf(ret + n, cap - n, "%s\"%s\":\"", n > 1 ? "," : "", key);
    for (const char *c = escaped; *c && n + 3 < cap; c++) {
        if (*c == '"' || *c == '\\')
            ret[n++] = '\\';
        ret[n++] = *c;
    }
    return n + (size_t)snprintf(ret + n, cap - n, "\"");
}

const char *gt_check_format_json(const struct gt_check_row *row, char *ret, size_t cap)
{
    char id[24];
    size_t n = (size_t)snprintf(ret, cap, "{");

    n = append_json(ret, cap, n, "event", "check");
    n = append_json(ret, cap, n, "check", row->name);
    n = append_json(ret, cap, n, "result", gt_check_result_text(row->result));
    n = append_json(ret, cap, n, "text", row->text);
    if (*row->remedy)
        n = append_json(ret, cap, n, "hint", row->remedy);
    snprintf(id, sizeof(id), "GTD-E%d", row->id);
    if (row->id > 0)
        n = append_json(ret, cap, n, "id", id);
    snprintf(ret + n, cap - n, "}\n");
    return ret;
}

static const char *plural(unsigned n)
{
    return n == 1 ? "" : "s";
}

const char *gt_checkup_format(const struct gt_checkup *checkup, char *ret, size_t cap)
{
    unsigned n_failed = checkup->n[GT_CHECK_FAILURE], n_warned = checkup->n[GT_CHECK_WARNING];

    if (n_failed + n_warned == 0)
        snprintf(ret, cap, "No fault was found.\n");
    else
        snprintf(ret, cap, "%u failure%s, %u warning%s.\n", n_failed, plural(n_failed), n_warned,
                 plural(n_warned));
    return ret;
}

/* --- style ------------------------------------------------------------------------------------ */

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);

    return value && *value;
}

static unsigned terminal_width(void)
{
    struct winsize size;

    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return 0;
    return GT_MAX(size.ws_col, (unsigned)WIDTH_MIN);
}

struct gt_check_style gt_check_style_of_stdout(bool is_plain_color)
{
    setlocale(LC_CTYPE, "");
    const char *terminal = getenv("TERM");
    bool is_dumb = !terminal || !*terminal || strcmp(terminal, "dumb") == 0;
    return (struct gt_check_style){
        .has_marks = !is_dumb && strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
        .has_color = isatty(STDOUT_FILENO) && !is_plain_color && !is_set("NO_COLOR") && !is_dumb,
        .width = terminal_width(),
    };
}
