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
#include "identities.h"
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

/* --- known answers -------------------------------------------------------------------------- */

/* docs/protocol.md, section 6: x, y, epoch and req_id are known, so all that follows is. */
static void test_known_answers(void **state)
{
    uint8_t inner[512], y[32], gy[32], th1[32], epoch[32], id[32], ack[69 + 48];
    struct gt_key key;
    struct gt_agreement a = {.topic = RSP}, b;
    struct gt_message_keys keys;
    struct gt_session_keys session;
    struct gt_req req = {.operator_ = "alice",
                         .device = "GatewayOli",
                         .service = "ssh",
                         .lifetime_s = 3600,
                         .relay = "main"};
    uint8_t of_device[32], x[32], want[32];
    assert_int_equal(
        gt_key_parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                     "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", &key),
        0);
    assert_int_equal(gt_key_device(&key, "GatewayOli", of_device), 0);
    assert_int_equal(gt_key_messages(of_device, &keys), 0);
    hash_of("test x", x);
    hash_of("test y", y);
    hash_of("epoch", epoch);
    hash_of("req", id);
    memcpy(req.epoch, epoch, 16);
    memcpy(req.id, id, 16);
    assert_int_equal(gt_x25519_public(x, req.gx), 0);
    assert_int_equal(gt_x25519_public(y, gy), 0);
    unhex("9c907b9ec3ab020c1919edbffca536d5e9785463e267016aa64017483c1b7d01", want);
    assert_memory_equal(req.gx, want, 32);
    unhex("727d66085b97e021c46101fa19288bc04dbedbccbe9953a395ffcefce73a716a", want);
    assert_memory_equal(gy, want, 32);

    struct gt_writer w = gt_writer(inner, sizeof(inner));
    gt_req_encode(&req, &w);
    gt_proof_encode(&(struct gt_proof){0}, &w);
    struct gt_span whole = gt_span(inner, w.n);
    assert_int_equal(gt_sha256(&whole, 1, th1), 0);
    unhex("b06604532192a8d44074ac7e939ced8a38ebd5c87ad105a2c2f015ee931146fd", want);
    assert_memory_equal(th1, want, 32);

    a.mix = keys.mix;
    memcpy(a.th1, th1, 32);
    memcpy(a.gy, gy, 32);
    memcpy(a.id, id, 16);
    b = a;
    assert_int_equal(gt_agreement_meet(&a, x, gy), 0);
    assert_int_equal(gt_agreement_meet(&b, y, req.gx), 0);
    unhex("4ee79e72104b5849131b2cc0303ea4c16d2ca379969e3fb714b7dc51f0386457", want);
    assert_memory_equal(a.prk, want, 32);
    assert_memory_equal(b.prk, want, 32);

    w = gt_writer(ack, sizeof(ack));
    gt_message_header(GT_MESSAGE_ACK, &w);
    gt_write_bytes(&w, id, 16);
    gt_write_bytes(&w, gy, 32);
    memset(gt_write_room(&w, 48), 0, 48);
    assert_int_equal(w.n, GT_ACK_HEADER + 48);
    assert_int_equal(gt_agreement_session(&a, gt_span(ack, w.n), &session), 0);
    unhex("46f1b6ec72bb9517abcec58aff275ec8c6c8ebe5d2ca45fa75099f0df87038d2", want);
    assert_memory_equal(session.session, want, 32);
    unhex("6f0e69551d4e1b715e93b0e5e0488606", want);
    assert_memory_equal(session.rid, want, 16);
}

/* --- what the device drops ------------------------------------------------------------------ */

static void assert_drops(struct pair *p, const char *topic, bool is_retained, const char *why)
{
    assert_int_equal(gt_responder_receive(p->device, p->now_ms, NOW, topic, is_retained,
                                          gt_span(p->message, p->n), &p->in),
                     0);
    assert_int_equal(p->in.verdict, GT_VERDICT_DROP);
    assert_string_equal(p->in.why, why);
    assert_int_equal(p->in.n_reply, 0);
}

/* A REQ as anybody who holds the key could make it. */
static void forge(struct pair *p, const uint8_t *of_device, const struct gt_req *req)
{
    struct gt_message_keys keys;
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    gt_req_encode(req, &w);
    gt_proof_encode(&(struct gt_proof){0}, &w);
    assert_int_equal(gt_key_messages(of_device, &keys), 0);
    assert_int_equal(
        gt_message_seal(keys.req, GT_MESSAGE_REQ, REQ, gt_span(inner, w.n), p->message, &p->n), 0);
}

