/* SPDX-License-Identifier: ISC */
/*
 * request-handler.c with a real operator (a struct gt_initiator) as its peer and without processes:
 * requests, the callbacks that they cause, and the replies that the operator gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "gotthard/signaling/request-rate.h"
#include "gotthard/signaling/topic.h"
#include "request-handler.h"

static const uint8_t of_device[GT_KEY_SIZE] = {1, 2, 3};
static const struct target ssh = {"ssh", {"127.0.0.1", 22}};
static const struct target relay_main = {"main", {"relay.example", 7000}};
#define HOST_KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"

struct env {
    struct policy policy;
    struct gt_trust trust;
    struct request_handler *request_handler;
    uint64_t now_ms;
    unsigned n_sessions;
    int prepare_result, start_result, close_result;
    /* recorded callbacks */
    unsigned n_queries, n_prepared, n_started, n_cancelled, n_closes, n_published, n_states_due;
    struct gt_session_keys keys;
    unsigned n_replaced;
    bool is_admin, can_replace;
    enum gt_close_scope scope;
    char topic[GT_TOPIC_MAX + 1];
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n_payload;
};

static unsigned on_count(void *userdata, const char *operator_)
{
    struct env *env = userdata;

    return env->n_sessions;
}

static int on_prepare(void *userdata, const struct request_handler_offer *offer)
{
    struct env *env = userdata;

    uint8_t key_id[GT_KEY_ID_SIZE];

    assert_string_equal(offer->device, "dev");
    assert_string_equal(offer->operator_, "alice");
    assert_int_equal(gt_key_device_id(of_device, key_id), 0);
    assert_memory_equal(offer->key_id, key_id, sizeof(key_id));
    assert_null(offer->fingerprint); /* alice has no certificate here */
    assert_int_equal(env->n_published, 0);
    env->n_prepared++;
    return env->prepare_result;
}

static int on_start(void *userdata, const struct request_handler_offer *offer,
                    const struct gt_session_keys *keys)
{
    struct env *env = userdata;

    assert_int_equal(env->n_published, 0); /* the grant is published after the worker is started */
    env->n_started++;
    env->keys = *keys;
    assert_string_equal(offer->grant->relay->name, "main");
    return env->start_result;
}

static void on_cancel(void *userdata)
{
    struct env *env = userdata;

    env->n_cancelled++;
}

static bool on_replace(void *userdata, const char *operator_)
{
    struct env *env = userdata;

    assert_string_equal(operator_, "alice");
    env->n_replaced++;
    env->n_sessions -= env->can_replace;
    return env->can_replace;
}

static int on_close(void *userdata, const struct gt_close *close, bool is_admin)
{
    struct env *env = userdata;

    assert_string_equal(close->operator_, "alice");
    env->n_closes++;
    env->is_admin = is_admin;
    env->scope = close->scope;
    return env->close_result;
}

static void on_fill_status(void *userdata, const char *operator_, bool sees_all,
                           struct gt_device_status *ret)
{
    struct env *env = userdata;

    assert_string_equal(operator_, "alice");
    env->n_queries++;
    *ret = (struct gt_device_status){.n_sessions = 2, .n_others = sees_all ? 0 : 2};
}

static void on_publish(void *userdata, const char *topic, struct gt_span payload)
{
    struct env *env = userdata;

    env->n_published++;
    snprintf(env->topic, sizeof(env->topic), "%s", topic);
    memcpy(env->payload, payload.data, payload.n);
    env->n_payload = payload.n;
}

static void on_state_due(void *userdata)
{
    struct env *env = userdata;

    env->n_states_due++;
}

static const struct request_handler_events events = {
    .count_sessions = on_count,
    .replace_session = on_replace,
    .prepare_session = on_prepare,
    .start_session = on_start,
    .cancel_session = on_cancel,
    .close_sessions = on_close,
    .fill_status = on_fill_status,
    .publish = on_publish,
    .on_state_due = on_state_due,
};

static struct gt_span host_keys[3];

