/* SPDX-License-Identifier: ISC */
/* The lines of an audit, and what its chain shows; see the header. */
#include "audit-view.h"

#include <string.h>
#include <time.h>

#include "gotthard/base/text.h"

#define WARNINGS_MAX 10 /* the others are in the number of the result */

bool audit_view_parse_since(const char *text, time_t now,
                            char ret[static sizeof("2026-11-30T14:05:00.123Z")])
{
    static const char form[] = "0000-00-00T00:00:00Z";
    struct tm utc;
    uint64_t ms;

    if (gt_text_duration(text, &ms) == 0) {
        now -= (time_t)(ms / 1000);
        gmtime_r(&now, &utc);
        return strftime(ret, sizeof("2026-11-30T14:05:00"), "%Y-%m-%dT%H:%M:%S", &utc) > 0;
    }
    size_t n = strlen(text);
    if (n != strlen("2026-11-30") && n != strlen("2026-11-30T14:05") && n != strlen(form) - 1 &&
        n != strlen(form))
        return false;
    for (size_t i = 0; i < n; i++)
        if (form[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return false;
    memcpy(ret, text, n + 1);
    if (n == strlen(form))
        ret[n - 1] = 0; /* "...:00" is before "...:00.000Z" */
    return true;
}

static void warn(struct audit_view *view, const char *what)
{
    if (view->n_warnings++ < WARNINGS_MAX)
        print_warning(view->print, "%s: line %llu %s", view->name, (unsigned long long)view->n,
                      what);
}

static bool is_json(struct gt_span line)
{
    json_t *value =
        json_loadb((const char *)line.data, line.n, JSON_REJECT_DUPLICATES, &(json_error_t){0});
    bool is_object = json_is_object(value);

    json_decref(value);
    return is_object;
}

static void print_line(const struct audit_view *view, struct gt_span line,
                       const struct gt_audit_line *decoded)
{
    if (!view->is_silent && strcmp(decoded->time, view->since) >= 0)
        print_bytes(view->print, (const char *)line.data, line.n);
}

static const char *const warnings[] = {
    [GT_AUDIT_VERDICT_GOOD] = NULL,
    [GT_AUDIT_VERDICT_TORN] = "says that the bytes before it were not written completely",
    [GT_AUDIT_VERDICT_BROKEN] = "does not follow the line before: lines were changed or removed",
    [GT_AUDIT_VERDICT_MALFORMED] = "is no line of an audit",
    [GT_AUDIT_VERDICT_INCOMPLETE] = "is not complete",
};

static bool on_line(void *userdata, enum gt_audit_verdict verdict, struct gt_span line,
                    const struct gt_audit_line *decoded)
{
    struct audit_view *view = userdata;

    bool is_odd = decoded && !is_json(line);

    view->n++;
    if (warnings[verdict])
        warn(view, warnings[verdict]);
    if (is_odd)
        warn(view, "is not JSON");
    view->n_odd += is_odd;
    view->is_known_found |=
        decoded && view->known && memcmp(view->chain.head.hash, view->known, GT_KEY_SIZE) == 0;
    if (view->first_odd == 0 && (is_odd || verdict == GT_AUDIT_VERDICT_BROKEN))
        view->first_odd = view->n;
    if (decoded && !is_odd)
        print_line(view, line, decoded);
    return true;
}

void audit_view_init(struct audit_view *view, struct print *print, const char *name,
                     const char *since, bool is_silent)
{
    *view = (struct audit_view){.print = print, .name = name, .is_silent = is_silent};
    memcpy(view->since, since, strlen(since) + 1);
    gt_audit_chain_init(&view->chain, on_line, view);
}

void audit_view_require(struct audit_view *view, const uint8_t *known)
{
    view->known = known;
}

int audit_view_feed(struct audit_view *view, struct gt_span bytes)
{
    int r = gt_audit_chain_feed(&view->chain, bytes);

    return r > 0 ? -EIO : r;
}

static int set_broken(const struct audit_view *view, struct failure *ret)
{
    uint64_t line = view->first_odd ? view->first_odd : view->n;

    return failure_set(ret, FAILURE_AUDIT_BROKEN, NULL,
                       "the audit of %s is broken at line %llu: lines were changed or removed",
                       view->name, (unsigned long long)line);
}

int audit_view_end(struct audit_view *view, struct failure *ret_failure)
{
    const struct gt_audit_chain *chain = &view->chain;
    char hash[2 * GT_KEY_SIZE + 1];

    if (gt_audit_chain_end(&view->chain) != 0) /* on_line never stops it */
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", view->name);
    if (view->n_odd > 0 || !gt_audit_chain_is_intact(chain))
        return set_broken(view, ret_failure);
    if (view->known && !view->is_known_found)
        return failure_set(ret_failure, FAILURE_AUDIT_BROKEN, NULL,
                           "the audit of %s lacks the line of --known: lines were changed, or it "
                           "was removed with an old file",
                           view->name);
    if (chain->n_lines == 0)
        return failure_set(ret_failure, FAILURE_AUDIT_UNREADABLE, NULL,
                           "the audit of %s has no line", view->name);
    gt_text_hex(chain->head.hash, GT_KEY_SIZE, hash);
    print_note(view->print, "%s: the chain of %llu lines is intact up to number %llu, SHA-256 %s",
               view->name, (unsigned long long)chain->n_lines, (unsigned long long)chain->head.seq,
               hash);
    print_event(view->print, "verified", "{s:I, s:I, s:s, s:I}", "lines",
                (json_int_t)chain->n_lines, "seq", (json_int_t)chain->head.seq, "hash", hash,
                "torn", (json_int_t)chain->n_torn);
    return 0;
}
