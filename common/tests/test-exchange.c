/* SPDX-License-Identifier: ISC */
/*
 * Both sides of an exchange with each other, and each with messages from a hostile broker, a holder
 * of a stolen key, or a misconfigured operator.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/signaling/exchange.h"
#include "gotthard/signaling/request-rate.h"
#include "identities.h"
#include "vectors.h"

#define NOW     1700000000
#define PREFIX  "gotthard/v1"
#define RSP     "gotthard/v1/d/GatewayOli/rsp/alice"
#define REQ     "gotthard/v1/d/GatewayOli/req"
#define STARTED UINT64_C(5000)

/* One operator, one device, and the messages between them. */
struct pair {
    struct gt_trust psk;
    uint8_t of_device[32];
    struct gt_responder *device;
    struct gt_initiator alice;
    uint8_t epoch[GT_EPOCH_SIZE];
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    struct gt_incoming in;
    struct gt_answer answer;
    struct gt_session_keys keys;
    uint64_t now_ms;
};

static struct gt_initiator_settings operator_settings(const struct gt_trust *trust)
{
    return (struct gt_initiator_settings){.prefix = PREFIX,
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

static const struct gt_state_form online = {.kind = GT_STATE_ONLINE, .connection = 1};
static struct gt_fit fit; /* of the last STATE */

/* Reads the epoch from the retained STATE, as an operator does. */
static void learn_epoch(struct pair *p)
{
    uint8_t buffer[GT_MESSAGE_MAX], message[GT_MESSAGE_MAX];
    size_t n;
    struct gt_state received;

    assert_int_equal(gt_responder_state(p->device, &online, &fit, message, &n), 0);
    assert_int_equal(gt_initiator_state(&p->alice, gt_responder_state_topic(p->device),
                                        gt_span(message, n), &received, buffer),
                     0);
    memcpy(p->epoch, received.epoch, sizeof(p->epoch));
}

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));

    gt_trust_init_psk(&p->psk);
    dice_fill(p->of_device, sizeof(p->of_device));
    p->now_ms = STARTED;
    p->device = new_device(&p->psk, p->of_device, NULL, p->now_ms);
    struct gt_initiator_settings settings = operator_settings(&p->psk);
    assert_int_equal(gt_initiator_init(&p->alice, &settings, p->of_device, NULL), 0);
    learn_epoch(p);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;

    gt_responder_free(p->device);
    gt_initiator_deinit(&p->alice);
    free(p);
    return 0;
}

static void initiator(struct pair *p)
{
    assert_int_equal(gt_initiator_request(&p->alice, p->epoch, p->message, &p->n), 0);
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
    return gt_initiator_receive(&p->alice, p->in.rsp_topic, gt_span(p->in.reply, p->in.n_reply),
                                NOW, &p->answer);
}

/* A query gets an authentic answer, and there are no keys of a session on either side. A repetition
 * gets the same answer. */
static void test_query_is_answered_without_a_session(void **state)
{
    static const uint8_t zeros[GT_KEY_SIZE];
    struct pair *p = *state;
    struct gt_extensions extensions = {.version = gt_span_text("1.2.3"),
                                       .status = gt_span("a\0status", 8)};

    p->alice.settings.is_query = true;
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_true(p->in.req.is_query);
    assert_int_equal(gt_responder_inform(p->device, &p->in, &extensions), 0);
    size_t n = p->in.n_reply;
    assert_int_equal(answer(p), 0);
    assert_int_equal(p->answer.ack.status, GT_ACK_OK);
    assert_true(gt_span_equals(p->answer.ack.extensions.status, extensions.status));
    assert_memory_equal(p->answer.keys.session, zeros, sizeof(p->answer.keys.session));
    assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE); /* no longer outstanding */
    p->now_ms += 1000;
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.n_reply, n);
    p->alice.settings.is_query = false;
}

static void test_request_and_answer_agree_on_keys(void **state)
{
    struct pair *p = *state;

    initiator(p);
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
    /* a second copy of the answer is ignored */
    assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
}

/* --- known answers -------------------------------------------------------------------------- */

/* The vectors of docs/protocol.md, section 6, for given x, y, epoch and req_id. */
static void test_known_answers(void **state)
{
    uint8_t inner[512], y[32], gy[32], th1[32], epoch[32], id[32], ack[69 + 48];
    struct gt_key key;
    struct gt_key_agreement a = {.topic = RSP}, b;
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
    assert_int_equal(gt_key_agreement_derive(&a, x, gy), 0);
    assert_int_equal(gt_key_agreement_derive(&b, y, req.gx), 0);
    unhex("26a7a3940709e800645c9f04a4f410c45fa950348bf03d818b4c3ce322c145dd", want);
    assert_memory_equal(a.prk, want, 32);
    assert_memory_equal(b.prk, want, 32);

    w = gt_writer(ack, sizeof(ack));
    gt_message_header(GT_MESSAGE_ACK, &w);
    gt_write_bytes(&w, id, 16);
    gt_write_bytes(&w, gy, 32);
    memset(gt_write_room(&w, 48), 0, 48);
    assert_int_equal(w.n, GT_ACK_HEADER + 48);
    assert_int_equal(gt_key_agreement_session(&a, gt_span(ack, w.n), &session), 0);
    unhex("7e41bf4aa6e422673bcfdd37e8f9538aed259516ff1ff73adb30af485d38633f", want);
    assert_memory_equal(session.session, want, 32);
    unhex("1f31db2e01ee78d24ce9c30811f2309f", want);
    assert_memory_equal(session.rid, want, 16);
}

