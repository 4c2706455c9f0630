/* SPDX-License-Identifier: ISC */
/*
 * `enroll`: prints a one-time token, waits at the relay for the newcomer that has it, and makes it
 * a device or an operator of the fleet. One newcomer, one answer, and the command ends: the private
 * half of the token's key exists in this process only.
 *
 * The steps follow one another; each runs the loop, in which the connection to the relay continues.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "command-line.h"
#include "enroll-output.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/enrolment/registrar.h"

#define LIFE_MIN_MS     60000u
#define LIFE_DEFAULT_MS 3600000u
#define LIFE_MAX_MS     (GT_TOKEN_LIFE_MAX * 1000ull)

struct enrolment {
    struct context *context;
    struct provision provision;
    struct gt_token token;
    uint8_t private_key[GT_KEY_SIZE]; /* p; wiped by the answer */
    uint64_t life_ms;
    uint8_t expected[GT_KEY_SIZE];
    bool has_expected; /* --fingerprint */

    struct gt_proxy proxy;
    struct gt_registrar *registrar;             /* owned */
    const struct gt_enrolment_request *request; /* of the registrar, once is_requested */
    bool is_requested, is_interrupted, is_ended, is_waiting_shown;
    enum gt_registrar_end end;
    char why[GT_ENROLMENT_TEXT_MAX + 1];

    ev_io input; /* the answer of the person at the terminal */
    bool is_answered, is_agreed;
};

/* --- events of the registrar ------------------------------------------------------------------ */

static void on_retry(void *userdata, const char *why)
{
    struct enrolment *enrolment = userdata;
    struct print *print = &enrolment->context->print;

    print_progress(print, "The relay %s:%u cannot be reached (%s); trying again",
                   enrolment->provision.relay.host, enrolment->provision.relay.port, why);
    print_fact(print, "relay not reached reason=\"%s\"", why);
}

static void on_waiting(void *userdata)
{
    struct enrolment *enrolment = userdata;
    struct print *print = &enrolment->context->print;

    print_progress(print, "Waiting for %s; Ctrl+C ends it, and the token with it",
                   enrolment->provision.name);
    if (!enrolment->is_waiting_shown) {
        print_fact(print, "waiting at the relay for %s", enrolment->provision.name);
        print_event(print, "waiting", "{}");
    }
    enrolment->is_waiting_shown = true;
}

static void on_met(void *userdata)
{
    struct enrolment *enrolment = userdata;

    print_progress(&enrolment->context->print, "A newcomer is there");
}

static void on_request(void *userdata, const struct gt_enrolment_request *request)
{
    struct enrolment *enrolment = userdata;

    enrolment->request = request;
    enrolment->is_requested = true;
}

static void on_end(void *userdata, enum gt_registrar_end end, const char *why)
{
    struct enrolment *enrolment = userdata;

    enrolment->is_ended = true;
    enrolment->end = end;
    snprintf(enrolment->why, sizeof(enrolment->why), "%s", why);
}

static void on_signal(void *userdata, int number)
{
    struct enrolment *enrolment = userdata;

    enrolment->is_interrupted = true;
}

/* Runs the loop until *is_done. Returns false if the enrolment is over before. */
static bool wait_for(struct enrolment *enrolment, const bool *is_done)
{
    struct command_signals signals;

    command_signals_start(&signals, enrolment->context->loop, on_signal, enrolment);
    while (!*is_done && !enrolment->is_ended && !enrolment->is_interrupted)
        ev_run(enrolment->context->loop, EVRUN_ONCE);
    command_signals_stop(&signals);
    return !enrolment->is_interrupted && (*is_done || !enrolment->is_ended);
}

/* --- the end ---------------------------------------------------------------------------------- */

#define HINT_REPLACE                                                                           \
    "repair it there, and repeat this command with --replace if there is an access list; the " \
    "token is used"

