/* SPDX-License-Identifier: ISC */
/*
 * request.c against a real responder of a device (struct gt_responder) behind a fake broker: this
 * file replaces mqtt.c, so that events can come in any order, and few tests wait for a clock.
 */
#include "request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "epoch-memory.h"
#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/mqtt/mqtt.h"
#include "gotthard/signaling/request-rate.h"
#include "gotthard/signaling/responder.h"

#define DEVICE   "GatewayOli"
#define OPERATOR "alice"
#define PREFIX   "gotthard/v1"
#define KEY      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define IV       "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"

enum retained { NONE, ONLINE, OFFLINE, FOREIGN }; /* the state message at the broker */

struct gt_mqtt {
    struct ev_loop *loop;
    struct gt_mqtt_events events;
    void *userdata;
    ev_timer connected, published;
    struct gt_incoming in[4]; /* the device's answers, on their way */
    unsigned n_in;
};

/* The behavior of the fakes, and what happened. */
static struct {
    enum retained retained;
    bool is_early;        /* the retained message arrives before the SUBACK */
    bool has_no_suback;   /* the broker answers no SUBSCRIBE, and sends no retained message */
    bool is_unsubscribed; /* the device is not subscribed to requests */
    bool is_silent;       /* the device receives requests and does not answer */
    bool is_refused;      /* the broker rejects the request */
    bool is_reported;     /* a report arrives together with the answer */
    bool is_noisy;        /* other messages arrive on the topic of answers first */
    bool reconnects;      /* the device is online again after the first request */
    unsigned n_lost;      /* so many requests do not reach the device, */
    unsigned n_unheard;   /* and so many answers not the operator */
    uint64_t time_passed; /* milliseconds for the device between two publications */
    const char *down;     /* the connection fails with this row of mqtt-error.h */
    bool is_of_0_1;       /* the device's answer has no number of a session's version */
    enum gt_ack_status status;
    enum gt_nak_code close_code;
    uint16_t n_closed;
    enum gt_close_scope closed_scope;

    struct gt_mqtt *mqtt;
    struct gt_session_keys keys; /* of the device */
    unsigned n_before_suback;    /* requests that left together with the subscriptions */
    unsigned n_requests, n_mqtts, n_closes, n_subscriptions, n_sessions, n_same;
    uint64_t now_ms;      /* of the device */
    struct gt_span first; /* the bytes of the first request, owned */
} fakes;

static struct ev_loop *loop;
static struct gt_responder *responder;

/* --- the fake broker ---------------------------------------------------------------------------
 */

static void mqtt_send_state(struct gt_mqtt *mqtt)
{
    uint8_t message[GT_MESSAGE_MAX] = "GTM1 garbage";
    size_t n = 200;
    struct gt_extensions extensions = {.since = 1700000000};
    struct gt_state_form form = {.kind =
                                     fakes.retained == ONLINE ? GT_STATE_ONLINE : GT_STATE_OFFLINE,
                                 .extensions = &extensions};
    struct gt_fit fit;

    if (fakes.retained == NONE)
        return;
    if (fakes.retained != FOREIGN)
        assert_int_equal(gt_responder_state(responder, &form, &fit, message, &n), 0);
    mqtt->events.on_message(mqtt->userdata, PREFIX "/d/" DEVICE "/state", true,
                            gt_span(message, n));
}

static void mqtt_on_connected(struct ev_loop *l, ev_timer *timer, int revents)
{
    struct gt_mqtt *mqtt = timer->data;

    if (fakes.down) {
        mqtt->events.on_down(mqtt->userdata, fakes.down, 0);
        return;
    }
    mqtt->events.on_up(mqtt->userdata);
    fakes.n_before_suback = fakes.n_requests;
    if (fakes.has_no_suback)
        return;
    if (fakes.is_early)
        mqtt_send_state(mqtt);
    mqtt->events.on_subscribed(mqtt->userdata);
    if (!fakes.is_early)
        mqtt_send_state(mqtt);
}

static void device_report(struct gt_mqtt *mqtt, const struct gt_session_keys *keys, uint16_t seq)
{
    static const char topic[] = PREFIX "/d/" DEVICE "/rsp/" OPERATOR;
    struct gt_report report = {
        .seq = seq, .kind = GT_REPORT_UNREACHABLE, .relay = "r:1", .why = "Connection refused"};
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;

    assert_int_equal(gt_report_seal(keys->report, topic, &report, message, &n), 0);
    mqtt->events.on_message(mqtt->userdata, topic, false, gt_span(message, n));
}

static void mqtt_on_published(struct ev_loop *l, ev_timer *timer, int revents)
{
    struct gt_mqtt *mqtt = timer->data;
    unsigned n_in = mqtt->n_in;
    int id = (int)fakes.n_requests;

    if (fakes.is_refused)
        mqtt->events.on_refused(mqtt->userdata, id, "Not authorized");
    else
        mqtt->events.on_published(mqtt->userdata, id, fakes.is_unsubscribed);
    if (fakes.is_noisy)
        mqtt->events.on_message(mqtt->userdata, PREFIX "/d/" DEVICE "/rsp/" OPERATOR, false,
                                gt_span("GTM1\x02noise", 10));
    mqtt->n_in = 0;
    for (unsigned i = 0; i < n_in; i++)
        if (mqtt->in[i].n_reply > 0)
            mqtt->events.on_message(mqtt->userdata, mqtt->in[i].rsp_topic, false,
                                    gt_span(mqtt->in[i].reply, mqtt->in[i].n_reply));
    if (fakes.is_reported)
        device_report(mqtt, &fakes.keys, 1);
    if (fakes.reconnects && fakes.is_unsubscribed) {
        fakes.is_unsubscribed = false;
        fakes.retained = ONLINE;
        mqtt_send_state(mqtt);
    }
}

