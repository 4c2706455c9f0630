/* SPDX-License-Identifier: ISC */
/*
 * The encoding of GTM1 messages: one table of fields for each, which drives the encoder and the
 * decoder. Decoders are strict: a fixed version, exact lengths, well-formed names, no trailing
 * bytes, and only printable text, because all of it reaches logs and terminals. They see only
 * messages that SEAL or the ACK's box has authenticated, and they must never decide about access.
 */
#include "gotthard/signaling/message.h"

#include "gotthard/base/fields.h"
#include "gotthard/base/text.h"
#include "gotthard/signaling/topic.h"

#define VERSION      1
#define CLOSE_2      2 /* the version of a CLOSE with a purpose, or a scope that version 1 lacks */
#define FLAG_PURPOSE 1 /* of a REQ: a purpose follows */
#define FLAG_QUERY   2 /* of a REQ: it opens no session */
#define SUITE        1 /* X25519, HKDF-SHA256, AES-256-GCM */

_Static_assert((int)GT_CRYPTO_E_BAD == (int)GT_MESSAGE_E_BAD, "a bad seal is a bad message");

static const uint8_t magic[4] = {'G', 'T', 'M', '1'};
static const uint8_t scope_request[3] = {'r', 'e', 'q'};

/* --- the proof ------------------------------------------------------------------------------ */

static const struct gt_field proof_fields[] = {
    GT_FIELD_SPAN(struct gt_proof, certificate),
    GT_FIELD_U16(struct gt_proof, sigalg),
    GT_FIELD_SPAN(struct gt_proof, signature),
};

void gt_proof_encode(const struct gt_proof *proof, struct gt_writer *w)
{
    gt_fields_write(w, proof_fields, GT_ARRAY_SIZE(proof_fields), proof);
}

/* The end of every signed message. Only sizes are checked here; trust.c verifies the proof. */
static void proof_decode(struct gt_reader *r, struct gt_proof *ret)
{
    gt_fields_read(r, proof_fields, GT_ARRAY_SIZE(proof_fields), ret);
    if (ret->certificate.n > GT_CERTIFICATE_MAX || ret->signature.n > GT_SIGNATURE_MAX)
        r->failed = true;
}

/* --- inner forms ---------------------------------------------------------------------------- */

static const struct gt_field state_fields[] = {
    GT_FIELD_FIXED16(struct gt_state, VERSION),
    GT_FIELD_FLAG(struct gt_state, is_online),
    GT_FIELD_BYTES(struct gt_state, epoch, GT_EPOCH_SIZE),
    GT_FIELD_U64(struct gt_state, seq),
}; /* then the extensions */

static const struct gt_field req_fields[] = {
    GT_FIELD_FIXED16(struct gt_req, VERSION),
    GT_FIELD_FIXED8(struct gt_req, SUITE),
    GT_FIELD_NAME(struct gt_req, operator_),
    GT_FIELD_NAME(struct gt_req, device),
    GT_FIELD_BYTES(struct gt_req, epoch, GT_EPOCH_SIZE),
    GT_FIELD_BYTES(struct gt_req, id, GT_REQ_ID_SIZE),
    GT_FIELD_BYTES(struct gt_req, gx, GT_KEY_SIZE),
    GT_FIELD_STRING(struct gt_req, service),
}; /* then the flags, req_tail_fields, the purpose if there is one, and the proof */

static const struct gt_field req_tail_fields[] = {
    GT_FIELD_U32(struct gt_req, lifetime_s),
    GT_FIELD_STRING(struct gt_req, relay),
};

static const struct gt_field close_fields[] = {
    /* after the version */
    GT_FIELD_NAME(struct gt_close, operator_),
    GT_FIELD_NAME(struct gt_close, device),
    GT_FIELD_BYTES(struct gt_close, epoch, GT_EPOCH_SIZE),
    GT_FIELD_BYTES(struct gt_close, id, GT_REQ_ID_SIZE),
}; /* then lp of the scope, in version 2 the purpose, and the proof */