static int setup(void **state)
{
    struct env *env = calloc(1, sizeof(*env));

    assert_non_null(env);
    host_keys[0] = gt_span_text(HOST_KEY);
    env->policy = (struct policy){
        .sessions_max = 2, .per_operator_max = 2, .streams_max = 64, .lifetime_max_s = 100};
    assert_int_equal(targets_add(&env->policy.services, &ssh), 0);
    assert_int_equal(targets_add(&env->policy.relays, &relay_main), 0);
    gt_trust_init_psk(&env->trust);
    env->now_ms = 1000000;
    struct request_handler_settings settings = {
        .prefix = "gotthard/v1",
        .device = "dev",
        .trust = &env->trust,
        .policy = &env->policy,
        .host_keys = host_keys,
        .n_host_keys = 1,
        .stream_window = 1 << 20,
    };
    assert_int_equal(request_handler_new(&settings, of_device, NULL, env->now_ms, &events, env,
                                         &env->request_handler),
                     0);
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;

    request_handler_free(env->request_handler);
    policy_deinit(&env->policy);
    gt_trust_deinit(&env->trust);
    free(env);
    return 0;
}

/* --- the operator's side */

static void operator_init(struct gt_initiator *initiator, const struct gt_trust *trust,
                          const char *service)
{
    struct gt_initiator_settings settings = {.prefix = "gotthard/v1",
                                             .operator_ = "alice",
                                             .device = "dev",
                                             .service = service,
                                             .relay = "",
                                             .lifetime_s = 3600,
                                             .trust = trust};

    assert_int_equal(gt_initiator_init(initiator, &settings, of_device, NULL), 0);
}

static void learn_epoch(struct env *env, const struct gt_initiator *initiator, struct gt_state *ret,
                        uint8_t *buffer)
{
    uint8_t payload[GT_MESSAGE_MAX];
    size_t n;

    assert_int_equal(
        request_handler_state(env->request_handler, GT_STATE_ONLINE, 1, 1234, payload, &n), 0);
    assert_int_equal(gt_initiator_state(initiator,
                                        request_handler_state_topic(env->request_handler),
                                        gt_span(payload, n), ret, buffer),
                     0);
}

static int deliver(struct env *env, const uint8_t *payload, size_t n)
{
    env->n_published = 0;
    return request_handler_receive(env->request_handler, env->now_ms, 0,
                                   request_handler_req_topic(env->request_handler), false,
                                   gt_span(payload, n));
}

/* Sends one request. Returns the result of the initiator for the reply. */
static int request_once(struct env *env, struct gt_initiator *initiator, struct gt_answer *ret)
{
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    size_t n;

    learn_epoch(env, initiator, &now, buffer);
    assert_int_equal(gt_initiator_request(initiator, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_published, 1);
    return gt_initiator_receive(initiator, env->topic, gt_span(env->payload, env->n_payload), 0,
                                ret);
}

/* --- the tests */

/* Under psk the operator is any holder of the key. Limits of sessions do not apply. */
static void test_query_is_answered_without_a_session(void **state)
{
    struct env *env = *state;
    struct gt_answer answer;
    struct gt_initiator initiator;
    struct gt_device_status status;

    env->n_sessions = 2;
    operator_init(&initiator, &env->trust, "");
    initiator.settings.is_query = true;
    assert_int_equal(request_once(env, &initiator, &answer), 0);
    assert_int_equal(env->n_prepared + env->n_started, 0);
    assert_int_equal(env->n_queries, 1);
    assert_int_equal(gt_device_status_decode(answer.ack.extensions.status, &status), 0);
    assert_int_equal(status.n_sessions, 2);
    assert_int_equal(status.n_others, 0);
    gt_initiator_deinit(&initiator);
}

static void test_request_starts_session_and_gets_reply(void **state)
{
    struct env *env = *state;
    struct gt_answer answer;
    struct gt_initiator initiator;

    env->n_sessions = 1; /* from on_prepare on, as sessions.c counts */
    operator_init(&initiator, &env->trust, "ssh");
    assert_int_equal(request_once(env, &initiator, &answer), 0);
    assert_int_equal(env->n_prepared, 1);
    assert_int_equal(env->n_started, 1);
    assert_memory_equal(&answer.keys, &env->keys, sizeof(env->keys));
    assert_int_equal(answer.ack.lifetime_s, 100);
    assert_int_equal(answer.ack.max_streams, 64);
    assert_int_equal(answer.ack.extensions.n_services, 1);
    assert_true(gt_span_equals(answer.ack.extensions.services[0], gt_span_text("ssh")));
    assert_int_equal(answer.ack.extensions.n_host_keys, 1);
    assert_true(gt_span_equals(answer.ack.extensions.host_keys[0], gt_span_text(HOST_KEY)));
    assert_int_equal(answer.ack.extensions.n_sessions, 1);
    assert_int_equal(answer.ack.extensions.session_version, GT_SESSION_VERSION);
    gt_initiator_deinit(&initiator);
}

/* A link that loses large packets loses an answer of more than one packet: the host keys for which
 * there is room are sent. */
static void test_reply_fits_into_one_packet(void **state)
{
    static char rsa[560], ecdsa[140];
    struct env *env = *state;
    struct gt_answer answer;
    struct gt_initiator initiator;
    struct request_handler_settings settings = {
        .prefix = "gotthard/v1",
        .device = "dev",
        .trust = &env->trust,
        .policy = &env->policy,
        .host_keys = host_keys,
        .n_host_keys = 3,
    };

    memset(rsa, 'r', sizeof(rsa));
    memset(ecdsa, 'e', sizeof(ecdsa));
    host_keys[1] = gt_span(rsa, sizeof(rsa));
    host_keys[2] = gt_span(ecdsa, sizeof(ecdsa));
    for (unsigned i = 0; i < 2; i++) {
        request_handler_set(env->request_handler, &settings);
        operator_init(&initiator, &env->trust, "ssh");
        assert_int_equal(request_once(env, &initiator, &answer), 0);
        assert_in_range(env->n_payload, 0, 1200);
        assert_int_equal(answer.ack.extensions.n_host_keys, i == 0 ? 3 : 2);
        gt_initiator_deinit(&initiator);
        host_keys[2] = gt_span(rsa, sizeof(rsa)); /* no room for two of them */
    }
}

static void test_duplicate_request_gets_same_reply_and_no_session(void **state)
{
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX], first[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_initiator initiator;
    size_t n, n_first;

    operator_init(&initiator, &env->trust, "ssh");
    learn_epoch(env, &initiator, &now, buffer);
    assert_int_equal(gt_initiator_request(&initiator, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), 0);
    n_first = env->n_payload;
    memcpy(first, env->payload, n_first);
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_published, 1);
    assert_int_equal(env->n_payload, n_first);
    assert_memory_equal(env->payload, first, n_first);
    assert_int_equal(env->n_prepared, 1);
    assert_int_equal(env->n_started, 1);
    gt_initiator_deinit(&initiator);
}