int gt_mqtt_new(struct ev_loop *l, const struct gt_mqtt_settings *settings,
                const struct gt_mqtt_events *events, void *userdata, struct gt_mqtt **ret)
{
    struct gt_mqtt *mqtt = calloc(1, sizeof(*mqtt));

    assert_true(settings->is_once && strlen(settings->client_id) <= 23);
    mqtt->loop = l;
    mqtt->events = *events;
    mqtt->userdata = userdata;
    ev_timer_init(&mqtt->connected, mqtt_on_connected, 0, 0);
    ev_timer_init(&mqtt->published, mqtt_on_published, 0, 0);
    mqtt->connected.data = mqtt->published.data = mqtt;
    ev_timer_start(l, &mqtt->connected);
    fakes.n_mqtts++;
    fakes.mqtt = mqtt;
    *ret = mqtt;
    return 0;
}

struct gt_mqtt *gt_mqtt_free(struct gt_mqtt *mqtt)
{
    if (!mqtt)
        return NULL;
    ev_timer_stop(mqtt->loop, &mqtt->connected);
    ev_timer_stop(mqtt->loop, &mqtt->published);
    free(mqtt);
    fakes.n_mqtts--;
    return NULL;
}

const struct gt_mqtt_outcome *gt_mqtt_last_outcome(const struct gt_mqtt *mqtt)
{
    const struct gt_mqtt_outcome *outcome = NULL;

    for (size_t i = 0; fakes.down && (outcome = gt_mqtt_outcome_at(i)); i++)
        if (strcmp(outcome->name, fakes.down) == 0)
            return outcome;
    assert_null(fakes.down);
    return NULL;
}

bool gt_mqtt_is_up(const struct gt_mqtt *mqtt)
{
    return true;
}

int gt_mqtt_subscribe(struct gt_mqtt *mqtt, const char *filter)
{
    fakes.n_subscriptions++;
    return 0;
}

int gt_mqtt_subscribe_all(struct gt_mqtt *mqtt, const char *const *filters, size_t n, unsigned qos,
                          int *ret_id)
{
    *ret_id = (int)++fakes.n_subscriptions;
    return 0;
}

/* --- the device --------------------------------------------------------------------------------
 */

static void device_receive(struct gt_incoming *in, struct gt_span payload)
{
    static const char topic[] = PREFIX "/d/" DEVICE "/req";
    struct gt_ack ack = {.max_streams = 8, .device = DEVICE, .operator_ = OPERATOR};

    ack.extensions.version = gt_span_text("0.1.0");
    ack.extensions.session_version = fakes.is_of_0_1 ? 0 : GT_SESSION_VERSION;
    assert_int_equal(
        gt_responder_receive(responder, fakes.now_ms, 1700000000, topic, false, payload, in), 0);
    switch (in->verdict) {
    case GT_VERDICT_DROP: in->n_reply = 0; return;
    case GT_VERDICT_REPLY: return;
    case GT_VERDICT_REQUEST:
        fakes.n_sessions += fakes.status == GT_ACK_OK;
        if (fakes.status == GT_ACK_OK)
            assert_int_equal(gt_responder_grant(responder, in, &ack, &fakes.keys), 0);
        else
            assert_int_equal(gt_responder_deny(responder, in, fakes.status), 0);
        return;
    case GT_VERDICT_CLOSE:
        fakes.n_closes++;
        fakes.closed_scope = in->close.scope;
        if (in->close.scope == GT_CLOSE_RID)
            assert_memory_equal(in->close.rid, fakes.keys.rid, GT_RID_SIZE);
        assert_int_equal(gt_responder_closed(responder, in, fakes.close_code, fakes.n_closed), 0);
        return;
    }
}

/* Compares a repetition with the first request. */
static void keep_first(struct gt_span payload)
{
    if (!fakes.first.data) {
        uint8_t *copy = malloc(payload.n);

        assert_non_null(copy);
        fakes.first = gt_span(memcpy(copy, payload.data, payload.n), payload.n);
    }
    fakes.n_same += gt_span_equals(fakes.first, payload);
}

int gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                    bool is_retained, unsigned expiry_s, int *ret_id)
{
    assert_false(is_retained);
    assert_int_equal(expiry_s, 20);
    assert_string_equal(topic, PREFIX "/d/" DEVICE "/req");
    *ret_id = (int)++fakes.n_requests;
    assert_true(mqtt->n_in < GT_ARRAY_SIZE(mqtt->in));
    struct gt_incoming *in = &mqtt->in[mqtt->n_in++];
    in->n_reply = 0;
    fakes.now_ms += fakes.time_passed;
    if (!fakes.is_unsubscribed && !fakes.is_silent && !fakes.is_refused &&
        fakes.n_requests > fakes.n_lost)
        device_receive(in, payload);
    if (fakes.n_requests <= fakes.n_lost + fakes.n_unheard)
        in->n_reply = 0;
    keep_first(payload);
    ev_timer_stop(mqtt->loop, &mqtt->published);
    ev_timer_set(&mqtt->published, 0, 0);
    ev_timer_start(mqtt->loop, &mqtt->published);
    return 0;
}

/* --- the operator ------------------------------------------------------------------------------
 */

