/* SPDX-License-Identifier: ISC */
/*
 * request.c against a true device (a struct gt_responder) behind a broker that is played here: this
 * file stands in for mqtt.c, so that every order of events can be had, and few tests wait for a
 * clock.
 */
#include "request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/mqtt.h"
#include "gotthard/responder.h"

#define DEVICE   "GatewayOli"
#define OPERATOR "alice"
#define PREFIX   "gotthard/v1"
#define KEY      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define IV       "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"

enum presence { NONE, ONLINE, OFFLINE, FOREIGN };

struct gt_mqtt {
    struct ev_loop *loop;
    struct gt_mqtt_events events;
    void *userdata;
    ev_timer connected, published;
    struct gt_incoming in; /* the device's answer, on its way */
};

/* How this world is, and what happened in it. */
static struct {
    enum presence presence;
    bool is_early;    /* the retained presence comes before the SUBACK */
    bool is_deaf;     /* nobody subscribed to the question */
    bool is_mute;     /* the device hears, and says nothing */
    bool is_refused;  /* the broker does not take the question */
    bool is_noisy;    /* other things come on the answer's topic first */
    bool comes_back;  /* after the first question the device is there again */
    const char *down; /* the connection fails with this */
    enum gt_ack_status status;
    enum gt_nak_code close_code;
    uint16_t n_closed;

    struct gt_mqtt *mqtt;
    struct gt_session_keys keys; /* as the device sees them */
    unsigned n_questions, n_mqtts, n_closes;
} world;

static struct ev_loop *loop;
static struct gt_responder *responder;

/* --- the broker, played ------------------------------------------------------------------------
 */

static void mqtt_say_state(struct gt_mqtt *mqtt)
{
    uint8_t message[GT_MESSAGE_MAX] = "GTM1 garbage";
    size_t n = 200;
    struct gt_extensions extensions = {.since = 1700000000};
    bool is_online = world.presence == ONLINE;
    if (world.presence == NONE)
        return;
    if (world.presence != FOREIGN)
        assert_int_equal(gt_responder_state(responder, is_online, &extensions, message, &n), 0);
    mqtt->events.on_message(mqtt->userdata, PREFIX "/d/" DEVICE "/state", true,
                            gt_span(message, n));
}

static void mqtt_on_connected(struct ev_loop *l, ev_timer *timer, int revents)
{
    struct gt_mqtt *mqtt = timer->data;
    if (world.down) {
        mqtt->events.on_down(mqtt->userdata, world.down, 0);
        return;
    }
    mqtt->events.on_up(mqtt->userdata);
    if (world.is_early)
        mqtt_say_state(mqtt);
    mqtt->events.on_subscribed(mqtt->userdata);
    if (!world.is_early)
        mqtt_say_state(mqtt);
}

