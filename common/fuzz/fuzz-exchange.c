/* SPDX-License-Identifier: ISC */
/*
 * A device and an operator, and an attacker with the device's key. The attacker sends raw bytes,
 * correctly sealed inner forms, real requests with flipped bits and duplicates, and advances the
 * time. Invariants: no message makes two sessions, and a granted real request gives both sides the
 * same keys.
 */
#include "gotthard/signaling/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define STEPS_MAX 64

struct env {
    struct gt_responder *device;
    struct gt_initiator operator_;
    struct gt_message_keys keys;
    uint64_t now_ms;
    uint8_t epoch[GT_EPOCH_SIZE];
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    uint8_t taken[STEPS_MAX + 1][GT_KEY_SIZE]; /* th1 of each granted request */
    size_t n_taken;
    struct gt_incoming in;
    struct gt_session_keys session;
    struct gt_answer answer;
};

static const uint8_t of_device[GT_KEY_SIZE] = {1};
static struct gt_trust psk = {.policy = GT_POLICY_PSK}, empty = {.policy = GT_POLICY_PIN};

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void learn_epoch(struct env *w)
{
    static uint8_t buffer[GT_MESSAGE_MAX], message[GT_MESSAGE_MAX];
    const char *topic = gt_responder_state_topic(w->device);
    struct gt_state_form form = {.kind = GT_STATE_ONLINE};
    struct gt_state state;
    struct gt_fit fit;
    size_t n;

    must(gt_responder_state(w->device, &form, &fit, message, &n) == 0);
    must(gt_initiator_state(&w->operator_, topic, gt_span(message, n), &state, buffer) == 0);
    memcpy(w->epoch, state.epoch, sizeof(w->epoch));
}

static void take(struct env *w)
{
    for (size_t i = 0; i < w->n_taken; i++)
        must(memcmp(w->taken[i], w->in.agreement.th1, GT_KEY_SIZE) != 0);
    memcpy(w->taken[w->n_taken++], w->in.agreement.th1, GT_KEY_SIZE);
    int r = gt_responder_grant(w->device, &w->in, &(struct gt_ack){0}, &w->session);
    must(r == 0 || r == GT_RESPONDER_E_SIZE);
}

static enum gt_verdict deliver(struct env *w)
{
    const char *topic = gt_responder_req_topic(w->device);

    must(gt_responder_receive(w->device, w->now_ms, 0, topic, false, gt_span(w->message, w->n),
                              &w->in) == 0);
    switch (w->in.verdict) {
    case GT_VERDICT_DROP: must(w->in.why && !w->in.n_reply); break;
    case GT_VERDICT_REPLY: must(w->in.n_reply > 0); break;
    case GT_VERDICT_REQUEST: take(w); break;
    case GT_VERDICT_CLOSE:
        must(gt_responder_closed(w->device, &w->in, GT_NAK_CLOSED, 1) == 0);
        break;
    }
    return w->in.verdict;
}

static int answer(struct env *w)
{
    return gt_initiator_receive(&w->operator_, w->in.rsp_topic, gt_span(w->in.reply, w->in.n_reply),
                                0, &w->answer);
}

static void step_raw(struct env *w, struct gt_span bytes)
{
    w->n = GT_MIN(bytes.n, sizeof(w->message));
    memcpy(w->message, bytes.data, w->n);
    deliver(w);
    must(gt_initiator_receive(&w->operator_, w->operator_.rsp_topic, bytes, 0, &w->answer) != 0);
}

/* Seals an inner form. @is_current: writes the current epoch where a REQ of these names has it. */
static void step_inner(struct env *w, enum gt_message_type type, bool is_current,
                       struct gt_span inner)
{
    static uint8_t bytes[GT_MESSAGE_MAX];
    size_t at = (type == GT_MESSAGE_REQ ? 3u : 2u) + 2 + strlen("alice") + 2 + strlen("GatewayOli");
    size_t n = GT_MIN(inner.n, sizeof(bytes));

    memcpy(bytes, inner.data, n);
    if (is_current && n >= at + GT_EPOCH_SIZE)
        memcpy(bytes + at, w->epoch, GT_EPOCH_SIZE);
    if (gt_message_seal(w->keys.req, type, gt_responder_req_topic(w->device), gt_span(bytes, n),
                        w->message, &w->n) == 0)
        deliver(w);
}

static void step_request(struct env *w)
{
    must(gt_initiator_request(&w->operator_, w->epoch, w->message, &w->n) == 0);
    if (deliver(w) == GT_VERDICT_REQUEST) {
        must(answer(w) == 0);
        must(memcmp(&w->answer.keys, &w->session, sizeof(w->session)) == 0);
    } else if (w->in.verdict == GT_VERDICT_REPLY) {
        must(answer(w) > GT_INITIATOR_E_IGNORE);
    }
}

static void step_flipped(struct env *w, uint16_t bit)
{
    must(gt_initiator_request(&w->operator_, w->epoch, w->message, &w->n) == 0);
    w->message[bit / 8 % w->n] ^= (uint8_t)(1 << bit % 8);
    must(deliver(w) == GT_VERDICT_DROP);
}

static void step(struct env *w, struct gt_reader *r)
{
    uint8_t op = gt_read_u8(r);

    switch (op % 10) {
    case 0: step_raw(w, gt_read_lp(r)); break;
    case 1: step_inner(w, GT_MESSAGE_REQ, true, gt_read_lp(r)); break;
    case 2: step_inner(w, GT_MESSAGE_CLOSE, true, gt_read_lp(r)); break;
    case 3: step_inner(w, (enum gt_message_type)(op / 10 % 5), false, gt_read_lp(r)); break;
    case 4: w->now_ms += UINT64_C(1000) * gt_read_u16(r); break;
    case 5:
        if (gt_responder_tick(w->device, w->now_ms))
            learn_epoch(w);
        break;
    case 6: step_request(w); break;
    case 7: step_flipped(w, gt_read_u16(r)); break;
    case 8: deliver(w); break; /* the last message again */
    case 9: gt_responder_set_trust(w->device, NULL, op / 10 % 2 ? &empty : &psk); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct env w;
    struct gt_reader r = gt_reader(data, n);
    struct gt_responder_settings device = {
        .prefix = "gotthard/v1", .device = "GatewayOli", .trust = &psk};
    struct gt_initiator_settings initiator = {.prefix = "gotthard/v1",
                                              .operator_ = "alice",
                                              .device = "GatewayOli",
                                              .service = "ssh",
                                              .relay = "",
                                              .trust = &psk};

    memset(&w, 0, sizeof(w));
    must(gt_responder_new(&device, of_device, NULL, 0, &w.device) == 0);
    must(gt_initiator_init(&w.operator_, &initiator, of_device, NULL) == 0);
    must(gt_key_messages(of_device, &w.keys) == 0);
    learn_epoch(&w);
    for (int i = 0; i < STEPS_MAX && r.left && !r.failed; i++)
        step(&w, &r);
    gt_responder_free(w.device);
    gt_initiator_deinit(&w.operator_);
    return 0;
}