struct result {
    struct request *request;
    bool is_likely;
    unsigned n_broker, n_sent, n_answers, n_failures;
    struct failure failure;
    struct gt_session_keys keys;
    uint16_t n_closed;
    unsigned n_reports, n_offline, n_waits;
    enum failure_id wait_reason;
    struct gt_report report;
};

static void on_broker(void *userdata)
{
    ((struct result *)userdata)->n_broker++;
}

static void on_sent(void *userdata, bool is_likely)
{
    struct result *result = userdata;

    result->n_sent++;
    result->is_likely = is_likely;
}

static void on_end(void *userdata, const struct gt_answer *answer, const struct failure *failure)
{
    struct result *result = userdata;

    assert_true(!answer != !failure);
    if (answer) {
        result->n_answers++;
        result->keys = answer->keys;
        result->n_closed = answer->n_closed;
    } else {
        result->n_failures++;
        result->failure = *failure;
    }
    result->request = request_free(result->request);
    ev_break(loop, EVBREAK_ALL);
}

/* The request is freed after the callback. */
static void on_agreed(void *userdata, const struct gt_answer *answer)
{
    struct result *result = userdata;

    result->n_answers++;
    result->keys = answer->keys;
    ev_break(loop, EVBREAK_ALL);
}

static void on_report(void *userdata, const struct gt_report *report)
{
    struct result *result = userdata;

    assert_int_equal(result->n_answers, 1);
    result->n_reports++;
    result->report = *report;
}

static void on_offline(void *userdata)
{
    struct result *result = userdata;

    result->n_offline++;
}

static void on_wait(void *userdata, const struct failure *why)
{
    struct result *result = userdata;

    result->n_waits++;
    result->wait_reason = why->id;
    ev_break(loop, EVBREAK_ALL);
}

static const struct request_events events = {
    .on_wait = on_wait,
    .on_broker = on_broker,
    .on_sent = on_sent,
    .on_agreed = on_agreed,
    .on_report = on_report,
    .on_offline = on_offline,
    .on_end = on_end,
};
static struct settings settings = {
    .mqtt_endpoint = (char *)"mqtt://localhost:1",
    .mqtt_prefix = (char *)PREFIX,
    .mqtt_version = "auto",
    .mqtt_keepalive_ms = 30000,
    .client_name = (char *)OPERATOR,
    .relay = (char *)"main",
    .lifetime_ms = 3600000,
    .answer_timeout_ms = 20000,
};
static struct identity identity;
static struct print print = {.style = PRINT_LINES, .is_quiet = true};

static double wait_s; /* of the requests that start */

static void start_request(const char *service, struct result *ret)
{
    struct failure failure;
    struct request_settings request = {
        .loop = loop,
        .settings = &settings,
        .identity = &identity,
        .print = &print,
        .device = DEVICE,
        .service = service,
        .scope = GT_CLOSE_OWN,
        .wait_s = wait_s,
    };

    *ret = (struct result){0};
    assert_int_equal(request_new(&request, &events, ret, &ret->request, &failure), 0);
}

static void run_request(const char *service, struct result *ret)
{
    start_request(service, ret);
    ev_run(loop, 0);
    assert_int_equal(ret->n_answers + ret->n_failures, 1);
    ret->request = request_free(ret->request);
    assert_int_equal(fakes.n_mqtts, 0);
}

static void expect_failure(const char *service, enum failure_id id)
{
    struct result result;

    run_request(service, &result);
    assert_int_equal(result.n_failures, 1);
    assert_int_equal(result.failure.id, id);
}

static char state_home[64]; /* of each test: no epoch is remembered at its start */

/* Another device of the same name, or the same one after a restart: its epoch is new. */
static int start_device(void)
{
    struct gt_responder_settings device = {PREFIX, DEVICE, NULL, &identity.trust};
    uint8_t device_key[GT_KEY_SIZE];

    gt_responder_free(responder);
    responder = NULL;
    if (gt_key_device(&identity.key, DEVICE, device_key) != 0)
        return -1;
    return gt_responder_new(&device, device_key, NULL, 0, &responder);
}

static int setup(void **state)
{
    struct gt_trust *trust = &identity.trust;

    strcpy(state_home, "/tmp/gotthard-state-XXXXXX");
    assert_non_null(mkdtemp(state_home));
    setenv("XDG_STATE_HOME", state_home, 1);
    memset(&fakes, 0, sizeof(fakes));
    fakes.now_ms = 1000;
    loop = ev_default_loop(0);
    gt_trust_init_psk(trust);
    identity.pins_path = strdup("devices.pins");
    if (gt_key_parse(KEY, IV, &identity.key) != 0)
        return -1;
    return start_device();
}

