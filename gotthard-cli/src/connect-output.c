/* SPDX-License-Identifier: ISC */
/*
 * The texts of `connect`. The lines keep the order of the original tool: message sent, listening,
 * MQTT connected, device answered, relay reached, tunnel up, how to use ssh. Scripts that search
 * the log of the original tool for them continue to work.
 */
#include "connect-output.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "connect-local.h"
#include "diagnosis.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/text.h"

void connect_output_init(struct connect_output *output, struct ev_loop *loop, struct print *print,
                         const char *device, const char *bind, bool is_print_port)
{
    *output = (struct connect_output){
        .print = print,
        .device = device,
        .bind = bind,
        .is_print_port = is_print_port,
        .started_ms = gt_clock_ms(),
    };
    connect_progress_init(&output->progress, loop, print);
}

void connect_output_deinit(struct connect_output *output)
{
    connect_progress_stop(&output->progress);
}

void connect_output_requesting(struct connect_output *output, const struct session *session,
                               const struct forwards *forwards)
{
    output->session = session;
    connect_local_sharing(output, forwards);
    print_event(output->print, "requesting", "{s:s}", "device", output->device);
    print_fact(output->print, "sending the MQTT message to %s", output->device);
    connect_local_listening(output, forwards);
    connect_progress_step(&output->progress, "sending the request to %s", output->device);
}

void connect_output_broker(struct connect_output *output, const char *endpoint)
{
    print_fact(output->print, "connected to MQTT at %s", endpoint);
    print_event(output->print, "broker", "{s:s}", "endpoint", endpoint);
    connect_progress_step(&output->progress, "waiting for %s to answer", output->device);
}

/* The device is asked again now and then: the same reason is printed once. */
void connect_output_device_wait(struct connect_output *output, const struct failure *why)
{
    char id[16];

    if (strcmp(output->wait_message, why->message) != 0) {
        snprintf(output->wait_message, sizeof(output->wait_message), "%s", why->message);
        snprintf(id, sizeof(id), "GTD-E%d", why->id);
        print_event(output->print, "waiting", "{s:s, s:s, s:s}", "device", output->device, "id", id,
                    "reason", why->message);
        print_note(output->print, "%s; waiting for it.", why->message);
    }
    connect_progress_step(&output->progress, "waiting for %s to be available", output->device);
    connect_progress_deadline(&output->progress, output->wait_until);
}

static json_t *json_of_texts(const struct gt_span *texts, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, print_json_text(texts[i]));
    return list;
}

/* Names that do not fit are left out. */
static void keep_services(struct connect_output *output, const struct gt_extensions *extensions)
{
    size_t n = 0;

    for (size_t i = 0; i < extensions->n_services; i++) {
        struct gt_span name = extensions->services[i];

        if (n + name.n + 2 > sizeof(output->services))
            return;
        n += (size_t)snprintf(output->services + n, sizeof(output->services) - n, "%s%.*s",
                              n > 0 ? " " : "", (int)name.n, (const char *)name.data);
    }
}

static const char *proof_of(const struct connect_output *output)
{
    switch (output->identity->trust.policy) {
    case GT_POLICY_PIN: return "its pinned certificate";
    case GT_POLICY_LIST: return "its certificate in the access list";
    case GT_POLICY_PSK: break;
    }
    return "the fleet key";
}

static const char *word_of(enum gt_policy policy)
{
    switch (policy) {
    case GT_POLICY_PIN: return "pin";
    case GT_POLICY_LIST: return "list";
    case GT_POLICY_PSK: break;
    }
    return "psk";
}

void connect_output_answered(struct connect_output *output, const struct gt_extensions *extensions,
                             const struct identity *identity)
{
    json_t *host_keys = json_of_texts(extensions->host_keys, extensions->n_host_keys);
    uint64_t ms = gt_clock_ms() - output->started_ms;
    char took[32];

    output->identity = identity;
    keep_services(output, extensions);
    print_fact(output->print, "%s answered within %s, authenticated by %s", output->device,
               gt_text_ago(ms, took, sizeof(took)), proof_of(output));
    print_event(output->print, "answered", "{s:s, s:I, s:s, s:O}", "device", output->device, "ms",
                (json_int_t)ms, "authenticated_by", word_of(identity->trust.policy), "host_keys",
                host_keys);
    json_decref(host_keys);
    connect_progress_step(&output->progress, "%s answered, connecting through the relay",
                          output->device);
}

enum waiting_for { THIS_SIDE, THE_DEVICE };

/* On a terminal the line replaces the last one; in a log it appears when it changes. */
static void report_waiting(struct connect_output *output, enum waiting_for who, const char *text)
{
    char *latest = output->waiting[who];

    if (strcmp(latest, text) == 0)
        return;
    snprintf(latest, sizeof(output->waiting[who]), "%s", text);
    print_fact(output->print, "%s", text);
    connect_progress_step(&output->progress, "%s", text);
    if (!output->print->has_color)
        print_plain(output->print, "%s", text);
}