static void mqtt_on_published(struct ev_loop *l, ev_timer *timer, int revents)
{
    struct gt_mqtt *mqtt = timer->data;
    const struct gt_incoming *in = &mqtt->in;
    int id = (int)world.n_questions;
    if (world.is_refused)
        mqtt->events.on_refused(mqtt->userdata, id, "Not authorized");
    else
        mqtt->events.on_published(mqtt->userdata, id, world.is_deaf);
    if (world.is_noisy)
        mqtt->events.on_message(mqtt->userdata, PREFIX "/d/" DEVICE "/rsp/" OPERATOR, false,
                                gt_span("GTM1\x02noise", 10));
    if (in->n_reply > 0)
        mqtt->events.on_message(mqtt->userdata, in->rsp_topic, false,
                                gt_span(in->reply, in->n_reply));
    if (world.comes_back && world.is_deaf) {
        world.is_deaf = false;
        world.presence = ONLINE;
        mqtt_say_state(mqtt);
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
    world.n_mqtts++;
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
    world.n_mqtts--;
    return NULL;
}

int gt_mqtt_subscribe(struct gt_mqtt *mqtt, const char *filter)
{
    return 0;
}

/* --- the device --------------------------------------------------------------------------------
 */

static void device_hear(struct gt_incoming *in, struct gt_span payload)
{
    static const char topic[] = PREFIX "/d/" DEVICE "/req";
    struct gt_ack ack = {.max_streams = 8, .device = DEVICE, .operator_ = OPERATOR};
    assert_int_equal(gt_responder_receive(responder, 1000, 1700000000, topic, false, payload, in),
                     0);
    switch (in->verdict) {
    case GT_VERDICT_DROP: in->n_reply = 0; return;
    case GT_VERDICT_REPLY: return;
    case GT_VERDICT_REQUEST:
        if (world.status == GT_ACK_OK)
            assert_int_equal(gt_responder_grant(responder, in, &ack, &world.keys), 0);
        else
            assert_int_equal(gt_responder_deny(responder, in, world.status), 0);
        return;
    case GT_VERDICT_CLOSE:
        world.n_closes++;
        if (!in->close.is_all)
            assert_memory_equal(in->close.rid, world.keys.rid, GT_RID_SIZE);
        assert_int_equal(gt_responder_closed(responder, in, world.close_code, world.n_closed), 0);
        return;
    }
}

int gt_mqtt_publish(struct gt_mqtt *mqtt, const char *topic, struct gt_span payload,
                    bool is_retained, unsigned expiry_s, int *ret_id)
{
    assert_false(is_retained);
    assert_int_equal(expiry_s, 20);
    assert_string_equal(topic, PREFIX "/d/" DEVICE "/req");
    *ret_id = (int)++world.n_questions;
    mqtt->in.n_reply = 0;
    if (!world.is_deaf && !world.is_mute && !world.is_refused)
        device_hear(&mqtt->in, payload);
    ev_timer_stop(mqtt->loop, &mqtt->published);
    ev_timer_set(&mqtt->published, 0, 0);
    ev_timer_start(mqtt->loop, &mqtt->published);
    return 0;
}

/* --- the operator ------------------------------------------------------------------------------
 */

struct result {
    struct request *request;
    unsigned n_broker, n_answers, n_failures;
    struct failure failure;
    struct gt_session_keys keys;
    uint16_t n_closed;
};

static void on_broker(void *userdata)
{
    ((struct result *)userdata)->n_broker++;
}

static void on_answer(void *userdata, const struct gt_answer *answer)
{
    struct result *result = userdata;
    result->n_answers++;
    result->keys = answer->keys;
    result->n_closed = answer->n_closed;
    result->request = request_free(result->request);
    ev_break(loop, EVBREAK_ALL);
}

static void on_failure(void *userdata, const struct failure *failure)
{
    struct result *result = userdata;
    result->n_failures++;
    result->failure = *failure;
    result->request = request_free(result->request);
    ev_break(loop, EVBREAK_ALL);
}

static const struct request_events events = {on_broker, on_answer, on_failure};
static struct settings settings = {
    .mqtt_endpoint = (char *)"mqtt://localhost:1",
    .mqtt_prefix = (char *)PREFIX,
    .mqtt_keepalive_ms = 30000,
    .client_name = (char *)OPERATOR,
    .relay = (char *)"main",
    .lifetime_ms = 3600000,
    .answer_timeout_ms = 20000,
};
static struct identity identity;
static struct print print = {.style = PRINT_LINES, .is_quiet = true};

static void begin(const char *service, struct result *ret)
{
    struct failure failure;
    struct request_settings request = {
        .loop = loop,
        .settings = &settings,
        .identity = &identity,
        .print = &print,
        .device = DEVICE,
        .service = service,
    };
    *ret = (struct result){0};
    assert_int_equal(request_new(&request, &events, ret, &ret->request, &failure), 0);
}

static void ask(const char *service, struct result *ret)
{
    begin(service, ret);
    ev_run(loop, 0);
    assert_int_equal(ret->n_answers + ret->n_failures, 1);
    assert_null(ret->request);
    assert_int_equal(world.n_mqtts, 0);
}

static void expect_failure(const char *service, enum failure_id id)
{
    struct result result;
    ask(service, &result);
    assert_int_equal(result.n_failures, 1);
    assert_int_equal(result.failure.id, id);
}

static int setup(void **state)
{
    struct gt_trust *trust = &identity.trust;
    struct gt_responder_settings device = {PREFIX, DEVICE, NULL, trust};
    uint8_t of_device[GT_KEY_SIZE];
    memset(&world, 0, sizeof(world));
    loop = ev_default_loop(0);
    gt_trust_init_psk(trust);
    identity.pins_path = strdup("devices.pins");
    if (gt_key_parse(KEY, IV, &identity.key) != 0 ||
        gt_key_device(&identity.key, DEVICE, of_device) != 0)
        return -1;
    return gt_responder_new(&device, of_device, NULL, 0, &responder);
}

static int teardown(void **state)
{
    responder = gt_responder_free(responder);
    identity_deinit(&identity);
    return 0;
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void expect_agreement(void)
{
    struct result result;
    ask("ssh", &result);
    assert_int_equal(result.n_answers, 1);
    assert_int_equal(result.n_broker, 1);
    assert_memory_equal(&result.keys, &world.keys, sizeof(world.keys));
}

static void test_agreement(void **state)
{
    world.presence = ONLINE;
    expect_agreement();
    assert_int_equal(world.n_questions, 1);
}

static void test_agreement_when_presence_is_early(void **state)
{
    world.presence = ONLINE;
    world.is_early = true;
    expect_agreement();
    assert_int_equal(world.n_questions, 1);
}

static void test_agreement_among_noise(void **state)
{
    world.presence = ONLINE;
    world.is_noisy = true;
    expect_agreement();
}

/* No retained presence: after a second it is asked with no epoch, and the NAK tells the right one.
 */
static void test_agreement_without_presence(void **state)
{
    expect_agreement();
    assert_int_equal(world.n_questions, 2);
}

/* What the broker keeps is old or foreign, the device is there all the same. */
static void test_agreement_against_presence(void **state)
{
    world.presence = OFFLINE;
    expect_agreement();
    world.presence = FOREIGN;
    expect_agreement();
}

/* Nobody heard the first question; then the device's presence comes anew. */
static void test_agreement_after_coming_back(void **state)
{
    world.presence = ONLINE;
    world.is_deaf = world.comes_back = true;
    expect_agreement();
    assert_int_equal(world.n_questions, 2);
}

static void test_nobody_listens(void **state)
{
    world.is_deaf = true;
    expect_failure("ssh", FAILURE_UNKNOWN_DEVICE);
    world.presence = OFFLINE;
    expect_failure("ssh", FAILURE_OFFLINE);
    world.presence = FOREIGN;
    expect_failure("ssh", FAILURE_NO_ANSWER);
}

/* The broker cannot tell (MQTT 3.1.1); the presence says offline: five seconds are enough. */
static void test_offline_and_silent(void **state)
{
    world.presence = OFFLINE;
    world.is_mute = true;
    ev_now_update(loop);
    double begun = ev_now(loop);
    expect_failure("ssh", FAILURE_OFFLINE);
    assert_true(ev_now(loop) - begun < 10);
}

static void test_refusals(void **state)
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
    world.presence = ONLINE;
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        world.status = rows[i].status;
        expect_failure("ssh", rows[i].id);
    }
}