static const struct {
    enum failure_id id;
    const char *text, *hint;
} ends[] = {
    [GT_REGISTRAR_INSTALLED] = {FAILURE_INTERNAL, "", NULL},
    [GT_REGISTRAR_NOT_INSTALLED] = {FAILURE_ENROLMENT,
                                    "the newcomer could not install its identity", HINT_REPLACE},
    [GT_REGISTRAR_UNCONFIRMED] = {FAILURE_NO_COUNTERPART,
                                  "the answer was sent, and the newcomer did not confirm it",
                                  "look whether it is there: gotthard-cli devices. Otherwise "
                                  "repeat this command, with --replace if there is an access list"},
    [GT_REGISTRAR_REJECTED] = {FAILURE_ENROLMENT, "the newcomer was refused", NULL},
    [GT_REGISTRAR_MALFORMED] = {FAILURE_ENROLMENT, "this was no newcomer with the token",
                                "the token may be in wrong hands: make a new one, and pass it by "
                                "another way"},
    [GT_REGISTRAR_EXPIRED] = {FAILURE_NO_COUNTERPART, "the token was not used before it expired",
                              NULL},
    [GT_REGISTRAR_BROKEN] = {FAILURE_NO_COUNTERPART, "the newcomer, or the relay, was lost", NULL},
    [GT_REGISTRAR_REFUSED] = {FAILURE_RELAY_REFUSED, "the relay refuses this operator", NULL},
    [GT_REGISTRAR_INTERNAL] = {FAILURE_INTERNAL, "internal error", NULL},
};

static int fail_of_end(const struct enrolment *enrolment, struct failure *ret_failure)
{
    return failure_set(ret_failure, ends[enrolment->end].id, ends[enrolment->end].hint, "%s%s%s",
                       ends[enrolment->end].text, *enrolment->why ? ": " : "", enrolment->why);
}

/* The enrolment is over before a step: Ctrl+C, or the end of the registrar. */
static int fail_early(const struct enrolment *enrolment, struct failure *ret_failure)
{
    return enrolment->is_interrupted ? PROVISION_E_INTERRUPTED
                                     : fail_of_end(enrolment, ret_failure);
}

/* --- the token -------------------------------------------------------------------------------- */

static int make_token(struct enrolment *enrolment, struct failure *ret_failure)
{
    const struct provision *provision = &enrolment->provision;
    uint32_t expires_at = (uint32_t)((uint64_t)time(NULL) + enrolment->life_ms / 1000);
    int r =
        gt_token_new(&provision->key, provision->kind, provision->relay.host, provision->relay.port,
                     expires_at, &enrolment->token, enrolment->private_key);

    if (r == 0)
        return 0;
    return failure_set(ret_failure, r < 0 ? FAILURE_INTERNAL : FAILURE_CONFIG, NULL,
                       "the token cannot be made: %s",
                       r < 0 ? strerror(-r) : "check the relay's address and the clock");
}

static int start_registrar(struct enrolment *enrolment, struct failure *ret_failure)
{
    static const struct gt_registrar_events events = {
        .on_retry = on_retry,
        .on_waiting = on_waiting,
        .on_met = on_met,
        .on_request = on_request,
        .on_end = on_end,
    };
    const struct settings *settings = enrolment->context->settings;
    const struct provision *provision = &enrolment->provision;
    uint8_t client_key[GT_KEY_SIZE];
    struct gt_registrar_settings registrar = {
        .token = &enrolment->token,
        .relay = &provision->relay,
        .is_single_port = settings->is_single_port,
        .name = settings->client_name,
        .client_key = client_key,
        .left_ms = (unsigned)enrolment->life_ms,
    };

    (void)gt_config_proxy(&settings->server_proxy, settings->server_proxy_password,
                          provision->relay.host, &enrolment->proxy);
    registrar.proxy = enrolment->proxy.kind == GT_PROXY_NONE ? NULL : &enrolment->proxy;
    int r = gt_key_client(&provision->key, GT_ROLE_OPERATOR, settings->client_name, client_key);
    if (r == 0)
        r = gt_registrar_new(enrolment->context->loop, &registrar, &events, enrolment,
                             &enrolment->registrar);
    gt_wipe(client_key, sizeof(client_key));
    return r == 0 ? 0 : failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(abs(r)));
}

/* --- the decision ----------------------------------------------------------------------------- */

