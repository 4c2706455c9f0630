/* SPDX-License-Identifier: ISC */
/*
 * The inbox with a true operator (a struct gt_ask) on its other side and no process behind it: what
 * is asked, what the whole is told to do, and what the operator hears.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "inbox.h"

static const uint8_t of_device[GT_KEY_SIZE] = {1, 2, 3};
static const struct target ssh = {"ssh", "127.0.0.1", 22};
static const struct target relay_main = {"main", "relay.example", 7000};
#define HOST_KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"

struct world {
    struct policy policy;
    struct gt_trust trust;
    struct inbox *inbox;
    uint64_t now_ms;
    unsigned n_sessions;
    int prepare_result, begin_result, close_result;
    /* what the whole was told */
    unsigned n_prepared, n_begun, n_let_go, n_closes, n_published, n_epochs;
    struct gt_session_keys keys;
    bool is_admin, is_all;
    char topic[GT_TOPIC_MAX + 1];
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n_payload;
};

static unsigned on_count(void *userdata, const char *operator_)
{
    struct world *world = userdata;
    return world->n_sessions;
}

static int on_prepare(void *userdata, const struct inbox_offer *offer)
{
    struct world *world = userdata;

    assert_string_equal(offer->operator_, "alice");
    assert_int_equal(world->n_published, 0);
    world->n_prepared++;
    return world->prepare_result;
}

static int on_begin(void *userdata, const struct inbox_offer *offer,
                    const struct gt_session_keys *keys)
{
    struct world *world = userdata;

    assert_int_equal(world->n_published, 0); /* nobody is told yes before there is a process */
    if (!keys) {
        world->n_let_go++;
        return 0;
    }
    world->n_begun++;
    world->keys = *keys;
    assert_string_equal(offer->grant->relay->name, "main");
    return world->begin_result;
}

static int on_close(void *userdata, const char *operator_, bool is_admin, const uint8_t *rid)
{
    struct world *world = userdata;

    assert_string_equal(operator_, "alice");
    world->n_closes++;
    world->is_admin = is_admin;
    world->is_all = rid == NULL;
    return world->close_result;
}

static void on_publish(void *userdata, const char *topic, struct gt_span payload)
{
    struct world *world = userdata;

    world->n_published++;
    snprintf(world->topic, sizeof(world->topic), "%s", topic);
    memcpy(world->payload, payload.data, payload.n);
    world->n_payload = payload.n;
}

static void on_epoch(void *userdata)
{
    struct world *world = userdata;
    world->n_epochs++;
}

static const struct inbox_events events = {
    .count_sessions = on_count,
    .prepare_session = on_prepare,
    .begin_session = on_begin,
    .close_sessions = on_close,
    .publish = on_publish,
    .on_epoch = on_epoch,
};

