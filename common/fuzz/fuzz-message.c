/* SPDX-License-Identifier: ISC */
/*
 * The first byte selects a kind of message. The remaining bytes are its inner form, as if the seal
 * had opened, and also an outer form that must not open. A decoded message must encode to the same
 * bytes, or, where the encoding is not unique, to bytes that decode to the same message.
 */
#include "gotthard/signaling/device-status.h"
#include "gotthard/signaling/report.h"
#include "gotthard/signaling/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define TOPIC "gotthard/v1/d/GatewayOli/req"

static uint8_t again[2 * GT_MESSAGE_MAX], third[2 * GT_MESSAGE_MAX];

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void must_equal(struct gt_span inner, const struct gt_writer *w)
{
    must(!w->failed && gt_span_equals(inner, gt_span(w->data, w->n)));
}

static void must_have_names(const char *operator_, const char *device)
{
    must(gt_text_is_name(gt_span_text(operator_)) && gt_text_is_name(gt_span_text(device)));
}

static void fuzz_req(struct gt_span inner)
{
    struct gt_req req;
    struct gt_span body;
    struct gt_proof proof;
    struct gt_writer w = gt_writer(again, sizeof(again));

    if (gt_req_decode(inner, &req, &body, &proof))
        return;
    must_have_names(req.operator_, req.device);
    gt_req_encode(&req, &w);
    must_equal(body, &w);
    gt_proof_encode(&proof, &w);
    must_equal(inner, &w);
}

static void fuzz_close(struct gt_span inner)
{
    struct gt_close close;
    struct gt_span body;
    struct gt_proof proof;
    struct gt_writer w = gt_writer(again, sizeof(again));

    if (gt_close_decode(inner, &close, &body, &proof))
        return;
    must_have_names(close.operator_, close.device);
    gt_close_encode(&close, &w);
    must_equal(body, &w);
    gt_proof_encode(&proof, &w);
    must_equal(inner, &w);
}

static void fuzz_nak(struct gt_span inner)
{
    struct gt_nak nak;
    struct gt_writer w = gt_writer(again, sizeof(again));

    if (gt_nak_decode(inner, &nak))
        return;
    gt_nak_encode(&nak, &w);
    must_equal(inner, &w);
}

static void fuzz_state(struct gt_span inner)
{
    struct gt_state state;
    struct gt_writer w = gt_writer(again, sizeof(again)), w3 = gt_writer(third, sizeof(third));

    if (gt_state_decode(inner, &state))
        return;
    gt_state_encode(&state, &w);
    must(gt_state_decode(gt_span(again, w.n), &state) == 0);
    gt_state_encode(&state, &w3);
    must_equal(gt_span(again, w.n), &w3);
}

static void fuzz_ack(struct gt_span inner)
{
    struct gt_ack ack;
    struct gt_span statement;
    struct gt_proof proof;
    struct gt_writer w = gt_writer(again, sizeof(again)), w3 = gt_writer(third, sizeof(third));

    if (gt_ack_decode(inner, &ack, &statement, &proof))
        return;
    must_have_names(ack.operator_, ack.device);
    must(statement.data == inner.data && statement.n + 4 + proof.signature.n == inner.n);
    gt_ack_encode(&ack, &w);
    gt_proof_encode(&proof, &w);
    must(gt_ack_decode(gt_span(again, w.n), &ack, &statement, &proof) == 0);
    gt_ack_encode(&ack, &w3);
    gt_proof_encode(&proof, &w3);
    must_equal(gt_span(again, w.n), &w3);
}

static void fuzz_report(struct gt_span inner)
{
    struct gt_report report;
    struct gt_writer w = gt_writer(again, sizeof(again));

    if (gt_report_decode(inner, &report))
        return;
    gt_report_encode(&report, &w);
    must_equal(inner, &w);
}

/* The encoding is unique if everything has room. */
static void fuzz_status(struct gt_span bytes)
{
    static struct gt_device_status status;
    static uint8_t encoded[GT_STATUS_SIZE];

    if (gt_device_status_decode(bytes, &status))
        return;
    size_t n = gt_device_status_encode(&status, encoded);
    must(n <= sizeof(encoded));
    if (bytes.n <= sizeof(encoded))
        must(gt_span_equals(bytes, gt_span(encoded, n)));
}

static void fuzz_topic(struct gt_span text)
{
    char topic[512], device[GT_NAME_MAX + 1], same[GT_TOPIC_MAX + 1];

    if (text.n >= sizeof(topic))
        return;
    memcpy(topic, text.data, text.n);
    topic[text.n] = 0;
    if (gt_topic_device("gotthard/v1", topic, device) == 0)
        must(gt_topic_state("gotthard/v1", device, same) || strcmp(same, topic) == 0);
    if (gt_topic_req(topic, "d", same) == 0)
        must(strlen(same) <= GT_TOPIC_MAX && !strpbrk(same, "+#"));
}

static void fuzz_outer(struct gt_span payload)
{
    static uint8_t out[GT_MESSAGE_MAX];
    static const uint8_t key[GT_KEY_SIZE] = {1};
    enum gt_message_type type;
    size_t n;

    if (gt_message_peek(payload, &type) == 0)
        must(gt_message_open(key, type, TOPIC, payload, out, &n) == GT_MESSAGE_E_BAD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_span inner = n ? gt_span(data + 1, n - 1) : gt_span("", 0);

    if (n > GT_MESSAGE_MAX)
        return 0;
    fuzz_outer(gt_span(data, n));
    switch (n ? data[0] % 8 : 8) {
    case GT_MESSAGE_STATE: fuzz_state(inner); break;
    case GT_MESSAGE_REQ: fuzz_req(inner); break;
    case GT_MESSAGE_ACK: fuzz_ack(inner); break;
    case GT_MESSAGE_NAK: fuzz_nak(inner); break;
    case GT_MESSAGE_CLOSE: fuzz_close(inner); break;
    case GT_MESSAGE_REPORT: fuzz_report(inner); break;
    case 6: fuzz_topic(inner); break;
    case 7: fuzz_status(inner); break;
    }
    return 0;
}
