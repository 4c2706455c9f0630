/* SPDX-License-Identifier: ISC */
/*
 * GTM1: encoding and decoding are inverse. Truncations, flipped bits, wrong lengths, and names that
 * could escape from a topic or affect a terminal are rejected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/signaling/message.h"
#include "gotthard/signaling/topic.h"
#include "vectors.h"

#define TOPIC "gotthard/v1/d/GatewayOli/req"

static struct gt_req sample_req(void)
{
    struct gt_req req = {.operator_ = "alice",
                         .device = "GatewayOli",
                         .service = "ssh",
                         .lifetime_s = 3600,
                         .relay = "main"};

    dice_fill(req.epoch, sizeof(req.epoch));
    dice_fill(req.id, sizeof(req.id));
    dice_fill(req.gx, sizeof(req.gx));
    return req;
}

static struct gt_extensions sample_extensions(void)
{
    return (struct gt_extensions){
        .version = gt_span_text("1.2.3"),
        .services = {gt_span_text("ssh"), gt_span_text("web")},
        .n_services = 2,
        .host_keys = {gt_span_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI")},
        .n_host_keys = 1,
        .n_sessions = 7,
        .since = 1700000000,
        .limit = gt_span_text("limits.sessions (3)"),
        .tags = {gt_span_text("site=zurich"), gt_span_text("role=gateway")},
        .n_tags = 2,
        .status = gt_span("\0\1\2", 3),
        .session_version = 3,
    };
}

static const struct gt_proof sample_proof = {
    {(const uint8_t *)"certificate", 11}, 0x0403, {(const uint8_t *)"signature", 9}};

/* The five inner forms, for tests that iterate over all of them. */
enum form { FORM_STATE, FORM_REQ, FORM_ACK, FORM_NAK, FORM_CLOSE, N_FORMS };

static const enum gt_message_type form_types[N_FORMS] = {
    [FORM_STATE] = GT_MESSAGE_STATE, [FORM_REQ] = GT_MESSAGE_REQ,     [FORM_ACK] = GT_MESSAGE_ACK,
    [FORM_NAK] = GT_MESSAGE_NAK,     [FORM_CLOSE] = GT_MESSAGE_CLOSE,
};

static size_t form_encode(enum form form, uint8_t *ret, size_t cap)
{
    struct gt_writer w = gt_writer(ret, cap);
    struct gt_state state = {.is_online = true, .seq = 42, .extensions = sample_extensions()};
    struct gt_req req = sample_req();
    struct gt_ack ack = {.status = 0,
                         .lifetime_s = 60,
                         .max_streams = 64,
                         .window = 1 << 20,
                         .device = "GatewayOli",
                         .operator_ = "alice",
                         .extensions = sample_extensions()};
    struct gt_nak nak = {.code = GT_NAK_EPOCH, .retry_after_s = 3};
    struct gt_close close = {.operator_ = "alice", .device = "GatewayOli"};

    switch (form) {
    case FORM_STATE: gt_state_encode(&state, &w); break;
    case FORM_REQ: gt_req_encode(&req, &w); break;
    case FORM_ACK: gt_ack_encode(&ack, &w); break;
    case FORM_NAK: gt_nak_encode(&nak, &w); break;
    case FORM_CLOSE: gt_close_encode(&close, &w); break;
    case N_FORMS: break;
    }
    if (form == FORM_REQ || form == FORM_ACK || form == FORM_CLOSE)
        gt_proof_encode(&sample_proof, &w);
    assert_false(w.failed);
    return w.n;
}

static int form_decode(enum form form, const uint8_t *inner, size_t n)
{
    struct gt_span span = gt_span(inner, n), part;
    struct gt_state state;
    struct gt_req req;
    struct gt_ack ack;
    struct gt_nak nak;
    struct gt_close close;
    struct gt_proof proof;

    switch (form) {
    case FORM_STATE: return gt_state_decode(span, &state);
    case FORM_REQ: return gt_req_decode(span, &req, &part, &proof);
    case FORM_ACK: return gt_ack_decode(span, &ack, &part, &proof);
    case FORM_NAK: return gt_nak_decode(span, &nak);
    case FORM_CLOSE: return gt_close_decode(span, &close, &part, &proof);
    case N_FORMS: break;
    }
    return -EINVAL;
}