/* A line of the terminal. Anything but a line that begins with y is a no. */
static void on_input(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct enrolment *enrolment = watcher->data;
    char line[64];
    ssize_t n = read(STDIN_FILENO, line, sizeof(line));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ev_io_stop(loop, watcher);
    enrolment->is_answered = true;
    enrolment->is_agreed = n > 0 && (*line == 'y' || *line == 'Y');
}

static int ask(struct enrolment *enrolment, struct failure *ret_failure)
{
    struct ev_loop *loop = enrolment->context->loop;

    command_prompt("Does the newcomer show the same fingerprint? [y/N] ");
    ev_io_init(&enrolment->input, on_input, STDIN_FILENO, EV_READ);
    enrolment->input.data = enrolment;
    ev_io_start(loop, &enrolment->input);
    bool is_done = wait_for(enrolment, &enrolment->is_answered);
    ev_io_stop(loop, &enrolment->input);
    if (!is_done)
        command_prompt("\n");
    return is_done ? 0 : fail_early(enrolment, ret_failure);
}

static int decide(struct enrolment *enrolment, struct failure *ret_failure)
{
    const char *why = NULL;

    if (enrolment->has_expected) {
        if (!gt_is_equal(enrolment->expected, enrolment->request->fingerprint, GT_KEY_SIZE))
            why = "the key has another fingerprint than the operator expects";
    } else if (!enrolment->context->is_confirmed) {
        int r = ask(enrolment, ret_failure);

        if (r != 0)
            return r;
        if (!enrolment->is_agreed)
            why = "the operator has refused the fingerprint";
    }
    if (!why)
        return 0;
    gt_registrar_reject(enrolment->registrar, why);
    if (!wait_for(enrolment, &enrolment->is_ended))
        return fail_early(enrolment, ret_failure);
    return failure_set(ret_failure, FAILURE_ENROLMENT,
                       "nothing was issued. If this was not your newcomer, the token is in wrong "
                       "hands: make a new one, and pass it by another way",
                       "the newcomer was refused: %s", why);
}

/* --- the answer ------------------------------------------------------------------------------- */

static int answer(struct enrolment *enrolment, struct failure *ret_failure)
{
    uint8_t *bundle = NULL;
    size_t n = 0;

    if (provision_bundle(&enrolment->provision, gt_span("", 0), &bundle, &n, ret_failure) != 0)
        return 1;
    int r = gt_registrar_answer(enrolment->registrar, enrolment->private_key, gt_span(bundle, n));
    gt_wipe(bundle, n);
    free(bundle);
    if (r > 0)
        return failure_set(ret_failure, FAILURE_ENROLMENT, NULL, "the newcomer's key is invalid");
    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    print_progress(&enrolment->context->print, "Waiting until the newcomer has installed it");
    if (!wait_for(enrolment, &enrolment->is_ended))
        return fail_early(enrolment, ret_failure);
    return enrolment->end == GT_REGISTRAR_INSTALLED ? 0 : fail_of_end(enrolment, ret_failure);
}

/* Steps that change the fleet: certificate, access list. */
static int admit(struct enrolment *enrolment, struct failure *ret_failure)
{
    struct provision *provision = &enrolment->provision;
    const struct gt_enrolment_request *request = enrolment->request;
    int r =
        provision_sign(provision, request->certificate_request, request->fingerprint, ret_failure);

    if (r == 0)
        r = provision_list(provision, request->fingerprint, ret_failure);
    if (r == 0 && enrolment->is_ended)
        r = fail_of_end(enrolment, ret_failure);
    if (r == 1 && !enrolment->is_ended) {
        gt_registrar_reject(enrolment->registrar, "the operator's command has failed");
        (void)wait_for(enrolment, &enrolment->is_ended);
    }
    return r;
}

static int enrol(struct enrolment *enrolment, struct failure *ret_failure)
{
    int r = make_token(enrolment, ret_failure);

    if (r == 0)
        r = start_registrar(enrolment, ret_failure);
    if (r != 0)
        return r;
    enroll_print_token(&enrolment->provision, &enrolment->token);
    if (!wait_for(enrolment, &enrolment->is_requested))
        return fail_early(enrolment, ret_failure);
    enroll_print_request(&enrolment->provision, enrolment->request);
    r = decide(enrolment, ret_failure);
    if (r == 0)
        r = admit(enrolment, ret_failure);
    if (r == 0)
        r = answer(enrolment, ret_failure);
    if (r == 0)
        enroll_print_success(&enrolment->provision, enrolment->request);
    return r;
}