static struct gt_req good_req(const struct pair *p)
{
    struct gt_req req = {.operator_ = "alice", .device = "GatewayOli", .service = "ssh"};
    memcpy(req.epoch, p->epoch, sizeof(req.epoch));
    req.gx[0] = 9;
    dice_fill(req.id, sizeof(req.id));
    return req;
}

static void test_drops(void **state)
{
    struct pair *p = *state;
    ask(p);
    assert_drops(p, "gotthard/v1/d/Other/req", false, "on another topic");
    assert_drops(p, RSP, false, "on another topic");
    assert_drops(p, REQ, true, "retained");
    size_t n = p->n;
    p->n = 0;
    assert_drops(p, REQ, false, "neither REQ nor CLOSE");
    p->n = 5;
    assert_drops(p, REQ, false, "not sealed with this device's key");
    p->n = n;
    for (uint8_t type = 0; type < 6; type++) {
        p->message[4] = type;
        if (type != GT_MESSAGE_REQ)
            assert_drops(p, REQ, false,
                         type == GT_MESSAGE_CLOSE ? "not sealed with this device's key"
                                                  : "neither REQ nor CLOSE");
    }
    p->message[4] = GT_MESSAGE_REQ;
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST); /* none of that was remembered */
}

static void test_drops_size(void **state)
{
    static uint8_t big[1 << 20];
    struct pair *p = *state;
    static const size_t sizes[] = {8193, 65535, 1 << 20};
    memcpy(big, "GTM1\1", 5);
    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        assert_int_equal(gt_responder_receive(p->device, p->now_ms, NOW, REQ, false,
                                              gt_span(big, sizes[i]), &p->in),
                         0);
        assert_string_equal(p->in.why, "too long");
    }
    assert_int_equal(
        gt_responder_receive(p->device, p->now_ms, NOW, REQ, false, gt_span(big, 8192), &p->in), 0);
    assert_string_equal(p->in.why, "not sealed with this device's key");
}

static void test_drops_names(void **state)
{
    struct pair *p = *state;
    struct gt_req req = good_req(p);
    uint8_t other[32] = {1};
    forge(p, other, &req);
    assert_drops(p, REQ, false, "not sealed with this device's key");
    stpcpy(req.device, "Other");
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "for another device");
    req = good_req(p);
    stpcpy(req.operator_, "GatewayOli");
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "an operator of this device's own name");
    stpcpy(req.operator_, "a/b");
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "malformed");
    req = good_req(p);
    req.flags = 1;
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "malformed");
}

static void test_drops_low_order(void **state)
{
    struct pair *p = *state;
    struct gt_req req = good_req(p);
    memset(req.gx, 0, sizeof(req.gx));
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "a low-order point");
    req.gx[0] = 1;
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "a low-order point");
}

static void test_bucket(void **state)
{
    struct pair *p = *state;
    memcpy(p->message, "GTM1\1", 5);
    p->n = 100;
    for (int i = 0; i < GT_REQ_BURST; i++)
        assert_drops(p, REQ, false, "not sealed with this device's key");
    assert_drops(p, REQ, false, "too many at once");
    p->now_ms += 199;
    assert_drops(p, REQ, false, "too many at once");
    p->now_ms += 1;
    assert_drops(p, REQ, false, "not sealed with this device's key");
    assert_drops(p, REQ, false, "too many at once");
    p->now_ms += UINT64_C(1) << 40;
    for (int i = 0; i < GT_REQ_BURST; i++)
        assert_drops(p, REQ, false, "not sealed with this device's key");
    assert_drops(p, REQ, false, "too many at once");
    /* what is not for us costs no token */
    p->now_ms += 200;
    for (int i = 0; i < 100; i++)
        assert_drops(p, RSP, false, "on another topic");
    assert_drops(p, REQ, false, "not sealed with this device's key");
}

/* --- epochs and duplicates ------------------------------------------------------------------ */

static void test_stale_epoch(void **state)
{
    struct pair *p = *state;
    uint8_t right[GT_EPOCH_SIZE];
    memcpy(right, p->epoch, sizeof(right));
    memset(p->epoch, 0, sizeof(p->epoch));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_NAK);
    assert_int_equal(answer(p), GT_ASK_E_RETRY);
    assert_memory_equal(p->answer.epoch, right, sizeof(right));
    memcpy(p->epoch, p->answer.epoch, sizeof(right));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
}

