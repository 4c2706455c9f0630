/* SPDX-License-Identifier: ISC */
/*
 * The rows of the device: a real session, which is the only truthful check of the hops behind the
 * broker and the relay. Its failures are those of `connect`. The session is closed at the end.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "diagnosis.h"
#include "doctor-services.h"
#include "gotthard/base/clock.h"
#include "gotthard/doctor/wait.h"

#define DEVICE "device"
#define RELAY  "device to relay"
#define TUNNEL "tunnel"

#define DEFAULT_SERVICE "ssh"

/* Seconds. The session has its own limits, which are shorter than the first two. */
#define AGREED_S 120.
#define UP_S     3700.
#define REPORT_S 5.
#define CLOSE_S  3.

/* --- the session's events --------------------------------------------------------------------- */

static void wake(struct doctor_session *run)
{
    gt_check_wake(run->doctor->context->loop);
}

static void session_on_broker_connected(void *userdata)
{
}

static void session_on_agreed(void *userdata, const struct gt_extensions *extensions,
                              const struct identity *identity)
{
    struct doctor_session *run = userdata;

    run->is_agreed = true;
    run->agreed_at = gt_clock();
    for (size_t i = 0; i < extensions->n_services && run->n_services < DOCTOR_SERVICES_MAX; i++)
        snprintf(run->services[run->n_services++].name, GT_SERVICE_MAX + 1, "%.*s",
                 (int)extensions->services[i].n, extensions->services[i].data);
    snprintf(run->version, sizeof(run->version), "%.*s", (int)extensions->version.n,
             extensions->version.data);
    wake(run);
}

static void session_on_report(void *userdata, const struct gt_report *report)
{
    struct doctor_session *run = userdata;

    run->report = *report;
    wake(run);
}

static void session_on_offline(void *userdata)
{
}

static void session_on_relay_retry(void *userdata, const struct gt_host_port *relay,
                                   const char *why)
{
}

static void session_on_up(void *userdata, const char *host, uint16_t port)
{
    struct doctor_session *run = userdata;

    run->is_up = true;
    run->up_at = gt_clock();
    run->port = port;
    wake(run);
}

static void session_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct doctor_session *run = userdata;

    snprintf(run->notice, sizeof(run->notice), "%s", text);
}

static void session_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void session_on_relay(void *userdata, enum gt_relay_change change, const char *why)
{
}

static void session_on_stream_connected(void *userdata, uint32_t stream)
{
    doctor_services_on_connected(userdata, stream);
}

static void session_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                  enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    doctor_services_on_end(userdata, stream, code);
}

static void session_on_end(void *userdata, const struct session_end *end)
{
    struct doctor_session *run = userdata;

    run->is_over = true;
    if (end->kind == SESSION_END_FAILED)
        run->failure = *end->failure;
    else
        failure_set(&run->failure, FAILURE_DEVICE_LOST, NULL, "%s closed the session",
                    run->doctor->device);
    wake(run);
}

static const struct session_events events = {
    .on_broker_connected = session_on_broker_connected,
    .on_agreed = session_on_agreed,
    .on_report = session_on_report,
    .on_offline = session_on_offline,
    .on_relay_retry = session_on_relay_retry,
    .on_up = session_on_up,
    .on_notice = session_on_notice,
    .on_peer = session_on_peer,
    .on_relay = session_on_relay,
    .on_stream_connected = session_on_stream_connected,
    .on_stream_end = session_on_stream_end,
    .on_end = session_on_end,
};

/* --- waiting ---------------------------------------------------------------------------------- */

static bool is_agreed(const struct doctor_session *run)
{
    return run->is_agreed;
}

static bool is_up(const struct doctor_session *run)
{
    return run->is_up;
}

static bool is_reported(const struct doctor_session *run)
{
    return run->report.seq > 0;
}

/* Runs the loop until @is_done, the end of the session, an interrupt, or @limit_s. */
static void run_until(struct doctor_session *run, bool (*is_done)(const struct doctor_session *run),
                      double limit_s)
{
    double end = gt_clock() + limit_s, left;

    while (!run->is_over && !run->doctor->checkup.is_interrupted && !is_done(run) &&
           (left = end - gt_clock()) > 0)
        gt_check_wait(run->doctor->context->loop, left);
}

static void run_close(struct doctor_session *run)
{
    enum session_state state = run->session ? session_state(run->session) : SESSION_ENDED;
    double end = gt_clock() + CLOSE_S;

    if (state >= SESSION_JOINING && state < SESSION_CLOSING) {
        session_close(run->session);
        while (!run->is_over && gt_clock() < end)
            gt_check_wait(run->doctor->context->loop, end - gt_clock());
    }
    session_free(run->session);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void skip_from(struct doctor *doctor, const char *first, const char *why)
{
    static const char *const names[] = {DEVICE, RELAY, TUNNEL, "services"};
    bool is_due = false;

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        is_due |= strcmp(names[i], first) == 0;
        if (is_due)
            gt_checkup_skip(&doctor->checkup, names[i], why);
    }
}

static void report_agreed(struct doctor_session *run)
{
    const struct doctor *doctor = run->doctor;
    time_t at = (time_t)doctor->state.since;
    char since[64] = "";
    struct tm local;

    if (doctor->state.is_known && doctor->state.is_online && at > 0 && localtime_r(&at, &local))
        strftime(since, sizeof(since), "online since %Y-%m-%d %H:%M:%S, ", &local);
    if (*doctor->state.fault)
        gt_checkup_warn(&run->doctor->checkup, DEVICE,
                        "correct the files on the device; then: systemctl reload gotthard-agentd",
                        "it answers, and does not use its present configuration: %s",
                        doctor->state.fault);
    else
        gt_checkup_ok(&run->doctor->checkup, DEVICE, "%sanswered in %.1f s%s%s", since,
                      run->agreed_at - run->began_at, *run->version ? ", version " : "",
                      run->version);
}

