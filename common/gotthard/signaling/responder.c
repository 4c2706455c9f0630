/* SPDX-License-Identifier: ISC */
/*
 * Answering operators. What comes in is checked in the protocol's order, cheapest first: nothing is
 * parsed before the seal has opened, no signature is looked at before the message is known to be
 * new, and no stranger's message costs more than a token and one AEAD. Answers are remembered for
 * as long as their epoch is good, so a message delivered twice never makes two sessions.
 */
#include "gotthard/responder.h"

#include "gotthard/epoch.h"

#define NAK_INTERVAL_MS 1000
#define TOKEN           1000 /* the bucket counts thousandths, as the clock does */

struct gt_responder {
    char prefix[GT_TOPIC_MAX + 1], device[GT_NAME_MAX + 1];
    char req_topic[GT_TOPIC_MAX + 1], state_topic[GT_TOPIC_MAX + 1];
    const struct gt_signer *signer;
    const struct gt_trust *trust;
    struct gt_message_keys keys, previous_keys;
    bool has_previous_keys;
    struct gt_epoch current;  /* ends: rotates */
    struct gt_epoch previous; /* ends: is refused */
    uint64_t seq;
    uint64_t tokens, tokens_at_ms, next_nak_ms;
};

/* --- epochs --------------------------------------------------------------------------------- */

static int epoch_rotate(struct gt_responder *responder, uint64_t now_ms)
{
    struct gt_epoch fresh;
    int r = gt_epoch_init(&fresh, now_ms + GT_EPOCH_LIFE_MS);
    if (r)
        return r;
    gt_epoch_deinit(&responder->previous);
    responder->previous = responder->current;
    responder->previous.ends_ms = now_ms + GT_EPOCH_GRACE_MS;
    responder->current = fresh;
    return 0;
}

/* NULL: neither the current epoch nor the one before it. */
static struct gt_epoch *epoch_find(struct gt_responder *responder, uint64_t now_ms,
                                   const uint8_t *id)
{
    if (memcmp(responder->current.id, id, GT_EPOCH_SIZE) == 0)
        return &responder->current;
    if (now_ms < responder->previous.ends_ms &&
        memcmp(responder->previous.id, id, GT_EPOCH_SIZE) == 0)
        return &responder->previous;
    return NULL;
}

/* Wherever it has gone since: a rotation may have come between the question and its answer. */
static int remember_reply(struct gt_responder *responder, const struct gt_incoming *in)
{
    struct gt_span reply = gt_span(in->reply, in->n_reply);
    int r = gt_epoch_answer(&responder->current, in->agreement.id, reply);
    return r ? r : gt_epoch_answer(&responder->previous, in->agreement.id, reply);
}

/* --- birth and end -------------------------------------------------------------------------- */

static int responder_init(struct gt_responder *responder,
                          const struct gt_responder_settings *settings, const uint8_t *of_device,
                          const uint8_t *previous, uint64_t now_ms)
{
    if (gt_topic_req(settings->prefix, settings->device, responder->req_topic) ||
        gt_topic_state(settings->prefix, settings->device, responder->state_topic))
        return GT_MESSAGE_E_BAD;
    stpcpy(responder->prefix, settings->prefix);
    stpcpy(responder->device, settings->device);
    responder->signer = settings->signer;
    responder->trust = settings->trust;
    responder->tokens = GT_REQ_BURST * TOKEN;
    responder->tokens_at_ms = now_ms;
    int r = gt_epoch_init(&responder->current, now_ms + GT_EPOCH_LIFE_MS);
    if (r == 0)
        r = gt_key_messages(of_device, &responder->keys);
    responder->has_previous_keys = previous != NULL;
    if (r == 0 && previous)
        r = gt_key_messages(previous, &responder->previous_keys);
    return r;
}

int gt_responder_new(const struct gt_responder_settings *settings,
                     const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous,
                     uint64_t now_ms, struct gt_responder **ret)
{
    struct gt_responder *responder = calloc(1, sizeof(*responder));
    if (!responder)
        return -ENOMEM;
    int r = responder_init(responder, settings, of_device, previous, now_ms);
    if (r)
        gt_responder_free(responder);
    else
        *ret = responder;
    return r;
}

struct gt_responder *gt_responder_free(struct gt_responder *responder)
{
    if (!responder)
        return NULL;
    gt_epoch_deinit(&responder->current);
    gt_epoch_deinit(&responder->previous);
    gt_wipe(responder, sizeof(*responder));
    free(responder);
    return NULL;
}

