/* SPDX-License-Identifier: ISC */
/*
 * Both sides of an exchange against each other, and each against what a broker, a thief or a
 * careless friend could send it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/exchange.h"
#include "vectors.h"

#define NOW     1700000000
#define PREFIX  "gotthard/v1"
#define RSP     "gotthard/v1/d/GatewayOli/rsp/alice"
#define REQ     "gotthard/v1/d/GatewayOli/req"
#define STARTED UINT64_C(5000)

/* One operator, one device, and what is between them. */
struct pair {
    struct gt_trust psk;
    uint8_t of_device[32];
    struct gt_responder *device;
    struct gt_ask alice;
    uint8_t epoch[GT_EPOCH_SIZE];
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    struct gt_incoming in;
    struct gt_answer answer;
    struct gt_session_keys keys;
    uint64_t now_ms;
};

static struct gt_ask_settings operator_settings(const struct gt_trust *trust)
{
    return (struct gt_ask_settings){.prefix = PREFIX,
                                    .operator_ = "alice",
                                    .device = "GatewayOli",
                                    .service = "ssh",
                                    .relay = "main",
                                    .lifetime_s = 3600,
                                    .trust = trust};
}

static struct gt_responder *new_device(const struct gt_trust *trust, const uint8_t *key,
                                       const uint8_t *previous, uint64_t now_ms)
{
    struct gt_responder_settings settings = {
        .prefix = PREFIX, .device = "GatewayOli", .trust = trust};
    struct gt_responder *device = NULL;
    assert_int_equal(gt_responder_new(&settings, key, previous, now_ms, &device), 0);
    return device;
}

/* What the operator reads in the retained STATE. */
static void learn_epoch(struct pair *p)
{
    uint8_t buffer[GT_MESSAGE_MAX], message[GT_MESSAGE_MAX];
    size_t n;
    struct gt_state said;
    assert_int_equal(gt_responder_state(p->device, true, NULL, message, &n), 0);
    assert_int_equal(gt_ask_state(&p->alice, gt_responder_state_topic(p->device),
                                  gt_span(message, n), &said, buffer),
                     0);
    memcpy(p->epoch, said.epoch, sizeof(p->epoch));
}

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    gt_trust_init_psk(&p->psk);
    dice_fill(p->of_device, sizeof(p->of_device));
    p->now_ms = STARTED;
    p->device = new_device(&p->psk, p->of_device, NULL, p->now_ms);
    struct gt_ask_settings settings = operator_settings(&p->psk);
    assert_int_equal(gt_ask_init(&p->alice, &settings, p->of_device, NULL), 0);
    learn_epoch(p);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;
    gt_responder_free(p->device);
    gt_ask_deinit(&p->alice);
    free(p);
    return 0;
}

static void ask(struct pair *p)
{
    assert_int_equal(gt_ask_request(&p->alice, p->epoch, p->message, &p->n), 0);
}

static enum gt_verdict deliver(struct pair *p)
{
    assert_int_equal(gt_responder_receive(p->device, p->now_ms, NOW, REQ, false,
                                          gt_span(p->message, p->n), &p->in),
                     0);
    return p->in.verdict;
}

static void grant(struct pair *p)
{
    struct gt_ack ack = {.lifetime_s = 60, .max_streams = 64, .window = 1 << 20};
    ack.extensions.version = gt_span_text("1.2.3");
    assert_int_equal(gt_responder_grant(p->device, &p->in, &ack, &p->keys), 0);
}

static int answer(struct pair *p)
{
    return gt_ask_receive(&p->alice, p->in.rsp_topic, gt_span(p->in.reply, p->in.n_reply), NOW,
                          &p->answer);
}

static void test_agree(void **state)
{
    struct pair *p = *state;
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_string_equal(p->in.rsp_topic, RSP);
    assert_string_equal(p->in.req.operator_, "alice");
    assert_string_equal(p->in.req.service, "ssh");
    assert_string_equal(p->in.req.relay, "main");
    assert_int_equal(p->in.req.lifetime_s, 3600);
    assert_null(p->in.pin);
    grant(p);
    assert_int_equal(answer(p), 0);
    assert_int_equal(p->answer.ack.status, GT_ACK_OK);
    assert_int_equal(p->answer.ack.max_streams, 64);
    assert_true(gt_span_equals(p->answer.ack.extensions.version, gt_span_text("1.2.3")));
    assert_memory_equal(&p->answer.keys, &p->keys, sizeof(p->keys));
    /* answered once: the same again is nothing to anybody */
    assert_int_equal(answer(p), GT_ASK_E_IGNORE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_agree),
    };
    dice_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
