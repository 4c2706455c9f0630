/* SPDX-License-Identifier: ISC */
/* See the header. A relay that restarts meanwhile is tried once more. */
#include "access-relays.h"

#include <stdio.h>
#include <string.h>

#include "diagnosis.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/relay/access-delivery.h"
#include "gotthard/trust/access-parts.h"

#define TIMEOUT_MS 5000
#define AGAIN_S    .5 /* after a connection that was lost */
#define MAIN_RELAY "main"

struct access_relay {
    struct access_relays *relays;
    const char *name; /* borrowed from the settings */
    struct gt_host_port address;
    struct gt_proxy proxy; /* kind NONE: none */
    struct gt_access_delivery *delivery;
    ev_timer again;
    bool was_lost, has_ended, has_answer;
    struct gt_access_effect effect; /* of an answer; else: */
    enum gt_end_reason reason;
    struct failure failure;
};

struct access_relays {
    struct context *context;
    const struct authority *authority;
    uint8_t client_key[GT_KEY_SIZE];
    size_t n_parts, n, n_running;
    bool is_waiting, is_interrupted; /* access_relays_wait() runs the loop; a signal has ended it */
    struct access_relay all[];
};

/* --- one relay -------------------------------------------------------------------------------- */

static void relay_end(struct access_relay *relay)
{
    struct access_relays *relays = relay->relays;

    relay->has_ended = true;
    if (--relays->n_running == 0 && relays->is_waiting)
        ev_break(relays->context->loop, EVBREAK_ALL);
}

static bool relay_make_part(void *userdata, size_t i, uint8_t ret[static GT_CONTROL_PART_MAX],
                            size_t *ret_n)
{
    const struct access_relays *relays = ((struct access_relay *)userdata)->relays;
    const struct authority *authority = relays->authority;
    uint8_t part[GT_ACCESS_PART_MAX];

    if (gt_access_part_encode(authority->key, gt_span(authority->text, authority->n_text),
                              authority_serial(authority), i, relays->n_parts, part, ret_n) != 0 ||
        *ret_n > GT_CONTROL_PART_MAX)
        return false;
    memcpy(ret, part, *ret_n);
    return true;
}

static void relay_on_answer(void *userdata, const struct gt_access_effect *effect)
{
    struct access_relay *relay = userdata;

    relay->effect = *effect;
    relay->has_answer = true;
    relay_end(relay);
}

/* The cause in the words that a tunnel has for it. */
static void relay_on_failed(void *userdata, enum gt_end_reason reason, enum gt_code code,
                            const char *why)
{
    struct access_relay *relay = userdata;
    const struct tunnel_end end = {
        .device = "",
        .relay = &relay->address,
        .cause = reason,
        .code = code,
        .why = why,
        .has_proxy = relay->proxy.kind != GT_PROXY_NONE,
    };

    relay->reason = reason;
    if (reason == GT_END_LOST && !relay->was_lost) {
        relay->was_lost = true;
        ev_timer_set(&relay->again, AGAIN_S, 0.);
        ev_timer_start(relay->relays->context->loop, &relay->again);
        return;
    }
    if (reason == GT_END_UNREACHABLE)
        failure_set(&relay->failure, FAILURE_RELAY_UNREACHABLE, NULL, "not reached at %s:%u: %s",
                    relay->address.host, relay->address.port, why);
    else if (reason == GT_END_LOST || reason == GT_END_CLOSED)
        failure_set(&relay->failure, FAILURE_RELAY_ERROR, NULL, "%s", why);
    else
        diagnosis_of_tunnel_end(&end, &relay->failure);
    relay_end(relay);
}

