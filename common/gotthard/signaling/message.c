/* SPDX-License-Identifier: ISC */
/*
 * The encoding of GTM1 messages: one table of fields for each, which drives the encoder and the
 * decoder. Decoders are strict: a fixed version, exact lengths, well-formed names, no trailing
 * bytes, and only printable text, because all of it reaches logs and terminals. They see only
 * messages that SEAL or the ACK's box has authenticated, and they must never decide about access.
 */
#include "gotthard/signaling/message.h"

#include "gotthard/base/fields.h"

#define VERSION      1
#define CLOSE_2      2 /* the version of a CLOSE with a purpose, or a scope that version 1 lacks */
#define FLAG_PURPOSE 1 /* of a REQ: a purpose follows */
#define FLAG_QUERY   2 /* of a REQ: it opens no session */
#define SUITE        1 /* X25519, HKDF-SHA256, AES-256-GCM */
#define SLASH_MAX    7 /* of a topic: AWS IoT's limit */

_Static_assert((int)GT_CRYPTO_E_BAD == (int)GT_MESSAGE_E_BAD, "a bad seal is a bad message");

static const uint8_t magic[4] = {'G', 'T', 'M', '1'};
static const uint8_t scope_request[3] = {'r', 'e', 'q'};

/* --- topics --------------------------------------------------------------------------------- */

/* Each level of a prefix must be a name: no wildcard, no empty level, no "$" (MQTT 5, section
 * 4.7). */
static bool is_prefix(const char *prefix)
{
    for (const char *at = prefix;; at++) {
        size_t n = strcspn(at, "/");

        if (!gt_text_is_name(gt_span(at, n)))
            return false;
        at += n;
        if (!*at)
            return true;
    }
}

static int topic_join(const char *prefix, const char *device, const char *const *levels, char *ret)
{
    char topic[GT_TOPIC_MAX + 1];
    struct gt_writer w = gt_writer(topic, GT_TOPIC_MAX);
    size_t n_slashes = 0;

    if (!is_prefix(prefix))
        return GT_MESSAGE_E_BAD;
    gt_write_span(&w, gt_span_text(prefix));
    gt_write_span(&w, gt_span_text("/d/"));
    gt_write_span(&w, gt_span_text(device));
    for (; *levels; levels++) {
        gt_write_u8(&w, '/');
        gt_write_span(&w, gt_span_text(*levels));
    }
    for (size_t i = 0; i < w.n; i++)
        n_slashes += topic[i] == '/';
    if (w.failed || n_slashes > SLASH_MAX)
        return GT_MESSAGE_E_BAD;
    memcpy(ret, topic, w.n);
    ret[w.n] = 0;
    return 0;
}

int gt_topic_req(const char *prefix, const char *device, char *ret)
{
    if (!gt_text_is_name(gt_span_text(device)))
        return GT_MESSAGE_E_BAD;
    return topic_join(prefix, device, (const char *const[]){"req", NULL}, ret);
}

int gt_topic_rsp(const char *prefix, const char *device, const char *operator_, char *ret)
{
    if (!gt_text_is_name(gt_span_text(device)) || !gt_text_is_name(gt_span_text(operator_)))
        return GT_MESSAGE_E_BAD;
    return topic_join(prefix, device, (const char *const[]){"rsp", operator_, NULL}, ret);
}

int gt_topic_state(const char *prefix, const char *device, char *ret)
{
    if (!gt_text_is_name(gt_span_text(device)) && strcmp(device, "+") != 0)
        return GT_MESSAGE_E_BAD;
    return topic_join(prefix, device, (const char *const[]){"state", NULL}, ret);
}