static int teardown(void **state)
{
    char path[PATH_MAX], folder[96];
    struct epoch_memory memory;

    epoch_memory_init(&memory, &settings, &identity);
    snprintf(path, sizeof(path), "%s", memory.path);
    snprintf(folder, sizeof(folder), "%s/gotthard", state_home);
    unlink(path);
    rmdir(folder);
    assert_int_equal(rmdir(state_home), 0);
    responder = gt_responder_free(responder);
    identity_deinit(&identity);
    free((void *)(uintptr_t)fakes.first.data);
    return 0;
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void expect_agreement(void)
{
    struct result result;

    run_request("ssh", &result);
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(result.n_broker, 1);
    assert_memory_equal(&result.keys, &fakes.keys, sizeof(fakes.keys));
}

static void test_request_agreed(void **state)
{
    fakes.retained = ONLINE;
    expect_agreement();
    assert_int_equal(fakes.n_requests, 1);
}

static void start_and_agree(struct result *ret)
{
    fakes.retained = ONLINE;
    start_request("ssh", ret);
    ev_run(loop, 0);
    assert_int_equal(ret->n_answers, 1);
}

static void test_request_receives_reports(void **state)
{
    struct gt_session_keys other = {.rid = {0}};
    struct result result;

    start_and_agree(&result);
    device_report(fakes.mqtt, &fakes.keys, 2);
    assert_int_equal(result.n_reports, 1);
    assert_string_equal(result.report.why, "Connection refused");
    device_report(fakes.mqtt, &fakes.keys, 2); /* replayed */
    device_report(fakes.mqtt, &fakes.keys, 1);
    device_report(fakes.mqtt, &other, 9); /* of another session */
    fakes.mqtt->events.on_message(result.request, PREFIX "/d/" DEVICE "/rsp/" OPERATOR, false,
                                  gt_span("GTM1\x05noise", 10));
    assert_int_equal(result.n_reports, 1);
    device_report(fakes.mqtt, &fakes.keys, 3);
    assert_int_equal(result.n_reports, 2);
    request_free(result.request);
}

static void test_request_receives_a_report_beside_the_answer(void **state)
{
    struct result result;

    fakes.is_reported = true;
    start_and_agree(&result);
    assert_int_equal(result.n_reports, 1);
    request_free(result.request);
}

static void test_request_receives_reports_after_the_broker_returned(void **state)
{
    struct result result;

    start_and_agree(&result);
    assert_int_equal(fakes.n_subscriptions, 2);
    fakes.mqtt->events.on_down(result.request, "Connection refused", 1000);
    fakes.mqtt->events.on_up(result.request);
    assert_int_equal(fakes.n_subscriptions, 4);
    fakes.mqtt->events.on_subscribed(result.request);
    device_report(fakes.mqtt, &fakes.keys, 1);
    assert_int_equal(result.n_reports, 1);
    assert_int_equal(result.n_failures, 0);
    request_free(result.request);
}

static void test_request_notices_that_the_agent_left(void **state)
{
    struct result result;

    start_and_agree(&result);
    mqtt_send_state(fakes.mqtt); /* still online */
    assert_int_equal(result.n_offline, 0);
    fakes.retained = FOREIGN;
    mqtt_send_state(fakes.mqtt);
    assert_int_equal(result.n_offline, 0);
    fakes.retained = OFFLINE;
    mqtt_send_state(fakes.mqtt);
    mqtt_send_state(fakes.mqtt);
    assert_int_equal(result.n_offline, 1);
    request_free(result.request);
}

static void test_request_withdraws_a_session(void **state)
{
    struct result result;

    start_and_agree(&result);
    assert_true(request_withdraw(result.request));
    assert_int_equal(fakes.n_closes, 1); /* the fake device compares the rid */
    request_free(result.request);
}

static void test_request_waits_for_a_device_that_is_offline(void **state)
{
    struct result result;

    wait_s = 60;
    fakes.retained = OFFLINE;
    fakes.is_unsubscribed = true;
    start_request("ssh", &result);
    ev_run(loop, 0);
    assert_int_equal(result.n_waits, 1);
    assert_int_equal(result.wait_reason, FAILURE_OFFLINE);
    assert_int_equal(result.n_failures, 0);
    fakes.is_unsubscribed = false;
    fakes.retained = ONLINE;
    mqtt_send_state(fakes.mqtt);
    ev_run(loop, 0);
    wait_s = 0;
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(fakes.n_sessions, 1);
    request_free(result.request);
}

static void test_request_waits_for_a_broker_that_was_lost(void **state)
{
    struct result result;

    wait_s = 60;
    fakes.retained = ONLINE;
    fakes.is_silent = true;
    start_request("ssh", &result);
    while (fakes.n_requests == 0)
        ev_run(loop, EVRUN_ONCE);
    fakes.mqtt->events.on_down(result.request, "Connection reset by peer", 1000);
    assert_int_equal(result.n_waits, 1);
    assert_int_equal(result.wait_reason, FAILURE_BROKER_UNREACHABLE);
    fakes.is_silent = false;
    fakes.mqtt->events.on_up(result.request);
    ev_run(loop, 0);
    wait_s = 0;
    assert_int_equal(result.n_failures, 0);
    assert_int_equal(result.n_answers, 1);
    request_free(result.request);
}

/* The failure is the last reason to wait. What waiting cannot change fails at once. */
static void test_request_waits_no_longer_than_its_time(void **state)
{
    struct result result;

    wait_s = .05;
    fakes.retained = OFFLINE;
    fakes.is_unsubscribed = true;
    start_request("ssh", &result);
    while (result.n_failures == 0)
        ev_run(loop, 0);
    assert_int_equal(result.failure.id, FAILURE_OFFLINE);
    wait_s = 60;
    fakes.is_unsubscribed = false;
    fakes.retained = ONLINE;
    fakes.status = GT_ACK_DENIED;
    expect_failure("ssh", FAILURE_DENIED);
    wait_s = 0;
}

/* The device's answers are lost. */
static void start_unanswered(struct result *ret, bool is_interrupted)
{
    fakes.n_unheard = UINT32_MAX / 2;
    settings.answer_timeout_ms = 1000;
    if (is_interrupted) {
        start_request("ssh", ret);
        while (fakes.n_requests == 0)
            ev_run(loop, EVRUN_ONCE);
        request_free(ret->request);
    } else {
        run_request("ssh", ret);
        assert_int_equal(ret->failure.id, FAILURE_NO_ANSWER);
    }
    settings.answer_timeout_ms = 20000;
}

/* Ctrl+C, and the time-out: the device may have opened a session all the same. */
static void test_request_without_an_answer_is_withdrawn(void **state)
{
    struct result result;

    for (int is_interrupted = 0; is_interrupted < 2; is_interrupted++) {
        fakes.retained = ONLINE;
        fakes.n_closes = fakes.n_requests = 0;
        start_unanswered(&result, is_interrupted);
        assert_int_equal(fakes.n_closes, 1);
        assert_int_equal(fakes.closed_scope, GT_CLOSE_REQUEST);
    }
}

static void test_request_agreed_state_before_suback(void **state)
{
    fakes.retained = ONLINE;
    fakes.is_early = true;
    expect_agreement();
    assert_int_equal(fakes.n_requests, 1);
}

static void test_request_agreed_other_messages_ignored(void **state)
{
    fakes.retained = ONLINE;
    fakes.is_noisy = true;
    expect_agreement();
}

/* Without a retained state message the request is sent after a second with no epoch, and the NAK
 * has the right one. */
static void test_request_agreed_without_state(void **state)
{
    expect_agreement();
    assert_int_equal(fakes.n_requests, 2);
}

/* The retained state message is stale or foreign; the device answers. */
static void test_request_agreed_state_is_stale(void **state)
{
    fakes.retained = OFFLINE;
    expect_agreement();
    fakes.retained = FOREIGN;
    expect_agreement();
}

/* The first request is not delivered; then the device sends a new state message. */
static void test_request_agreed_after_device_reconnects(void **state)
{
    fakes.retained = ONLINE;
    fakes.is_unsubscribed = fakes.reconnects = true;
    expect_agreement();
    assert_int_equal(fakes.n_requests, 2);
}

/* The request, or its answer, is lost once or more often, as while a subscription does not work
 * yet. The repetitions have the same bytes, so that there is one session. */
static void test_request_is_repeated_until_it_is_answered(void **state)
{
    static const struct {
        unsigned n_lost, n_unheard;
    } rows[] = {{1, 0}, {0, 1}, {2, 0}, {0, 2}, {1, 1}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        unsigned n = rows[i].n_lost + rows[i].n_unheard + 1;

        teardown(state);
        assert_int_equal(setup(state), 0);
        fakes.retained = ONLINE;
        fakes.time_passed = 500;
        fakes.n_lost = rows[i].n_lost;
        fakes.n_unheard = rows[i].n_unheard;
        expect_agreement();
        assert_int_equal(fakes.n_requests, n);
        assert_int_equal(fakes.n_same, n);
        assert_int_equal(fakes.n_sessions, 1);
    }
}

static void test_close_is_repeated_until_it_is_answered(void **state)
{
    struct result result;

    fakes.retained = ONLINE;
    fakes.n_unheard = 1;
    fakes.n_closed = 3;
    run_request(NULL, &result);
    assert_int_equal(result.n_closed, 3);
    assert_int_equal(fakes.n_closes, 1);
    assert_int_equal(fakes.n_same, 2);
}

/* The NAK and the STATE, which has the same epoch, arrive in either order. */
static void test_request_agreed_state_before_nak(void **state)
{
    struct result result;

    fakes.n_unheard = 1;
    start_request("ssh", &result);
    while (fakes.n_requests == 0)
        ev_run(loop, EVRUN_ONCE);
    fakes.retained = ONLINE;
    mqtt_send_state(fakes.mqtt);
    fakes.time_passed = 2000; /* to the next NAK */
    ev_run(loop, 0);
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(fakes.n_sessions, 1);
    request_free(result.request);
}

/* The operator's share of new requests is used up by others. */
static void use_up_share(void)
{
    struct gt_initiator_settings other = {.prefix = PREFIX,
                                          .operator_ = OPERATOR,
                                          .device = DEVICE,
                                          .service = "ssh",
                                          .relay = "main",
                                          .trust = &identity.trust};
    uint8_t key[GT_KEY_SIZE], epoch[GT_EPOCH_SIZE] = {0}, message[GT_MESSAGE_MAX];
    struct gt_initiator initiator;
    struct gt_incoming in;
    struct gt_answer answer;
    size_t n;

    assert_int_equal(gt_key_device(&identity.key, DEVICE, key), 0);
    assert_int_equal(gt_initiator_init(&initiator, &other, key, NULL), 0);
    assert_int_equal(gt_initiator_request(&initiator, epoch, message, &n), 0);
    device_receive(&in, gt_span(message, n));
    assert_int_equal(
        gt_initiator_receive(&initiator, in.rsp_topic, gt_span(in.reply, in.n_reply), 0, &answer),
        GT_INITIATOR_E_RETRY);
    for (int i = 0; i < GT_REQ_BURST; i++) {
        assert_int_equal(gt_initiator_request(&initiator, answer.epoch, message, &n), 0);
        device_receive(&in, gt_span(message, n));
        assert_int_equal(in.verdict, GT_VERDICT_REQUEST);
    }
    gt_initiator_deinit(&initiator);
    fakes.n_sessions = 0;
}

static void test_request_waits_while_the_device_is_busy(void **state)
{
    fakes.retained = ONLINE;
    use_up_share();
    fakes.time_passed = 100; /* less than a new request needs, then more */
    expect_agreement();
    assert_true(fakes.n_requests >= 2);
    assert_int_equal(fakes.n_same, fakes.n_requests);
    assert_int_equal(fakes.n_sessions, 1);
}

static void test_close_waits_while_the_device_is_busy(void **state)
{
    struct result result;

    fakes.retained = ONLINE;
    use_up_share();
    fakes.time_passed = 100;
    run_request(NULL, &result);
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(fakes.n_closes, 1);
}

/* A device that stays busy is named at the deadline, or earlier if it will be busy until then. */
static void test_request_fails_if_the_device_stays_busy(void **state)
{
    fakes.retained = ONLINE;
    use_up_share();
    settings.answer_timeout_ms = 2000;
    expect_failure("ssh", FAILURE_QUOTA);
    assert_true(fakes.n_requests >= 2);
    settings.answer_timeout_ms = 1000;
    fakes.n_requests = 0;
    expect_failure("ssh", FAILURE_QUOTA);
    assert_int_equal(fakes.n_requests, 1);
    settings.answer_timeout_ms = 20000;
}

static void test_request_undelivered_fails_by_state(void **state)
{
    fakes.is_unsubscribed = true;
    expect_failure("ssh", FAILURE_UNKNOWN_DEVICE);
    fakes.retained = OFFLINE;
    expect_failure("ssh", FAILURE_OFFLINE);
    fakes.retained = FOREIGN;
    expect_failure("ssh", FAILURE_NO_ANSWER);
}

/* With MQTT 3.1.1 the broker does not report an undelivered request; the state message is offline:
 * the deadline is five seconds. */
static void test_request_offline_device_short_deadline(void **state)
{
    fakes.retained = OFFLINE;
    fakes.is_silent = true;
    ev_now_update(loop);
    double begun = ev_now(loop);
    expect_failure("ssh", FAILURE_OFFLINE);
    assert_true(ev_now(loop) - begun < 10);
}

static void test_request_refused_by_device(void **state)
{
    static const struct {
        enum gt_ack_status status;
        enum failure_id id;
    } rows[] = {
        {GT_ACK_DENIED, FAILURE_DENIED},
        {GT_ACK_SERVICE, FAILURE_NO_SERVICE},
        {GT_ACK_QUOTA, FAILURE_QUOTA},
        {GT_ACK_RELAY, FAILURE_NO_RELAY},
        {GT_ACK_INTERNAL, FAILURE_DEVICE_INTERNAL},
        {99, FAILURE_DENIED},
    };

    fakes.retained = ONLINE;
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        fakes.status = rows[i].status;
        expect_failure("ssh", rows[i].id);
    }
}