/* Under `pin` a device without a pinned signature is not believed. */
static void test_untrusted(void **state)
{
    struct gt_trust nobody = {.policy = GT_POLICY_PIN};
    struct gt_trust before = identity.trust;
    world.presence = ONLINE;
    identity.trust = nobody;
    responder = gt_responder_free(responder);
    struct gt_responder_settings device = {PREFIX, DEVICE, NULL, &before};
    uint8_t of_device[GT_KEY_SIZE];
    assert_int_equal(gt_key_device(&identity.key, DEVICE, of_device), 0);
    assert_int_equal(gt_responder_new(&device, of_device, NULL, 0, &responder), 0);
    world.n_closes = 0;
    expect_failure("ssh", FAILURE_UNTRUSTED);
    assert_int_equal(world.n_closes, 1); /* of what it agreed to */
    world.status = GT_ACK_DENIED;
    expect_failure("ssh", FAILURE_UNTRUSTED);
    assert_int_equal(world.n_closes, 1);
    world.status = GT_ACK_OK;
    identity.trust = before;
}

static void test_close(void **state)
{
    struct result result;
    world.presence = ONLINE;
    for (uint16_t n = 0; n < 3; n++) {
        world.n_closed = n;
        ask(NULL, &result);
        assert_int_equal(result.n_answers, 1);
        assert_int_equal(result.n_closed, n);
    }
    world.close_code = GT_NAK_DENIED;
    expect_failure(NULL, FAILURE_DENIED);
}

static void test_broker_failures(void **state)
{
    static const struct {
        const char *why;
        enum failure_id id;
    } rows[] = {
        {"Connection refused", FAILURE_BROKER_UNREACHABLE},
        {"no answer from the broker in time", FAILURE_BROKER_UNREACHABLE},
        {"refused by the broker: Not authorized", FAILURE_BROKER_REFUSED},
        {"TLS: certificate verify failed", FAILURE_BROKER_REFUSED},
        {"the broker refuses a subscription", FAILURE_BROKER_REFUSED},
        {"a certificate, key or other setting is not usable", FAILURE_CONFIG},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        world.down = rows[i].why;
        expect_failure("ssh", rows[i].id);
    }
    world.down = NULL;
    world.presence = ONLINE;
    world.is_refused = true;
    expect_failure("ssh", FAILURE_BROKER_REFUSED);
}

/* Ctrl+C at any moment. */
static void test_free_at_any_turn(void **state)
{
    world.presence = ONLINE;
    for (int n = 0; n < 6; n++) {
        struct result result;
        begin("ssh", &result);
        for (int i = 0; i < n && result.request; i++)
            ev_run(loop, EVRUN_ONCE);
        request_free(result.request);
        assert_int_equal(world.n_mqtts, 0);
    }
    assert_null(request_free(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(agreement),
        TEST(agreement_when_presence_is_early),
        TEST(agreement_among_noise),
        TEST(agreement_without_presence),
        TEST(agreement_against_presence),
        TEST(agreement_after_coming_back),
        TEST(nobody_listens),
        TEST(offline_and_silent),
        TEST(refusals),
        TEST(untrusted),
        TEST(close),
        TEST(broker_failures),
        TEST(free_at_any_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