const char *gt_responder_req_topic(const struct gt_responder *responder)
{
    return responder->req_topic;
}

const char *gt_responder_state_topic(const struct gt_responder *responder)
{
    return responder->state_topic;
}

void gt_responder_set_trust(struct gt_responder *responder, const struct gt_signer *signer,
                            const struct gt_trust *trust)
{
    responder->signer = signer;
    responder->trust = trust;
}

bool gt_responder_tick(struct gt_responder *responder, uint64_t now_ms)
{
    if (now_ms >= responder->previous.ends_ms)
        gt_epoch_deinit(&responder->previous);
    /* Without random bytes the old epoch goes on, and the next tick tries again. */
    return now_ms >= responder->current.ends_ms && epoch_rotate(responder, now_ms) == 0;
}

int gt_responder_state(struct gt_responder *responder, bool is_online,
                       const struct gt_extensions *extensions, uint8_t *ret, size_t *ret_n)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_state state = {.is_online = is_online, .seq = ++responder->seq};
    memcpy(state.epoch, responder->current.id, sizeof(state.epoch));
    if (extensions)
        state.extensions = *extensions;
    gt_state_encode(&state, &w);
    if (w.failed)
        return GT_MESSAGE_E_BAD;
    return gt_message_seal(responder->keys.presence, GT_MESSAGE_STATE, responder->state_topic,
                           gt_span(inner, w.n), ret, ret_n);
}

/* --- answers -------------------------------------------------------------------------------- */

static int reply_nak(struct gt_responder *responder, struct gt_incoming *in, enum gt_nak_code code,
                     uint16_t number)
{
    uint8_t inner[64];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_nak nak = {.code = (uint16_t)code, .retry_after_s = number};
    memcpy(nak.id, in->agreement.id, sizeof(nak.id));
    memcpy(nak.epoch, responder->current.id, sizeof(nak.epoch));
    gt_nak_encode(&nak, &w);
    return gt_message_seal(in->keys->nak, GT_MESSAGE_NAK, in->rsp_topic, gt_span(inner, w.n),
                           in->reply, &in->n_reply);
}

/* The certificate goes with what is signed, the signature after it. */
static int write_proof(const struct gt_responder *responder, const struct gt_incoming *in,
                       struct gt_writer *w)
{
    uint8_t signature[GT_SIGNATURE_MAX];
    size_t n_signature = 0;
    int r = 0;
    gt_write_lp(w, gt_signer_certificate(responder->signer));
    if (responder->signer && !w->failed) {
        struct gt_span parts[] = {gt_span(in->agreement.th1, GT_KEY_SIZE),
                                  gt_span(in->agreement.gy, GT_KEY_SIZE), gt_span(w->data, w->n)};
        r = gt_signer_sign(responder->signer, GT_SIGNATURE_ACK, parts, GT_ARRAY_SIZE(parts),
                           signature, &n_signature);
    }
    gt_write_u16(w, gt_signer_algorithm(responder->signer));
    gt_write_lp(w, gt_span(signature, n_signature));
    return r;
}

/* GT_MESSAGE_E_BAD: does not fit. */
static int seal_ack(struct gt_responder *responder, struct gt_incoming *in,
                    const struct gt_ack *ack)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    gt_ack_encode(ack, &w);
    int r = write_proof(responder, in, &w);
    if (r == 0 && w.failed)
        return GT_MESSAGE_E_BAD;
    if (r == 0)
        r = gt_agreement_seal(&in->agreement, gt_span(inner, w.n), in->reply, &in->n_reply);
    return r;
}

/* The names are those of the question, whatever the caller left in @ack. */
static int reply_ack(struct gt_responder *responder, struct gt_incoming *in, struct gt_ack ack)
{
    in->agreement.topic = in->rsp_topic; /* set here, so that the struct may be copied before */
    memcpy(ack.device, in->req.device, sizeof(ack.device));
    memcpy(ack.operator_, in->req.operator_, sizeof(ack.operator_));
    int r = seal_ack(responder, in, &ack);
    if (r > 0) {
        ack.extensions = (struct gt_extensions){0};
        r = seal_ack(responder, in, &ack);
    }
    return r ? r : remember_reply(responder, in);
}

