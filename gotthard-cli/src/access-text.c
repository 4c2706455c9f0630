/* SPDX-License-Identifier: ISC */
/* A body is walked in lines with their newlines; see the header. */
#include "access-text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/trust/lines.h"
#include "gotthard/trust/pin.h"

#define HEAD_MAX 80

/* A line of a body, in words. */
struct line {
    struct gt_span raw; /* with its newline */
    struct gt_span kind, name, left;
};

/* --- lines ------------------------------------------------------------------------------------ */

/* Takes the next line of *at. Returns false at the end. */
static bool next_line(const char **at, struct line *ret)
{
    const char *start = *at, *end = strchr(start, '\n');

    if (!*start)
        return false;
    *at = end ? end + 1 : start + strlen(start);
    ret->raw = gt_span(start, (size_t)(*at - start));
    ret->left = gt_span(start, (size_t)(*at - start) - (end != NULL));
    if (ret->left.n > 0 && ret->left.data[ret->left.n - 1] == '\r')
        ret->left.n--;
    ret->kind = gt_line_word(&ret->left);
    struct gt_span entry = ret->left;
    ret->name = gt_line_word(&ret->left);
    ret->left = entry; /* all behind the kind */
    return true;
}

static bool is_word(struct gt_span word, const char *text)
{
    return gt_span_equals(word, gt_span_text(text));
}

static bool is_head(const struct line *line)
{
    return is_word(line->kind, "serial") || is_word(line->kind, "issued") ||
           is_word(line->kind, "signature");
}

static const char *kind_of(bool is_operator)
{
    return is_operator ? "operator" : "device";
}

static bool is_entry(const struct line *line, bool is_operator, const char *name)
{
    return is_word(line->kind, kind_of(is_operator)) && is_word(line->name, name);
}

/* Returns true for the line `revoked` of the name. */
static bool is_revocation(const struct line *line, bool is_operator, const char *name)
{
    struct gt_span of = line->name, kind = gt_line_until(&of, ':');

    return is_word(line->kind, "revoked") && is_word(kind, is_operator ? "o" : "d") &&
           is_word(of, name);
}

/* A text that is being written; ->text is the caller's. */
struct output {
    char *text;
    size_t n;
};

/* Returns a buffer for a body of at most @n bytes and a newline. */
static bool output_begin(struct output *output, size_t n)
{
    output->text = malloc(n + 2);
    output->n = 0;
    return output->text != NULL;
}

/* The caller knows that there is room. */
static void output_add(struct output *output, struct gt_span text)
{
    memcpy(output->text + output->n, text.data, text.n);
    output->n += text.n;
}

static void output_end_line(struct output *output)
{
    if (output->n > 0 && output->text[output->n - 1] != '\n')
        output->text[output->n++] = '\n';
    output->text[output->n] = 0;
}

/* --- head ------------------------------------------------------------------------------------- */

char *access_text_body(const char *text)
{
    struct output output;
    struct line line;

    if (!output_begin(&output, strlen(text)))
        return NULL;
    while (next_line(&text, &line))
        if (!is_head(&line))
            output_add(&output, line.raw);
    output_end_line(&output);
    return output.text;
}

char *access_text_with_head(const char *body, uint64_t serial, time_t issued)
{
    char head[HEAD_MAX], time[sizeof("YYYY-MM-DDTHH:MM:SSZ") + 8];
    struct output output;
    struct tm tm;

    if (!gmtime_r(&issued, &tm) || !strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%SZ", &tm) ||
        !output_begin(&output, sizeof(head) + strlen(body)))
        return NULL;
    snprintf(head, sizeof(head), "serial %llu\nissued %s\n", (unsigned long long)serial, time);
    output_add(&output, gt_span_text(head));
    output_add(&output, gt_span_text(body));
    output_end_line(&output);
    return output.text;
}

/* --- entries ---------------------------------------------------------------------------------- */