/* Delivers @n messages that do not open, of the maximum size. */
static void deliver_garbage(struct env *env, unsigned n)
{
    static uint8_t garbage[GT_MESSAGE_MAX];

    memcpy(garbage, "GTM1\1", 5);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(deliver(env, garbage, sizeof(garbage)), 0);
    assert_int_equal(env->n_published, 0);
}

static bool is_answered(struct env *env)
{
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_initiator initiator;
    struct gt_state now;
    size_t n;

    operator_init(&initiator, &env->trust, "ssh");
    learn_epoch(env, &initiator, &now, buffer);
    assert_int_equal(gt_initiator_request(&initiator, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), 0);
    gt_initiator_deinit(&initiator);
    return env->n_published > 0;
}

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* 2,000 messages at once do not use up the budget of CPU time. Without a pause it is used up after
 * a quarter of a second, and a second later it is full again. */
static void test_garbage_is_opened_within_a_budget_of_cpu_time(void **state)
{
    struct env *env = *state;
    double before = cpu_s();

    deliver_garbage(env, 2000);
    print_message("%.1f us for a message of 8192 bytes that does not open\n",
                  (cpu_s() - before) * 1e6 / 2000);
    if (cpu_s() - before < .2) /* else a sanitizer or a small machine */
        assert_true(is_answered(env));
    while (cpu_s() - before < .5)
        deliver_garbage(env, 100);
    assert_false(is_answered(env));
    before = cpu_s();
    deliver_garbage(env, 2000);
    print_message("%.1f us for one that is not opened\n", (cpu_s() - before) * 1e6 / 2000);
    env->now_ms += 1000;
    assert_true(is_answered(env));
}

static void test_refused_request_gets_status_and_no_session(void **state)
{
    struct env *env = *state;

    static const struct {
        const char *service;
        unsigned n_sessions;
        int prepare_result;
        enum gt_ack_status status;
    } cases[] = {
        {"telnet", 0, 0, GT_ACK_SERVICE},
        {"ssh", 2, 0, GT_ACK_QUOTA},
        {"ssh", 0, -EAGAIN, GT_ACK_INTERNAL},
        {"ssh", 0, -EACCES, GT_ACK_DENIED}, /* the rules have changed meanwhile */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_answer answer;
        struct gt_initiator initiator;

        env->n_sessions = cases[i].n_sessions;
        env->prepare_result = cases[i].prepare_result;
        operator_init(&initiator, &env->trust, cases[i].service);
        assert_int_equal(request_once(env, &initiator, &answer), GT_INITIATOR_E_REFUSED);
        assert_int_equal(answer.ack.status, cases[i].status);
        assert_int_equal(env->n_started, 0);
        gt_initiator_deinit(&initiator);
    }
}