/* The sentence comes at once, and the device does not wait for an operator: [GTD-E48]. */
static void test_request_of_a_session_with_an_older_device(void **state)
{
    struct result result;

    fakes.retained = ONLINE;
    fakes.is_of_0_1 = true;
    run_request("ssh", &result);
    assert_int_equal(result.n_failures, 1);
    assert_int_equal(result.failure.id, FAILURE_VERSION);
    assert_string_equal(result.failure.message,
                        DEVICE " has gotthard-agentd 0.1.0, which cannot open a tunnel with "
                               "gotthard-cli " GOTTHARD_VERSION);
    assert_string_equal(result.failure.hint, "upgrade gotthard-agentd on " DEVICE);
    assert_int_equal(fakes.n_closes, 1);
}

/* Under `pin` an answer without a pinned signature is not trusted. */
static void test_request_untrusted_answer_is_withdrawn(void **state)
{
    struct gt_trust no_pins = {.policy = GT_POLICY_PIN};
    struct gt_trust before = identity.trust;

    fakes.retained = ONLINE;
    identity.trust = no_pins;
    responder = gt_responder_free(responder);
    struct gt_responder_settings device = {PREFIX, DEVICE, NULL, &before};
    uint8_t device_key[GT_KEY_SIZE];
    assert_int_equal(gt_key_device(&identity.key, DEVICE, device_key), 0);
    assert_int_equal(gt_responder_new(&device, device_key, NULL, 0, &responder), 0);
    fakes.n_closes = 0;
    settings.answer_timeout_ms = 1;
    expect_failure("ssh", FAILURE_UNTRUSTED);
    assert_int_equal(fakes.n_closes, 2); /* of the session that it opened, and at the time-out */
    fakes.status = GT_ACK_DENIED;
    expect_failure("ssh", FAILURE_UNTRUSTED);
    assert_int_equal(fakes.n_closes, 3);
    fakes.status = GT_ACK_OK;
    settings.answer_timeout_ms = 20000;
    identity.trust = before;
}

