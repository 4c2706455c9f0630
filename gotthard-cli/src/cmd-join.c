/* SPDX-License-Identifier: ISC */
/*
 * `join`: makes this user an operator of a fleet, with a one-time token of `enroll --operator`. The
 * private key is made here and never leaves this machine.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "command-line.h"
#include "commands.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/crypto/certificate-key.h"
#include "gotthard/enrolment/newcomer-command.h"
#include "join-files.h"
#include "operator-access.h"

struct join {
    struct context *context;
    struct gt_token token;
    struct gt_place place;
    struct gt_certificate_key *key;
    struct gt_proxy proxy;
    struct gt_newcomer *newcomer;
    bool is_ended, is_interrupted, is_waiting_shown;
    enum gt_newcomer_end end;
    char why[GT_ENROLMENT_TEXT_MAX + 1];
    char name[GT_NAME_MAX + 1]; /* of the bundle */
};

static int take_token(struct join *join, struct failure *ret_failure)
{
    const struct context *context = join->context;
    char why[GT_NEWCOMER_WHY] = "";
    const char *word = context->n_arguments > 0 ? context->arguments[0] : NULL;
    int r = gt_newcomer_read_token(word, GT_TOKEN_OPERATOR, &join->token, why);

    gt_newcomer_hide_token(word);
    if (r == 0)
        return 0;
    return failure_set(
        ret_failure, r < 0 ? FAILURE_INTERNAL : FAILURE_ENROLMENT,
        "give the whole token, or a file of it. gotthard-cli enroll --operator makes "
        "one on the machine with the fleet key",
        "%s", r < 0 ? strerror(-r) : why);
}

/* Finds the place, and checks that this user is no operator yet. */
static int find_place(struct join *join, struct failure *ret_failure)
{
    bool is_forced = join->context->line->given[OPTION_FORCE] != NULL;
    char why[GT_PLACE_WHY] = "";
    struct gt_config *config = NULL;
    int r = gt_place_find_home("cli", &join->place, why);

    if (r == 0)
        r = gt_place_check(&join->place, settings_program(), join_settings, n_join_settings,
                           is_forced, &config, why);
    gt_config_free(config);
    if (r == 0)
        return 0;
    return failure_set(ret_failure, r < 0 ? FAILURE_INTERNAL : FAILURE_CONFIG,
                       "remove it, or run this command as another user", "%s",
                       r < 0 ? strerror(-r) : why);
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_retry(void *userdata, const char *why)
{
    struct join *join = userdata;

    print_progress(&join->context->print, "The relay %s:%u cannot be reached (%s); trying again",
                   join->token.relay_host, join->token.relay_port, why);
}

static void on_waiting(void *userdata)
{
    struct join *join = userdata;

    print_progress(&join->context->print, "Waiting at %s:%u for the operator's command",
                   join->token.relay_host, join->token.relay_port);
    if (!join->is_waiting_shown)
        print_fact(&join->context->print, "waiting at the relay");
    join->is_waiting_shown = true;
}

static void on_requested(void *userdata)
{
    struct join *join = userdata;

    print_progress(&join->context->print,
                   "The operator's command has the request; waiting for its answer");
}

/* The list is the least that this operator accepts, so that no broker can give an older one. */
static void keep_list(struct join *join, const struct gt_bundle *bundle)
{
    struct operator_access *access = NULL;
    char text[GT_AUTHORITY_TEXT_MAX];
    uint8_t authority[GT_KEY_SIZE];
    struct gt_trust trust;
    const char *why;

    if (!gt_bundle_text(bundle, GT_BUNDLE_AUTHORITY, text, sizeof(text)) ||
        gt_authority_parse_public(text, authority, &why) != 0 ||
        operator_access_new(authority, 0, &trust, &access) != 0)
        return;
    if (bundle->entries[GT_BUNDLE_ACCESS_LIST].n > 0)
        operator_access_take(access, bundle->entries[GT_BUNDLE_ACCESS_LIST]);
    operator_access_free(access);
    gt_trust_deinit(&trust);
}

static bool on_bundle(void *userdata, const struct gt_bundle *bundle, char *ret_why)
{
    struct join *join = userdata;
    struct failure failure;
    char *pem = NULL;
    size_t n = 0;

    if (gt_certificate_key_format(join->key, &pem, &n) != 0) {
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "out of memory");
        return false;
    }
    int r = join_files_install(&join->place, bundle, gt_span(pem, n), &failure);
    gt_wipe(pem, n);
    free(pem);
    if (r != 0) {
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "%.390s", failure.message);
        return false;
    }
    keep_list(join, bundle);
    (void)gt_bundle_text(bundle, GT_BUNDLE_NAME, join->name, sizeof(join->name));
    return true;
}