static void test_req_round_trip(void **state)
{
    uint8_t inner[1024];
    struct gt_req req = sample_req(), got;
    struct gt_proof proof;
    struct gt_span body;
    struct gt_writer w = gt_writer(inner, sizeof(inner));

    gt_req_encode(&req, &w);
    size_t n_body = w.n;
    gt_proof_encode(&sample_proof, &w);
    assert_int_equal(gt_req_decode(gt_span(inner, w.n), &got, &body, &proof), 0);
    assert_memory_equal(&got, &req, sizeof(req));
    assert_ptr_equal(body.data, inner);
    assert_int_equal(body.n, n_body);
    assert_true(gt_span_equals(proof.certificate, sample_proof.certificate));
    assert_int_equal(proof.sigalg, 0x0403);
    assert_true(gt_span_equals(proof.signature, sample_proof.signature));
}

static void assert_close_round_trip(const struct gt_close *close)
{
    uint8_t inner[1024];
    struct gt_close got;
    struct gt_proof proof;
    struct gt_span body;
    struct gt_writer w = gt_writer(inner, sizeof(inner));

    gt_close_encode(close, &w);
    size_t n_body = w.n;
    gt_proof_encode(&sample_proof, &w);
    assert_int_equal(gt_close_decode(gt_span(inner, w.n), &got, &body, &proof), 0);
    assert_string_equal(got.operator_, close->operator_);
    assert_string_equal(got.device, close->device);
    assert_memory_equal(got.epoch, close->epoch, sizeof(got.epoch));
    assert_memory_equal(got.id, close->id, sizeof(got.id));
    assert_int_equal(got.scope, close->scope);
    assert_memory_equal(got.rid, close->rid, sizeof(got.rid));
    assert_memory_equal(got.request, close->request, sizeof(got.request));
    assert_string_equal(got.purpose, close->purpose);
    assert_int_equal(body.n, n_body);
    /* version 1 is what earlier devices know: a rid or all, without a purpose */
    bool is_plain = close->scope == GT_CLOSE_RID || close->scope == GT_CLOSE_ALL;
    assert_int_equal(inner[1], is_plain && !close->purpose[0] ? 1 : 2);
    inner[1] = (uint8_t)(3 - inner[1]);
    assert_int_equal(gt_close_decode(gt_span(inner, w.n), &got, &body, &proof), GT_MESSAGE_E_BAD);
}

static void test_close_round_trip(void **state)
{
    for (enum gt_close_scope scope = GT_CLOSE_RID; scope <= GT_CLOSE_ALL; scope++) {
        struct gt_close close = {.operator_ = "alice", .device = "GatewayOli", .scope = scope};

        if (scope == GT_CLOSE_RID)
            dice_fill(close.rid, sizeof(close.rid));
        if (scope == GT_CLOSE_REQUEST)
            dice_fill(close.request, sizeof(close.request));
        dice_fill(close.id, sizeof(close.id));
        assert_close_round_trip(&close);
        memset(close.purpose, 'x', GT_PURPOSE_MAX);
        assert_close_round_trip(&close);
    }
}

/* Encodes @req, and returns the result of decoding it with the two bytes of its flags changed. */
static int decode_with_flags(const struct gt_req *req, uint8_t flags)
{
    uint8_t inner[1024];
    struct gt_req got;
    struct gt_proof proof;
    struct gt_span body;
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    size_t n_purpose = req->purpose[0] ? 2 + strlen(req->purpose) : 0;

    gt_req_encode(req, &w);
    size_t at = w.n - n_purpose - (2 + strlen(req->relay)) - 4 - 2;
    assert_int_equal(inner[at + 1], req->purpose[0] ? 1 : 0);
    inner[at + 1] = flags;
    gt_proof_encode(&sample_proof, &w);
    return gt_req_decode(gt_span(inner, w.n), &got, &body, &proof);
}