static int setup(void **state)
{
    static struct gt_span host_keys[1];
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    host_keys[0] = gt_span_text(HOST_KEY);
    world->policy = (struct policy){
        .sessions_max = 2, .per_operator_max = 2, .streams_max = 64, .lifetime_max_s = 100};
    assert_int_equal(targets_add(&world->policy.services, &ssh), 0);
    assert_int_equal(targets_add(&world->policy.relays, &relay_main), 0);
    gt_trust_init_psk(&world->trust);
    world->now_ms = 1000000;
    struct inbox_settings settings = {
        .prefix = "gotthard/v1",
        .device = "dev",
        .trust = &world->trust,
        .policy = &world->policy,
        .host_keys = host_keys,
        .n_host_keys = 1,
        .stream_window = 1 << 20,
    };
    assert_int_equal(
        inbox_new(&settings, of_device, NULL, world->now_ms, &events, world, &world->inbox), 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    inbox_free(world->inbox);
    policy_deinit(&world->policy);
    gt_trust_deinit(&world->trust);
    free(world);
    return 0;
}

/* --- the operator's side */

static void operator_init(struct gt_ask *ask, const struct gt_trust *trust, const char *service)
{
    struct gt_ask_settings settings = {.prefix = "gotthard/v1",
                                       .operator_ = "alice",
                                       .device = "dev",
                                       .service = service,
                                       .relay = "",
                                       .lifetime_s = 3600,
                                       .trust = trust};
    assert_int_equal(gt_ask_init(ask, &settings, of_device, NULL), 0);
}

static void learn_epoch(struct world *world, const struct gt_ask *ask, struct gt_state *ret,
                        uint8_t *buffer)
{
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n;

    assert_int_equal(inbox_state(world->inbox, true, 1234, payload, &n), 0);
    assert_int_equal(
        gt_ask_state(ask, inbox_state_topic(world->inbox), gt_span(payload, n), ret, buffer), 0);
}

static int deliver(struct world *world, const uint8_t *payload, size_t n)
{
    world->n_published = 0;
    return inbox_receive(world->inbox, world->now_ms, 0, inbox_req_topic(world->inbox), false,
                         gt_span(payload, n));
}

/* Asks, and gives what the operator makes of the answer. */
static int ask_once(struct world *world, struct gt_ask *ask, struct gt_answer *ret)
{
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    size_t n;

    learn_epoch(world, ask, &now, buffer);
    assert_int_equal(gt_ask_request(ask, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(world, payload, n), 0);
    assert_int_equal(world->n_published, 1);
    return gt_ask_receive(ask, world->topic, gt_span(world->payload, world->n_payload), 0, ret);
}

/* --- the tests */

static void a_request_becomes_a_session_and_an_answer(void **state)
{
    struct world *world = *state;
    struct gt_answer answer;
    struct gt_ask ask;

    operator_init(&ask, &world->trust, "ssh");
    assert_int_equal(ask_once(world, &ask, &answer), 0);
    assert_int_equal(world->n_prepared, 1);
    assert_int_equal(world->n_begun, 1);
    assert_memory_equal(&answer.keys, &world->keys, sizeof(world->keys));
    assert_int_equal(answer.ack.lifetime_s, 100);
    assert_int_equal(answer.ack.max_streams, 64);
    assert_int_equal(answer.ack.extensions.n_services, 1);
    assert_true(gt_span_equals(answer.ack.extensions.services[0], gt_span_text("ssh")));
    assert_int_equal(answer.ack.extensions.n_host_keys, 1);
    assert_true(gt_span_equals(answer.ack.extensions.host_keys[0], gt_span_text(HOST_KEY)));
    assert_int_equal(answer.ack.extensions.n_sessions, 1);
    gt_ask_deinit(&ask);
}

static void a_duplicate_gets_the_same_answer_and_no_session(void **state)
{
    struct world *world = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX], first[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_ask ask;
    size_t n, n_first;

    operator_init(&ask, &world->trust, "ssh");
    learn_epoch(world, &ask, &now, buffer);
    assert_int_equal(gt_ask_request(&ask, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(world, payload, n), 0);
    n_first = world->n_payload;
    memcpy(first, world->payload, n_first);
    assert_int_equal(deliver(world, payload, n), 0);
    assert_int_equal(world->n_published, 1);
    assert_int_equal(world->n_payload, n_first);
    assert_memory_equal(world->payload, first, n_first);
    assert_int_equal(world->n_prepared, 1);
    assert_int_equal(world->n_begun, 1);
    gt_ask_deinit(&ask);
}

static void what_is_refused_says_why_and_starts_nothing(void **state)
{
    struct world *world = *state;
    static const struct {
        const char *service;
        unsigned n_sessions;
        int prepare_result;
        enum gt_ack_status status;
    } cases[] = {
        {"telnet", 0, 0, GT_ACK_SERVICE},
        {"ssh", 2, 0, GT_ACK_QUOTA},
        {"ssh", 0, -EAGAIN, GT_ACK_INTERNAL},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_answer answer;
        struct gt_ask ask;
        world->n_sessions = cases[i].n_sessions;
        world->prepare_result = cases[i].prepare_result;
        operator_init(&ask, &world->trust, cases[i].service);
        assert_int_equal(ask_once(world, &ask, &answer), GT_ASK_E_REFUSED);
        assert_int_equal(answer.ack.status, cases[i].status);
        assert_int_equal(world->n_begun, 0);
        gt_ask_deinit(&ask);
    }
}

static void a_worker_that_dies_at_once_is_not_promised(void **state)
{
    struct world *world = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_ask ask;
    size_t n;

    world->begin_result = -EPIPE;
    operator_init(&ask, &world->trust, "ssh");
    learn_epoch(world, &ask, &now, buffer);
    assert_int_equal(gt_ask_request(&ask, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(world, payload, n), -EPIPE);
    assert_int_equal(world->n_published, 0);
    gt_ask_deinit(&ask);
}

static void a_stale_epoch_is_told_the_right_one(void **state)
{
    static const uint8_t zeros[GT_EPOCH_SIZE];
    struct world *world = *state;
    uint8_t payload[GT_MESSAGE_MAX];
    struct gt_answer answer;
    struct gt_ask ask;
    size_t n;

    operator_init(&ask, &world->trust, "ssh");
    assert_int_equal(gt_ask_request(&ask, zeros, payload, &n), 0);
    assert_int_equal(deliver(world, payload, n), 0);
    assert_int_equal(
        gt_ask_receive(&ask, world->topic, gt_span(world->payload, world->n_payload), 0, &answer),
        GT_ASK_E_RETRY);
    assert_int_equal(world->n_prepared, 0);
    assert_int_equal(gt_ask_request(&ask, answer.epoch, payload, &n), 0);
    assert_int_equal(deliver(world, payload, n), 0);
    assert_int_equal(world->n_begun, 1);
    gt_ask_deinit(&ask);
}

static int close_once(struct world *world, const uint8_t *rid, struct gt_answer *ret)
{
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_ask ask;
    size_t n;

    operator_init(&ask, &world->trust, "");
    learn_epoch(world, &ask, &now, buffer);
    assert_int_equal(gt_ask_close(&ask, now.epoch, rid, payload, &n), 0);
    assert_int_equal(deliver(world, payload, n), 0);
    assert_int_equal(world->n_published, 1);
    int r = gt_ask_receive(&ask, world->topic, gt_span(world->payload, world->n_payload), 0, ret);
    gt_ask_deinit(&ask);
    return r;
}

static void a_close_says_how_many(void **state)
{
    static const uint8_t rid[GT_RID_SIZE] = {7};
    struct world *world = *state;
    struct gt_answer answer;

    world->close_result = 3;
    assert_int_equal(close_once(world, NULL, &answer), 0);
    assert_int_equal(answer.n_closed, 3);
    assert_true(world->is_all && world->is_admin); /* psk: whoever holds the key */
    world->close_result = 0;
    assert_int_equal(close_once(world, rid, &answer), 0);
    assert_int_equal(answer.n_closed, 0);
    assert_false(world->is_all);
    world->close_result = -EPERM;
    assert_int_equal(close_once(world, rid, &answer), GT_ASK_E_REFUSED);
    assert_int_equal(answer.nak_code, GT_NAK_DENIED);
    assert_int_equal(world->n_closes, 3);
}

static void noise_starts_nothing_and_is_not_answered(void **state)
{
    struct world *world = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_ask ask;
    size_t n;

    operator_init(&ask, &world->trust, "ssh");
    learn_epoch(world, &ask, &now, buffer);
    assert_int_equal(gt_ask_request(&ask, now.epoch, payload, &n), 0);
    assert_int_equal(inbox_receive(world->inbox, world->now_ms, 0, "gotthard/v1/d/other/req", false,
                                   gt_span(payload, n)),
                     0);
    assert_int_equal(inbox_receive(world->inbox, world->now_ms, 0, inbox_req_topic(world->inbox),
                                   true, gt_span(payload, n)),
                     0);
    for (size_t i = 0; i < n; i += 97) {
        world->now_ms += 1000;
        payload[i] ^= 0x10;
        assert_int_equal(deliver(world, payload, n), 0);
        payload[i] ^= 0x10;
    }
    assert_int_equal(deliver(world, payload, 0), 0);
    assert_int_equal(world->n_published, 0);
    assert_int_equal(world->n_prepared, 0);
    world->now_ms += 1000;
    assert_int_equal(deliver(world, payload, n), 0);
    assert_int_equal(world->n_begun, 1);
    gt_ask_deinit(&ask);
}

static void under_pins_a_stranger_with_the_key_is_refused(void **state)
{
    struct world *world = *state;
    struct inbox_settings settings = {.prefix = "gotthard/v1",
                                      .device = "dev",
                                      .trust = &(struct gt_trust){.policy = GT_POLICY_PIN},
                                      .policy = &world->policy};
    struct gt_answer answer;
    struct gt_ask ask;

    inbox_set(world->inbox, &settings);
    operator_init(&ask, &world->trust, "ssh");
    assert_int_equal(ask_once(world, &ask, &answer), GT_ASK_E_REFUSED);
    assert_int_equal(answer.ack.status, GT_ACK_DENIED);
    assert_int_equal(world->n_prepared, 0);
    assert_int_equal(close_once(world, NULL, &answer), GT_ASK_E_REFUSED);
    assert_int_equal(world->n_closes, 0);
    gt_ask_deinit(&ask);
}

static void a_new_epoch_is_announced(void **state)
{
    struct world *world = *state;

    inbox_tick(world->inbox, world->now_ms + 1000);
    assert_int_equal(world->n_epochs, 0);
    inbox_tick(world->inbox, world->now_ms + GT_EPOCH_LIFE_MS);
    assert_int_equal(world->n_epochs, 1);
}

static void presence_fits_whatever_is_configured(void **state)
{
    struct world *world = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_ask ask;
    size_t n;

    for (int i = 0; i < 200; i++) {
        struct target service = {.port = 1};
        memset(service.name, 's', GT_SERVICE_MAX);
        assert_int_equal(targets_add(&world->policy.services, &service), 0);
    }
    operator_init(&ask, &world->trust, "ssh");
    assert_int_equal(inbox_state(world->inbox, false, 99, payload, &n), 0);
    assert_int_equal(
        gt_ask_state(&ask, inbox_state_topic(world->inbox), gt_span(payload, n), &now, buffer), 0);
    assert_false(now.is_online);
    assert_int_equal(now.extensions.since, 99);
    assert_true(now.extensions.n_services > 1);
    gt_ask_deinit(&ask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_becomes_a_session_and_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_duplicate_gets_the_same_answer_and_no_session, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_refused_says_why_and_starts_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_worker_that_dies_at_once_is_not_promised, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stale_epoch_is_told_the_right_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_close_says_how_many, setup, teardown),
        cmocka_unit_test_setup_teardown(noise_starts_nothing_and_is_not_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(under_pins_a_stranger_with_the_key_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_new_epoch_is_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(presence_fits_whatever_is_configured, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
