/* SPDX-License-Identifier: ISC */
/*
 * The bytes of GTM1. Decoders are strict: a fixed version, exact lengths, well-formed names, no
 * byte left over, and text that can be printed without harm, because all of it reaches logs and
 * terminals. Nothing here is looked at before SEAL or the ACK's box has opened, and nothing here
 * decides anything.
 */
#include "gotthard/message.h"

#define VERSION   1
#define SUITE     1 /* X25519, HKDF-SHA256, AES-256-GCM */
#define SLASH_MAX 7 /* of a topic: AWS IoT's limit */

enum {
    EXTENSION_VERSION = 1,
    EXTENSION_SERVICES = 2,
    EXTENSION_HOST_KEYS = 3,
    EXTENSION_SESSIONS = 4,
    EXTENSION_PUBLISHED = 5,
};

_Static_assert((int)GT_CRYPTO_E_BAD == (int)GT_MESSAGE_E_BAD, "a bad seal is a bad message");

static const uint8_t magic[4] = {'G', 'T', 'M', '1'};

/* --- topics --------------------------------------------------------------------------------- */

/* Every level of a prefix is a name: no wildcard, no empty level, no "$". */
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

/* --- pieces --------------------------------------------------------------------------------- */

static bool is_printable(struct gt_span text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.data[i] < 0x20 || text.data[i] > 0x7e)
            return false;
    return true;
}

static void read_name(struct gt_reader *r, char ret[static GT_NAME_MAX + 1])
{
    gt_read_string(r, ret, GT_NAME_MAX + 1);
    if (!gt_text_is_name(gt_span_text(ret)))
        r->failed = true;
}

static void read_fixed(struct gt_reader *r, uint64_t want, size_t size)
{
    if (gt_read_uint(r, size) != want)
        r->failed = true;
}

static struct gt_span read_limited(struct gt_reader *r, size_t max)
{
    struct gt_span span = gt_read_lp(r);
    if (span.n > max)
        r->failed = true;
    return span;
}

static void write_list(struct gt_writer *w, uint8_t type, const struct gt_span *items, size_t n)
{
    size_t length = 0;
    for (size_t i = 0; i < n; i++)
        length += 2 + items[i].n;
    if (length > UINT16_MAX)
        w->failed = true;
    gt_write_u8(w, type);
    gt_write_u16(w, (uint16_t)length);
    for (size_t i = 0; i < n; i++)
        gt_write_lp(w, items[i]);
}

static void write_number(struct gt_writer *w, uint8_t type, uint64_t value, uint16_t size)
{
    gt_write_u8(w, type);
    gt_write_u16(w, size);
    gt_write_uint(w, value, size);
}

static void extensions_encode(const struct gt_extensions *x, struct gt_writer *w)
{
    gt_write_u8(w, (uint8_t)((x->version.n > 0) + (x->n_services > 0) + (x->n_host_keys > 0) +
                             (x->n_sessions > 0) + (x->since > 0)));
    if (x->version.n) {
        gt_write_u8(w, EXTENSION_VERSION);
        gt_write_lp(w, x->version);
    }
    if (x->n_services)
        write_list(w, EXTENSION_SERVICES, x->services, x->n_services);
    if (x->n_host_keys)
        write_list(w, EXTENSION_HOST_KEYS, x->host_keys, x->n_host_keys);
    if (x->n_sessions)
        write_number(w, EXTENSION_SESSIONS, x->n_sessions, 2);
    if (x->since)
        write_number(w, EXTENSION_PUBLISHED, x->since, 8);
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

static bool extension_decode(uint8_t type, struct gt_span value, struct gt_extensions *x)
{
    struct gt_reader r = gt_reader(value.data, value.n);
    switch (type) {
    case EXTENSION_VERSION: x->version = value; return value.n > 0 && is_printable(value);
    case EXTENSION_SERVICES: return read_list(value, x->services, GT_SERVICES_MAX, &x->n_services);
    case EXTENSION_HOST_KEYS:
        return read_list(value, x->host_keys, GT_HOST_KEYS_MAX, &x->n_host_keys);
    case EXTENSION_SESSIONS: x->n_sessions = gt_read_u16(&r); return gt_reader_is_done(&r);
    case EXTENSION_PUBLISHED: x->since = gt_read_u64(&r); return gt_reader_is_done(&r);
    }
    return true; /* of a later version: skipped */
}

/* Each known extension once at most. */
static void extensions_decode(struct gt_reader *r, struct gt_extensions *x)
{
    uint32_t seen = 0;
    for (size_t n = gt_read_u8(r); n && !r->failed; n--) {
        uint8_t type = gt_read_u8(r);
        struct gt_span value = gt_read_lp(r);
        uint32_t bit = type && type <= EXTENSION_PUBLISHED ? UINT32_C(1) << type : 0;
        if (seen & bit)
            r->failed = true;
        seen |= bit;
        if (!r->failed && !extension_decode(type, value, x))
            r->failed = true;
    }
}

void gt_proof_encode(const struct gt_proof *proof, struct gt_writer *w)
{
    gt_write_lp(w, proof->certificate);
    gt_write_u16(w, proof->sigalg);
    gt_write_lp(w, proof->signature);
}

/* The end of every signed message; only sizes are checked, the rest is trust.c's. */
static void proof_decode(struct gt_reader *r, struct gt_proof *proof)
{
    proof->certificate = read_limited(r, GT_CERTIFICATE_MAX);
    proof->sigalg = gt_read_u16(r);
    proof->signature = read_limited(r, GT_SIGNATURE_MAX);
}

/* --- inner forms ---------------------------------------------------------------------------- */

void gt_state_encode(const struct gt_state *state, struct gt_writer *w)
{
    gt_write_u16(w, VERSION);
    gt_write_u8(w, state->is_online);
    gt_write_bytes(w, state->epoch, sizeof(state->epoch));
    gt_write_u64(w, state->seq);
    extensions_encode(&state->extensions, w);
}

int gt_state_decode(struct gt_span inner, struct gt_state *ret)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_state state = {0};
    read_fixed(&r, VERSION, 2);
    uint8_t online = gt_read_u8(&r);
    state.is_online = online;
    gt_read_into(&r, state.epoch, sizeof(state.epoch));
    state.seq = gt_read_u64(&r);
    extensions_decode(&r, &state.extensions);
    if (!gt_reader_is_done(&r) || online > 1)
        return GT_MESSAGE_E_BAD;
    *ret = state;
    return 0;
}