static void test_req_flags_are_strict(void **state)
{
    struct gt_req req = sample_req();

    req.purpose[0] = 0;
    assert_int_equal(decode_with_flags(&req, 0), 0);
    for (uint8_t flags = 1; flags; flags = (uint8_t)(flags << 1))
        assert_int_equal(decode_with_flags(&req, flags), flags == 2 ? 0 : GT_MESSAGE_E_BAD);
    strcpy(req.purpose, "disk full");
    assert_int_equal(decode_with_flags(&req, 1), 0);
    assert_int_equal(decode_with_flags(&req, 0), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with_flags(&req, 2), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with_flags(&req, 3), 0);
    assert_int_equal(decode_with_flags(&req, 7), GT_MESSAGE_E_BAD);
}

/* It reaches logs and terminals. */
static void test_purpose_is_printable(void **state)
{
    uint8_t inner[1024];
    struct gt_req req = sample_req(), got;
    struct gt_proof proof;
    struct gt_span body;
    struct gt_writer w = gt_writer(inner, sizeof(inner));

    strcpy(req.purpose, "a\033[31m\xc3\xa4");
    gt_req_encode(&req, &w);
    inner[w.n - 1] = '\n';
    size_t n_body = w.n;
    gt_proof_encode(&sample_proof, &w);
    assert_int_equal(gt_req_decode(gt_span(inner, w.n), &got, &body, &proof), GT_MESSAGE_E_BAD);
    inner[n_body - 1] = '?';
    assert_int_equal(gt_req_decode(gt_span(inner, w.n), &got, &body, &proof), 0);
    assert_string_equal(got.purpose, "a?[31m??");
}

static void assert_extensions(const struct gt_extensions *got)
{
    struct gt_extensions want = sample_extensions();

    assert_true(gt_span_equals(got->version, want.version));
    assert_int_equal(got->n_services, 2);
    assert_true(gt_span_equals(got->services[1], want.services[1]));
    assert_int_equal(got->n_host_keys, 1);
    assert_true(gt_span_equals(got->host_keys[0], want.host_keys[0]));
    assert_int_equal(got->n_sessions, 7);
    assert_int_equal(got->session_version, 3);
    assert_int_equal(got->since, 1700000000);
    assert_int_equal(got->n_tags, 2);
    assert_true(gt_span_equals(got->tags[1], want.tags[1]));
    assert_true(gt_span_equals(got->status, want.status));
    assert_true(gt_span_equals(got->limit, gt_span_text("limits.sessions (3)")));
}

static void test_state_and_ack_round_trip(void **state)
{
    uint8_t inner[1024];
    struct gt_state decoded;
    struct gt_ack ack;
    struct gt_proof proof;
    struct gt_span part;
    size_t n = form_encode(FORM_STATE, inner, sizeof(inner));

    assert_int_equal(gt_state_decode(gt_span(inner, n), &decoded), 0);
    assert_true(decoded.is_online);
    assert_int_equal(decoded.seq, 42);
    assert_extensions(&decoded.extensions);
    n = form_encode(FORM_ACK, inner, sizeof(inner));
    assert_int_equal(gt_ack_decode(gt_span(inner, n), &ack, &part, &proof), 0);
    assert_int_equal(ack.lifetime_s, 60);
    assert_int_equal(ack.max_streams, 64);
    assert_int_equal(ack.window, 1 << 20);
    assert_string_equal(ack.device, "GatewayOli");
    assert_string_equal(ack.operator_, "alice");
    assert_extensions(&ack.extensions);
    /* signed: all but sigalg and signature */
    assert_int_equal(part.n, n - 2 - 2 - sample_proof.signature.n);
}

static void test_state_without_extensions(void **state)
{
    uint8_t inner[256];
    struct gt_state empty = {0}, got;
    struct gt_writer w = gt_writer(inner, sizeof(inner));

    gt_state_encode(&empty, &w);
    assert_int_equal(w.n, 2 + 1 + 16 + 8 + 1);
    assert_int_equal(gt_state_decode(gt_span(inner, w.n), &got), 0);
    assert_memory_equal(&got, &empty, sizeof(got));
}