static void test_one_retry_only(void **state)
{
    struct pair *p = *state;
    memset(p->epoch, 0, sizeof(p->epoch));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_ASK_E_RETRY);
    ask(p);
    assert_drops(p, REQ, false, "of a stale epoch, and one was answered just now");
    p->now_ms += 1000;
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_ASK_E_REFUSED);
    assert_int_equal(p->answer.nak_code, GT_NAK_EPOCH);
}

static void test_duplicates(void **state)
{
    struct pair *p = *state;
    uint8_t first[GT_MESSAGE_MAX];
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    struct gt_incoming deciding = p->in; /* callers may copy it */
    assert_drops(p, REQ, false, "a duplicate of one that is being decided");
    p->in = deciding;
    grant(p);
    size_t n = p->in.n_reply;
    memcpy(first, p->in.reply, n);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(deliver(p), GT_VERDICT_REPLY);
        assert_int_equal(p->in.n_reply, n);
        assert_memory_equal(p->in.reply, first, n);
        assert_string_equal(p->in.rsp_topic, RSP);
    }
    assert_int_equal(answer(p), 0);
    assert_memory_equal(&p->answer.keys, &p->keys, sizeof(p->keys));
}

/* The same id, other content: neither answered nor taken up. */
static void test_id_used_again(void **state)
{
    struct pair *p = *state;
    struct gt_req req = good_req(p);
    forge(p, p->of_device, &req);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    stpcpy(req.operator_, "mallory");
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "another message with an id that was used");
}

static void test_rotation(void **state)
{
    struct pair *p = *state;
    uint8_t old[GT_EPOCH_SIZE];
    memcpy(old, p->epoch, sizeof(old));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_false(gt_responder_tick(p->device, STARTED + GT_EPOCH_LIFE_MS - 1));
    p->now_ms = STARTED + GT_EPOCH_LIFE_MS;
    assert_true(gt_responder_tick(p->device, p->now_ms));
    assert_false(gt_responder_tick(p->device, p->now_ms));
    learn_epoch(p);
    assert_memory_not_equal(p->epoch, old, sizeof(old));
    /* within the minute: the old epoch's duplicates get their answer, its new ones are taken up */
    p->now_ms += GT_EPOCH_GRACE_MS - 1;
    assert_false(gt_responder_tick(p->device, p->now_ms));
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_ACK);
    struct gt_req late = good_req(p);
    memcpy(late.epoch, old, sizeof(old));
    uint8_t message[GT_MESSAGE_MAX];
    size_t n = p->n;
    memcpy(message, p->message, n);
    forge(p, p->of_device, &late);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_ACK);
    /* after it, a replay gets a NAK whether or not the clock was ticked, and no session */
    memcpy(p->message, message, n);
    p->n = n;
    p->now_ms++;
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_NAK);
    assert_false(gt_responder_tick(p->device, p->now_ms + 1000));
    p->now_ms += 1000;
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_NAK);
}

/* A session that is decided while the epoch rotates is answered and remembered all the same. */
static void test_rotation_while_deciding(void **state)
{
    struct pair *p = *state;
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    p->now_ms = STARTED + GT_EPOCH_LIFE_MS;
    assert_true(gt_responder_tick(p->device, p->now_ms));
    grant(p);
    assert_int_equal(answer(p), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_ACK);
}

static void test_full(void **state)
{
    struct pair *p = *state;
    uint8_t old[GT_EPOCH_SIZE];
    memcpy(old, p->epoch, sizeof(old));
    for (int i = 0; i < GT_SEEN_MAX; i++) {
        struct gt_req req = good_req(p);
        forge(p, p->of_device, &req);
        p->now_ms += 200;
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        assert_int_equal(p->in.is_epoch_rotated, i == GT_SEEN_MAX - 1);
        assert_int_equal(gt_responder_deny(p->device, &p->in, GT_ACK_QUOTA), 0);
    }
    learn_epoch(p);
    assert_memory_not_equal(p->epoch, old, sizeof(old));
    p->now_ms += 200;
    assert_int_equal(deliver(p), GT_VERDICT_REPLY); /* the last one, again */
    assert_int_equal(p->in.reply[4], GT_MESSAGE_ACK);
    assert_false(p->in.is_epoch_rotated);
}