static void relay_begin(struct access_relay *relay)
{
    static const struct gt_access_delivery_events events = {
        .make_part = relay_make_part,
        .on_answer = relay_on_answer,
        .on_failed = relay_on_failed,
    };
    struct context *context = relay->relays->context;
    const struct gt_access_delivery_settings settings = {
        .relay = &relay->address,
        .proxy = relay->proxy.kind == GT_PROXY_NONE ? NULL : &relay->proxy,
        .name = context->settings->client_name,
        .client_key = relay->relays->client_key,
        .n_parts = relay->relays->n_parts,
        .timeout_ms = TIMEOUT_MS,
    };

    relay->delivery = gt_access_delivery_free(relay->delivery);
    int r = gt_access_delivery_new(context->loop, &settings, &events, relay, &relay->delivery);
    if (r == 0)
        return;
    failure_set(&relay->failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    relay->reason = GT_END_INTERNAL;
    relay_end(relay);
}

static void relay_on_again(struct ev_loop *loop, ev_timer *timer, int revents)
{
    relay_begin(timer->data);
}

/* --- all relays ------------------------------------------------------------------------------- */

/* Returns true for a relay beside the group `relays`. */
static bool has_main(const struct settings *settings)
{
    return settings->server_host && !gt_config_map_get(&settings->relays, MAIN_RELAY);
}

bool access_relays_are_configured(const struct settings *settings)
{
    return has_main(settings) || settings->relays.n_pairs > 0;
}

static void add_relay(struct access_relays *relays, const char *name)
{
    const struct settings *settings = relays->context->settings;
    struct access_relay *relay = &relays->all[relays->n];

    if (!settings_relay(settings, name, &relay->address))
        return;
    relay->relays = relays;
    relay->name = name;
    (void)gt_config_proxy(&settings->server_proxy, settings->server_proxy_password,
                          relay->address.host, &relay->proxy);
    ev_init(&relay->again, relay_on_again);
    relay->again.data = relay;
    relays->n++;
}

int access_relays_start(struct context *context, const struct authority *authority,
                        const struct identity *identity, struct access_relays **ret,
                        struct failure *ret_failure)
{
    const struct settings *settings = context->settings;
    size_t n = settings->relays.n_pairs + 1;
    struct access_relays *relays = calloc(1, sizeof(*relays) + n * sizeof(relays->all[0]));

    if (!relays)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    relays->context = context;
    relays->authority = authority;
    relays->n_parts = gt_access_parts_count(authority->n_text, GT_ACCESS_PIECE_CONTROL);
    if (gt_key_client(&identity->key, GT_ROLE_OPERATOR, settings->client_name,
                      relays->client_key) != 0) {
        access_relays_free(relays);
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot derive the relay's key");
    }
    if (has_main(settings))
        add_relay(relays, MAIN_RELAY);
    for (size_t i = 0; i < settings->relays.n_pairs; i++)
        add_relay(relays, settings->relays.pairs[i].name);
    relays->n_running = relays->n;
    for (size_t i = 0; i < relays->n; i++)
        relay_begin(&relays->all[i]);
    *ret = relays;
    return 0;
}

static void relays_on_signal(void *userdata, int number)
{
    struct access_relays *relays = userdata;

    relays->is_interrupted = true;
    ev_break(relays->context->loop, EVBREAK_ALL);
}

bool access_relays_wait(struct access_relays *relays)
{
    struct command_signals signals;

    relays->is_waiting = true;
    command_signals_start(&signals, relays->context->loop, relays_on_signal, relays);
    while (relays->n_running > 0 && !relays->is_interrupted)
        ev_run(relays->context->loop, 0); /* the loss of another connection ends it as well */
    command_signals_stop(&signals);
    relays->is_waiting = false;
    return !relays->is_interrupted;
}

struct access_relays *access_relays_free(struct access_relays *relays)
{
    if (!relays)
        return NULL;
    for (size_t i = 0; i < relays->n; i++) {
        ev_timer_stop(relays->context->loop, &relays->all[i].again);
        gt_access_delivery_free(relays->all[i].delivery);
    }
    gt_wipe(relays, sizeof(*relays) + relays->n * sizeof(relays->all[0]));
    free(relays);
    return NULL;
}

/* --- the result ------------------------------------------------------------------------------- */

enum verdict {
    HAS_LIST,
    HAS_NO_USE, /* for any list, by its configuration or version */
    HAS_NONE,   /* it should have it */
};

static enum verdict explain_other(const struct access_relay *relay, char *ret, size_t cap)
{
    unsigned long long serial = relay->effect.serial;
    uint64_t own = authority_serial(relay->relays->authority);

    if (relay->effect.serial > own)
        snprintf(ret, cap, "it has a newer list, %llu", serial);
    else if (relay->effect.serial == own)
        snprintf(ret, cap, "it has another list with the serial %llu", serial);
    else
        snprintf(ret, cap, "it is receiving a newer list, and has the list %llu", serial);
    return HAS_NONE;
}

/* Writes the effect on one relay in words. */
static enum verdict explain(const struct access_relay *relay, char *ret, size_t cap)
{
    const struct gt_access_effect *effect = &relay->effect;
    unsigned long long serial = effect->serial;

    if (!relay->has_answer) {
        bool is_old = relay->reason == GT_END_CLOSED;

        snprintf(ret, cap, "%s",
                 is_old ? "its version does not confirm access lists" : relay->failure.message);
        return is_old ? HAS_NO_USE : HAS_NONE;
    }
    switch (effect->result) {
    case GT_EFFECT_TAKEN:
        snprintf(ret, cap, "list %llu in force, %u session%s closed", serial,
                 (unsigned)effect->n_ended, effect->n_ended == 1 ? "" : "s");
        return HAS_LIST;
    case GT_EFFECT_KNOWN: snprintf(ret, cap, "list %llu was in force", serial); return HAS_LIST;
    case GT_EFFECT_OTHER: return explain_other(relay, ret, cap);
    case GT_EFFECT_UNUSED:
        snprintf(ret, cap,
                 "it uses no access list: set trust.authority there, so that it ends the sessions "
                 "of revoked names");
        return HAS_NO_USE;
    case GT_EFFECT_REJECTED:
        snprintf(ret, cap, "it rejects the list: its trust.authority is another key");
        return HAS_NONE;
    }
    snprintf(ret, cap, "unknown answer %u", effect->result);
    return HAS_NONE;
}

static const char *verdict_word(enum verdict verdict)
{
    switch (verdict) {
    case HAS_LIST: return "in force";
    case HAS_NO_USE: return "not used";
    case HAS_NONE: return "missing";
    }
    return "";
}

static void print_event_of(struct print *print, const struct access_relay *relay,
                           enum verdict verdict, const char *text)
{
    print_event(print, "relay", "{s:s, s:s, s:o*, s:o*, s:s}", "relay", relay->name, "list",
                verdict_word(verdict), "serial",
                relay->has_answer ? json_integer((json_int_t)relay->effect.serial) : NULL,
                "sessions_closed",
                verdict == HAS_LIST ? json_integer((json_int_t)relay->effect.n_ended) : NULL,
                "text", text);
}

size_t access_relays_report(const struct access_relays *relays)
{
    struct print *print = &relays->context->print;
    size_t n_without = 0;
    char text[640];

    for (size_t i = 0; i < relays->n; i++) {
        const struct access_relay *relay = &relays->all[i];
        enum verdict verdict = explain(relay, text, sizeof(text));

        print_event_of(print, relay, verdict, text);
        if (verdict == HAS_LIST) {
            print_done(print, "relay %s: %s", relay->name, text);
            print_fact(print, "relay %s: %s", relay->name, text);
        } else if (verdict == HAS_NO_USE) {
            print_note(print, "relay %s: %s", relay->name, text);
        } else {
            n_without++;
            print_warning(print, "relay %s: %s", relay->name, text);
        }
    }
    return n_without;
}