/* Neither a shorter nor a longer form is valid, inner or outer. */
static void test_decode_rejects_other_lengths(void **state)
{
    uint8_t inner[2048] = {0}, sealed[GT_MESSAGE_MAX], out[GT_MESSAGE_MAX], key[32] = {1};

    for (enum form form = 0; form < N_FORMS; form++) {
        size_t n = form_encode(form, inner, sizeof(inner)), n_sealed, n_out;

        assert_int_equal(form_decode(form, inner, n), 0);
        for (size_t cut = 0; cut < n; cut++)
            assert_int_equal(form_decode(form, inner, cut), GT_MESSAGE_E_BAD);
        for (size_t more = 1; more < 20; more++)
            assert_int_equal(form_decode(form, inner, n + more), GT_MESSAGE_E_BAD);
        assert_int_equal(
            gt_message_seal(key, form_types[form], TOPIC, gt_span(inner, n), sealed, &n_sealed), 0);
        for (size_t cut = 0; cut < n_sealed; cut++)
            assert_int_equal(
                gt_message_open(key, form_types[form], TOPIC, gt_span(sealed, cut), out, &n_out),
                GT_MESSAGE_E_BAD);
    }
}

static void test_open_rejects_each_flipped_bit(void **state)
{
    uint8_t inner[2048], sealed[GT_MESSAGE_MAX], out[GT_MESSAGE_MAX], key[32] = {1};

    for (enum form form = 0; form < N_FORMS; form++) {
        size_t n = form_encode(form, inner, sizeof(inner)), n_sealed, n_out;

        assert_int_equal(
            gt_message_seal(key, form_types[form], TOPIC, gt_span(inner, n), sealed, &n_sealed), 0);
        struct gt_span whole = gt_span(sealed, n_sealed);
        for (size_t bit = 0; bit < 8 * n_sealed; bit++) {
            sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(gt_message_open(key, form_types[form], TOPIC, whole, out, &n_out),
                             GT_MESSAGE_E_BAD);
            sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(gt_message_open(key, form_types[form], TOPIC, whole, out, &n_out), 0);
        assert_int_equal(n_out, n);
        assert_memory_equal(out, inner, n);
    }
}

/* A message opens only with the topic, type and key that sealed it. */
static void test_open_requires_topic_type_and_key(void **state)
{
    uint8_t sealed[GT_MESSAGE_MAX], out[GT_MESSAGE_MAX], key[32] = {1}, other[32] = {2};
    size_t n, n_out;

    assert_int_equal(gt_message_seal(key, GT_MESSAGE_REQ, TOPIC, gt_span("inner", 5), sealed, &n),
                     0);
    struct gt_span whole = gt_span(sealed, n);
    assert_int_equal(gt_message_open(other, GT_MESSAGE_REQ, TOPIC, whole, out, &n_out),
                     GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_open(key, GT_MESSAGE_REQ, TOPIC "x", whole, out, &n_out),
                     GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_open(key, GT_MESSAGE_REQ, "", whole, out, &n_out),
                     GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_open(key, GT_MESSAGE_CLOSE, TOPIC, whole, out, &n_out),
                     GT_MESSAGE_E_BAD);
    sealed[4] = GT_MESSAGE_CLOSE;
    assert_int_equal(gt_message_open(key, GT_MESSAGE_CLOSE, TOPIC, whole, out, &n_out),
                     GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_open(key, GT_MESSAGE_REQ, TOPIC, whole, out, &n_out),
                     GT_MESSAGE_E_BAD);
}

static void test_message_size_limits(void **state)
{
    static uint8_t inner[GT_MESSAGE_MAX + 1];
    uint8_t sealed[GT_MESSAGE_MAX + 1], out[GT_MESSAGE_MAX], key[32] = {1};
    size_t most = GT_MESSAGE_MAX - GT_MESSAGE_HEADER - GT_SEAL_OVERHEAD, n = 0, n_out;
    enum gt_message_type type;
    char topic[GT_TOPIC_MAX + 2];

    assert_int_equal(gt_message_seal(key, GT_MESSAGE_REQ, TOPIC, gt_span(inner, most), sealed, &n),
                     0);
    assert_int_equal(n, GT_MESSAGE_MAX);
    assert_int_equal(gt_message_open(key, GT_MESSAGE_REQ, TOPIC, gt_span(sealed, n), out, &n_out),
                     0);
    assert_int_equal(
        gt_message_open(key, GT_MESSAGE_REQ, TOPIC, gt_span(sealed, n + 1), out, &n_out),
        GT_MESSAGE_E_BAD);
    assert_int_equal(
        gt_message_seal(key, GT_MESSAGE_REQ, TOPIC, gt_span(inner, most + 1), sealed, &n),
        GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_peek(gt_span(sealed, 8192), &type), 0);
    assert_int_equal(gt_message_peek(gt_span(sealed, 8193), &type), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_peek(gt_span("GTM1\5", 5), &type), 0);
    assert_int_equal(type, GT_MESSAGE_REPORT);
    assert_int_equal(gt_message_peek(gt_span("GTM1\6", 5), &type), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_peek(gt_span("GTM1\377", 5), &type), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_peek(gt_span("GTM2\1", 5), &type), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_peek(gt_span("GTM1", 4), &type), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_message_peek(gt_span("", 0), &type), GT_MESSAGE_E_BAD);
    memset(topic, 'a', sizeof(topic));
    topic[GT_TOPIC_MAX + 1] = 0;
    assert_int_equal(gt_message_seal(key, GT_MESSAGE_REQ, topic, gt_span("", 0), sealed, &n),
                     GT_MESSAGE_E_BAD);
}

/* Replaces each pair of bytes, including every length, by other values. */
static void test_decode_survives_wrong_lengths(void **state)
{
    static const uint16_t values[] = {0, 1, 128, 129, 4097, 8192, 0x7fff, 0xffff};
    uint8_t inner[2048], original[2];

    for (enum form form = 0; form < N_FORMS; form++) {
        size_t n = form_encode(form, inner, sizeof(inner)), n_good = 0;

        for (size_t at = 0; at + 2 <= n; at++) {
            memcpy(original, inner + at, 2);
            for (size_t i = 0; i < GT_ARRAY_SIZE(values); i++) {
                inner[at] = (uint8_t)(values[i] >> 8);
                inner[at + 1] = (uint8_t)values[i];
                n_good += form_decode(form, inner, n) == 0;
            }
            memcpy(inner + at, original, 2);
        }
        /* only numbers, random ids and signatures accept any value */
        assert_true(form == FORM_NAK || n_good < 8 * n);
        assert_int_equal(form_decode(form, inner, n), 0);
    }
}

struct bad_text {
    const char *text;
    size_t n;
};

#define BAD(text)              \
    {                          \
        text, sizeof(text) - 1 \
    }

static const struct bad_text bad_names[] = {
    BAD(""),
    BAD("a/b"),
    BAD("+"),
    BAD("a+"),
    BAD("#"),
    BAD("$SYS"),
    BAD("a\0b"),
    BAD("a\n"),
    BAD("\033["),
    BAD("-x"),
    BAD(".hidden"),
    BAD("a b"),
    BAD("\xc0\xaf"),
    BAD("\xe2\x80\xae"),
    BAD("a\r"),
    BAD("\x7f"),
    BAD("a\"b"),
    BAD("1234567890123456789012345678901234567890123456789012345678901234"
        "12345678901234567890123456789012345678901234567890123456789012345"),
};

/* A REQ with these bytes as operator, device, service and relay. */
static int decode_with(struct gt_span operator_, struct gt_span device, struct gt_span service,
                       struct gt_span relay)
{
    uint8_t inner[2048], zeros[64] = {0};
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_req req;
    struct gt_span body;
    struct gt_proof proof;

    gt_write_u16(&w, 1);
    gt_write_u8(&w, 1);
    gt_write_lp(&w, operator_);
    gt_write_lp(&w, device);
    gt_write_bytes(&w, zeros, 64);
    gt_write_lp(&w, service);
    gt_write_u16(&w, 0);
    gt_write_u32(&w, 0);
    gt_write_lp(&w, relay);
    gt_proof_encode(&(struct gt_proof){0}, &w);
    return gt_req_decode(gt_span(inner, w.n), &req, &body, &proof);
}

static void test_req_rejects_bad_names(void **state)
{
    struct gt_span good = gt_span_text("a"), none = gt_span("", 0);
    char longest[130];

    memset(longest, 'a', sizeof(longest));
    assert_int_equal(decode_with(good, good, good, good), 0);
    assert_int_equal(decode_with(good, good, none, none), 0);
    assert_int_equal(decode_with(gt_span_text("enroll-1"), good, good, good), 0);
    assert_int_equal(decode_with(good, gt_span_text("enroll-1"), good, good), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with(gt_span(longest, 128), gt_span(longest, 128),
                                 gt_span(longest, 128), gt_span(longest, 64)),
                     0);
    assert_int_equal(decode_with(good, good, gt_span(longest, 129), good), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with(good, good, good, gt_span(longest, 65)), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with(good, good, gt_span_text("[::1]:22"), good), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad_names); i++) {
        struct gt_span bad = gt_span(bad_names[i].text, bad_names[i].n);

        assert_int_equal(decode_with(bad, good, good, good), GT_MESSAGE_E_BAD);
        assert_int_equal(decode_with(good, bad, good, good), GT_MESSAGE_E_BAD);
        if (bad.n)
            assert_int_equal(decode_with(good, good, good, bad), GT_MESSAGE_E_BAD);
    }
    assert_int_equal(decode_with(good, good, gt_span("a\0b", 3), good), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with(good, good, gt_span_text("a\033b"), good), GT_MESSAGE_E_BAD);
    assert_int_equal(decode_with(good, good, gt_span_text("\xc3\xa4"), good), GT_MESSAGE_E_BAD);
}