static void report_up(struct doctor_session *run)
{
    struct gt_checkup *checkup = &run->doctor->checkup;

    gt_checkup_ok(checkup, RELAY, "%s is at %s:%u", run->doctor->device, run->relay.host,
                  run->relay.port);
    if (*run->notice)
        gt_checkup_warn(checkup, TUNNEL,
                        "see the rows \"relay ports\" and \"large packets\", here "
                        "and in gotthard-agentd --doctor on the device",
                        "up after %.1f s over port %u: %s", run->up_at - run->began_at, run->port,
                        run->notice);
    else
        gt_checkup_ok(checkup, TUNNEL, "up after %.1f s, encrypted end to end, over port %u",
                      run->up_at - run->began_at, run->port);
}

/* The relay rejects both sides: the session's failure is about both. */
static bool is_rejected_alike(const struct doctor_session *run)
{
    return run->failure.id == FAILURE_RELAY_REFUSED && is_reported(run) &&
           run->report.kind == GT_REPORT_REJECTED;
}

static bool is_over(const struct doctor_session *run)
{
    return run->is_over;
}

/* The device's own view of its way. */
static void report_way(struct doctor_session *run)
{
    struct failure failure;

    if (!is_reported(run)) {
        gt_checkup_skip(&run->doctor->checkup, RELAY, "the device has not reported");
    } else if (run->report.kind == GT_REPORT_AT_RELAY) {
        gt_checkup_ok(&run->doctor->checkup, RELAY, "%s is at %s", run->doctor->device,
                      run->report.relay);
    } else if (is_rejected_alike(run)) {
        doctor_fail(run->doctor, RELAY, &run->failure);
    } else {
        diagnosis_of_report(run->doctor->device, &run->relay, &run->report, &failure);
        doctor_fail(run->doctor, RELAY, &failure);
    }
}

/* The session has ended between the answer and the tunnel. */
static void report_not_up(struct doctor_session *run)
{
    bool is_of_device = run->failure.id == FAILURE_DEVICE_RELAY ||
                        run->failure.id == FAILURE_DEVICE_LOST || is_rejected_alike(run);

    if (is_of_device)
        doctor_fail(run->doctor, RELAY, &run->failure);
    else
        report_way(run);
    if (!is_of_device)
        doctor_fail(run->doctor, TUNNEL, &run->failure);
    skip_from(run->doctor, is_of_device ? TUNNEL : "services", "there is no tunnel");
}

/* This side cannot reach the relay, or is rejected there. */
static void report_from_afar(struct doctor_session *run)
{
    run_until(run, is_reported, REPORT_S);
    if (is_reported(run) && run->report.kind == GT_REPORT_REJECTED)
        run_until(run, is_over, REPORT_S); /* this side's result completes it */
    report_way(run);
    skip_from(run->doctor, TUNNEL, "no connection to the relay");
}

/* --- the check -------------------------------------------------------------------------------- */

static int run_start(struct doctor_session *run, struct failure *ret_failure)
{
    struct doctor *doctor = run->doctor;
    const struct settings *settings = doctor->context->settings;
    struct session_settings session = {
        .loop = doctor->context->loop,
        .config = doctor->context->config,
        .print = &doctor->silence,
        .device = doctor->device,
        .service = *doctor->state.service ? doctor->state.service : DEFAULT_SERVICE,
    };

    run->began_at = gt_clock();
    if (!settings_relay(settings, settings->relay, &run->relay))
        return failure_set(ret_failure, FAILURE_CONFIG, NULL, "no relay is configured");
    return session_new(&session, &events, run, &run->session, ret_failure) != 0 ||
           session_start(run->session, ret_failure) != 0;
}

static void run_check(struct doctor_session *run)
{
    run_until(run, is_agreed, AGREED_S);
    if (!run->is_agreed) {
        doctor_fail(run->doctor, DEVICE, &run->failure);
        skip_from(run->doctor, RELAY, "there is no session");
        return;
    }
    report_agreed(run);
    if (!run->doctor->is_relay_usable) {
        report_from_afar(run);
        return;
    }
    run_until(run, is_up, UP_S);
    if (!run->is_up) {
        report_not_up(run);
        return;
    }
    report_up(run);
    doctor_services_open(run);
    run_until(run, doctor_services_are_done, DOCTOR_SERVICES_S);
    doctor_services_report(run);
}

void doctor_check_device(struct doctor *doctor)
{
    struct doctor_session run = {.doctor = doctor};

    if (!doctor->device)
        return;
    if (!doctor->is_broker_usable || !doctor->has_key) {
        skip_from(doctor, DEVICE,
                  doctor->has_key ? "no connection to the broker" : "there is no key");
        return;
    }
    failure_set(&run.failure, FAILURE_NO_ANSWER, NULL, "%s did not answer", doctor->device);
    if (run_start(&run, &run.failure) != 0) {
        doctor_fail(doctor, DEVICE, &run.failure);
        skip_from(doctor, RELAY, "there is no session");
    } else {
        run_check(&run);
    }
    run_close(&run);
    doctor_services_close(&run);
}