/* --- messages that the device drops --------------------------------------------------------- */

static void assert_drops(struct pair *p, const char *topic, bool is_retained, const char *why)
{
    assert_int_equal(gt_responder_receive(p->device, p->now_ms, NOW, topic, is_retained,
                                          gt_span(p->message, p->n), &p->in),
                     0);
    assert_int_equal(p->in.verdict, GT_VERDICT_DROP);
    assert_string_equal(p->in.why, why);
    assert_int_equal(p->in.n_reply, 0);
}

/* A REQ of any holder of the key. */
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

static void test_responder_drops_other_messages(void **state)
{
    struct pair *p = *state;

    initiator(p);
    assert_drops(p, "gotthard/v1/d/Other/req", false, "wrong topic");
    assert_drops(p, RSP, false, "wrong topic");
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
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST); /* the dropped messages left no trace */
}

static void test_responder_drops_large_messages(void **state)
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

static void test_responder_drops_wrong_names(void **state)
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
    assert_drops(p, REQ, false, "the operator has the device's name");
    stpcpy(req.operator_, "a/b");
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "malformed");
}

static void test_responder_drops_low_order_points(void **state)
{
    struct pair *p = *state;
    struct gt_req req = good_req(p);

    memset(req.gx, 0, sizeof(req.gx));
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "low-order X25519 point");
    req.gx[0] = 1;
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "low-order X25519 point");
}

/* A new request by @name. */
static void request_by(struct pair *p, const char *name)
{
    struct gt_req req = good_req(p);

    strcpy(req.operator_, name);
    forge(p, p->of_device, &req);
}

/* Delivers new requests by @name until the rate limit. Returns the number of those before it. */
static int requests_until_limit(struct pair *p, const char *name)
{
    for (int n = 0;; n++) {
        assert_in_range(n, 0, GT_REQ_BURST);
        request_by(p, name);
        if (deliver(p) != GT_VERDICT_REQUEST)
            return n;
    }
}

/* Opens the NAK in p->in.reply. */
static struct gt_nak read_nak(struct pair *p)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_message_keys keys;
    struct gt_nak nak;
    size_t n;

    assert_int_equal(gt_key_messages(p->of_device, &keys), 0);
    assert_int_equal(gt_message_open(keys.nak, GT_MESSAGE_NAK, p->in.rsp_topic,
                                     gt_span(p->in.reply, p->in.n_reply), inner, &n),
                     0);
    assert_int_equal(gt_nak_decode(gt_span(inner, n), &nak), 0);
    return nak;
}

#define N_AT_ONCE (GT_REQ_BURST + 44)

/* More requests at once than permitted: each refused one gets a NAK with a time at which there is
 * room for it. */
static void test_refused_request_is_accepted_after_the_given_wait(void **state)
{
    struct pair *p = *state;
    uint64_t began_ms = p->now_ms;
    static uint8_t messages[N_AT_ONCE][GT_MESSAGE_MAX];
    size_t n[N_AT_ONCE];
    unsigned waits_s[N_AT_ONCE] = {0}, n_refused = 0;

    for (int i = 0; i < N_AT_ONCE; i++) {
        initiator(p);
        memcpy(messages[i], p->message, n[i] = p->n);
        if (deliver(p) == GT_VERDICT_REQUEST)
            continue;
        assert_int_equal(p->in.verdict, GT_VERDICT_REPLY);
        assert_string_equal(p->in.why, "rate limit of the operator");
        assert_false(p->in.is_denied);
        assert_int_equal(read_nak(p).code, GT_NAK_BUSY);
        assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
        assert_int_equal(p->answer.nak_code, GT_NAK_BUSY);
        waits_s[i] = read_nak(p).retry_after_s;
        assert_in_range(waits_s[i], 1, 1 + ++n_refused / GT_REQ_RATE_PER_S);
    }
    assert_int_equal(n_refused, N_AT_ONCE - GT_REQ_BURST);
    for (unsigned second = 1; second <= GT_BUSY_WAIT_MAX_S; second++) {
        p->now_ms = began_ms + second * 1000;
        for (int i = 0; i < N_AT_ONCE; i++) {
            if (waits_s[i] != second)
                continue;
            memcpy(p->message, messages[i], p->n = n[i]); /* the same bytes */
            assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
            n_refused--;
        }
    }
    assert_int_equal(n_refused, 0);
}

/* A holder of the key who floods the device gets fewer and fewer answers, and keeps no one else
 * from an answer within its own share. */
static void test_flood_of_requests_gets_few_answers(void **state)
{
    struct pair *p = *state;
    int n_answers = 0;

    assert_int_equal(requests_until_limit(p, "mallory"), GT_REQ_BURST);
    for (int i = 0; i < 2000; i++) {
        request_by(p, "mallory");
        n_answers += deliver(p) == GT_VERDICT_REPLY;
        if (p->in.verdict == GT_VERDICT_REPLY)
            assert_in_range(read_nak(p).retry_after_s, 1, GT_BUSY_WAIT_MAX_S);
    }
    assert_in_range(n_answers, 200, 300);
    assert_int_equal(requests_until_limit(p, "alice"), GT_REQ_BURST);
}