static int decode_extensions(const void *bytes, size_t n, struct gt_state *ret)
{
    static uint8_t inner[4096]; /* the spans of @ret point into it */

    memset(inner, 0, sizeof(inner));
    inner[1] = 1;
    memcpy(inner + 27, bytes, n);
    return gt_state_decode(gt_span(inner, 27 + n), ret);
}

#define EXTENSIONS(text) decode_extensions(text, sizeof(text) - 1, &decoded)

static void test_extensions_are_checked(void **state)
{
    struct gt_state decoded;

    assert_int_equal(EXTENSIONS("\0"), 0);
    assert_int_equal(EXTENSIONS("\1\1\0\3abc"), 0);
    assert_true(gt_span_equals(decoded.extensions.version, gt_span_text("abc")));
    assert_int_equal(EXTENSIONS("\1\311\0\3\0\1\2"), 0);      /* unknown: skipped */
    assert_int_equal(EXTENSIONS("\2\0\0\0\0\0\0"), 0);        /* unknown, twice, empty */
    assert_int_equal(EXTENSIONS("\2\311\0\1x\4\0\2\0\5"), 0); /* unknown, then a known one */
    assert_int_equal(decoded.extensions.n_sessions, 5);
    assert_int_equal(EXTENSIONS("\1"), GT_MESSAGE_E_BAD);
    assert_int_equal(EXTENSIONS("\0\0"), GT_MESSAGE_E_BAD);
    assert_int_equal(EXTENSIONS("\2\1\0\1a"), GT_MESSAGE_E_BAD);        /* one of two is missing */
    assert_int_equal(EXTENSIONS("\1\1\0\4abc"), GT_MESSAGE_E_BAD);      /* wrong length */
    assert_int_equal(EXTENSIONS("\1\1\0\0"), GT_MESSAGE_E_BAD);         /* empty version */
    assert_int_equal(EXTENSIONS("\1\1\0\3a\nc"), GT_MESSAGE_E_BAD);     /* not printable */
    assert_int_equal(EXTENSIONS("\2\1\0\1a\1\0\1b"), GT_MESSAGE_E_BAD); /* twice */
    assert_int_equal(EXTENSIONS("\1\2\0\3\0\2a"), GT_MESSAGE_E_BAD);    /* wrong length inside */
    assert_int_equal(EXTENSIONS("\1\2\0\2\0\0"), GT_MESSAGE_E_BAD);     /* an empty item */
    assert_int_equal(EXTENSIONS("\1\3\0\5\0\3a\nb"), GT_MESSAGE_E_BAD); /* a second line */
    assert_int_equal(EXTENSIONS("\1\4\0\1\0"), GT_MESSAGE_E_BAD);       /* u16 of 1 byte */
    assert_int_equal(EXTENSIONS("\1\4\0\3\0\0\0"), GT_MESSAGE_E_BAD);   /* u16 of 3 bytes */
    assert_int_equal(EXTENSIONS("\1\5\0\4\0\0\0\0"), GT_MESSAGE_E_BAD); /* u64 of 4 bytes */
    uint8_t many[4 + 3 * (GT_SERVICES_MAX + 1)] = {1, 2};
    for (size_t n = GT_SERVICES_MAX; n <= GT_SERVICES_MAX + 1; n++) {
        many[2] = (uint8_t)(3 * n >> 8);
        many[3] = (uint8_t)(3 * n);
        for (size_t i = 0; i < n; i++)
            memcpy(many + 4 + 3 * i, "\0\1s", 3);
        assert_int_equal(decode_extensions(many, 4 + 3 * n, &decoded),
                         n > GT_SERVICES_MAX ? GT_MESSAGE_E_BAD : 0);
    }
}