/* Parses an entry without its kind. Returns as gt_pin_parse(). */
static int parse_entry(struct gt_span words, bool is_operator, struct gt_pin *ret,
                       const char **ret_why)
{
    static const struct gt_pin_form forms[] = {
        {.is_device = true,
         .unknown_why = "unknown word after the fingerprint; a device may have until="},
        {.has_role = true,
         .has_services = true,
         .has_devices = true,
         .unknown_why =
             "unknown word after the fingerprint; use role=, services=, devices= or until="},
    };

    return gt_pin_parse(words, &forms[is_operator], ret, ret_why);
}

/* Returns the kind of another entry that has the key, with its name in @ret (GT_NAME_MAX + 1); or
 * NULL. A key of an operator is no device, and vice versa. */
static const char *find_key(const char *body, bool is_operator, const uint8_t *fingerprint,
                            char *ret)
{
    const char *why;
    struct line line;

    while (next_line(&body, &line)) {
        struct gt_pin pin = {0};

        if (!is_word(line.kind, kind_of(is_operator)) ||
            parse_entry(line.left, is_operator, &pin, &why) != 0)
            continue;
        bool is_same = memcmp(pin.fingerprint, fingerprint, sizeof(pin.fingerprint)) == 0;
        strcpy(ret, pin.name);
        gt_pin_deinit(&pin);
        if (is_same)
            return kind_of(is_operator);
    }
    return NULL;
}

bool access_text_is_revoked(const char *body, bool is_operator, const char *name)
{
    struct line line;

    while (next_line(&body, &line))
        if (is_revocation(&line, is_operator, name))
            return true;
    return false;
}

static int check_new(const char *body, bool is_operator, const struct gt_pin *pin, char *ret_why)
{
    char name[GT_NAME_MAX + 1];
    const char *kind = find_key(body, !is_operator, pin->fingerprint, name);

    if (access_text_is_revoked(body, is_operator, pin->name)) {
        snprintf(ret_why, ACCESS_TEXT_WHY,
                 "%s is revoked, and its name must not be used again before the fleet key has "
                 "changed: keys that were derived for the name would work again",
                 pin->name);
        return ACCESS_TEXT_E_REFUSED;
    }
    if (!kind)
        return 0;
    snprintf(ret_why, ACCESS_TEXT_WHY, "this is the key of the %s %s", kind, name);
    return ACCESS_TEXT_E_REFUSED;
}

static int append(const char *body, const char *kind, const char *words, char **ret)
{
    struct output output;

    if (!output_begin(&output, strlen(body) + strlen(kind) + strlen(words) + 3))
        return -ENOMEM;
    output_add(&output, gt_span_text(body));
    output_end_line(&output);
    output_add(&output, gt_span_text(kind));
    output_add(&output, gt_span_text(" "));
    output_add(&output, gt_span_text(words));
    output_end_line(&output);
    *ret = output.text;
    return 0;
}

int access_text_add(const char *body, bool is_operator, const char *words, char **ret,
                    char ret_why[static ACCESS_TEXT_WHY])
{
    struct gt_pin pin = {0};
    const char *why = "";
    int r = parse_entry(gt_span_text(words), is_operator, &pin, &why);

    if (r != 0) {
        snprintf(ret_why, ACCESS_TEXT_WHY, "%s", why);
        return r < 0 ? r : ACCESS_TEXT_E_REFUSED;
    }
    r = check_new(body, is_operator, &pin, ret_why);
    gt_pin_deinit(&pin);
    return r ? r : append(body, kind_of(is_operator), words, ret);
}

bool access_text_has(const char *body, bool is_operator, const char *name)
{
    struct line line;

    while (next_line(&body, &line))
        if (is_entry(&line, is_operator, name))
            return true;
    return false;
}

int access_text_drop(const char *body, bool is_operator, const char *name, char **ret,
                     size_t *ret_n)
{
    struct output output;
    struct line line;

    if (!output_begin(&output, strlen(body)))
        return -ENOMEM;
    *ret_n = 0;
    while (next_line(&body, &line)) {
        if (is_entry(&line, is_operator, name))
            ++*ret_n;
        else
            output_add(&output, line.raw);
    }
    output_end_line(&output);
    *ret = output.text;
    return 0;
}