int gt_topic_device(const char *prefix, const char *topic, char *ret_device)
{
    struct gt_reader r = gt_reader(topic, strlen(topic));
    struct gt_span start = gt_read_bytes(&r, strlen(prefix));
    struct gt_span middle = gt_read_bytes(&r, 3);
    const uint8_t *slash = memchr(r.at, '/', r.left);
    struct gt_span name = gt_read_bytes(&r, slash ? (size_t)(slash - r.at) : 0);

    if (r.failed || !gt_span_equals(start, gt_span_text(prefix)) ||
        !gt_span_equals(middle, gt_span_text("/d/")) || !gt_text_is_name(name) ||
        !gt_span_equals(gt_span(r.at, r.left), gt_span_text("/state")))
        return GT_MESSAGE_E_BAD;
    memcpy(ret_device, name.data, name.n);
    ret_device[name.n] = 0;
    return 0;
}

/* --- extensions ----------------------------------------------------------------------------- */

enum extension_kind {
    EXTENSION_TEXT,    /* one printable text; absent: empty */
    EXTENSION_BYTES,   /* an encoding of its own, which its reader checks; absent: empty */
    EXTENSION_LIST,    /* lp of each printable text; absent: no items */
    EXTENSION_INTEGER, /* absent: 0 */
};

/* How one extension is stored in struct gt_extensions. */
struct extension {
    uint8_t type; /* on the wire */
    enum extension_kind kind;
    size_t offset;         /* TEXT, BYTES: of the span; LIST: of the array of spans */
    size_t n_offset, max;  /* LIST: of the number of items; the largest number */
    struct gt_field field; /* INTEGER */
};

#define TEXT(type_, member_)                                                                     \
    {                                                                                            \
        .type = type_, .kind = EXTENSION_TEXT, .offset = offsetof(struct gt_extensions, member_) \
    }
#define BYTES(type_, member_)                                                                     \
    {                                                                                             \
        .type = type_, .kind = EXTENSION_BYTES, .offset = offsetof(struct gt_extensions, member_) \
    }
#define LIST(type_, member_)                                                                      \
    {                                                                                             \
        .type = type_, .kind = EXTENSION_LIST, .offset = offsetof(struct gt_extensions, member_), \
        .n_offset = offsetof(struct gt_extensions, n_##member_),                                  \
        .max = GT_ARRAY_SIZE(((struct gt_extensions *)0)->member_)                                \
    }
#define INTEGER(type_, field_)                                    \
    {                                                             \
        .type = type_, .kind = EXTENSION_INTEGER, .field = field_ \
    }

static const struct extension extensions[] = {
    TEXT(1, version),
    LIST(2, services),
    LIST(3, host_keys),
    INTEGER(4, GT_FIELD_U16(struct gt_extensions, n_sessions)),
    INTEGER(5, GT_FIELD_U64(struct gt_extensions, since)),
    TEXT(6, limit),
    LIST(7, tags),
    BYTES(8, status),
};

static bool is_printable(struct gt_span text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.data[i] < 0x20 || text.data[i] > 0x7e)
            return false;
    return true;
}

static const void *extension_member(const struct gt_extensions *x, size_t offset)
{
    return (const char *)x + offset;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

static bool extension_is_present(const struct extension *extension, const struct gt_extensions *x)
{
    switch (extension->kind) {
    case EXTENSION_TEXT:
    case EXTENSION_BYTES:
        return ((const struct gt_span *)extension_member(x, extension->offset))->n > 0;
    case EXTENSION_LIST: return *(const size_t *)extension_member(x, extension->n_offset) > 0;
    case EXTENSION_INTEGER:
        return !is_zero(extension_member(x, extension->field.offset), extension->field.size);
    }
    return false;
}

static void write_list(struct gt_writer *w, const struct gt_span *items, size_t n)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++)
        length += 2 + items[i].n;
    if (length > UINT16_MAX)
        w->failed = true;
    gt_write_u16(w, (uint16_t)length);
    for (size_t i = 0; i < n; i++)
        gt_write_lp(w, items[i]);
}

/* Type, lp of the value. */
static void extension_write(const struct extension *extension, const struct gt_extensions *x,
                            struct gt_writer *w)
{
    const struct gt_span *spans = extension_member(x, extension->offset);