static void test_proof_size_limits(void **state)
{
    static uint8_t bytes[GT_CERTIFICATE_MAX + 1], inner[16384];

    static const struct {
        size_t n_certificate, n_signature;
        int r;
    } cases[] = {{0, 0, 0},
                 {GT_CERTIFICATE_MAX, GT_SIGNATURE_MAX, 0},
                 {GT_CERTIFICATE_MAX + 1, 1, GT_MESSAGE_E_BAD},
                 {1, GT_SIGNATURE_MAX + 1, GT_MESSAGE_E_BAD}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_req req = sample_req(), got;
        struct gt_span body;
        struct gt_proof proof = {gt_span(bytes, cases[i].n_certificate), 0x0804,
                                 gt_span(bytes, cases[i].n_signature)};
        struct gt_writer w = gt_writer(inner, sizeof(inner));

        gt_req_encode(&req, &w);
        gt_proof_encode(&proof, &w);
        assert_int_equal(gt_req_decode(gt_span(inner, w.n), &got, &body, &proof), cases[i].r);
    }
}

static void test_decode_requires_version_1(void **state)
{
    uint8_t inner[1024];
    static const enum form forms[] = {FORM_STATE, FORM_REQ, FORM_CLOSE};

    for (size_t i = 0; i < GT_ARRAY_SIZE(forms); i++) {
        size_t n = form_encode(forms[i], inner, sizeof(inner));

        for (int version = 0; version < 4; version++) {
            inner[1] = (uint8_t)version;
            assert_int_equal(form_decode(forms[i], inner, n), version == 1 ? 0 : GT_MESSAGE_E_BAD);
        }
    }
    size_t n = form_encode(FORM_REQ, inner, sizeof(inner));
    inner[2] = 2; /* suite */
    assert_int_equal(form_decode(FORM_REQ, inner, n), GT_MESSAGE_E_BAD);
    n = form_encode(FORM_STATE, inner, sizeof(inner));
    inner[2] = 2; /* online */
    assert_int_equal(form_decode(FORM_STATE, inner, n), GT_MESSAGE_E_BAD);
}