static void test_request_at_a_limit_replaces_an_abandoned_session(void **state)
{
    struct env *env = *state;
    struct gt_answer answer;
    struct gt_initiator initiator;

    operator_init(&initiator, &env->trust, "ssh");
    env->n_sessions = 1;
    assert_int_equal(request_once(env, &initiator, &answer), 0);
    assert_int_equal(env->n_replaced, 0); /* below the limit none is replaced */
    env->n_sessions = 2;
    env->n_published = 0;
    assert_int_equal(request_once(env, &initiator, &answer), GT_INITIATOR_E_REFUSED);
    assert_int_equal(answer.ack.status, GT_ACK_QUOTA); /* all are in use */
    assert_int_equal(env->n_replaced, 1);
    env->can_replace = true;
    env->n_published = 0;
    assert_int_equal(request_once(env, &initiator, &answer), 0);
    assert_int_equal(env->n_replaced, 2);
    assert_int_equal(env->n_started, 2);
    gt_initiator_deinit(&initiator);
}

static void test_request_without_worker_gets_no_reply(void **state)
{
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_initiator initiator;
    size_t n;

    env->start_result = -EPIPE;
    operator_init(&initiator, &env->trust, "ssh");
    learn_epoch(env, &initiator, &now, buffer);
    assert_int_equal(gt_initiator_request(&initiator, now.epoch, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), -EPIPE);
    assert_int_equal(env->n_published, 0);
    /* the operator repeats the request: it has no session yet */
    env->start_result = 0;
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_published, 1);
    assert_int_equal(env->n_started, 2);
    struct gt_answer answer;
    assert_int_equal(gt_initiator_receive(&initiator, env->topic,
                                          gt_span(env->payload, env->n_payload), 0, &answer),
                     0);
    assert_memory_equal(&answer.keys, &env->keys, sizeof(env->keys));
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_published, 1);
    assert_int_equal(env->n_started, 2);
    gt_initiator_deinit(&initiator);
}

/* The broker accepts only small messages: the answer loses the host keys, then the services, and
 * without room for the shortest answer there is no session. */
static void test_answer_is_reduced_to_the_limit_of_the_broker(void **state)
{
    struct env *env = *state;
    struct gt_initiator initiator;
    struct gt_answer answer;
    int r = 0;

    for (size_t max = 400; r == 0; max -= 10) {
        env->now_ms += 1000;
        env->n_prepared = env->n_started = env->n_cancelled = 0;
        request_handler_set_message_max(env->request_handler, max);
        operator_init(&initiator, &env->trust, "ssh");
        r = request_once(env, &initiator, &answer);
        assert_int_equal(env->n_prepared, 1);
        assert_int_equal(env->n_started, r == 0 ? 1 : 0);
        assert_int_equal(env->n_cancelled, r == 0 ? 0 : 1);
        assert_in_range(env->n_payload, 1, max - strlen(env->topic));
        gt_initiator_deinit(&initiator);
    }
    assert_int_equal(r, GT_INITIATOR_E_REFUSED);
    assert_int_equal(answer.nak_code, GT_NAK_SIZE);
}

/* More requests at once than the device takes: none is left without an answer. */
static void test_too_many_requests_are_answered_busy(void **state)
{
    struct env *env = *state;
    unsigned n_busy = 0;

    for (int i = 0; i < GT_REQ_BURST + 44; i++) {
        struct gt_initiator initiator;
        struct gt_answer answer;

        operator_init(&initiator, &env->trust, "ssh");
        int r = request_once(env, &initiator, &answer);
        assert_true(r == 0 || r == GT_INITIATOR_E_REFUSED);
        if (r == GT_INITIATOR_E_REFUSED && answer.nak_code == GT_NAK_BUSY)
            n_busy++;
        env->now_ms++; /* of the CPU time of messages; too short for the rate of requests */
        gt_initiator_deinit(&initiator);
    }
    assert_int_equal(n_busy, 44);
    assert_int_equal(env->n_started, GT_REQ_BURST);
}