static void test_rate_limit_is_of_one_operator(void **state)
{
    struct pair *p = *state;

    assert_int_equal(requests_until_limit(p, "alice"), GT_REQ_BURST);
    assert_string_equal(p->in.why, "rate limit of the operator");
    p->now_ms += 199;
    assert_int_equal(requests_until_limit(p, "alice"), 0);
    p->now_ms += 1;
    assert_int_equal(requests_until_limit(p, "alice"), 1);
    assert_int_equal(requests_until_limit(p, "bob"), GT_REQ_BURST);
    p->now_ms += UINT64_C(1) << 40;
    assert_int_equal(requests_until_limit(p, "alice"), GT_REQ_BURST);
}

static void test_rate_limit_ignores_unauthenticated_messages(void **state)
{
    struct pair *p = *state;

    initiator(p);
    p->message[p->n - 1] ^= 1;
    for (int i = 0; i < 1000; i++)
        assert_drops(p, REQ, false, "not sealed with this device's key");
    assert_int_equal(requests_until_limit(p, "alice"), GT_REQ_BURST);
}

/* Replays are authentic, but not new: of this epoch, and of one that is over. */
static void test_rate_limit_ignores_replays(void **state)
{
    struct pair *p = *state;
    uint8_t right[GT_EPOCH_SIZE];

    memcpy(right, p->epoch, sizeof(right));
    memset(p->epoch, 0, sizeof(p->epoch));
    request_by(p, "alice");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(deliver(p), i == 0 ? GT_VERDICT_REPLY : GT_VERDICT_DROP);
        assert_int_equal(p->in.is_state_due, i == 0);
    }
    memcpy(p->epoch, right, sizeof(right));
    request_by(p, "alice");
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(deliver(p), i == 0 ? GT_VERDICT_REPLY : GT_VERDICT_DROP);
    assert_int_equal(requests_until_limit(p, "alice"), GT_REQ_BURST - 1);
}

/* A holder of the key who uses many names neither refills a bucket nor keeps others out. */
static void test_rate_limit_holds_with_many_names(void **state)
{
    struct pair *p = *state;
    char name[16];

    assert_int_equal(requests_until_limit(p, "mallory"), GT_REQ_BURST);
    for (int i = 0; i < 4 * GT_RATED_OPERATORS_MAX; i++) {
        snprintf(name, sizeof(name), "name%d", i);
        request_by(p, name);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        learn_epoch(p); /* the cache fills */
    }
    assert_int_equal(requests_until_limit(p, "mallory"), 0);
    assert_int_equal(requests_until_limit(p, "alice"), GT_REQ_BURST);
}

/* --- epochs and duplicates ------------------------------------------------------------------ */

static void test_stale_epoch_is_retried(void **state)
{
    struct pair *p = *state;
    uint8_t right[GT_EPOCH_SIZE];

    memcpy(right, p->epoch, sizeof(right));
    memset(p->epoch, 0, sizeof(p->epoch));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_NAK);
    assert_int_equal(answer(p), GT_INITIATOR_E_RETRY);
    assert_memory_equal(p->answer.epoch, right, sizeof(right));
    memcpy(p->epoch, p->answer.epoch, sizeof(right));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
}

static void test_stale_epoch_is_retried_once(void **state)
{
    struct pair *p = *state;

    memset(p->epoch, 0, sizeof(p->epoch));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_INITIATOR_E_RETRY);
    p->now_ms += 249;
    assert_drops(p, REQ, false, "stale epoch, and a NAK was sent a moment ago");
    p->now_ms += 1;
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
    assert_int_equal(p->answer.nak_code, GT_NAK_EPOCH);
}

static void test_duplicate_gets_the_stored_answer(void **state)
{
    struct pair *p = *state;
    uint8_t first[GT_MESSAGE_MAX];

    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    struct gt_incoming deciding = p->in; /* callers may copy the struct */
    assert_drops(p, REQ, false, "duplicate of a request that is being decided");
    p->in = deciding;
    grant(p);
    size_t n = p->in.n_reply;
    memcpy(first, p->in.reply, n);
    static const uint64_t waits_ms[] = {0, 250, 500, 1000, 2000, 4000, 4000};
    for (size_t i = 0; i < GT_ARRAY_SIZE(waits_ms); i++) {
        p->now_ms += waits_ms[i];
        assert_int_equal(deliver(p), GT_VERDICT_REPLY);
        assert_int_equal(p->in.n_reply, n);
        assert_memory_equal(p->in.reply, first, n);
        assert_string_equal(p->in.rsp_topic, RSP);
    }
    assert_int_equal(answer(p), 0);
    assert_memory_equal(&p->answer.keys, &p->keys, sizeof(p->keys));
}

/* The same id with other content is dropped. */
static void test_reused_id_is_dropped(void **state)
{
    struct pair *p = *state;
    struct gt_req req = good_req(p);

    forge(p, p->of_device, &req);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    stpcpy(req.operator_, "mallory");
    forge(p, p->of_device, &req);
    assert_drops(p, REQ, false, "request id reused by another message");
}