/* --- topics --------------------------------------------------------------------------------- */

static void test_topics_of_a_device(void **state)
{
    char topic[GT_TOPIC_MAX + 1], name[GT_NAME_MAX + 1];

    assert_int_equal(gt_topic_req("gotthard/v1", "GatewayOli", topic), 0);
    assert_string_equal(topic, "gotthard/v1/d/GatewayOli/req");
    assert_int_equal(gt_topic_rsp("gotthard/v1", "GatewayOli", "alice", topic), 0);
    assert_string_equal(topic, "gotthard/v1/d/GatewayOli/rsp/alice");
    assert_int_equal(gt_topic_state("gotthard/v1", "GatewayOli", topic), 0);
    assert_string_equal(topic, "gotthard/v1/d/GatewayOli/state");
    assert_int_equal(gt_topic_device("gotthard/v1", topic, name), 0);
    assert_string_equal(name, "GatewayOli");
    assert_int_equal(gt_topic_state("gotthard/v1", "+", topic), 0);
    assert_string_equal(topic, "gotthard/v1/d/+/state");
    assert_int_equal(gt_topic_device("gotthard/v1", topic, name), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_topic_req("gotthard/v1", "+", topic), GT_MESSAGE_E_BAD);
}

static void test_topic_limits_and_bad_names(void **state)
{
    char topic[GT_TOPIC_MAX + 1], name[130], prefix[130];
    static const char *prefixes[] = {"",  "/",   "/a",  "a/",     "a//b", "+",
                                     "#", "a/+", "a/#", "$aws/a", "a b",  "a\n"};

    assert_int_equal(gt_topic_rsp("a/b/c/d", "x", "y", topic), 0); /* 7 slashes */
    assert_int_equal(gt_topic_rsp("a/b/c/d/e", "x", "y", topic), GT_MESSAGE_E_BAD);
    assert_int_equal(gt_topic_req("a/b/c/d/e", "x", topic), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(prefixes); i++)
        assert_int_equal(gt_topic_req(prefixes[i], "x", topic), GT_MESSAGE_E_BAD);
    for (size_t i = 0; i < GT_ARRAY_SIZE(bad_names); i++) {
        if (strlen(bad_names[i].text) != bad_names[i].n)
            continue; /* a C string cannot contain NUL */
        assert_int_equal(gt_topic_req("a", bad_names[i].text, topic), GT_MESSAGE_E_BAD);
        assert_int_equal(gt_topic_rsp("a", "x", bad_names[i].text, topic), GT_MESSAGE_E_BAD);
    }
    /* "<prefix>/d/<128>/req" has 128 + 7 bytes and the prefix: at most 121 remain for it */
    memset(name, 'n', sizeof(name));
    name[128] = 0;
    memset(prefix, 'p', sizeof(prefix));
    prefix[121] = 0;
    assert_int_equal(gt_topic_req(prefix, name, topic), 0);
    assert_int_equal(strlen(topic), 256);
    prefix[121] = 'p';
    prefix[122] = 0;
    assert_int_equal(gt_topic_req(prefix, name, topic), GT_MESSAGE_E_BAD);
}