    gt_write_u8(w, extension->type);
    switch (extension->kind) {
    case EXTENSION_TEXT:
    case EXTENSION_BYTES: gt_write_lp(w, *spans); break;
    case EXTENSION_LIST:
        write_list(w, spans, *(const size_t *)extension_member(x, extension->n_offset));
        break;
    case EXTENSION_INTEGER:
        gt_write_u16(w, (uint16_t)extension->field.size);
        gt_fields_write(w, &extension->field, 1, x);
        break;
    }
}

static void extensions_encode(const struct gt_extensions *x, struct gt_writer *w)
{
    uint8_t n = 0;

    for (size_t i = 0; i < GT_ARRAY_SIZE(extensions); i++)
        n = (uint8_t)(n + extension_is_present(&extensions[i], x));
    gt_write_u8(w, n);
    for (size_t i = 0; i < GT_ARRAY_SIZE(extensions); i++)
        if (extension_is_present(&extensions[i], x))
            extension_write(&extensions[i], x, w);
}

static bool read_list(struct gt_span value, struct gt_span *items, size_t max, size_t *n_items)
{
    struct gt_reader r = gt_reader(value.data, value.n);

    while (!r.failed && r.left) {
        struct gt_span item = gt_read_lp(&r);

        if (*n_items == max || !item.n || !is_printable(item))
            return false;
        items[(*n_items)++] = item;
    }
    return !r.failed;
}

static bool extension_read(const struct extension *extension, struct gt_span value,
                           struct gt_extensions *x)
{
    struct gt_reader r = gt_reader(value.data, value.n);
    struct gt_span *spans = (void *)((char *)x + extension->offset);

    switch (extension->kind) {
    case EXTENSION_TEXT: *spans = value; return value.n > 0 && is_printable(value);
    case EXTENSION_BYTES: *spans = value; return value.n > 0;
    case EXTENSION_LIST:
        return read_list(value, spans, extension->max, (void *)((char *)x + extension->n_offset));
    case EXTENSION_INTEGER:
        gt_fields_read(&r, &extension->field, 1, x);
        return gt_reader_is_done(&r);
    }
    return false;
}

/* NULL: an extension of a later version, which is skipped. */
static const struct extension *extension_find(uint8_t type)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(extensions); i++)
        if (extensions[i].type == type)
            return &extensions[i];
    return NULL;
}

/* Each known extension at most once. */
static void extensions_decode(struct gt_reader *r, struct gt_extensions *x)
{
    bool is_seen[GT_ARRAY_SIZE(extensions)] = {false};

    for (size_t n = gt_read_u8(r); n && !r->failed; n--) {
        const struct extension *extension = extension_find(gt_read_u8(r));
        struct gt_span value = gt_read_lp(r);

        if (!extension || r->failed)
            continue;
        if (is_seen[extension - extensions] || !extension_read(extension, value, x))
            r->failed = true;
        is_seen[extension - extensions] = true;
    }
}

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
    extensions_encode(&state->extensions, w);
}

int gt_state_decode(struct gt_span inner, struct gt_state *ret)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_state state = {0};

    gt_fields_read(&r, state_fields, GT_ARRAY_SIZE(state_fields), &state);
    extensions_decode(&r, &state.extensions);
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

    if (r->failed || text.n > GT_PURPOSE_MAX || !is_printable(text)) {
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
    if (!gt_reader_is_done(&r) || !is_printable(gt_span_text(req.service)) ||
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
    if (!gt_reader_is_done(&r) || version != close_version(&close))
        return GT_MESSAGE_E_BAD;
    *ret = close;
    *ret_body = body;
    *ret_proof = proof;
    return 0;
}

void gt_ack_encode(const struct gt_ack *ack, struct gt_writer *w)
{
    gt_fields_write(w, ack_fields, GT_ARRAY_SIZE(ack_fields), ack);
    extensions_encode(&ack->extensions, w);
}

int gt_ack_decode(struct gt_span inner, struct gt_ack *ret, struct gt_span *ret_signed,
                  struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_ack ack = {0};
    struct gt_proof proof;

    gt_fields_read(&r, ack_fields, GT_ARRAY_SIZE(ack_fields), &ack);
    extensions_decode(&r, &ack.extensions);
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