int gt_responder_grant(struct gt_responder *responder, struct gt_incoming *in,
                       const struct gt_ack *ack, struct gt_session_keys *ret)
{
    struct gt_ack granted = *ack;
    granted.status = GT_ACK_OK;
    int r = reply_ack(responder, in, granted);
    if (r == 0)
        r = gt_agreement_session(&in->agreement, gt_span(in->reply, in->n_reply), ret);
    gt_wipe(in->agreement.prk, sizeof(in->agreement.prk));
    return r;
}

int gt_responder_deny(struct gt_responder *responder, struct gt_incoming *in,
                      enum gt_ack_status status)
{
    int r = reply_ack(responder, in, (struct gt_ack){.status = (uint8_t)status});
    gt_wipe(in->agreement.prk, sizeof(in->agreement.prk));
    return r;
}

int gt_responder_closed(struct gt_responder *responder, struct gt_incoming *in,
                        enum gt_nak_code code, uint16_t n_closed)
{
    int r = reply_nak(responder, in, code, n_closed);
    return r ? r : remember_reply(responder, in);
}

/* --- questions ------------------------------------------------------------------------------ */

/* An opened REQ or CLOSE: what the checks of both have in common. */
struct question {
    enum gt_message_type type;
    uint8_t inner[GT_MESSAGE_MAX];
    size_t n;
    const char *operator_, *device; /* of in->req or in->close */
    const uint8_t *epoch;
    struct gt_span body;
    struct gt_proof proof;
};

static int drop(struct gt_incoming *in, const char *why)
{
    in->verdict = GT_VERDICT_DROP;
    in->why = why;
    return 0;
}

static int reply(struct gt_incoming *in, const char *why)
{
    in->verdict = GT_VERDICT_REPLY;
    in->why = why;
    return 0;
}

static bool take_token(struct gt_responder *responder, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms > responder->tokens_at_ms ? now_ms - responder->tokens_at_ms : 0;
    uint64_t fill = GT_MIN(passed_ms, (uint64_t)GT_REQ_BURST * TOKEN) * GT_REQ_RATE_PER_S;
    responder->tokens = GT_MIN(responder->tokens + fill, (uint64_t)GT_REQ_BURST * TOKEN);
    responder->tokens_at_ms = now_ms;
    if (responder->tokens < TOKEN)
        return false;
    responder->tokens -= TOKEN;
    return true;
}

static int open_question(struct gt_responder *responder, struct gt_span payload,
                         struct gt_incoming *in, struct question *q)
{
    in->keys = &responder->keys;
    int r = gt_message_open(in->keys->req, q->type, responder->req_topic, payload, q->inner, &q->n);
    if (r > 0 && responder->has_previous_keys) {
        in->keys = &responder->previous_keys;
        r = gt_message_open(in->keys->req, q->type, responder->req_topic, payload, q->inner, &q->n);
    }
    return r;
}

static int decode_question(struct gt_incoming *in, struct question *q)
{
    struct gt_span inner = gt_span(q->inner, q->n);
    bool is_close = q->type == GT_MESSAGE_CLOSE;
    int r = is_close ? gt_close_decode(inner, &in->close, &q->body, &q->proof)
                     : gt_req_decode(inner, &in->req, &q->body, &q->proof);
    if (r)
        return r;
    q->operator_ = is_close ? in->close.operator_ : in->req.operator_;
    q->device = is_close ? in->close.device : in->req.device;
    q->epoch = is_close ? in->close.epoch : in->req.epoch;
    in->agreement.mix = in->keys->mix;
    memcpy(in->agreement.id, is_close ? in->close.id : in->req.id, GT_REQ_ID_SIZE);
    return gt_sha256(&inner, 1, in->agreement.th1);
}

static int answer_stale(struct gt_responder *responder, uint64_t now_ms, struct gt_incoming *in)
{
    if (now_ms < responder->next_nak_ms)
        return drop(in, "of a stale epoch, and one was answered just now");
    responder->next_nak_ms = now_ms + NAK_INTERVAL_MS;
    int r = reply_nak(responder, in, GT_NAK_EPOCH, 0);
    return r ? r : reply(in, "of a stale epoch");
}

static int answer_again(const struct gt_seen *seen, struct gt_incoming *in)
{
    if (memcmp(seen->th1, in->agreement.th1, sizeof(seen->th1)) != 0)
        return drop(in, "another message with an id that was used");
    if (!seen->reply.n)
        return drop(in, "a duplicate of one that is being decided");
    memcpy(in->reply, seen->reply.data, seen->reply.n);
    in->n_reply = seen->reply.n;
    return reply(in, "a duplicate");
}