static void test_topic_device_rejects_other_topics(void **state)
{
    static const char *bad[] = {
        "",
        "gotthard/v1",
        "gotthard/v1/d/",
        "gotthard/v1/d//state",
        "gotthard/v1/d/a",
        "gotthard/v1/d/a/",
        "gotthard/v1/d/a/req",
        "gotthard/v1/d/a/state/x",
        "gotthard/v1/d/a/b/state",
        "gotthard/v1/d/-a/state",
        "gotthard/v2/d/a/state",
        "gotthard/v1/x/a/state",
        "/gotthard/v1/d/a/state",
    };
    char name[GT_NAME_MAX + 1];

    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_int_equal(gt_topic_device("gotthard/v1", bad[i], name), GT_MESSAGE_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_req_round_trip),
        cmocka_unit_test(test_close_round_trip),
        cmocka_unit_test(test_req_flags_are_strict),
        cmocka_unit_test(test_purpose_is_printable),
        cmocka_unit_test(test_state_and_ack_round_trip),
        cmocka_unit_test(test_state_without_extensions),
        cmocka_unit_test(test_decode_rejects_other_lengths),
        cmocka_unit_test(test_open_rejects_each_flipped_bit),
        cmocka_unit_test(test_open_requires_topic_type_and_key),
        cmocka_unit_test(test_message_size_limits),
        cmocka_unit_test(test_decode_survives_wrong_lengths),
        cmocka_unit_test(test_req_rejects_bad_names),
        cmocka_unit_test(test_extensions_are_checked),
        cmocka_unit_test(test_proof_size_limits),
        cmocka_unit_test(test_decode_requires_version_1),
        cmocka_unit_test(test_topics_of_a_device),
        cmocka_unit_test(test_topic_limits_and_bad_names),
        cmocka_unit_test(test_topic_device_rejects_other_topics),
    };

    dice_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