/* --- keys in rotation ----------------------------------------------------------------------- */

static void test_previous_key(void **state)
{
    struct pair *p = *state;
    uint8_t new_key[32], buffer[GT_MESSAGE_MAX], unknown[32] = {7};
    struct gt_state said;
    struct gt_ask_settings settings = operator_settings(&p->psk);
    dice_fill(new_key, sizeof(new_key));
    gt_responder_free(p->device);
    p->device = new_device(&p->psk, new_key, p->of_device, p->now_ms);

    /* an operator of yesterday: the STATE is dark to him, the rest works */
    size_t n;
    uint8_t presence[GT_MESSAGE_MAX];
    const char *topic = gt_responder_state_topic(p->device);
    assert_int_equal(gt_responder_state(p->device, true, NULL, presence, &n), 0);
    assert_int_equal(gt_ask_state(&p->alice, topic, gt_span(presence, n), &said, buffer),
                     GT_ASK_E_IGNORE);
    memset(p->epoch, 0, sizeof(p->epoch));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_ASK_E_RETRY);
    memcpy(p->epoch, p->answer.epoch, sizeof(p->epoch));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
    assert_memory_equal(&p->answer.keys, &p->keys, sizeof(p->keys));

    /* an operator of today, who also still reads devices of yesterday */
    gt_ask_deinit(&p->alice);
    assert_int_equal(gt_ask_init(&p->alice, &settings, new_key, p->of_device), 0);
    learn_epoch(p);
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
    gt_responder_free(p->device);
    p->device = new_device(&p->psk, p->of_device, NULL, p->now_ms);
    learn_epoch(p);

    gt_ask_deinit(&p->alice);
    assert_int_equal(gt_ask_init(&p->alice, &settings, unknown, NULL), 0);
    ask(p);
    assert_drops(p, REQ, false, "not sealed with this device's key");
}

/* --- what the operator ignores -------------------------------------------------------------- */