static const struct gt_field ack_fields[] = {
    GT_FIELD_U8(struct gt_ack, status),       GT_FIELD_U32(struct gt_ack, lifetime_s),
    GT_FIELD_U16(struct gt_ack, max_streams), GT_FIELD_U32(struct gt_ack, window),
    GT_FIELD_NAME(struct gt_ack, device),     GT_FIELD_NAME(struct gt_ack, operator_),
}; /* then the extensions and the proof */

static const struct gt_field nak_fields[] = {
    GT_FIELD_BYTES(struct gt_nak, id, GT_REQ_ID_SIZE),
    GT_FIELD_U16(struct gt_nak, code),
    GT_FIELD_BYTES(struct gt_nak, epoch, GT_EPOCH_SIZE),
    GT_FIELD_U16(struct gt_nak, retry_after_s),
};

void gt_state_encode(const struct gt_state *state, struct gt_writer *w)
{
    gt_fields_write(w, state_fields, GT_ARRAY_SIZE(state_fields), state);
    gt_extensions_encode(&state->extensions, w);
}

int gt_state_decode(struct gt_span inner, struct gt_state *ret)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_state state = {0};

    gt_fields_read(&r, state_fields, GT_ARRAY_SIZE(state_fields), &state);
    gt_extensions_decode(&r, &state.extensions);
    if (!gt_reader_is_done(&r))
        return GT_MESSAGE_E_BAD;
    *ret = state;
    return 0;
}

static void write_purpose(struct gt_writer *w, const char *purpose)
{
    char text[GT_PURPOSE_MAX + 1];
    size_t n = strnlen(purpose, GT_PURPOSE_MAX);

    for (size_t i = 0; i < n; i++)
        text[i] = purpose[i] < 0x20 || purpose[i] > 0x7e ? '?' : purpose[i];
    gt_write_lp(w, gt_span(text, n));
}

static void read_purpose(struct gt_reader *r, char ret[static GT_PURPOSE_MAX + 1])
{
    struct gt_span text = gt_read_lp(r);

    if (r->failed || text.n > GT_PURPOSE_MAX || !gt_text_is_ascii(text)) {
        r->failed = true;
        return;
    }
    memcpy(ret, text.data, text.n);
    ret[text.n] = 0;
}

static uint16_t req_flags(const struct gt_req *req)
{
    return (uint16_t)((req->purpose[0] ? FLAG_PURPOSE : 0) | (req->is_query ? FLAG_QUERY : 0));
}

void gt_req_encode(const struct gt_req *req, struct gt_writer *w)
{
    gt_fields_write(w, req_fields, GT_ARRAY_SIZE(req_fields), req);
    gt_write_u16(w, req_flags(req));
    gt_fields_write(w, req_tail_fields, GT_ARRAY_SIZE(req_tail_fields), req);
    if (req->purpose[0])
        write_purpose(w, req->purpose);
}

int gt_req_decode(struct gt_span inner, struct gt_req *ret, struct gt_span *ret_body,
                  struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_req req = {0};
    struct gt_proof proof;

    gt_fields_read(&r, req_fields, GT_ARRAY_SIZE(req_fields), &req);
    uint16_t flags = gt_read_u16(&r);
    gt_fields_read(&r, req_tail_fields, GT_ARRAY_SIZE(req_tail_fields), &req);
    if (flags & FLAG_PURPOSE)
        read_purpose(&r, req.purpose);
    req.is_query = (flags & FLAG_QUERY) != 0;
    if (flags != req_flags(&req)) /* an unknown flag must not be ignored */
        r.failed = true;
    struct gt_span body = gt_span(inner.data, inner.n - r.left);
    proof_decode(&r, &proof);
    if (!gt_reader_is_done(&r) || !gt_text_is_device_name(gt_span_text(req.device)) ||
        !gt_text_is_ascii(gt_span_text(req.service)) ||
        (*req.relay && !gt_text_is_name(gt_span_text(req.relay))))
        return GT_MESSAGE_E_BAD;
    *ret = req;
    *ret_body = body;
    *ret_proof = proof;
    return 0;
}

