/* SPDX-License-Identifier: ISC */
/*
 * `access`: the signed access list, on the machine that has the authority's key. init makes the
 * key; the others show, change or publish the list.
 */
#include <stdio.h>
#include <string.h>

#include "access-change.h"
#include "access-edit.h"
#include "access-text.h"

/* Ends the change, and prints the failure, unless a signal ended the command. Returns the exit
 * status. */
static int finish(struct access_change *change, int r, const struct failure *failure)
{
    struct print *print = &change->context->print;

    access_change_end(change);
    if (r == ACCESS_BROKER_E_INTERRUPTED)
        return GT_EXIT_INTERRUPTED;
    return r == 0 ? access_change_exit(change, 0) : print_failure(print, failure);
}

/* --- init and show ---------------------------------------------------------------------------- */

static int access_init(struct context *context)
{
    char public_key[GT_AUTHORITY_TEXT_MAX];
    const char *path = context->settings->trust_authority_key;
    struct failure failure;

    if (authority_create(context->settings, public_key, &failure) != 0)
        return print_failure(&context->print, &failure);
    print_data(&context->print, "%s\n", public_key);
    print_note(&context->print,
               "%s is the private key of this fleet's authority: keep it with the fleet key, and a "
               "copy in a safe place. One authority serves one fleet.",
               path);
    print_note(&context->print,
               "Next: add each operator (gotthard-cli access add operator NAME FINGERPRINT). Then "
               "set trust.authority to the line above on every device: a device with it grants "
               "only what the list states.");
    return 0;
}

static int access_show(struct context *context)
{
    struct authority authority;
    struct failure failure;
    int code = 0;

    if (authority_load(context->settings, false, &authority, &failure) != 0)
        code = print_failure(&context->print, &failure);
    else if (authority.text)
        print_bytes(&context->print, authority.text, authority.n_text);
    else
        print_note(&context->print, "There is no access list yet.");
    authority_deinit(&authority);
    return code;
}

/* --- changes ---------------------------------------------------------------------------------- */

/* Reads "operator" or "device" out of argument 1, and checks the name behind it. */
static bool take_kind(struct context *context, bool *ret_is_operator)
{
    const char *kind = context->arguments[1];

    *ret_is_operator = strcmp(kind, "operator") == 0;
    if (!*ret_is_operator && strcmp(kind, "device") != 0) {
        command_misused(context, "'%s' must be operator or device", kind);
        return false;
    }
    if (gt_text_is_name(gt_span_text(context->arguments[2])))
        return true;
    command_misused(context, "invalid name of %s: '%s'",
                    *ret_is_operator ? "an operator" : "a device", context->arguments[2]);
    return false;
}

static int add_to(struct access_change *change, bool is_operator, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *words = command_join_arguments(change->context, 2);
    gt_cleanup(gt_free) char *body = NULL;
    char why[ACCESS_TEXT_WHY] = "";
    int r = words ? access_text_add(change->body, is_operator, words, &body, why) : -ENOMEM;

    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    if (r > 0)
        return failure_set(ret_failure, FAILURE_USAGE, NULL, "access add: %s", why);
    return access_change_apply(change, body, ret_failure);
}

static int access_add(struct context *context)
{
    struct access_change change;
    struct failure failure;
    bool is_operator;

    if (context->n_arguments < 4)
        return command_misused(context, "missing argument");
    if (!take_kind(context, &is_operator))
        return GT_EXIT_USAGE;
    int r = access_change_begin(context, &change, &failure);
    if (r == 0)
        r = add_to(&change, is_operator, &failure);
    return finish(&change, r, &failure);
}

static int access_remove(struct context *context)
{
    struct access_change change;
    struct failure failure;
    bool is_operator;

    if (context->n_arguments != 3)
        return command_misused(context, "remove needs operator or device, and a name");
    if (!take_kind(context, &is_operator))
        return GT_EXIT_USAGE;
    int r = access_change_begin(context, &change, &failure);
    if (r == 0)
        r = access_change_revoke(&change, is_operator, context->arguments[2], &failure);
    return finish(&change, r, &failure);
}

/* Signs the present entries again, so that they are younger than trust.access_max_age. */
static int refresh_of(struct access_change *change, struct failure *ret_failure)
{
    return access_change_apply(change, change->body, ret_failure);
}

static int publish_of(struct access_change *change, struct failure *ret_failure)
{
    if (!change->authority.text)
        return failure_set(ret_failure, FAILURE_AUTHORITY,
                           "add the first entry: gotthard-cli access add operator NAME FINGERPRINT",
                           "there is no access list yet");
    return access_change_apply(change, NULL, ret_failure);
}

/* Takes the list at the broker, which another machine with this key has signed. */
static int fetch_of(struct access_change *change, struct failure *ret_failure)
{
    struct access_broker *broker = &change->broker;
    struct print *print = &change->context->print;
    int r = access_broker_open(change->context, &change->authority, &change->identity, broker,
                               ret_failure);

    if (r == 0 && access_broker_check(broker, ret_failure) == 0) {
        print_note(print, "The broker has no newer access list.");
        return 0;
    }
    if (r == 0)
        r = access_broker_fetch(broker, ret_failure);
    if (r == 0)
        r = authority_take(&change->authority, gt_span(broker->text, broker->n_text), ret_failure);
    if (r == 0)
        r = authority_store(&change->authority, ret_failure);
    if (r == 0)
        print_note(print, "Took the access list %llu from the broker.",
                   (unsigned long long)authority_serial(&change->authority));
    return r;
}

/* --- the command ------------------------------------------------------------------------------ */

typedef int (*change_fn)(struct access_change *change, struct failure *ret_failure);

static int run_change(struct context *context, change_fn fn)
{
    struct access_change change;
    struct failure failure;
    int r = access_change_begin(context, &change, &failure);

    if (r == 0)
        r = fn(&change, &failure);
    return finish(&change, r, &failure);
}

int cmd_access(struct context *context)
{
    static const struct {
        const char *word;
        int (*run)(struct context *context);
        change_fn change; /* without arguments; NULL: ->run */
    } actions[] = {
        {"init", access_init, NULL},     {"show", access_show, NULL}, {"add", access_add, NULL},
        {"remove", access_remove, NULL}, {"edit", NULL, access_edit}, {"refresh", NULL, refresh_of},
        {"publish", NULL, publish_of},   {"fetch", NULL, fetch_of},
    };
    const char *word = context->arguments[0];
    bool has_arguments = strcmp(word, "add") == 0 || strcmp(word, "remove") == 0;

    if (context->n_arguments > 1 && !has_arguments)
        return command_misused(context, "unexpected argument '%s'", context->arguments[1]);
    for (size_t i = 0; i < GT_ARRAY_SIZE(actions); i++)
        if (strcmp(actions[i].word, word) == 0)
            return actions[i].change ? run_change(context, actions[i].change)
                                     : actions[i].run(context);
    return command_misused(context,
                           "unknown word '%s', must be init, add, remove, show, edit, refresh, "
                           "publish or fetch",
                           word);
}