static int agree(struct gt_incoming *in)
{
    uint8_t y[GT_KEY_SIZE];
    int r = gt_random(y, sizeof(y));
    if (r == 0)
        r = gt_x25519_public(y, in->agreement.gy);
    if (r == 0)
        r = gt_agreement_meet(&in->agreement, y, in->req.gx);
    gt_wipe(y, sizeof(y));
    return r;
}

/* The message will be answered: from now on it is known. Full: the epoch rotates. */
static int note(struct gt_responder *responder, uint64_t now_ms, struct gt_epoch *epoch,
                struct gt_incoming *in)
{
    int r = gt_epoch_add(epoch, in->agreement.id, in->agreement.th1);
    if (r || epoch != &responder->current || gt_epoch_count(epoch) < GT_SEEN_MAX)
        return r; /* the previous epoch grows by no more than the bucket gives in its minute */
    r = epoch_rotate(responder, now_ms);
    in->is_epoch_rotated = r == 0;
    return r;
}

static int refuse(struct gt_responder *responder, struct gt_incoming *in, enum gt_message_type type)
{
    in->is_denied = true;
    int r = type == GT_MESSAGE_CLOSE ? gt_responder_closed(responder, in, GT_NAK_DENIED, 0)
                                     : gt_responder_deny(responder, in, GT_ACK_DENIED);
    return r ? r : reply(in, "not signed by anybody this device trusts");
}

/* A question that is new: does the policy trust who asks? */
static int judge(struct gt_responder *responder, uint64_t now_ms, time_t now,
                 struct gt_epoch *epoch, const struct question *q, struct gt_incoming *in)
{
    bool is_close = q->type == GT_MESSAGE_CLOSE;
    /* body || lp(certificate), which lie together */
    struct gt_span said = gt_span(q->body.data, q->body.n + 2 + q->proof.certificate.n);
    int r = is_close ? 0 : agree(in);
    if (r)
        return r < 0 ? r : drop(in, "a low-order point");
    int denied =
        gt_trust_check(responder->trust, true, q->operator_, now, &q->proof,
                       is_close ? GT_SIGNATURE_CLOSE : GT_SIGNATURE_REQ, &said, 1, &in->pin);
    r = denied < 0 ? denied : note(responder, now_ms, epoch, in);
    if (r)
        return r;
    if (denied)
        return refuse(responder, in, q->type);
    in->verdict = is_close ? GT_VERDICT_CLOSE : GT_VERDICT_REQUEST;
    return 0;
}

static int consider(struct gt_responder *responder, uint64_t now_ms, time_t now,
                    struct gt_span payload, struct question *q, struct gt_incoming *in)
{
    int r = open_question(responder, payload, in, q);
    if (r)
        return r < 0 ? r : drop(in, "not sealed with this device's key");
    r = decode_question(in, q);
    if (r)
        return r < 0 ? r : drop(in, "malformed");
    if (strcmp(q->device, responder->device) != 0)
        return drop(in, "for another device");
    if (strcmp(q->operator_, responder->device) == 0)
        return drop(in, "an operator of this device's own name");
    if (gt_topic_rsp(responder->prefix, responder->device, q->operator_, in->rsp_topic))
        return drop(in, "an operator whose topic would be too long");
    struct gt_epoch *epoch = epoch_find(responder, now_ms, q->epoch);
    if (!epoch)
        return answer_stale(responder, now_ms, in);
    const struct gt_seen *seen = gt_epoch_find(epoch, in->agreement.id);
    return seen ? answer_again(seen, in) : judge(responder, now_ms, now, epoch, q, in);
}

int gt_responder_receive(struct gt_responder *responder, uint64_t now_ms, time_t now,
                         const char *topic, bool is_retained, struct gt_span payload,
                         struct gt_incoming *ret)
{
    struct question q;
    memset(ret, 0, sizeof(*ret));
    if (strcmp(topic, responder->req_topic) != 0)
        return drop(ret, "on another topic");
    if (is_retained)
        return drop(ret, "retained");
    if (payload.n > GT_MESSAGE_MAX)
        return drop(ret, "too long");
    if (gt_message_peek(payload, &q.type) ||
        (q.type != GT_MESSAGE_REQ && q.type != GT_MESSAGE_CLOSE))
        return drop(ret, "neither REQ nor CLOSE");
    if (!take_token(responder, now_ms))
        return drop(ret, "too many at once");
    int r = consider(responder, now_ms, now, payload, &q, ret);
    gt_wipe(q.inner, sizeof(q.inner));
    return r;
}