void connect_output_relay_retry(struct connect_output *output, const struct gt_host_port *relay,
                                const char *why)
{
    char reason[96], text[sizeof(output->waiting[0])];

    print_event(output->print, "relay-retry", "{s:s, s:i, s:s}", "host", relay->host, "port",
                (int)relay->port, "reason", why);
    snprintf(text, sizeof(text), "cannot reach relay %.80s:%u yet (%s), trying again", relay->host,
             relay->port, diagnosis_reason(why, reason, sizeof(reason)));
    report_waiting(output, THIS_SIDE, text);
}

void connect_output_report(struct connect_output *output, const struct gt_report *report)
{
    char reason[96], here[120] = "", text[sizeof(output->waiting[0])];
    const struct gt_host_port *own = session_relay(output->session);

    print_event(output->print, "device-report", "{s:s, s:s, s:b, s:b}", "relay", report->relay,
                "reason", report->why, "at_relay", report->kind == GT_REPORT_AT_RELAY, "last",
                report->is_last);
    output->is_device_troubled = report->kind != GT_REPORT_AT_RELAY;
    if (report->is_last)
        return; /* the failure follows */
    if (report->kind == GT_REPORT_AT_RELAY) {
        snprintf(text, sizeof(text), "%.80s waits at relay %.120s", output->device, report->relay);
    } else {
        diagnosis_reason(report->why, reason, sizeof(reason));
        if (diagnosis_is_elsewhere(own, report))
            snprintf(here, sizeof(here), "; here it is %.80s:%u", own->host, own->port);
        snprintf(text, sizeof(text), "%.80s cannot reach its relay %.80s yet (%s%s)",
                 output->device, report->relay, reason, here);
    }
    report_waiting(output, THE_DEVICE, text);
}

void connect_output_offline(struct connect_output *output)
{
    char text[sizeof(output->waiting[0])];

    print_event(output->print, "device-offline", "{s:s}", "device", output->device);
    snprintf(text, sizeof(text), "%s went offline, waiting for its side of the tunnel",
             output->device);
    report_waiting(output, THE_DEVICE, text);
}

/* After the lines for ssh, which come first. */
static void report_proof(struct connect_output *output)
{
    print_plain(output->print, "  authenticated by %s", proof_of(output));
    if (!output->print->is_json) /* the event has it */
        identity_warn_unpinned(output->identity, output->device, output->print);
}

void connect_output_up(struct connect_output *output, const struct forwards *forwards,
                       const char *relay_host, uint16_t relay_port, bool is_background)
{
    uint64_t ms = gt_clock_ms() - output->started_ms;
    char took[32];

    output->is_device_troubled = false;
    print_fact(output->print, "relay reached: %s port %u", relay_host, relay_port);
    print_event(output->print, "relay", "{s:s, s:i}", "host", relay_host, "port", (int)relay_port);
    print_fact(output->print, "end-to-end tunnel to %s is up", output->device);
    print_done(output->print, "%s answered (%s), tunnel is up", output->device,
               gt_text_ago(ms, took, sizeof(took)));
    connect_local_usage(output, forwards);
    report_proof(output);
    if (is_background)
        print_note(
            output->print,
            "In the background, process %d; to close: gotthard-cli disconnect %s, or kill %d.",
            (int)getpid(), output->device, (int)getpid());
    else
        print_plain(output->print, "\nPress Ctrl+C to close.");
    connect_progress_stop(&output->progress);
    output->print->has_clock = true; /* from now on lines come at any time */
    connect_local_ports(output, forwards, ms);
    if (is_background)
        print_event(output->print, "background", "{s:i}", "pid", (int)getpid());
}

void connect_output_notice(struct connect_output *output, enum gt_path_notice notice,
                           const char *text)
{
    static const char *const names[] = {
        [GT_PATH_MAIN_PORT] = "main-port",
        [GT_PATH_SMALL_SEGMENTS] = "small-segments",
        [GT_PATH_NO_DATA] = "no-data",
        [GT_PATH_NO_PEER_DATA] = "no-peer-data",
    };
    bool is_missing = notice == GT_PATH_NO_DATA || notice == GT_PATH_NO_PEER_DATA;
    const char *intro = is_missing ? "no data connection yet: " : "";

    print_event(output->print, "path", "{s:s, s:s}", "what", names[notice], "text", text);
    if (!is_missing || !output->is_device_troubled) /* otherwise the device has named the cause */
        print_warning(output->print, "%s%s", intro, text);
}

/* --- a tunnel that waits */

static void format_time_of_day(double in_s, char *ret, size_t cap)
{
    time_t at = time(NULL) + (time_t)(in_s + .5);
    struct tm local;

    *ret = 0;
    if (localtime_r(&at, &local))
        strftime(ret, cap, "%H:%M:%S", &local);
}

