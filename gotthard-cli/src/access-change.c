/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "access-change.h"

#include <string.h>
#include <time.h>

#include "access-relays.h"
#include "access-text.h"

int access_change_begin(struct context *context, struct access_change *ret,
                        struct failure *ret_failure)
{
    *ret = (struct access_change){.context = context};
    if (authority_load(context->settings, true, &ret->authority, ret_failure) != 0 ||
        identity_load_signer(context->settings, &ret->identity, ret_failure) != 0)
        return 1;
    ret->body = access_text_body(ret->authority.text ? ret->authority.text : "");
    return ret->body ? 0 : failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
}

int access_change_load_key(struct access_change *change, struct failure *ret_failure)
{
    struct context *context = change->context;

    if (change->has_key)
        return 0;
    int r = identity_load_key(context->settings, &context->print, &change->identity, ret_failure);
    change->has_key = r == 0;
    return r;
}

/* Receivers judge the age of a list by the time in it. */
static void warn_of_clock(struct access_change *change)
{
    const struct gt_access_list *list = change->authority.list;

    if (list && time(NULL) < gt_access_list_issued(list))
        print_warning(&change->context->print,
                      "the clock of this machine is behind the time at which the present list was "
                      "issued: the new one is issued at that time as well");
}

static int sign(struct access_change *change, const char *body, struct failure *ret_failure)
{
    if (!body)
        return 0;
    warn_of_clock(change);
    return authority_sign(&change->authority, body, ret_failure) != 0 ||
           authority_store(&change->authority, ret_failure) != 0;
}

static void print_result(struct access_change *change)
{
    struct print *print = &change->context->print;
    unsigned long long serial = authority_serial(&change->authority);
    size_t n = gt_access_list_count(change->authority.list), n_parts = change->broker.n_parts;
    const char *plural = n == 1 ? "y" : "ies";

    print_done(print, "access list %llu is at the broker (%zu entr%s)", serial, n, plural);
    print_fact(print, "access list serial=%llu entries=%zu parts=%zu acknowledged by the broker",
               serial, n, n_parts);
    print_event(print, "published", "{s:I, s:I, s:I}", "serial", (json_int_t)serial, "entries",
                (json_int_t)n, "parts", (json_int_t)n_parts);
}

/* Begins to send the list to the relays. Returns NULL if none is configured, or without the key,
 * which is a warning. */
static struct access_relays *begin_relays(struct access_change *change)
{
    struct access_relays *relays = NULL;
    struct failure failure;

    if (!access_relays_are_configured(change->context->settings))
        return NULL;
    if (access_change_load_key(change, &failure) == 0 &&
        access_relays_start(change->context, &change->authority, &change->identity, &relays,
                            &failure) == 0)
        return relays;
    change->n_relays_without++;
    print_warning(&change->context->print, "the list was not sent to the relays: %s",
                  failure.message);
    return NULL;
}

/* Returns @r, or ACCESS_BROKER_E_INTERRUPTED. */
static int finish_relays(struct access_change *change, struct access_relays *relays, int r)
{
    if (r != ACCESS_BROKER_E_INTERRUPTED && !access_relays_wait(relays))
        r = ACCESS_BROKER_E_INTERRUPTED;
    if (r != ACCESS_BROKER_E_INTERRUPTED)
        change->n_relays_without += access_relays_report(relays);
    access_relays_free(relays);
    return r;
}

/* The relays work while the broker does: a revocation does not wait for it. */
static int publish(struct access_change *change, size_t n_before, struct failure *ret_failure)
{
    struct access_relays *relays = begin_relays(change);
    int r = access_broker_publish(&change->broker, n_before, ret_failure);

    if (r == 0)
        print_result(change);
    return relays ? finish_relays(change, relays, r) : r;
}

int access_change_apply(struct access_change *change, const char *body, struct failure *ret_failure)
{
    struct access_broker *broker = &change->broker;
    size_t n_before = change->authority.n_text;
    int r = access_broker_open(change->context, &change->authority, &change->identity, broker,
                               ret_failure);

    if (r == 0)
        r = access_broker_check(broker, ret_failure);
    if (r == 0)
        r = sign(change, body, ret_failure);
    return r == 0 ? publish(change, n_before, ret_failure) : r;
}

int access_change_revoke(struct access_change *change, bool is_operator, const char *name,
                         struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *body = NULL;
    bool is_revoked = access_text_is_revoked(change->body, is_operator, name);
    size_t n = 0;

    if (access_text_revoke(change->body, is_operator, name, &body, &n) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    if (n == 0 && is_revoked)
        print_note(&change->context->print, "%s was revoked before.", name);
    else if (n == 0)
        print_warning(&change->context->print,
                      "the list had no entry of the %s %s; it is revoked nevertheless",
                      is_operator ? "operator" : "device", name);
    return access_change_apply(change, n == 0 && is_revoked ? NULL : body, ret_failure);
}

int access_change_exit(const struct access_change *change, int code)
{
    size_t n = change->n_relays_without;
    struct failure failure;

    if (code != 0 || n == 0)
        return code;
    failure_set(&failure, FAILURE_LIST_NOT_EVERYWHERE,
                "the warning has the reason; gotthard-cli access publish sends the list again",
                "%zu relay%s the access list", n, n == 1 ? " does not have" : "s do not have");
    return print_failure(&change->context->print, &failure);
}

void access_change_end(struct access_change *change)
{
    access_broker_close(&change->broker);
    authority_deinit(&change->authority);
    identity_deinit(&change->identity);
    free(gt_steal(&change->body));
}
