/* SPDX-License-Identifier: ISC */
/*
 * Answers to operators. Checks run in the protocol's order, cheapest first: nothing is parsed
 * before the seal has opened, and no signature is verified before the message is known to be new.
 * An unauthenticated or replayed message must not use up the share of any operator. Answers are
 * stored as long as their epoch is valid, so that a message delivered twice never makes two
 * sessions.
 */
#include "gotthard/signaling/responder-internal.h"
#include "gotthard/signaling/topic.h"

#define NAK_INTERVAL_MS   250
#define STATE_INTERVAL_MS 2000
#define BUSIES_PER_S      50 /* NAKs "busy", to all operators together */
#define BUSIES_BURST      250

/* --- epochs --------------------------------------------------------------------------------- */

static int epoch_rotate(struct gt_responder *responder, uint64_t now_ms)
{
    struct gt_replay_cache fresh;
    int r = gt_replay_cache_init(&fresh, now_ms + GT_EPOCH_LIFE_MS);

    if (r)
        return r;
    gt_replay_cache_deinit(&responder->previous);
    responder->previous = responder->current;
    responder->previous.ends_ms = now_ms + GT_EPOCH_GRACE_MS;
    responder->current = fresh;
    return 0;
}

/* Returns NULL if @id is neither the current epoch nor the valid previous one. */
static struct gt_replay_cache *epoch_find(struct gt_responder *responder, uint64_t now_ms,
                                          const uint8_t *id)
{
    if (memcmp(responder->current.id, id, GT_EPOCH_SIZE) == 0)
        return &responder->current;
    if (now_ms < responder->previous.ends_ms &&
        memcmp(responder->previous.id, id, GT_EPOCH_SIZE) == 0)
        return &responder->previous;
    return NULL;
}

/* New requests may name the previous epoch during its grace, which must not grow without limit. */
static bool epoch_has_room(const struct gt_replay_cache *epoch)
{
    return gt_replay_cache_count(epoch) < 2 * GT_REPLAY_CACHE_MAX;
}

/* --- lifetime ------------------------------------------------------------------------------- */

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
    gt_request_rate_init(&responder->rate, now_ms);
    gt_token_bucket_init(&responder->busies, BUSIES_PER_S, BUSIES_BURST, now_ms);
    int r = gt_replay_cache_init(&responder->current, now_ms + GT_EPOCH_LIFE_MS);
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
    gt_replay_cache_deinit(&responder->current);
    gt_replay_cache_deinit(&responder->previous);
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
        gt_replay_cache_deinit(&responder->previous);
    /* Without random bytes the old epoch stays, and the next tick tries again. */
    return now_ms >= responder->current.ends_ms && epoch_rotate(responder, now_ms) == 0;
}

/* --- requests ------------------------------------------------------------------------------- */

/* An opened REQ or CLOSE: the parts that both have in common. */
struct request {
    enum gt_message_type type;
    uint8_t inner[GT_MESSAGE_MAX];
    size_t n;
    const char *operator_, *device; /* in in->req or in->close */
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

static int open_request(struct gt_responder *responder, struct gt_span payload,
                        struct gt_incoming *in, struct request *q)
{
    in->keys = &responder->keys;
    int r = gt_message_open(in->keys->req, q->type, responder->req_topic, payload, q->inner, &q->n);
    if (r > 0 && responder->has_previous_keys) {
        in->keys = &responder->previous_keys;
        r = gt_message_open(in->keys->req, q->type, responder->req_topic, payload, q->inner, &q->n);
    }
    return r;
}

static int decode_request(struct gt_incoming *in, struct request *q)
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

/* Such a message may be a replay. Its id is random, so that recorded messages rarely delay the NAK
 * for a new one. Its sender may have found no STATE at the broker. */
static int reject_stale_epoch(struct gt_responder *responder, uint64_t now_ms,
                              struct gt_incoming *in)
{
    uint64_t *next_ms = &responder->next_nak_ms[in->agreement.id[0]];

    if (now_ms < *next_ms)
        return drop(in, "stale epoch, and a NAK was sent a moment ago");
    *next_ms = now_ms + NAK_INTERVAL_MS;
    in->is_state_due = now_ms >= responder->next_state_ms;
    if (in->is_state_due)
        responder->next_state_ms = now_ms + STATE_INTERVAL_MS;
    int r = gt_responder_nak(responder, in, GT_NAK_EPOCH, 0);
    return r ? r : reply(in, "stale epoch");
}

static int repeat_reply(struct gt_replay_record *seen, uint64_t now_ms, struct gt_incoming *in)
{
    if (memcmp(seen->th1, in->agreement.th1, sizeof(seen->th1)) != 0)
        return drop(in, "request id reused by another message");
    if (!seen->reply.n)
        return drop(in, "duplicate of a request that is being decided");
    if (!gt_replay_record_may_repeat(seen, now_ms))
        return drop(in, "duplicate, and the answer was repeated a moment ago");
    memcpy(in->reply, seen->reply.data, seen->reply.n);
    in->n_reply = seen->reply.n;
    return reply(in, "duplicate");
}

static int agree(struct gt_incoming *in)
{
    uint8_t y[GT_KEY_SIZE];
    int r = gt_random(y, sizeof(y));

    if (r == 0)
        r = gt_x25519_public(y, in->agreement.gy);
    if (r == 0)
        r = gt_key_agreement_derive(&in->agreement, y, in->req.gx);
    gt_wipe(y, sizeof(y));
    return r;
}

/* Adds the request to the replay cache. Rotates the epoch if the cache is full. */
static int add_to_cache(struct gt_responder *responder, uint64_t now_ms,
                        struct gt_replay_cache *epoch, struct gt_incoming *in)
{
    int r = gt_replay_cache_add(epoch, in->agreement.id, in->agreement.th1);