/* A device that knows version 1 only drops the other one. */
static uint16_t close_version(const struct gt_close *close)
{
    bool is_plain = close->scope == GT_CLOSE_RID || close->scope == GT_CLOSE_ALL;

    return is_plain && !close->purpose[0] ? VERSION : CLOSE_2;
}

/* The four forms have different lengths. */
static void write_scope(struct gt_writer *w, const struct gt_close *close)
{
    uint8_t of_request[sizeof(scope_request) + GT_REQ_ID_SIZE];

    switch (close->scope) {
    case GT_CLOSE_RID: gt_write_lp(w, gt_span(close->rid, sizeof(close->rid))); return;
    case GT_CLOSE_REQUEST:
        memcpy(of_request, scope_request, sizeof(scope_request));
        memcpy(of_request + sizeof(scope_request), close->request, GT_REQ_ID_SIZE);
        gt_write_lp(w, gt_span(of_request, sizeof(of_request)));
        return;
    case GT_CLOSE_OWN: gt_write_lp(w, gt_span_text("own")); return;
    case GT_CLOSE_ALL: gt_write_lp(w, gt_span_text("all")); return;
    }
}

static void read_scope(struct gt_reader *r, uint16_t version, struct gt_close *close)
{
    struct gt_span scope = gt_read_lp(r);
    struct gt_span prefix = gt_span(scope.data, GT_MIN(scope.n, sizeof(scope_request)));

    if (gt_span_equals(scope, gt_span_text("all"))) {
        close->scope = GT_CLOSE_ALL;
    } else if (scope.n == GT_RID_SIZE) {
        close->scope = GT_CLOSE_RID;
        memcpy(close->rid, scope.data, GT_RID_SIZE);
    } else if (version == CLOSE_2 && gt_span_equals(scope, gt_span_text("own"))) {
        close->scope = GT_CLOSE_OWN;
    } else if (version == CLOSE_2 && scope.n == sizeof(scope_request) + GT_REQ_ID_SIZE &&
               gt_span_equals(prefix, gt_span(scope_request, sizeof(scope_request)))) {
        close->scope = GT_CLOSE_REQUEST;
        memcpy(close->request, scope.data + sizeof(scope_request), GT_REQ_ID_SIZE);
    } else {
        r->failed = true;
    }
}

void gt_close_encode(const struct gt_close *close, struct gt_writer *w)
{
    uint16_t version = close_version(close);

    gt_write_u16(w, version);
    gt_fields_write(w, close_fields, GT_ARRAY_SIZE(close_fields), close);
    write_scope(w, close);
    if (version == CLOSE_2)
        write_purpose(w, close->purpose);
}

int gt_close_decode(struct gt_span inner, struct gt_close *ret, struct gt_span *ret_body,
                    struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_close close = {0};
    struct gt_proof proof;

    uint16_t version = gt_read_u16(&r);
    gt_fields_read(&r, close_fields, GT_ARRAY_SIZE(close_fields), &close);
    read_scope(&r, version, &close);
    if (version == CLOSE_2)
        read_purpose(&r, close.purpose);
    struct gt_span body = gt_span(inner.data, inner.n - r.left);
    proof_decode(&r, &proof);
    if (!gt_reader_is_done(&r) || !gt_text_is_device_name(gt_span_text(close.device)) ||
        version != close_version(&close))
        return GT_MESSAGE_E_BAD;
    *ret = close;
    *ret_body = body;
    *ret_proof = proof;
    return 0;
}

void gt_ack_encode(const struct gt_ack *ack, struct gt_writer *w)
{
    gt_fields_write(w, ack_fields, GT_ARRAY_SIZE(ack_fields), ack);
    gt_extensions_encode(&ack->extensions, w);
}