static void test_request_close_all(void **state)
{
    struct result result;

    fakes.retained = ONLINE;
    for (uint16_t n = 0; n < 3; n++) {
        fakes.n_closed = n;
        run_request(NULL, &result);
        assert_int_equal(result.n_answers, 1);
        assert_int_equal(result.n_closed, n);
    }
    fakes.close_code = GT_NAK_DENIED;
    expect_failure(NULL, FAILURE_DENIED);
}

static void test_request_broker_failures(void **state)
{
    static const struct {
        const char *outcome;
        enum failure_id id;
    } rows[] = {
        {"errno", FAILURE_BROKER_UNREACHABLE},
        {"answer-late", FAILURE_BROKER_UNREACHABLE},
        {"not-authorized", FAILURE_BROKER_REFUSED},
        {"filter-refused", FAILURE_BROKER_REFUSED},
        {"own-rejected", FAILURE_BROKER_REFUSED},
        {"own-expired", FAILURE_CERTIFICATE},
        {"certificate-name", FAILURE_BROKER_UNTRUSTED},
        {"no-tls", FAILURE_BROKER_FOREIGN},
        {"clock", FAILURE_CLOCK},
        {"setting", FAILURE_CONFIG},
        {"memory", FAILURE_INTERNAL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        fakes.down = rows[i].outcome;
        expect_failure("ssh", rows[i].id);
    }
    fakes.down = NULL;
    fakes.retained = ONLINE;
    fakes.is_refused = true;
    expect_failure("ssh", FAILURE_BROKER_REFUSED);
}

/* As after Ctrl+C in any state. */
static void test_request_free_in_any_state(void **state)
{
    fakes.retained = ONLINE;
    for (int n = 0; n < 6; n++) {
        struct result result;

        start_request("ssh", &result);
        for (int i = 0; i < n && result.request; i++)
            ev_run(loop, EVRUN_ONCE);
        request_free(result.request);
        assert_int_equal(fakes.n_mqtts, 0);
    }
    assert_null(request_free(NULL));
}

/* --- the remembered epoch ----------------------------------------------------------------------
 */

/* A first session, after which the epoch is remembered. */
static void remember_epoch(void)
{
    fakes.retained = ONLINE;
    expect_agreement();
    assert_int_equal(fakes.n_before_suback, 0);
    fakes.n_requests = fakes.n_sessions = 0;
}

static void test_request_with_remembered_epoch_leaves_with_the_subscriptions(void **state)
{
    struct result result;

    remember_epoch();
    for (int is_early = 0; is_early < 2; is_early++) {
        fakes.n_requests = fakes.n_sessions = 0;
        fakes.is_early = is_early;
        run_request("ssh", &result);
        assert_int_equal(result.n_answers, 1);
        assert_memory_equal(&result.keys, &fakes.keys, sizeof(fakes.keys));
        assert_int_equal(fakes.n_before_suback, 1);
        assert_int_equal(fakes.n_requests, 1);
        assert_int_equal(fakes.n_sessions, 1);
        assert_true(result.n_sent > 0 && result.is_likely);
    }
    assert_int_equal(fakes.n_closes, 0);
}

static void test_early_request_is_agreed_before_the_suback(void **state)
{
    remember_epoch();
    fakes.has_no_suback = true;
    expect_agreement();
    assert_int_equal(fakes.n_requests, 1);
}

/* The state has the epoch that is valid now: the second request does not wait for the NAK. */
static void test_early_request_with_a_stale_epoch_is_sent_again(void **state)
{
    remember_epoch();
    assert_int_equal(start_device(), 0);
    expect_agreement();
    assert_int_equal(fakes.n_before_suback, 1);
    assert_int_equal(fakes.n_requests, 2);
    assert_int_equal(fakes.n_sessions, 1);
    assert_int_equal(fakes.n_closes, 0);
    fakes.n_requests = 0;
    expect_agreement(); /* the new epoch is remembered */
    assert_int_equal(fakes.n_before_suback, 1);
    assert_int_equal(fakes.n_requests, 1);
}

/* The NAK arrives before any state, or there is none: its epoch counts, as before a first state. */
static void test_early_request_with_a_stale_epoch_is_sent_again_after_a_nak(void **state)
{
    for (int has_no_suback = 0; has_no_suback < 2; has_no_suback++) {
        teardown(state);
        assert_int_equal(setup(state), 0);
        remember_epoch();
        assert_int_equal(start_device(), 0);
        fakes.retained = NONE;
        fakes.has_no_suback = has_no_suback;
        expect_agreement();
        assert_int_equal(fakes.n_requests, 2);
        assert_int_equal(fakes.n_sessions, 1);
    }
}

/* The retained state is older than the remembered epoch: the early request is the valid one, and
 * its ACK counts although another request was sent since. */
static void test_early_request_is_agreed_beside_a_stale_state(void **state)
{
    struct gt_extensions extensions = {0};
    struct gt_state_form form = {.kind = GT_STATE_ONLINE, .extensions = &extensions};
    uint8_t message[GT_MESSAGE_MAX];
    struct result result;
    struct gt_fit fit;
    size_t n;

    assert_int_equal(gt_responder_state(responder, &form, &fit, message, &n), 0);
    assert_int_equal(start_device(), 0);
    remember_epoch();
    fakes.retained = NONE;
    start_request("ssh", &result);
    while (fakes.n_requests == 0)
        ev_run(loop, EVRUN_ONCE);
    fakes.mqtt->events.on_message(result.request, PREFIX "/d/" DEVICE "/state", true,
                                  gt_span(message, n));
    assert_int_equal(fakes.n_requests, 2);
    ev_run(loop, 0);
    assert_int_equal(result.n_answers, 1);
    assert_memory_equal(&result.keys, &fakes.keys, sizeof(fakes.keys));
    assert_int_equal(fakes.n_sessions, 1);
    request_free(result.request);
}

/* For a minute the device accepts the epoch before as well: it opens two sessions. One of them is
 * closed again. */
static void test_session_of_an_early_request_is_withdrawn_if_another_is_agreed(void **state)
{
    remember_epoch();
    fakes.now_ms += GT_EPOCH_LIFE_MS;
    assert_true(gt_responder_tick(responder, fakes.now_ms));
    fakes.status = GT_ACK_OK;
    struct result result;
    run_request("ssh", &result);
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(fakes.n_sessions, 2);
    assert_int_equal(fakes.n_closes, 1);
    assert_int_equal(fakes.closed_scope, GT_CLOSE_REQUEST);
}

/* Ctrl+C, and a broker that does not answer: the device may have opened a session. */
static void test_early_request_that_is_given_up_is_withdrawn(void **state)
{
    struct result result;

    remember_epoch();
    fakes.n_unheard = 1;
    fakes.has_no_suback = true;
    start_request("ssh", &result);
    while (fakes.n_requests == 0)
        ev_run(loop, EVRUN_ONCE);
    request_free(result.request);
    assert_int_equal(fakes.n_closes, 1);
    assert_int_equal(fakes.closed_scope, GT_CLOSE_REQUEST);
}

/* The owner learns from the state that a connection to the relay is of no use. */
static void test_early_request_to_an_offline_device_is_unlikely(void **state)
{
    struct result result;

    remember_epoch();
    fakes.is_silent = true;
    fakes.retained = OFFLINE;
    start_request("ssh", &result);
    while (fakes.n_before_suback == 0)
        ev_run(loop, EVRUN_ONCE);
    assert_true(result.n_sent >= 2);
    assert_false(result.is_likely);
    request_free(result.request);
}

/* The state decides about the reported failure, whether an epoch is remembered or not. */
static void test_early_request_fails_by_state(void **state)
{
    remember_epoch();
    fakes.is_unsubscribed = true;
    fakes.retained = NONE;
    expect_failure("ssh", FAILURE_UNKNOWN_DEVICE);
    fakes.retained = OFFLINE;
    expect_failure("ssh", FAILURE_OFFLINE);
    fakes.retained = FOREIGN;
    expect_failure("ssh", FAILURE_NO_ANSWER);
    fakes.is_unsubscribed = false;
    fakes.retained = ONLINE;
    fakes.status = GT_ACK_DENIED;
    expect_failure("ssh", FAILURE_DENIED);
    fakes.is_refused = true;
    expect_failure("ssh", FAILURE_BROKER_REFUSED);
}

static void test_early_request_is_repeated_until_it_is_answered(void **state)
{
    static const struct {
        unsigned n_lost, n_unheard;
    } rows[] = {{1, 0}, {0, 1}, {1, 1}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        unsigned n = rows[i].n_lost + rows[i].n_unheard + 1;

        teardown(state);
        assert_int_equal(setup(state), 0);
        remember_epoch();
        free((void *)(uintptr_t)fakes.first.data);
        fakes.first = (struct gt_span){0};
        fakes.n_same = 0;
        fakes.time_passed = 500;
        fakes.n_lost = rows[i].n_lost;
        fakes.n_unheard = rows[i].n_unheard;
        expect_agreement();
        assert_int_equal(fakes.n_before_suback, 1);
        assert_int_equal(fakes.n_requests, n);
        assert_int_equal(fakes.n_same, n);
        assert_int_equal(fakes.n_sessions, 1);
    }
}

static void test_early_request_waits_while_the_device_is_busy(void **state)
{
    remember_epoch();
    fakes.now_ms += 1000; /* the share is whole again */
    use_up_share();
    fakes.time_passed = 100;
    expect_agreement();
    assert_int_equal(fakes.n_before_suback, 1);
    assert_int_equal(fakes.n_sessions, 1);
}

static void test_request_to_close_waits_for_the_state(void **state)
{
    struct result result;

    remember_epoch();
    run_request(NULL, &result);
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(fakes.n_before_suback, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(request_agreed),
        TEST(request_receives_reports),
        TEST(request_receives_a_report_beside_the_answer),
        TEST(request_receives_reports_after_the_broker_returned),
        TEST(request_notices_that_the_agent_left),
        TEST(request_withdraws_a_session),
        TEST(request_waits_for_a_device_that_is_offline),
        TEST(request_waits_for_a_broker_that_was_lost),
        TEST(request_waits_no_longer_than_its_time),
        TEST(request_without_an_answer_is_withdrawn),
        TEST(request_agreed_state_before_suback),
        TEST(request_agreed_other_messages_ignored),
        TEST(request_agreed_without_state),
        TEST(request_agreed_state_is_stale),
        TEST(request_agreed_after_device_reconnects),
        TEST(request_is_repeated_until_it_is_answered),
        TEST(close_is_repeated_until_it_is_answered),
        TEST(request_agreed_state_before_nak),
        TEST(request_waits_while_the_device_is_busy),
        TEST(close_waits_while_the_device_is_busy),
        TEST(request_fails_if_the_device_stays_busy),
        TEST(request_undelivered_fails_by_state),
        TEST(request_offline_device_short_deadline),
        TEST(request_refused_by_device),
        TEST(request_of_a_session_with_an_older_device),
        TEST(request_untrusted_answer_is_withdrawn),
        TEST(request_close_all),
        TEST(request_broker_failures),
        TEST(request_free_in_any_state),
        TEST(request_with_remembered_epoch_leaves_with_the_subscriptions),
        TEST(early_request_is_agreed_before_the_suback),
        TEST(early_request_with_a_stale_epoch_is_sent_again),
        TEST(early_request_with_a_stale_epoch_is_sent_again_after_a_nak),
        TEST(early_request_is_agreed_beside_a_stale_state),
        TEST(session_of_an_early_request_is_withdrawn_if_another_is_agreed),
        TEST(early_request_that_is_given_up_is_withdrawn),
        TEST(early_request_to_an_offline_device_is_unlikely),
        TEST(early_request_fails_by_state),
        TEST(early_request_is_repeated_until_it_is_answered),
        TEST(early_request_waits_while_the_device_is_busy),
        TEST(request_to_close_waits_for_the_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