/* --- the command ------------------------------------------------------------------------------ */

static bool take_life(struct context *context, uint64_t *ret)
{
    const char *text = context->line->given[OPTION_FOR];

    *ret = LIFE_DEFAULT_MS;
    if (!text || (gt_text_duration(text, ret) == 0 && *ret >= LIFE_MIN_MS && *ret <= LIFE_MAX_MS))
        return true;
    command_misused(context, "--for '%s': must be 1min to 7d", text);
    return false;
}

/* "aabb ccdd" or "AA:BB:CC:DD" as people copy it. */
static bool take_fingerprint(struct context *context, struct enrolment *enrolment)
{
    const char *text = context->line->given[OPTION_FINGERPRINT];
    char hex[2 * GT_KEY_SIZE + 1] = "";
    size_t n = 0;

    if (!text)
        return true;
    for (const char *at = text; *at; at++) {
        if (*at == ' ' || *at == ':')
            continue;
        if (n == sizeof(hex) - 1)
            n = 0;
        hex[n++] = *at;
    }
    enrolment->has_expected =
        n == sizeof(hex) - 1 && gt_text_unhex(hex, enrolment->expected, GT_KEY_SIZE) == 0;
    if (!enrolment->has_expected)
        command_misused(context, "--fingerprint: must be 64 hexadecimal digits");
    return enrolment->has_expected;
}

static bool take_kind(struct context *context, enum gt_token_kind *ret)
{
    bool is_operator = context->line->given[OPTION_OPERATOR] != NULL;
    bool is_relay = context->line->given[OPTION_NEW_RELAY] != NULL;

    if (is_operator && is_relay) {
        command_misused(context, "either --operator or --new-relay");
        return false;
    }
    *ret = is_operator ? GT_TOKEN_OPERATOR : is_relay ? GT_TOKEN_RELAY : GT_TOKEN_DEVICE;
    return true;
}

static bool check_name(struct context *context, const char *name)
{
    if (gt_text_is_name(gt_span_text(name)) && !gt_token_is_reserved_name(name))
        return true;
    command_misused(context, "invalid name: '%s'", name);
    return false;
}

/* Without a terminal the decision must be on the command line. */
static bool check_terminal(struct context *context)
{
    if (context->is_confirmed || context->line->given[OPTION_FINGERPRINT] || isatty(STDIN_FILENO))
        return true;
    command_misused(context,
                    "standard input is no terminal: give --fingerprint, or --yes to accept "
                    "the first one that uses the token");
    return false;
}

int cmd_enroll(struct context *context)
{
    struct enrolment enrolment = {.context = context};
    enum gt_token_kind kind = GT_TOKEN_DEVICE;
    struct failure failure;

    if (!take_kind(context, &kind) || !check_name(context, context->arguments[0]) ||
        !take_life(context, &enrolment.life_ms) || !take_fingerprint(context, &enrolment) ||
        !check_terminal(context))
        return GT_EXIT_USAGE;
    gt_cleanup(gt_free) char *rights = command_join_arguments(context, 1);
    if (!rights)
        return GT_EXIT_INTERNAL;
    int r = provision_begin(context, kind, context->arguments[0], rights,
                            context->line->given[OPTION_REPLACE] != NULL, &enrolment.provision,
                            &failure);
    if (r == 0)
        r = enrol(&enrolment, &failure);
    gt_registrar_free(enrolment.registrar);
    gt_wipe(enrolment.private_key, sizeof(enrolment.private_key));
    gt_token_wipe(&enrolment.token);
    gt_wipe(&enrolment.proxy, sizeof(enrolment.proxy));
    provision_end(&enrolment.provision);
    print_clear_progress(&context->print);
    if (r == PROVISION_E_INTERRUPTED) {
        print_note(&context->print, "The token is worthless from now on.");
        return GT_EXIT_INTERRUPTED;
    }
    return r == 0 ? 0 : print_failure(&context->print, &failure);
}