void gt_req_encode(const struct gt_req *req, struct gt_writer *w)
{
    gt_write_u16(w, VERSION);
    gt_write_u8(w, SUITE);
    gt_write_string(w, req->operator_);
    gt_write_string(w, req->device);
    gt_write_bytes(w, req->epoch, sizeof(req->epoch));
    gt_write_bytes(w, req->id, sizeof(req->id));
    gt_write_bytes(w, req->gx, sizeof(req->gx));
    gt_write_string(w, req->service);
    gt_write_u16(w, req->flags);
    gt_write_u32(w, req->lifetime_s);
    gt_write_string(w, req->relay);
}

int gt_req_decode(struct gt_span inner, struct gt_req *ret, struct gt_span *ret_body,
                  struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_req req = {0};
    struct gt_proof proof;
    read_fixed(&r, VERSION, 2);
    read_fixed(&r, SUITE, 1);
    read_name(&r, req.operator_);
    read_name(&r, req.device);
    gt_read_into(&r, req.epoch, sizeof(req.epoch));
    gt_read_into(&r, req.id, sizeof(req.id));
    gt_read_into(&r, req.gx, sizeof(req.gx));
    gt_read_string(&r, req.service, sizeof(req.service));
    read_fixed(&r, 0, 2); /* flags: none is known, and none may be passed over */
    req.lifetime_s = gt_read_u32(&r);
    gt_read_string(&r, req.relay, sizeof(req.relay));
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

void gt_close_encode(const struct gt_close *close, struct gt_writer *w)
{
    gt_write_u16(w, VERSION);
    gt_write_string(w, close->operator_);
    gt_write_string(w, close->device);
    gt_write_bytes(w, close->epoch, sizeof(close->epoch));
    gt_write_bytes(w, close->id, sizeof(close->id));
    gt_write_lp(w, close->is_all ? gt_span_text("all") : gt_span(close->rid, sizeof(close->rid)));
}

int gt_close_decode(struct gt_span inner, struct gt_close *ret, struct gt_span *ret_body,
                    struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_close close = {0};
    struct gt_proof proof;
    read_fixed(&r, VERSION, 2);
    read_name(&r, close.operator_);
    read_name(&r, close.device);
    gt_read_into(&r, close.epoch, sizeof(close.epoch));
    gt_read_into(&r, close.id, sizeof(close.id));
    struct gt_span which = gt_read_lp(&r);
    struct gt_span body = gt_span(inner.data, inner.n - r.left);
    proof_decode(&r, &proof);
    close.is_all = gt_span_equals(which, gt_span_text("all"));
    if (!gt_reader_is_done(&r) || (!close.is_all && which.n != sizeof(close.rid)))
        return GT_MESSAGE_E_BAD;
    if (!close.is_all)
        memcpy(close.rid, which.data, sizeof(close.rid));
    *ret = close;
    *ret_body = body;
    *ret_proof = proof;
    return 0;
}

void gt_ack_encode(const struct gt_ack *ack, struct gt_writer *w)
{
    gt_write_u8(w, ack->status);
    gt_write_u32(w, ack->lifetime_s);
    gt_write_u16(w, ack->max_streams);
    gt_write_u32(w, ack->window);
    gt_write_string(w, ack->device);
    gt_write_string(w, ack->operator_);
    extensions_encode(&ack->extensions, w);
}

int gt_ack_decode(struct gt_span inner, struct gt_ack *ret, struct gt_span *ret_signed,
                  struct gt_proof *ret_proof)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_ack ack = {0};
    struct gt_proof proof;
    ack.status = gt_read_u8(&r);
    ack.lifetime_s = gt_read_u32(&r);
    ack.max_streams = gt_read_u16(&r);
    ack.window = gt_read_u32(&r);
    read_name(&r, ack.device);
    read_name(&r, ack.operator_);
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
    gt_write_bytes(w, nak->id, sizeof(nak->id));
    gt_write_u16(w, nak->code);
    gt_write_bytes(w, nak->epoch, sizeof(nak->epoch));
    gt_write_u16(w, nak->retry_after_s);
}

int gt_nak_decode(struct gt_span inner, struct gt_nak *ret)
{
    struct gt_reader r = gt_reader(inner.data, inner.n);
    struct gt_nak nak;
    gt_read_into(&r, nak.id, sizeof(nak.id));
    nak.code = gt_read_u16(&r);
    gt_read_into(&r, nak.epoch, sizeof(nak.epoch));
    nak.retry_after_s = gt_read_u16(&r);
    if (!gt_reader_is_done(&r))
        return GT_MESSAGE_E_BAD;
    *ret = nak;
    return 0;
}

/* --- outer form ----------------------------------------------------------------------------- */

int gt_message_peek(struct gt_span payload, enum gt_message_type *ret_type)
{
    if (payload.n < GT_MESSAGE_HEADER || payload.n > GT_MESSAGE_MAX ||
        memcmp(payload.data, magic, sizeof(magic)) != 0 || payload.data[4] > GT_MESSAGE_CLOSE)
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