int access_text_revoke(const char *body, bool is_operator, const char *name, char **ret,
                       size_t *ret_n)
{
    char words[GT_NAME_MAX + sizeof("o:")];
    char *without = NULL;
    int r = access_text_drop(body, is_operator, name, &without, ret_n);

    if (r != 0)
        return r;
    if (access_text_is_revoked(body, is_operator, name)) {
        *ret = without;
        return 0;
    }
    snprintf(words, sizeof(words), "%c:%s", is_operator ? 'o' : 'd', name);
    r = append(without, "revoked", words, ret);
    free(without);
    return r;
}

/* --- names ------------------------------------------------------------------------------------ */

/* A name of a line: an entry, or revoked. */
struct name {
    struct gt_span name;
    bool is_operator, is_revoked;
};

static bool take_name(const struct line *line, struct name *ret)
{
    struct gt_span of = line->name, kind;

    *ret = (struct name){.name = of, .is_operator = is_word(line->kind, "operator")};
    if (ret->is_operator || is_word(line->kind, "device"))
        return true;
    kind = gt_line_until(&of, ':');
    *ret = (struct name){.name = of, .is_operator = is_word(kind, "o"), .is_revoked = true};
    return is_word(line->kind, "revoked");
}

/* By kind and name. */
static int name_compare(const void *a, const void *b)
{
    const struct name *left = a, *right = b;
    int order = left->is_operator - right->is_operator;

    if (!order)
        order = memcmp(left->name.data, right->name.data, GT_MIN(left->name.n, right->name.n));
    return order ? order : (left->name.n > right->name.n) - (left->name.n < right->name.n);
}

/* Returns the sorted names of a body, or NULL without memory. */
static struct name *collect_names(const char *body, size_t *ret_n)
{
    size_t n = 1;
    struct line line;

    for (const char *at = body; *at; at++)
        n += *at == '\n';
    struct name *names = calloc(n, sizeof(*names));
    *ret_n = 0;
    while (names && next_line(&body, &line))
        *ret_n += take_name(&line, &names[*ret_n]);
    if (*ret_n > 0)
        qsort(names, *ret_n, sizeof(*names), name_compare);
    return names;
}

/* Returns true if the name is in @all, and revoked there if it was before. */
static bool is_kept(const struct name *name, const struct name *all, size_t n)
{
    const struct name *found = n > 0 ? bsearch(name, all, n, sizeof(*all), name_compare) : NULL;

    if (!found || !name->is_revoked)
        return found != NULL;
    while (found > all && name_compare(found - 1, name) == 0)
        found--;
    for (; found < all + n && name_compare(found, name) == 0; found++)
        if (found->is_revoked)
            return true;
    return false;
}

static void explain_lost(const struct name *name, char *ret_why)
{
    snprintf(ret_why, ACCESS_TEXT_WHY, "%s %.*s %s", kind_of(name->is_operator), (int)name->name.n,
             (const char *)name->name.data,
             name->is_revoked ? "was revoked and is not any more"
                              : "has neither an entry nor a line revoked any more");
}

bool access_text_loses(const char *before, const char *after, char ret_why[static ACCESS_TEXT_WHY])
{
    size_t n_before, n_after;
    struct name *old = collect_names(before, &n_before), *new = collect_names(after, &n_after);
    bool is_lost = !old || !new;

    if (is_lost)
        snprintf(ret_why, ACCESS_TEXT_WHY, "out of memory");
    for (size_t i = 0; i < n_before && !is_lost; i++) {
        is_lost = !is_kept(&old[i], new, n_after);
        if (is_lost)
            explain_lost(&old[i], ret_why);
    }
    free(old);
    free(new);
    return is_lost;
}

void access_text_each_device(const char *body, access_text_device_fn on_device, void *userdata)
{
    char name[GT_NAME_MAX + 1];
    struct line line;

    while (next_line(&body, &line)) {
        if (!is_word(line.kind, "device") || !gt_text_is_name(line.name))
            continue;
        memcpy(name, line.name.data, line.name.n);
        name[line.name.n] = 0;
        on_device(userdata, name);
    }
}