    if (r || epoch != &responder->current || gt_replay_cache_count(epoch) < GT_REPLAY_CACHE_MAX)
        return r;
    r = epoch_rotate(responder, now_ms);
    in->is_state_due = r == 0;
    return r;
}

/* The request is not stored: the same bytes are a new request later. */
static int reject_busy(struct gt_responder *responder, struct gt_incoming *in,
                       const char *operator_, uint64_t now_ms)
{
    if (!gt_token_bucket_take(&responder->busies, 1, now_ms))
        return drop(in, "rate limit of the operator, and of its NAKs");
    uint16_t wait_s = gt_request_rate_wait_s(&responder->rate, operator_, now_ms);
    int r = gt_responder_nak(responder, in, GT_NAK_BUSY, wait_s);
    return r ? r : reply(in, "rate limit of the operator");
}

static int deny_untrusted(struct gt_responder *responder, struct gt_incoming *in,
                          enum gt_message_type type)
{
    in->is_denied = true;
    int r = type == GT_MESSAGE_CLOSE ? gt_responder_closed(responder, in, GT_NAK_DENIED, 0)
                                     : gt_responder_deny(responder, in, GT_ACK_DENIED);
    return r ? r : reply(in, "not signed by a trusted key");
}

/* Applies the policy to a new request. */
static int decide(struct gt_responder *responder, uint64_t now_ms, time_t now,
                  struct gt_replay_cache *epoch, const struct request *q, struct gt_incoming *in)
{
    bool is_close = q->type == GT_MESSAGE_CLOSE;
    /* body || lp(certificate), which are adjacent */
    struct gt_span statement = gt_span(q->body.data, q->body.n + 2 + q->proof.certificate.n);
    int denied =
        gt_trust_check(responder->trust, true, q->operator_, now, &q->proof,
                       is_close ? GT_SIGNATURE_CLOSE : GT_SIGNATURE_REQ, &statement, 1, &in->pin);

    if (denied < 0)
        return denied;
    if (!gt_request_rate_take(&responder->rate, denied ? NULL : q->operator_, now_ms))
        return denied ? drop(in, "rate limit of untrusted senders")
                      : reject_busy(responder, in, q->operator_, now_ms);
    int r = is_close ? 0 : agree(in);
    if (r)
        return r < 0 ? r : drop(in, "low-order X25519 point");
    r = add_to_cache(responder, now_ms, epoch, in);
    if (r)
        return r;
    if (denied)
        return deny_untrusted(responder, in, q->type);
    in->is_previous_key = in->keys == &responder->previous_keys;
    in->is_signed = !is_close && gt_proof_fingerprint(&q->proof, in->fingerprint);
    in->verdict = is_close ? GT_VERDICT_CLOSE : GT_VERDICT_REQUEST;
    return 0;
}

static int check_request(struct gt_responder *responder, uint64_t now_ms, time_t now,
                         struct gt_span payload, struct request *q, struct gt_incoming *in)
{
    int r = open_request(responder, payload, in, q);

    if (r)
        return r < 0 ? r : drop(in, "not sealed with this device's key");
    r = decode_request(in, q);
    if (r)
        return r < 0 ? r : drop(in, "malformed");
    if (strcmp(q->device, responder->device) != 0)
        return drop(in, "for another device");
    if (strcmp(q->operator_, responder->device) == 0)
        return drop(in, "the operator has the device's name");
    if (gt_topic_rsp(responder->prefix, responder->device, q->operator_, in->rsp_topic))
        return drop(in, "the response topic would be too long");
    struct gt_replay_cache *epoch = epoch_find(responder, now_ms, q->epoch);
    struct gt_replay_record *seen = epoch ? gt_replay_cache_find(epoch, in->agreement.id) : NULL;
    if (seen)
        return repeat_reply(seen, now_ms, in);
    if (!epoch || !epoch_has_room(epoch))
        return reject_stale_epoch(responder, now_ms, in);
    return decide(responder, now_ms, now, epoch, q, in);
}

void gt_responder_forget(struct gt_responder *responder, const struct gt_incoming *in)
{
    gt_replay_cache_remove(&responder->current, in->agreement.id);
    gt_replay_cache_remove(&responder->previous, in->agreement.id);
}

int gt_responder_receive(struct gt_responder *responder, uint64_t now_ms, time_t now,
                         const char *topic, bool is_retained, struct gt_span payload,
                         struct gt_incoming *ret)
{
    struct request q;

    memset(ret, 0, sizeof(*ret));
    if (strcmp(topic, responder->req_topic) != 0)
        return drop(ret, "wrong topic");
    if (is_retained)
        return drop(ret, "retained");
    if (payload.n > GT_MESSAGE_MAX)
        return drop(ret, "too long");
    if (gt_message_peek(payload, &q.type) ||
        (q.type != GT_MESSAGE_REQ && q.type != GT_MESSAGE_CLOSE))
        return drop(ret, "neither REQ nor CLOSE");
    int r = check_request(responder, now_ms, now, payload, &q, ret);
    gt_wipe(q.inner, sizeof(q.inner));
    return r;
}