int gt_ack_decode(struct gt_span inner, struct gt_ack *ret, struct gt_span *ret_signed,
                  struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_ack ack = {0};
    struct gt_proof proof;

    gt_fields_read(&r, ack_fields, GT_ARRAY_SIZE(ack_fields), &ack);
    gt_extensions_decode(&r, &ack.extensions);
    size_t n_before_proof = inner.n - r.left;
    proof_decode(&r, &proof);
    if (!gt_reader_is_done(&r))
        return GT_MESSAGE_E_BAD;
    *ret = ack;
    *ret_signed = gt_span(inner.data, n_before_proof + 2 + proof.certificate.n);
    *ret_proof = proof;
    return 0;
}

void gt_nak_encode(const struct gt_nak *nak, struct gt_writer *w)
{
    gt_fields_write(w, nak_fields, GT_ARRAY_SIZE(nak_fields), nak);
}

int gt_nak_decode(struct gt_span inner, struct gt_nak *ret)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_nak nak = {0};

    gt_fields_read(&r, nak_fields, GT_ARRAY_SIZE(nak_fields), &nak);
    if (!gt_reader_is_done(&r))
        return GT_MESSAGE_E_BAD;
    *ret = nak;
    return 0;
}

/* --- outer form ----------------------------------------------------------------------------- */

int gt_message_peek(struct gt_span payload, enum gt_message_type *ret_type)
{
    if (payload.n < GT_MESSAGE_HEADER || payload.n > GT_MESSAGE_MAX ||
        memcmp(payload.data, magic, sizeof(magic)) != 0 || payload.data[4] > GT_MESSAGE_REPORT)
        return GT_MESSAGE_E_BAD;
    *ret_type = (enum gt_message_type)payload.data[4];
    return 0;
}

void gt_message_header(enum gt_message_type type, struct gt_writer *w)
{
    gt_write_bytes(w, magic, sizeof(magic));
    gt_write_u8(w, (uint8_t)type);
}

void gt_message_ad(enum gt_message_type type, const char *topic, struct gt_writer *w)
{
    gt_message_header(type, w);
    gt_write_string(w, topic);
}

int gt_message_seal(const uint8_t key[static GT_KEY_SIZE], enum gt_message_type type,
                    const char *topic, struct gt_span inner, uint8_t *ret, size_t *ret_n)
{
    uint8_t ad[GT_MESSAGE_HEADER + 2 + GT_TOPIC_MAX];
    struct gt_writer ad_writer = gt_writer(ad, sizeof(ad));
    struct gt_writer w = gt_writer(ret, GT_MESSAGE_MAX);

    gt_message_ad(type, topic, &ad_writer);
    if (ad_writer.failed || inner.n > GT_MESSAGE_MAX - GT_MESSAGE_HEADER - GT_SEAL_OVERHEAD)
        return GT_MESSAGE_E_BAD;
    gt_message_header(type, &w);
    int r = gt_seal(key, gt_span(ad, ad_writer.n), inner, ret + GT_MESSAGE_HEADER);
    if (r == 0)
        *ret_n = GT_MESSAGE_HEADER + inner.n + GT_SEAL_OVERHEAD;
    return r;
}

int gt_message_open(const uint8_t key[static GT_KEY_SIZE], enum gt_message_type type,
                    const char *topic, struct gt_span payload, uint8_t *ret_inner, size_t *ret_n)
{
    uint8_t ad[GT_MESSAGE_HEADER + 2 + GT_TOPIC_MAX];
    struct gt_writer ad_writer = gt_writer(ad, sizeof(ad));
    enum gt_message_type its_type;

    gt_message_ad(type, topic, &ad_writer);
    if (ad_writer.failed || gt_message_peek(payload, &its_type) || its_type != type)
        return GT_MESSAGE_E_BAD;
    struct gt_span sealed =
        gt_span(payload.data + GT_MESSAGE_HEADER, payload.n - GT_MESSAGE_HEADER);
    int r = gt_unseal(key, gt_span(ad, ad_writer.n), sealed, ret_inner);
    if (r == 0)
        *ret_n = sealed.n - GT_SEAL_OVERHEAD;
    return r;
}