static void test_answer_bits(void **state)
{
    struct pair *p = *state;
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    size_t n = p->in.n_reply;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p->in.reply[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* X25519 takes no notice of gy's highest bit; th2 and the box do */
        assert_int_equal(answer(p), GT_ASK_E_IGNORE);
        p->in.reply[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (p->in.n_reply = 0; p->in.n_reply < n; p->in.n_reply++)
        assert_int_equal(answer(p), GT_ASK_E_IGNORE);
    p->in.n_reply = n + 1;
    assert_int_equal(answer(p), GT_ASK_E_IGNORE);
    p->in.n_reply = n;
    p->in.rsp_topic[strlen(p->in.rsp_topic) - 1] = 'f';
    assert_int_equal(answer(p), GT_ASK_E_IGNORE);
    stpcpy(p->in.rsp_topic, RSP);
    assert_int_equal(answer(p), 0);
}

/* An answer to the question before this one. */
static void test_answer_of_before(void **state)
{
    struct pair *p = *state;
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    ask(p);
    assert_int_equal(answer(p), GT_ASK_E_IGNORE);
    assert_int_equal(gt_ask_receive(&p->alice, RSP, gt_span("", 0), NOW, &p->answer),
                     GT_ASK_E_IGNORE);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
}

/* Our own REQ sent back to us, on either topic, is no answer. */
static void test_reflection(void **state)
{
    struct pair *p = *state;
    ask(p);
    assert_int_equal(gt_ask_receive(&p->alice, RSP, gt_span(p->message, p->n), NOW, &p->answer),
                     GT_ASK_E_IGNORE);
    assert_int_equal(gt_ask_receive(&p->alice, REQ, gt_span(p->message, p->n), NOW, &p->answer),
                     GT_ASK_E_IGNORE);
}

static void test_refusals(void **state)
{
    static const enum gt_ack_status statuses[] = {GT_ACK_DENIED, GT_ACK_SERVICE, GT_ACK_QUOTA,
                                                  GT_ACK_RELAY, GT_ACK_INTERNAL};
    struct pair *p = *state;
    for (size_t i = 0; i < GT_ARRAY_SIZE(statuses); i++) {
        ask(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        assert_int_equal(gt_responder_deny(p->device, &p->in, statuses[i]), 0);
        assert_int_equal(answer(p), GT_ASK_E_REFUSED);
        assert_int_equal(p->answer.ack.status, statuses[i]);
        assert_int_equal(p->answer.nak_code, 0xffff);
    }
}

/* More than a message can hold: the extensions go, the session comes. */
static void test_big_extensions(void **state)
{
    struct pair *p = *state;
    static const char blanks[1500] = {[0 ... 1499] = '-'};
    struct gt_ack ack = {.max_streams = 1, .extensions.n_host_keys = GT_HOST_KEYS_MAX};
    for (size_t i = 0; i < GT_HOST_KEYS_MAX; i++)
        ack.extensions.host_keys[i] = gt_span(blanks, sizeof(blanks));
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_int_equal(gt_responder_grant(p->device, &p->in, &ack, &p->keys), 0);
    assert_int_equal(answer(p), 0);
    assert_int_equal(p->answer.ack.extensions.n_host_keys, 0);
    assert_int_equal(p->answer.ack.max_streams, 1);
    size_t n;
    assert_int_equal(gt_responder_state(p->device, true, &ack.extensions, p->message, &n),
                     GT_MESSAGE_E_BAD);
    ack.extensions.n_host_keys = 5;
    ask(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_int_equal(gt_responder_grant(p->device, &p->in, &ack, &p->keys), 0);
    assert_int_equal(answer(p), 0);
    assert_int_equal(p->answer.ack.extensions.n_host_keys, 5);
}

static void test_presence(void **state)
{
    struct pair *p = *state;
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state said;
    struct gt_extensions extensions = {
        .version = gt_span_text("0.1"), .n_sessions = 3, .since = NOW};
    const char *topic = gt_responder_state_topic(p->device);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gt_responder_state(p->device, i, &extensions, p->message, &p->n), 0);
        struct gt_span message = gt_span(p->message, p->n);
        assert_int_equal(gt_ask_state(&p->alice, topic, message, &said, buffer), 0);
        assert_int_equal(said.is_online, i);
        assert_int_equal(said.seq, 2 + i); /* the first was setup's */
        assert_int_equal(said.extensions.n_sessions, 3);
        assert_int_equal(said.extensions.since, NOW);
        assert_int_equal(gt_ask_state(&p->alice, REQ, message, &said, buffer), GT_ASK_E_IGNORE);
        p->message[p->n - 1] ^= 1;
        assert_int_equal(gt_ask_state(&p->alice, topic, message, &said, buffer), GT_ASK_E_IGNORE);
    }
}

static void test_bad_names(void **state)
{
    struct pair *p = *state;
    static const struct {
        const char *prefix, *operator_, *device;
    } cases[] = {
        {PREFIX, "alice", "+"},    {PREFIX, "alice", "a/b"},         {PREFIX, "alice", ""},
        {PREFIX, "#", "device"},   {PREFIX, "", "device"},           {PREFIX, "same", "same"},
        {"", "alice", "device"},   {"a/#", "alice", "device"},       {"a//b", "alice", "device"},
        {"/a", "alice", "device"}, {"a/b/c/d/e", "alice", "device"},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_ask_settings settings = operator_settings(&p->psk);
        struct gt_ask other;
        settings.prefix = cases[i].prefix;
        settings.operator_ = cases[i].operator_;
        settings.device = cases[i].device;
        assert_int_equal(gt_ask_init(&other, &settings, p->of_device, NULL), GT_MESSAGE_E_BAD);
    }
    struct gt_responder_settings settings = {.prefix = PREFIX, .device = "a/b", .trust = &p->psk};
    struct gt_responder *none = NULL;
    assert_int_equal(gt_responder_new(&settings, p->of_device, NULL, 0, &none), GT_MESSAGE_E_BAD);
    assert_null(none);
}

/* --- CLOSE ---------------------------------------------------------------------------------- */

static void test_close(void **state)
{
    struct pair *p = *state;
    uint8_t rid[GT_RID_SIZE];
    dice_fill(rid, sizeof(rid));
    for (int is_all = 0; is_all < 2; is_all++) {
        assert_int_equal(gt_ask_close(&p->alice, p->epoch, is_all ? NULL : rid, p->message, &p->n),
                         0);
        assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
        assert_int_equal(p->in.close.is_all, is_all);
        if (!is_all)
            assert_memory_equal(p->in.close.rid, rid, sizeof(rid));
        assert_string_equal(p->in.close.operator_, "alice");
        assert_null(p->in.pin);
        assert_int_equal(gt_responder_closed(p->device, &p->in, GT_NAK_CLOSED, 3), 0);
        assert_int_equal(deliver(p), GT_VERDICT_REPLY); /* twice delivered, once done */
        assert_int_equal(answer(p), 0);
        assert_int_equal(p->answer.n_closed, 3);
        assert_int_equal(p->answer.nak_code, GT_NAK_CLOSED);
        assert_int_equal(answer(p), GT_ASK_E_IGNORE);
    }
    assert_int_equal(gt_ask_close(&p->alice, p->epoch, rid, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
    assert_int_equal(gt_responder_closed(p->device, &p->in, GT_NAK_DENIED, 0), 0);
    assert_int_equal(answer(p), GT_ASK_E_REFUSED);
    assert_int_equal(p->answer.nak_code, GT_NAK_DENIED);
}

static void test_close_stale(void **state)
{
    struct pair *p = *state;
    memset(p->epoch, 0, sizeof(p->epoch));
    assert_int_equal(gt_ask_close(&p->alice, p->epoch, NULL, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_ASK_E_RETRY);
    assert_int_equal(gt_ask_close(&p->alice, p->answer.epoch, NULL, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
}

/* --- pins ----------------------------------------------------------------------------------- */

static struct identity alice_id, device_id, stranger_id;

/* @pin: "NAME" or "NAME FP options", where FP stands for the fingerprint. */
static void set_pins(struct gt_trust *trust, const char *pin, const struct identity *identity)
{
    char text[256];
    size_t line, n_name = strcspn(pin, " ");
    const char *why, *options = strstr(pin, " FP");
    int n = snprintf(text, sizeof(text), "%.*s %s%s\n", (int)n_name, pin, identity->fingerprint_hex,
                     options ? options + 3 : "");
    assert_int_equal(gt_trust_parse_pins(gt_span(text, (size_t)n), trust, &line, &why), 0);
}

/* Asks as alice with @signer; gives the device's verdict. */
static enum gt_verdict ask_signed(struct pair *p, const struct gt_signer *signer)
{
    p->alice.settings.signer = signer;
    ask(p);
    return deliver(p);
}

static void test_pins_of_device(void **state)
{
    struct pair *p = *state;
    static const struct {
        const char *pins;
        bool is_trusted;
    } cases[] = {
        {"alice", true},
        {"alice FP role=admin", true},
        {"alice FP services=ssh,web", true},
        {"alice FP until=2023-11-14", true}, /* NOW is 22:13 of that day */
        {"alice FP until=2023-11-13", false},
        {"alice FP role=device", false},
        {"bob", false},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_trust pins;
        set_pins(&pins, cases[i].pins, &alice_id);
        gt_responder_set_trust(p->device, device_id.signer, &pins);
        p->now_ms += 10000;
        if (cases[i].is_trusted) {
            assert_int_equal(ask_signed(p, alice_id.signer), GT_VERDICT_REQUEST);
            assert_non_null(p->in.pin);
            assert_string_equal(p->in.pin->name, "alice");
            assert_int_equal(gt_pin_is_admin(p->in.pin), i == 1);
            grant(p);
            assert_int_equal(answer(p), 0);
        } else {
            assert_int_equal(ask_signed(p, alice_id.signer), GT_VERDICT_REPLY);
            assert_true(p->in.is_denied);
            assert_int_equal(answer(p), GT_ASK_E_REFUSED);
            assert_int_equal(p->answer.ack.status, GT_ACK_DENIED);
        }
        /* a stranger with the fleet's key, and one without any certificate */
        assert_int_equal(ask_signed(p, stranger_id.signer), GT_VERDICT_REPLY);
        assert_true(p->in.is_denied);
        assert_int_equal(answer(p), GT_ASK_E_REFUSED);
        assert_int_equal(ask_signed(p, NULL), GT_VERDICT_REPLY);
        assert_true(p->in.is_denied);
        assert_int_equal(p->in.req.operator_[0], 'a');
        assert_int_equal(deliver(p), GT_VERDICT_REPLY); /* the no is remembered too */
        assert_string_equal(p->in.why, "a duplicate");
        gt_responder_set_trust(p->device, NULL, &p->psk);
        gt_trust_deinit(&pins);
    }
}

static void test_pins_of_operator(void **state)
{
    struct pair *p = *state;
    static const struct {
        const char *pins;
        bool is_trusted;
    } cases[] = {
        {"GatewayOli FP role=device", true},
        {"GatewayOli", false}, /* an operator's */
        {"Other FP role=device", false},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_trust pins;
        set_pins(&pins, cases[i].pins, &device_id);
        p->alice.settings.trust = &pins;
        gt_responder_set_trust(p->device, device_id.signer, &p->psk);
        ask(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        grant(p);
        assert_int_equal(answer(p), cases[i].is_trusted ? 0 : GT_ASK_E_UNTRUSTED);
        /* a thief of the fleet's key answers first: the question stays open for the device */
        ask(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        gt_responder_set_trust(p->device, stranger_id.signer, &p->psk);
        grant(p);
        assert_int_equal(answer(p), GT_ASK_E_UNTRUSTED);
        gt_responder_set_trust(p->device, NULL, &p->psk);
        ask(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        grant(p);
        assert_int_equal(answer(p), GT_ASK_E_UNTRUSTED);
        gt_trust_deinit(&pins);
    }
}

static void test_pins_of_close(void **state)
{
    struct pair *p = *state;
    struct gt_trust pins;
    set_pins(&pins, "alice FP role=admin", &alice_id);
    gt_responder_set_trust(p->device, device_id.signer, &pins);
    p->alice.settings.signer = alice_id.signer;
    assert_int_equal(gt_ask_close(&p->alice, p->epoch, NULL, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
    assert_true(gt_pin_is_admin(p->in.pin));
    p->alice.settings.signer = stranger_id.signer;
    assert_int_equal(gt_ask_close(&p->alice, p->epoch, NULL, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_true(p->in.is_denied);
    assert_int_equal(answer(p), GT_ASK_E_REFUSED);
    assert_int_equal(p->answer.nak_code, GT_NAK_DENIED);
    gt_responder_set_trust(p->device, NULL, &p->psk);
    gt_trust_deinit(&pins);
}

/* Under psk a signature is not asked for, but one that is there must be right. */
static void test_psk_with_bad_signature(void **state)
{
    struct pair *p = *state;
    struct gt_message_keys keys;
    uint8_t inner[GT_MESSAGE_MAX], signature[64] = {0};
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_req req = good_req(p);
    struct gt_proof proof = {gt_signer_certificate(alice_id.signer),
                             gt_signer_algorithm(alice_id.signer), gt_span(signature, 64)};
    gt_req_encode(&req, &w);
    gt_proof_encode(&proof, &w);
    assert_int_equal(gt_key_messages(p->of_device, &keys), 0);
    assert_int_equal(
        gt_message_seal(keys.req, GT_MESSAGE_REQ, REQ, gt_span(inner, w.n), p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_true(p->in.is_denied);
}

static int setup_identities(void **state)
{
    identity_init(&alice_id, "P-256", "alice");
    identity_init(&device_id, "RSA-2048", "GatewayOli");
    identity_init(&stranger_id, "ED25519", "alice");
    return !alice_id.signer || !device_id.signer || !stranger_id.signer;
}

static int teardown_identities(void **state)
{
    identity_deinit(&alice_id);
    identity_deinit(&device_id);
    identity_deinit(&stranger_id);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_agree),
        TEST(test_known_answers),
        TEST(test_drops),
        TEST(test_drops_size),
        TEST(test_drops_names),
        TEST(test_drops_low_order),
        TEST(test_bucket),
        TEST(test_stale_epoch),
        TEST(test_one_retry_only),
        TEST(test_duplicates),
        TEST(test_id_used_again),
        TEST(test_rotation),
        TEST(test_rotation_while_deciding),
        TEST(test_full),
        TEST(test_previous_key),
        TEST(test_answer_bits),
        TEST(test_answer_of_before),
        TEST(test_reflection),
        TEST(test_refusals),
        TEST(test_big_extensions),
        TEST(test_presence),
        TEST(test_bad_names),
        TEST(test_close),
        TEST(test_close_stale),
        TEST(test_pins_of_device),
        TEST(test_pins_of_operator),
        TEST(test_pins_of_close),
        TEST(test_psk_with_bad_signature),
    };
    dice_init();
    return cmocka_run_group_tests(tests, setup_identities, teardown_identities);
}