static void test_stale_epoch_gets_current_epoch(void **state)
{
    static const uint8_t zeros[GT_EPOCH_SIZE];
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX];
    struct gt_answer answer;
    struct gt_initiator initiator;
    size_t n;

    operator_init(&initiator, &env->trust, "ssh");
    assert_int_equal(gt_initiator_request(&initiator, zeros, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(gt_initiator_receive(&initiator, env->topic,
                                          gt_span(env->payload, env->n_payload), 0, &answer),
                     GT_INITIATOR_E_RETRY);
    assert_int_equal(env->n_prepared, 0);
    assert_int_equal(env->n_states_due, 1); /* the operator may have no STATE */
    assert_int_equal(gt_initiator_request(&initiator, answer.epoch, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_started, 1);
    gt_initiator_deinit(&initiator);
}

static int close_once(struct env *env, enum gt_close_scope scope, struct gt_answer *ret)
{
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_initiator initiator;
    size_t n;

    operator_init(&initiator, &env->trust, "");
    learn_epoch(env, &initiator, &now, buffer);
    struct gt_close close = {.scope = scope};
    assert_int_equal(gt_initiator_close(&initiator, now.epoch, &close, payload, &n), 0);
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_published, 1);
    int r =
        gt_initiator_receive(&initiator, env->topic, gt_span(env->payload, env->n_payload), 0, ret);
    gt_initiator_deinit(&initiator);
    return r;
}

static void test_close_replies_number_closed(void **state)
{
    struct env *env = *state;
    struct gt_answer answer;

    env->close_result = 3;
    assert_int_equal(close_once(env, GT_CLOSE_ALL, &answer), 0);
    assert_int_equal(answer.n_closed, 3);
    assert_int_equal(env->scope, GT_CLOSE_ALL);
    assert_true(env->is_admin); /* psk: any holder of the key is an admin */
    env->close_result = 0;
    assert_int_equal(close_once(env, GT_CLOSE_OWN, &answer), 0);
    assert_int_equal(answer.n_closed, 0);
    assert_int_equal(env->scope, GT_CLOSE_OWN);
    env->close_result = -EPERM;
    assert_int_equal(close_once(env, GT_CLOSE_RID, &answer), GT_INITIATOR_E_REFUSED);
    assert_int_equal(answer.nak_code, GT_NAK_DENIED);
    assert_int_equal(env->n_closes, 3);
}

static const struct gt_close close_all = {.scope = GT_CLOSE_ALL};

/* An operator repeats the same bytes while no answer comes. */
static void test_repeated_close_is_executed_once(void **state)
{
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_initiator initiator;
    struct gt_answer answer;
    struct gt_state now;
    size_t n;

    env->close_result = 2;
    operator_init(&initiator, &env->trust, "ssh");
    learn_epoch(env, &initiator, &now, buffer);
    assert_int_equal(gt_initiator_close(&initiator, now.epoch, &close_all, payload, &n), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(deliver(env, payload, n), 0);
        assert_int_equal(env->n_published, 1);
        env->close_result = 0; /* there is nothing left to close */
        env->now_ms += 4000;
    }
    assert_int_equal(env->n_closes, 1);
    assert_int_equal(gt_initiator_receive(&initiator, env->topic,
                                          gt_span(env->payload, env->n_payload), 0, &answer),
                     0);
    assert_int_equal(answer.n_closed, 2);
    gt_initiator_deinit(&initiator);
}

/* The question for the state, where the broker has none: it closes nothing. */
static void test_close_without_an_epoch_asks_for_the_state(void **state)
{
    static const uint8_t no_epoch[GT_EPOCH_SIZE];
    static const struct gt_close no_session = {.scope = GT_CLOSE_RID};
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX];
    struct gt_initiator initiator;
    struct gt_answer answer;
    size_t n;

    operator_init(&initiator, &env->trust, "");
    assert_int_equal(gt_initiator_close(&initiator, no_epoch, &no_session, payload, &n), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(deliver(env, payload, n), 0);
        assert_int_equal(env->n_published, 1);
        assert_int_equal(env->n_states_due, 1 + i / 2); /* at most once in 2 s */
        env->now_ms += 1000;
    }
    assert_int_equal(env->n_closes, 0);
    assert_int_equal(gt_initiator_receive(&initiator, env->topic,
                                          gt_span(env->payload, env->n_payload), 0, &answer),
                     GT_INITIATOR_E_RETRY);
    gt_initiator_deinit(&initiator);
}

