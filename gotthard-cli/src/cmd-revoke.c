/* SPDX-License-Identifier: ISC */
/*
 * `revoke`: revokes an operator or a device in the access list, publishes it at the broker and the
 * relays, and counts the devices that have it.
 */
#include <string.h>

#include "access-change.h"
#include "access-count.h"
#include "command-line.h"

/* Revokes and counts. Returns 0 with *ret_code, or as access_change_apply(). */
static int revoke_and_count(struct access_change *change, const char *name, bool is_operator,
                            int *ret_code, struct failure *ret_failure)
{
    struct context *context = change->context;
    int r = access_change_load_key(change, ret_failure);

    if (r == 0)
        r = access_change_revoke(change, is_operator, name, ret_failure);
    access_broker_close(&change->broker);
    if (r == 0)
        *ret_code = access_count(context, &change->authority, &change->identity);
    return r;
}

/* The names of all tokens: they are devices at the relay. */
static bool is_enrolments(const char *name)
{
    return strcmp(name, GT_TEXT_RESERVED "*") == 0;
}

int cmd_revoke(struct context *context)
{
    bool is_operator = context->line->given[OPTION_DEVICE] == NULL;
    const char *name = context->arguments[0];
    struct access_change change;
    struct failure failure;
    int code = 0;

    if (!gt_text_is_name(gt_span_text(name)) && (is_operator || !is_enrolments(name)))
        return command_misused(context, "invalid name of %s: '%s'",
                               is_operator ? "an operator" : "a device", name);
    int r = access_change_begin(context, &change, &failure);
    if (r == 0)
        r = revoke_and_count(&change, name, is_operator, &code, &failure);
    access_change_end(&change);
    if (r == ACCESS_BROKER_E_INTERRUPTED)
        return GT_EXIT_INTERRUPTED;
    return r == 0 ? access_change_exit(&change, code) : print_failure(&context->print, &failure);
}