static void on_end(void *userdata, enum gt_newcomer_end end, const char *why)
{
    struct join *join = userdata;

    join->is_ended = true;
    join->end = end;
    snprintf(join->why, sizeof(join->why), "%s", why);
}

static void on_signal(void *userdata, int number)
{
    struct join *join = userdata;

    join->is_interrupted = true;
}

/* --- the exchange ----------------------------------------------------------------------------- */

static int print_fingerprint(struct join *join, struct failure *ret_failure)
{
    char text[GT_ENROLMENT_FINGERPRINT_TEXT];
    uint8_t fingerprint[GT_KEY_SIZE];
    int r = gt_certificate_key_fingerprint(join->key, fingerprint);

    if (r != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    gt_enrolment_format_fingerprint(fingerprint, text);
    print_note(
        &join->context->print,
        "The fingerprint of your new key, which the operator of the fleet must see as well:");
    print_data(&join->context->print, "%s\n", text);
    return 0;
}

static int start(struct join *join, struct failure *ret_failure)
{
    static const struct gt_newcomer_events events = {
        .on_retry = on_retry,
        .on_waiting = on_waiting,
        .on_requested = on_requested,
        .on_bundle = on_bundle,
        .on_end = on_end,
    };
    const struct settings *settings = join->context->settings;

    (void)gt_config_proxy(&settings->server_proxy, settings->server_proxy_password,
                          join->token.relay_host, &join->proxy);
    const struct gt_newcomer_settings newcomer = {
        .token = &join->token,
        .key = join->key,
        .proxy = join->proxy.kind == GT_PROXY_NONE ? NULL : &join->proxy,
        .is_single_port = settings->is_single_port,
        .deadline_ms = gt_newcomer_time_left(&join->token, time(NULL)),
    };
    int r = gt_newcomer_new(join->context->loop, &newcomer, &events, join, &join->newcomer);
    if (r == 0)
        return 0;
    return failure_set(ret_failure, r > 0 ? FAILURE_ENROLMENT : FAILURE_INTERNAL, NULL, "%s",
                       r > 0 ? "the token is damaged" : strerror(-r));
}

static enum failure_id id_of(enum gt_newcomer_end end)
{
    switch (end) {
    case GT_NEWCOMER_NOT_ACCEPTED:
    case GT_NEWCOMER_IN_USE:
    case GT_NEWCOMER_REJECTED:
    case GT_NEWCOMER_FORGED: return FAILURE_ENROLMENT;
    case GT_NEWCOMER_UNREACHABLE: return FAILURE_RELAY_UNREACHABLE;
    case GT_NEWCOMER_ENDED:
    case GT_NEWCOMER_EXPIRED: return FAILURE_NO_COUNTERPART;
    case GT_NEWCOMER_NOT_INSTALLED: return FAILURE_CONFIG;
    case GT_NEWCOMER_INSTALLED:
    case GT_NEWCOMER_INTERNAL: return FAILURE_INTERNAL;
    }
    return FAILURE_INTERNAL;
}

/* Returns the exit status. */
static int finish(struct join *join)
{
    struct print *print = &join->context->print;
    struct failure failure;

    print_clear_progress(print);
    if (!join->is_ended)
        return GT_EXIT_INTERRUPTED;
    if (join->end != GT_NEWCOMER_INSTALLED) {
        failure_set(&failure, id_of(join->end),
                    id_of(join->end) == FAILURE_ENROLMENT ? "ask the operator of the fleet" : NULL,
                    "%s%s%s", gt_newcomer_end_text(join->end), *join->why ? ": " : "", join->why);
        return print_failure(print, &failure);
    }
    print_done(print, "You are the operator %s of the fleet", join->name);
    print_fact(print, "joined operator=%s", join->name);
    print_note(print, "Its configuration is in %s. Next: gotthard-cli devices", join->place.folder);
    return 0;
}

static int run(struct join *join, struct failure *ret_failure)
{
    struct command_signals signals;
    int r = gt_certificate_key_new(&join->key);

    if (r != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    if (print_fingerprint(join, ret_failure) != 0 || start(join, ret_failure) != 0)
        return 1;
    command_signals_start(&signals, join->context->loop, on_signal, join);
    while (!join->is_ended && !join->is_interrupted)
        ev_run(join->context->loop, EVRUN_ONCE);
    command_signals_stop(&signals);
    return 0;
}

int cmd_join(struct context *context)
{
    struct join join = {.context = context};
    struct failure failure;
    int r = take_token(&join, &failure);

    if (r == 0)
        r = find_place(&join, &failure);
    if (r == 0)
        r = run(&join, &failure);
    gt_newcomer_free(join.newcomer);
    gt_certificate_key_free(join.key);
    gt_token_wipe(&join.token);
    gt_wipe(&join.proxy, sizeof(join.proxy));
    return r == 0 ? finish(&join) : print_failure(&context->print, &failure);
}