static void test_damaged_message_is_dropped(void **state)
{
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_initiator initiator;
    size_t n;

    operator_init(&initiator, &env->trust, "ssh");
    learn_epoch(env, &initiator, &now, buffer);
    assert_int_equal(gt_initiator_request(&initiator, now.epoch, payload, &n), 0);
    assert_int_equal(request_handler_receive(env->request_handler, env->now_ms, 0,
                                             "gotthard/v1/d/other/req", false, gt_span(payload, n)),
                     0);
    assert_int_equal(request_handler_receive(env->request_handler, env->now_ms, 0,
                                             request_handler_req_topic(env->request_handler), true,
                                             gt_span(payload, n)),
                     0);
    for (size_t i = 0; i < n; i += 97) {
        env->now_ms += 1000;
        payload[i] ^= 0x10;
        assert_int_equal(deliver(env, payload, n), 0);
        payload[i] ^= 0x10;
    }
    assert_int_equal(deliver(env, payload, 0), 0);
    assert_int_equal(env->n_published, 0);
    assert_int_equal(env->n_prepared, 0);
    env->now_ms += 1000;
    assert_int_equal(deliver(env, payload, n), 0);
    assert_int_equal(env->n_started, 1);
    gt_initiator_deinit(&initiator);
}

static void test_unpinned_operator_is_refused(void **state)
{
    struct env *env = *state;
    struct request_handler_settings settings = {.prefix = "gotthard/v1",
                                                .device = "dev",
                                                .trust =
                                                    &(struct gt_trust){.policy = GT_POLICY_PIN},
                                                .policy = &env->policy};
    struct gt_answer answer;
    struct gt_initiator initiator;

    request_handler_set(env->request_handler, &settings);
    operator_init(&initiator, &env->trust, "ssh");
    assert_int_equal(request_once(env, &initiator, &answer), GT_INITIATOR_E_REFUSED);
    assert_int_equal(answer.ack.status, GT_ACK_DENIED);
    assert_int_equal(env->n_prepared, 0);
    assert_int_equal(close_once(env, GT_CLOSE_ALL, &answer), GT_INITIATOR_E_REFUSED);
    assert_int_equal(env->n_closes, 0);
    gt_initiator_deinit(&initiator);
}

static void test_tick_rotates_epoch(void **state)
{
    struct env *env = *state;

    request_handler_tick(env->request_handler, env->now_ms + 1000);
    assert_int_equal(env->n_states_due, 0);
    request_handler_tick(env->request_handler, env->now_ms + GT_EPOCH_LIFE_MS);
    assert_int_equal(env->n_states_due, 1);
}

static void test_state_fits_with_many_services(void **state)
{
    struct env *env = *state;
    uint8_t payload[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    struct gt_state now;
    struct gt_initiator initiator;
    size_t n;

    for (int i = 0; i < 200; i++) {
        struct target service = {.address.port = 1};

        memset(service.name, 's', 60);
        assert_int_equal(targets_add(&env->policy.services, &service), 0);
    }
    operator_init(&initiator, &env->trust, "ssh");
    assert_int_equal(request_handler_state(env->request_handler, GT_STATE_WILL, 1, 99, payload, &n),
                     0);
    assert_int_equal(gt_initiator_state(&initiator,
                                        request_handler_state_topic(env->request_handler),
                                        gt_span(payload, n), &now, buffer),
                     0);
    assert_false(now.is_online);
    assert_int_equal(now.extensions.since, 99);
    assert_true(now.extensions.n_services > 1);
    assert_in_range(n, 1, 500); /* CONNECT contains it, whatever packets the broker accepts */
    learn_epoch(env, &initiator, &now, buffer);
    assert_true(now.extensions.n_services > 10);
    gt_initiator_deinit(&initiator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_query_is_answered_without_a_session, setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_starts_session_and_gets_reply, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_reply_fits_into_one_packet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage_is_opened_within_a_budget_of_cpu_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_duplicate_request_gets_same_reply_and_no_session,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_request_gets_status_and_no_session, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_request_at_a_limit_replaces_an_abandoned_session,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_without_worker_gets_no_reply, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_is_reduced_to_the_limit_of_the_broker, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_too_many_requests_are_answered_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stale_epoch_gets_current_epoch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_replies_number_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeated_close_is_executed_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_without_an_epoch_asks_for_the_state, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_damaged_message_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unpinned_operator_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tick_rotates_epoch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state_fits_with_many_services, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