/* A new attempt is a fact of its own. */
static void report_attempt(struct connect_output *output, const struct gt_tunnel_wait *wait)
{
    if (!wait->is_relay_lost || wait->n_attempts == output->n_attempts)
        return;
    output->n_attempts = wait->n_attempts;
    print_fact(output->print, "attempt %u to reach the relay, giving up in %.0f s",
               wait->n_attempts, wait->left_s);
    print_event(output->print, "relay-attempt", "{s:i, s:f}", "attempt", (int)wait->n_attempts,
                "seconds_left", wait->left_s);
}

#define WIDE 75 /* columns of the longest text */

/* The attempt, the next one, and the deadline. */
static void describe_wait(void *userdata, unsigned width, char *ret, size_t cap)
{
    struct connect_output *output = userdata;
    struct gt_tunnel_wait wait;
    char until[16], next[24];

    if (!session_waits(output->session, &wait)) {
        snprintf(ret, cap, "waiting for a data connection");
        return;
    }
    report_attempt(output, &wait);
    format_time_of_day(wait.left_s, until, sizeof(until));
    bool is_wide = width == 0 || width >= WIDE;
    if (wait.next_s > 0)
        snprintf(next, sizeof(next), " in %.0f s", wait.next_s);
    else
        snprintf(next, sizeof(next), "%s", is_wide ? " in progress" : "");
    unsigned attempt = wait.n_attempts + (wait.next_s > 0);
    if (!wait.is_relay_lost)
        snprintf(ret, cap, is_wide ? "waiting for %s, until %s" : "%.16s away, until %s",
                 output->device, until);
    else if (is_wide)
        snprintf(ret, cap, "relay lost: attempt %u%s, giving up at %s, in %.0f s", attempt, next,
                 until, wait.left_s);
    else
        snprintf(ret, cap, "relay: try %u%s, until %s", attempt, next, until);
}

static void report_wait(struct connect_output *output)
{
    struct gt_tunnel_wait wait;

    if (session_waits(output->session, &wait))
        connect_progress_describe(&output->progress, describe_wait, output);
    else
        connect_progress_stop(&output->progress);
}

static double seconds_left(const struct connect_output *output)
{
    struct gt_tunnel_wait wait;

    return session_waits(output->session, &wait) ? wait.left_s : 0;
}

void connect_output_peer(struct connect_output *output, bool is_up, enum gt_code reason)
{
    const char *why = gt_code_text(reason);

    if (is_up) {
        print_event(output->print, "peer-back", "{s:s}", "device", output->device);
        print_note(output->print, "%s is connected again.", output->device);
    } else {
        double left = seconds_left(output);

        print_event(output->print, "peer-lost", "{s:s, s:f}", "reason", why, "seconds_left", left);
        print_warning(output->print, "%s disconnected (%s), waiting for it for %.0f s",
                      output->device, why, left);
    }
    report_wait(output);
}

static void relay_lost(struct connect_output *output, bool is_upgrade, const char *why)
{
    double left = seconds_left(output);

    output->lost_ms = gt_clock_ms();
    output->n_attempts = 0;
    print_event(output->print, "relay-lost", "{s:s, s:b, s:f}", "reason", why, "planned",
                is_upgrade, "seconds_left", left);
    if (is_upgrade)
        print_note(output->print, "The relay is being upgraded; connections stay open.");
    else
        print_warning(output->print, "connection to the relay lost (%s), reconnecting for %.0f s",
                      why, left);
}

static void relay_back(struct connect_output *output)
{
    uint64_t ms = gt_clock_ms() - output->lost_ms;
    char took[32];

    print_event(output->print, "relay-back", "{s:f}", "seconds", (double)ms / 1000.);
    print_note(output->print, "Connection to the relay restored after %s.",
               gt_text_ago(ms, took, sizeof(took)));
}

void connect_output_relay(struct connect_output *output, enum gt_relay_change change,
                          const char *why)
{
    if (change == GT_RELAY_BACK)
        relay_back(output);
    else
        relay_lost(output, change == GT_RELAY_UPGRADED, why);
    report_wait(output);
}

void connect_output_closing(struct connect_output *output)
{
    connect_progress_stop(&output->progress);
    print_plain(output->print, "\nClosing. Press Ctrl+C again to exit at once.");
    print_fact(output->print, "closing");
    print_event(output->print, "closing", "{}");
}

void connect_output_bye_unsent(struct connect_output *output)
{
    print_warning(output->print,
                  "%s could not be notified and keeps the session for a while; to close it over "
                  "MQTT: gotthard-cli disconnect %s",
                  output->device, output->device);
}

void connect_output_closed(struct connect_output *output, const char *reason, int code)
{
    if (code == 0)
        print_note(output->print, "Tunnel to %s closed.", output->device);
    else if (code == GT_EXIT_INTERRUPTED)
        print_note(output->print, "Interrupted: the request to %s is withdrawn.", output->device);
    print_event(output->print, "closed", "{s:s, s:i}", "reason", reason, "exit", code);
}