static void test_epoch_rotates_with_grace(void **state)
{
    struct pair *p = *state;
    uint8_t old[GT_EPOCH_SIZE];

    memcpy(old, p->epoch, sizeof(old));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_false(gt_responder_tick(p->device, STARTED + GT_EPOCH_LIFE_MS - 1));
    p->now_ms = STARTED + GT_EPOCH_LIFE_MS;
    assert_true(gt_responder_tick(p->device, p->now_ms));
    assert_false(gt_responder_tick(p->device, p->now_ms));
    learn_epoch(p);
    assert_memory_not_equal(p->epoch, old, sizeof(old));
    /* during the grace the old epoch is valid for duplicates and for new requests */
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
    /* afterwards a replay gets a NAK, with or without a tick */
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

/* A request that is decided while the epoch rotates is answered and stored. */
static void test_answer_after_rotation_is_stored(void **state)
{
    struct pair *p = *state;

    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    p->now_ms = STARTED + GT_EPOCH_LIFE_MS;
    assert_true(gt_responder_tick(p->device, p->now_ms));
    grant(p);
    assert_int_equal(answer(p), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(p->in.reply[4], GT_MESSAGE_ACK);
}

static void test_full_cache_rotates_the_epoch(void **state)
{
    struct pair *p = *state;
    uint8_t old[GT_EPOCH_SIZE];

    memcpy(old, p->epoch, sizeof(old));
    for (int i = 0; i < GT_REPLAY_CACHE_MAX; i++) {
        struct gt_req req = good_req(p);

        forge(p, p->of_device, &req);
        p->now_ms += 200;
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        assert_int_equal(p->in.is_state_due, i == GT_REPLAY_CACHE_MAX - 1);
        assert_int_equal(gt_responder_deny(p->device, &p->in, GT_ACK_QUOTA), 0);
    }
    learn_epoch(p);
    assert_memory_not_equal(p->epoch, old, sizeof(old));
    p->now_ms += 200;
    assert_int_equal(deliver(p), GT_VERDICT_REPLY); /* a duplicate of the last request */
    assert_int_equal(p->in.reply[4], GT_MESSAGE_ACK);
    assert_false(p->in.is_state_due);
}

/* --- keys in rotation ----------------------------------------------------------------------- */

static void test_previous_key_is_accepted_in_rotation(void **state)
{
    struct pair *p = *state;
    uint8_t new_key[32], buffer[GT_MESSAGE_MAX], unknown[32] = {7};
    struct gt_state received;
    struct gt_initiator_settings settings = operator_settings(&p->psk);

    dice_fill(new_key, sizeof(new_key));
    gt_responder_free(p->device);
    p->device = new_device(&p->psk, new_key, p->of_device, p->now_ms);

    /* an operator with the old key cannot read STATE; everything else works */
    size_t n;
    uint8_t presence[GT_MESSAGE_MAX];
    const char *topic = gt_responder_state_topic(p->device);
    assert_int_equal(gt_responder_state(p->device, &online, &fit, presence, &n), 0);
    assert_int_equal(gt_initiator_state(&p->alice, topic, gt_span(presence, n), &received, buffer),
                     GT_INITIATOR_E_IGNORE);
    memset(p->epoch, 0, sizeof(p->epoch));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_INITIATOR_E_RETRY);
    memcpy(p->epoch, p->answer.epoch, sizeof(p->epoch));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
    assert_memory_equal(&p->answer.keys, &p->keys, sizeof(p->keys));

    /* an operator with the new key also reads the STATE of devices with the old one */
    gt_initiator_deinit(&p->alice);
    assert_int_equal(gt_initiator_init(&p->alice, &settings, new_key, p->of_device), 0);
    learn_epoch(p);
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
    gt_responder_free(p->device);
    p->device = new_device(&p->psk, p->of_device, NULL, p->now_ms);
    learn_epoch(p);

    gt_initiator_deinit(&p->alice);
    assert_int_equal(gt_initiator_init(&p->alice, &settings, unknown, NULL), 0);
    initiator(p);
    assert_drops(p, REQ, false, "not sealed with this device's key");
}

/* --- messages that the operator ignores ----------------------------------------------------- */

static void test_initiator_ignores_modified_answers(void **state)
{
    struct pair *p = *state;

    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    size_t n = p->in.n_reply;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p->in.reply[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* X25519 ignores the highest bit of gy; th2 and the box do not */
        assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
        p->in.reply[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (p->in.n_reply = 0; p->in.n_reply < n; p->in.n_reply++)
        assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
    p->in.n_reply = n + 1;
    assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
    p->in.n_reply = n;
    p->in.rsp_topic[strlen(p->in.rsp_topic) - 1] = 'f';
    assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
    stpcpy(p->in.rsp_topic, RSP);
    assert_int_equal(answer(p), 0);
}

/* An answer to an earlier request. */
static void test_initiator_ignores_answer_to_earlier_request(void **state)
{
    struct pair *p = *state;

    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    initiator(p);
    assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
    assert_int_equal(gt_initiator_receive(&p->alice, RSP, gt_span("", 0), NOW, &p->answer),
                     GT_INITIATOR_E_IGNORE);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(answer(p), 0);
}

/* The operator's own REQ, reflected on either topic, is not an answer. */
static void test_initiator_ignores_its_own_request(void **state)
{
    struct pair *p = *state;

    initiator(p);
    assert_int_equal(
        gt_initiator_receive(&p->alice, RSP, gt_span(p->message, p->n), NOW, &p->answer),
        GT_INITIATOR_E_IGNORE);
    assert_int_equal(
        gt_initiator_receive(&p->alice, REQ, gt_span(p->message, p->n), NOW, &p->answer),
        GT_INITIATOR_E_IGNORE);
}

static void test_denial_carries_its_status(void **state)
{
    static const enum gt_ack_status statuses[] = {GT_ACK_DENIED, GT_ACK_SERVICE, GT_ACK_QUOTA,
                                                  GT_ACK_RELAY, GT_ACK_INTERNAL};
    struct pair *p = *state;

    for (size_t i = 0; i < GT_ARRAY_SIZE(statuses); i++) {
        initiator(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        assert_int_equal(gt_responder_deny(p->device, &p->in, statuses[i]), 0);
        assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
        assert_int_equal(p->answer.ack.status, statuses[i]);
        assert_int_equal(p->answer.nak_code, 0xffff);
    }
}

/* A device may shorten the lifetime that the operator requested, and not extend it. */
static void test_device_does_not_extend_the_lifetime(void **state)
{
    static const struct {
        uint32_t granted_s, used_s;
    } cases[] = {{60, 60}, {3600, 3600}, {3601, 3600}, {UINT32_MAX, 3600}, {0, 3600}};
    struct pair *p = *state;

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_ack ack = {.lifetime_s = cases[i].granted_s, .max_streams = 64};

        initiator(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        assert_int_equal(gt_responder_grant(p->device, &p->in, &ack, &p->keys), 0);
        assert_int_equal(answer(p), 0);
        assert_int_equal(p->answer.ack.lifetime_s, cases[i].used_s);
    }
}

/* Extensions that do not fit into a message are omitted; the session is granted. */
static void test_extensions_are_omitted_if_too_large(void **state)
{
    struct pair *p = *state;
    static const char blanks[1500] = {[0 ... 1499] = '-'};
    struct gt_ack ack = {.max_streams = 1, .extensions.n_host_keys = GT_HOST_KEYS_MAX};
    struct gt_state_form form = {.kind = GT_STATE_ONLINE, .extensions = &ack.extensions};

    for (size_t i = 0; i < GT_HOST_KEYS_MAX; i++)
        ack.extensions.host_keys[i] = gt_span(blanks, sizeof(blanks));
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_int_equal(gt_responder_grant(p->device, &p->in, &ack, &p->keys), 0);
    assert_int_equal(answer(p), 0);
    assert_int_equal(p->answer.ack.extensions.n_host_keys, 0);
    assert_int_equal(p->answer.ack.max_streams, 1);
    size_t n;
    assert_int_equal(gt_responder_state(p->device, &form, &fit, p->message, &n), 0);
    assert_int_equal(fit.omitted, GT_OMITTED_HOST_KEYS);
    ack.extensions.n_host_keys = 5;
    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_int_equal(gt_responder_grant(p->device, &p->in, &ack, &p->keys), 0);
    assert_int_equal(answer(p), 0);
    assert_int_equal(p->answer.ack.extensions.n_host_keys, 5);
}

/* A broker that accepts less and less: the answer and STATE lose the host keys, then the services,
 * and no message is larger than the limit. At last the answer is a NAK with its size. */
static void test_messages_fit_the_limit_of_the_broker(void **state)
{
    struct pair *p = *state;
    static const char key[300] = {[0 ... 299] = 'k'};
    struct gt_ack ack = {.max_streams = 1};
    struct gt_state_form form = {.kind = GT_STATE_ONLINE, .extensions = &ack.extensions};
    enum gt_omitted before = GT_OMITTED_NONE;
    size_t n, n_full = 0;
    int r = 0;

    ack.extensions.host_keys[ack.extensions.n_host_keys++] = gt_span(key, sizeof(key));
    for (int i = 0; i < 20; i++)
        ack.extensions.services[ack.extensions.n_services++] = gt_span_text("a-service");
    for (size_t max = 1000; r == 0; max -= 10) {
        p->now_ms += 200;
        gt_responder_set_message_max(p->device, max);
        learn_epoch(p);
        initiator(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        r = gt_responder_grant(p->device, &p->in, &ack, &p->keys);
        assert_in_range(p->in.fit.omitted, before, GT_OMITTED_SERVICES);
        before = p->in.fit.omitted;
        if (max == 1000)
            n_full = p->in.n_reply;
        assert_int_equal(p->in.fit.n, n_full);
        assert_int_equal(p->in.fit.max, max - strlen(RSP));
        assert_in_range(p->in.n_reply, 1, max - strlen(RSP));
        assert_int_equal(answer(p), r == 0 ? 0 : GT_INITIATOR_E_REFUSED);
        assert_int_equal(gt_responder_state(p->device, &form, &fit, p->message, &n), 0);
        assert_in_range(n, 1, fit.max);
    }
    assert_int_equal(r, GT_RESPONDER_E_SIZE);
    assert_int_equal(before, GT_OMITTED_SERVICES);
    assert_int_equal(p->answer.nak_code, GT_NAK_SIZE);
    assert_int_equal(read_nak(p).retry_after_s, n_full);
    gt_responder_set_message_max(p->device, 100);
    assert_int_equal(gt_responder_state(p->device, &form, &fit, p->message, &n), GT_MESSAGE_E_BAD);
    initiator(p);
    p->now_ms += 200;
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    assert_int_equal(gt_responder_deny(p->device, &p->in, GT_ACK_QUOTA), 0); /* a NAK as well */
    assert_int_equal(read_nak(p).code, GT_NAK_SIZE);
    gt_responder_set_message_max(p->device, 0);
}

/* The same bytes after a failure of the device itself are a new request, and after an answer not.
 */
static void test_forgotten_request_is_decided_again(void **state)
{
    struct pair *p = *state;

    initiator(p);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    gt_responder_forget(p->device, &p->in);
    assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
    grant(p);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), 0);
    assert_memory_equal(&p->answer.keys, &p->keys, sizeof(p->keys));
}

static uint64_t seq_of(struct pair *p, enum gt_state_kind kind, uint32_t connection)
{
    struct gt_state_form form = {.kind = kind, .connection = connection};
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state received;

    assert_int_equal(gt_responder_state(p->device, &form, &fit, p->message, &p->n), 0);
    assert_int_equal(gt_initiator_state(&p->alice, gt_responder_state_topic(p->device),
                                        gt_span(p->message, p->n), &received, buffer),
                     0);
    assert_int_equal(received.is_online, kind == GT_STATE_ONLINE);
    return received.seq;
}

/* A will that the broker publishes at the end of its connection is newer than the states of this
 * connection, and older than those of the next one, whenever it comes. */
static void test_will_is_between_two_connections(void **state)
{
    struct pair *p = *state;
    uint64_t before = 0;

    for (uint32_t connection = 1; connection < 5; connection++) {
        uint64_t will = seq_of(p, GT_STATE_WILL, connection); /* sealed first: it is in CONNECT */

        for (int i = 0; i < 3; i++) {
            uint64_t seq = seq_of(p, i < 2 ? GT_STATE_ONLINE : GT_STATE_OFFLINE, connection);

            assert_true(before < seq && seq < will);
            before = seq;
        }
        /* a replacement tries to connect, without success, and the old one continues */
        assert_true(seq_of(p, GT_STATE_WILL, connection + 1) > will);
        assert_true(seq_of(p, GT_STATE_ONLINE, connection) < will);
        before = will;
    }
}

static void test_state_is_authentic(void **state)
{
    struct pair *p = *state;
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state received;
    struct gt_extensions extensions = {
        .version = gt_span_text("0.1"), .n_sessions = 3, .since = NOW};
    const char *topic = gt_responder_state_topic(p->device);

    for (int i = 0; i < 2; i++) {
        struct gt_state_form form = {i ? GT_STATE_ONLINE : GT_STATE_OFFLINE, 1, &extensions};
        assert_int_equal(gt_responder_state(p->device, &form, &fit, p->message, &p->n), 0);
        struct gt_span message = gt_span(p->message, p->n);
        assert_int_equal(gt_initiator_state(&p->alice, topic, message, &received, buffer), 0);
        assert_int_equal(received.is_online, i);
        assert_int_equal(received.seq,
                         (UINT64_C(1) << 32) + 2 + (unsigned)i); /* setup() made the first */
        assert_int_equal(received.extensions.n_sessions, 3);
        assert_int_equal(received.extensions.since, NOW);
        assert_int_equal(gt_initiator_state(&p->alice, REQ, message, &received, buffer),
                         GT_INITIATOR_E_IGNORE);
        p->message[p->n - 1] ^= 1;
        assert_int_equal(gt_initiator_state(&p->alice, topic, message, &received, buffer),
                         GT_INITIATOR_E_IGNORE);
    }
}

static void test_init_rejects_bad_names(void **state)
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
        struct gt_initiator_settings settings = operator_settings(&p->psk);
        struct gt_initiator other;

        settings.prefix = cases[i].prefix;
        settings.operator_ = cases[i].operator_;
        settings.device = cases[i].device;
        assert_int_equal(gt_initiator_init(&other, &settings, p->of_device, NULL),
                         GT_MESSAGE_E_BAD);
    }
    struct gt_responder_settings settings = {.prefix = PREFIX, .device = "a/b", .trust = &p->psk};
    struct gt_responder *none = NULL;
    assert_int_equal(gt_responder_new(&settings, p->of_device, NULL, 0, &none), GT_MESSAGE_E_BAD);
    assert_null(none);
}

/* --- CLOSE ---------------------------------------------------------------------------------- */

static const struct gt_close close_all = {.scope = GT_CLOSE_ALL};

static void test_close_is_answered_once(void **state)
{
    struct pair *p = *state;
    struct gt_close close = {.purpose = "maintenance"};

    dice_fill(close.rid, sizeof(close.rid));
    dice_fill(close.request, sizeof(close.request));
    for (enum gt_close_scope scope = GT_CLOSE_RID; scope <= GT_CLOSE_ALL; scope++) {
        close.scope = scope;
        assert_int_equal(gt_initiator_close(&p->alice, p->epoch, &close, p->message, &p->n), 0);
        assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
        assert_int_equal(p->in.close.scope, scope);
        assert_string_equal(p->in.close.purpose, "maintenance");
        if (scope == GT_CLOSE_RID)
            assert_memory_equal(p->in.close.rid, close.rid, sizeof(close.rid));
        if (scope == GT_CLOSE_REQUEST)
            assert_memory_equal(p->in.close.request, close.request, sizeof(close.request));
        assert_string_equal(p->in.close.operator_, "alice");
        assert_null(p->in.pin);
        assert_int_equal(gt_responder_closed(p->device, &p->in, GT_NAK_CLOSED, 3), 0);
        assert_int_equal(deliver(p), GT_VERDICT_REPLY); /* a duplicate is not executed again */
        assert_int_equal(answer(p), 0);
        assert_int_equal(p->answer.n_closed, 3);
        assert_int_equal(p->answer.nak_code, GT_NAK_CLOSED);
        assert_int_equal(answer(p), GT_INITIATOR_E_IGNORE);
    }
    assert_int_equal(gt_initiator_close(&p->alice, p->epoch, &close, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
    assert_int_equal(gt_responder_closed(p->device, &p->in, GT_NAK_DENIED, 0), 0);
    assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
    assert_int_equal(p->answer.nak_code, GT_NAK_DENIED);
}

static void test_close_with_stale_epoch_is_retried(void **state)
{
    struct pair *p = *state;

    memset(p->epoch, 0, sizeof(p->epoch));
    assert_int_equal(gt_initiator_close(&p->alice, p->epoch, &close_all, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_int_equal(answer(p), GT_INITIATOR_E_RETRY);
    assert_int_equal(gt_initiator_close(&p->alice, p->answer.epoch, &close_all, p->message, &p->n),
                     0);
    assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
}

/* --- pins ----------------------------------------------------------------------------------- */

static struct identity alice_id, device_id, other_id;

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

/* Sends a request by alice, signed by @signer. Returns the device's verdict. */
static enum gt_verdict initiator_signed(struct pair *p, const struct gt_signer *signer)
{
    p->alice.settings.signer = signer;
    initiator(p);
    return deliver(p);
}

static void test_device_policy_pin(void **state)
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
            assert_int_equal(initiator_signed(p, alice_id.signer), GT_VERDICT_REQUEST);
            assert_non_null(p->in.pin);
            assert_string_equal(p->in.pin->name, "alice");
            assert_int_equal(gt_pin_is_admin(p->in.pin), i == 1);
            grant(p);
            assert_int_equal(answer(p), 0);
        } else {
            assert_int_equal(initiator_signed(p, alice_id.signer), GT_VERDICT_REPLY);
            assert_true(p->in.is_denied);
            assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
            assert_int_equal(p->answer.ack.status, GT_ACK_DENIED);
        }
        /* another holder of the fleet key, and one without a certificate */
        assert_int_equal(initiator_signed(p, other_id.signer), GT_VERDICT_REPLY);
        assert_true(p->in.is_denied);
        assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
        assert_int_equal(initiator_signed(p, NULL), GT_VERDICT_REPLY);
        assert_true(p->in.is_denied);
        assert_int_equal(p->in.req.operator_[0], 'a');
        assert_int_equal(deliver(p), GT_VERDICT_REPLY); /* the denial is stored as well */
        assert_string_equal(p->in.why, "duplicate");
        gt_responder_set_trust(p->device, NULL, &p->psk);
        gt_trust_deinit(&pins);
    }
}

static void test_operator_policy_pin(void **state)
{
    struct pair *p = *state;

    static const struct {
        const char *pins;
        bool is_trusted;
    } cases[] = {
        {"GatewayOli FP role=device", true},
        {"GatewayOli", false}, /* the role operator */
        {"Other FP role=device", false},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_trust pins;

        set_pins(&pins, cases[i].pins, &device_id);
        p->alice.settings.trust = &pins;
        gt_responder_set_trust(p->device, device_id.signer, &p->psk);
        initiator(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        grant(p);
        assert_int_equal(answer(p), cases[i].is_trusted ? 0 : GT_INITIATOR_E_UNTRUSTED);
        /* another holder of the fleet key answers first: the request stays outstanding */
        initiator(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        gt_responder_set_trust(p->device, other_id.signer, &p->psk);
        grant(p);
        assert_int_equal(answer(p), GT_INITIATOR_E_UNTRUSTED);
        gt_responder_set_trust(p->device, NULL, &p->psk);
        initiator(p);
        assert_int_equal(deliver(p), GT_VERDICT_REQUEST);
        grant(p);
        assert_int_equal(answer(p), GT_INITIATOR_E_UNTRUSTED);
        gt_trust_deinit(&pins);
    }
}

/* A clock that shows an earlier time than that of the pin file does not extend a pin. */
static void test_pin_expires_by_the_time_of_its_file(void **state)
{
    struct pair *p = *state;
    struct gt_trust pins;

    set_pins(&pins, "alice FP until=2023-11-14", &alice_id);
    gt_responder_set_trust(p->device, NULL, &pins);
    pins.pins_time = NOW;
    assert_int_equal(initiator_signed(p, alice_id.signer), GT_VERDICT_REQUEST);
    pins.pins_time = NOW + 24 * 3600;
    assert_int_equal(initiator_signed(p, alice_id.signer), GT_VERDICT_REPLY);
    assert_true(p->in.is_denied);
    gt_responder_set_trust(p->device, NULL, &p->psk);
    gt_trust_deinit(&pins);
}

/* Holders of the key without a pin share one bucket, whatever names they use. */
static void test_rate_limit_of_untrusted_senders(void **state)
{
    struct pair *p = *state;
    struct gt_trust pins;
    int n = 0;

    set_pins(&pins, "alice", &alice_id);
    gt_responder_set_trust(p->device, NULL, &pins);
    for (int i = 0; i < 10 * GT_REQ_BURST; i++) {
        request_by(p, i % 2 ? "alice" : "bob");
        n += deliver(p) == GT_VERDICT_REPLY;
    }
    assert_int_equal(n, GT_REQ_BURST);
    assert_string_equal(p->in.why, "rate limit of untrusted senders");
    assert_int_equal(initiator_signed(p, alice_id.signer), GT_VERDICT_REQUEST);
    gt_responder_set_trust(p->device, NULL, &p->psk);
    gt_trust_deinit(&pins);
}

static void test_close_under_policy_pin(void **state)
{
    struct pair *p = *state;
    struct gt_trust pins;

    set_pins(&pins, "alice FP role=admin", &alice_id);
    gt_responder_set_trust(p->device, device_id.signer, &pins);
    p->alice.settings.signer = alice_id.signer;
    assert_int_equal(gt_initiator_close(&p->alice, p->epoch, &close_all, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_CLOSE);
    assert_true(gt_pin_is_admin(p->in.pin));
    p->alice.settings.signer = other_id.signer;
    assert_int_equal(gt_initiator_close(&p->alice, p->epoch, &close_all, p->message, &p->n), 0);
    assert_int_equal(deliver(p), GT_VERDICT_REPLY);
    assert_true(p->in.is_denied);
    assert_int_equal(answer(p), GT_INITIATOR_E_REFUSED);
    assert_int_equal(p->answer.nak_code, GT_NAK_DENIED);
    gt_responder_set_trust(p->device, NULL, &p->psk);
    gt_trust_deinit(&pins);
}

/* Under psk a signature is optional, but must be valid if present. */
static void test_psk_rejects_bad_signature(void **state)
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
    identity_init(&other_id, "ED25519", "alice");
    return !alice_id.signer || !device_id.signer || !other_id.signer;
}

static int teardown_identities(void **state)
{
    identity_deinit(&alice_id);
    identity_deinit(&device_id);
    identity_deinit(&other_id);
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_query_is_answered_without_a_session),
        TEST(test_request_and_answer_agree_on_keys),
        TEST(test_known_answers),
        TEST(test_responder_drops_other_messages),
        TEST(test_responder_drops_large_messages),
        TEST(test_responder_drops_wrong_names),
        TEST(test_responder_drops_low_order_points),
        TEST(test_rate_limit_is_of_one_operator),
        TEST(test_flood_of_requests_gets_few_answers),
        TEST(test_refused_request_is_accepted_after_the_given_wait),
        TEST(test_rate_limit_ignores_unauthenticated_messages),
        TEST(test_rate_limit_ignores_replays),
        TEST(test_rate_limit_holds_with_many_names),
        TEST(test_rate_limit_of_untrusted_senders),
        TEST(test_stale_epoch_is_retried),
        TEST(test_stale_epoch_is_retried_once),
        TEST(test_duplicate_gets_the_stored_answer),
        TEST(test_forgotten_request_is_decided_again),
        TEST(test_reused_id_is_dropped),
        TEST(test_epoch_rotates_with_grace),
        TEST(test_answer_after_rotation_is_stored),
        TEST(test_full_cache_rotates_the_epoch),
        TEST(test_previous_key_is_accepted_in_rotation),
        TEST(test_initiator_ignores_modified_answers),
        TEST(test_initiator_ignores_answer_to_earlier_request),
        TEST(test_initiator_ignores_its_own_request),
        TEST(test_denial_carries_its_status),
        TEST(test_device_does_not_extend_the_lifetime),
        TEST(test_extensions_are_omitted_if_too_large),
        TEST(test_messages_fit_the_limit_of_the_broker),
        TEST(test_state_is_authentic),
        TEST(test_will_is_between_two_connections),
        TEST(test_init_rejects_bad_names),
        TEST(test_close_is_answered_once),
        TEST(test_close_with_stale_epoch_is_retried),
        TEST(test_device_policy_pin),
        TEST(test_operator_policy_pin),
        TEST(test_pin_expires_by_the_time_of_its_file),
        TEST(test_close_under_policy_pin),
        TEST(test_psk_rejects_bad_signature),
    };
    dice_init();
    return cmocka_run_group_tests(tests, setup_identities, teardown_identities);
}
