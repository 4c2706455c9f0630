/* SPDX-License-Identifier: ISC */
/*
 * Asking a device. The private key of the question lives here until an authentic answer came or
 * the question is given up, and is wiped then. An answer is checked in the protocol's order: the
 * question it names, the key agreement, the seal, the names, the policy, and only then what it
 * says.
 */
#include "gotthard/ask.h"

#include "gotthard/agreement.h"

static void forget_secrets(struct gt_ask *ask)
{
    ask->is_outstanding = false;
    gt_wipe(ask->x, sizeof(ask->x));
}

static int derive_keys(struct gt_ask *ask, const uint8_t *of_device, const uint8_t *previous)
{
    int r = gt_key_messages(of_device, &ask->keys);
    ask->has_previous = previous != NULL;
    if (r == 0 && previous)
        r = gt_key_messages(previous, &ask->previous);
    return r;
}

int gt_ask_init(struct gt_ask *ask, const struct gt_ask_settings *settings,
                const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous)
{
    *ask = (struct gt_ask){.settings = *settings};
    if (strcmp(settings->operator_, settings->device) == 0 ||
        gt_topic_req(settings->prefix, settings->device, ask->req_topic) ||
        gt_topic_rsp(settings->prefix, settings->device, settings->operator_, ask->rsp_topic) ||
        gt_topic_state(settings->prefix, settings->device, ask->state_topic) ||
        strcmp(settings->device, "+") == 0)
        return GT_MESSAGE_E_BAD;
    int r = derive_keys(ask, of_device, previous);
    if (r)
        gt_ask_deinit(ask);
    return r;
}

void gt_ask_deinit(struct gt_ask *ask)
{
    forget_secrets(ask);
    gt_wipe(&ask->keys, sizeof(ask->keys));
    gt_wipe(&ask->previous, sizeof(ask->previous));
}

/* --- the question --------------------------------------------------------------------------- */

/* @w holds a body; what is signed goes up to and with lp(certificate). */
static int sign(const struct gt_signer *signer, enum gt_signature_context context,
                struct gt_writer *w)
{
    uint8_t signature[GT_SIGNATURE_MAX];
    size_t n_signature = 0;
    gt_write_lp(w, gt_signer_certificate(signer));
    struct gt_span said = gt_span(w->data, w->n);
    int r = signer ? gt_signer_sign(signer, context, &said, 1, signature, &n_signature) : 0;
    gt_write_u16(w, gt_signer_algorithm(signer));
    gt_write_lp(w, gt_span(signature, n_signature));
    return r < 0 ? r : w->failed ? GT_MESSAGE_E_BAD : r;
}

static int seal(struct gt_ask *ask, enum gt_message_type type, enum gt_signature_context context,
                struct gt_writer *inner, uint8_t *ret, size_t *ret_n)
{
    int r = sign(ask->settings.signer, context, inner);
    struct gt_span whole = gt_span(inner->data, inner->n);
    if (r == 0)
        r = gt_sha256(&whole, 1, ask->th1);
    if (r == 0)
        r = gt_message_seal(ask->keys.req, type, ask->req_topic, whole, ret, ret_n);
    ask->is_close = type == GT_MESSAGE_CLOSE;
    ask->is_outstanding = r == 0;
    return r;
}

int gt_ask_request(struct gt_ask *ask, const uint8_t *epoch, uint8_t *ret, size_t *ret_n)
{
    const struct gt_ask_settings *settings = &ask->settings;
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_req req = {.lifetime_s = settings->lifetime_s};
    if (strlen(settings->service) >= sizeof(req.service) ||
        strlen(settings->relay) >= sizeof(req.relay))
        return GT_MESSAGE_E_BAD;
    int r = gt_random(ask->id, sizeof(ask->id));
    if (r == 0)
        r = gt_random(ask->x, sizeof(ask->x));
    if (r == 0)
        r = gt_x25519_public(ask->x, ask->gx);
    if (r)
        return r;
    stpcpy(req.operator_, settings->operator_);
    stpcpy(req.device, settings->device);
    stpcpy(req.service, settings->service);
    stpcpy(req.relay, settings->relay);
    memcpy(req.epoch, epoch, sizeof(req.epoch));
    memcpy(req.id, ask->id, sizeof(req.id));
    memcpy(req.gx, ask->gx, sizeof(req.gx));
    gt_req_encode(&req, &w);
    return seal(ask, GT_MESSAGE_REQ, GT_SIGNATURE_REQ, &w, ret, ret_n);
}

int gt_ask_close(struct gt_ask *ask, const uint8_t *epoch, const uint8_t *rid, uint8_t *ret,
                 size_t *ret_n)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_close close = {.is_all = rid == NULL};
    int r = gt_random(ask->id, sizeof(ask->id));
    if (r)
        return r;
    stpcpy(close.operator_, ask->settings.operator_);
    stpcpy(close.device, ask->settings.device);
    memcpy(close.epoch, epoch, sizeof(close.epoch));
    memcpy(close.id, ask->id, sizeof(close.id));
    if (rid)
        memcpy(close.rid, rid, sizeof(close.rid));
    gt_close_encode(&close, &w);
    return seal(ask, GT_MESSAGE_CLOSE, GT_SIGNATURE_CLOSE, &w, ret, ret_n);
}

/* --- the answer ----------------------------------------------------------------------------- */

/* Conditions on the way to an authentic message all mean: not an answer to this. */
static int ignored(int r)
{
    return r > 0 ? GT_ASK_E_IGNORE : r;
}

static int open_ack(struct gt_ask *ask, struct gt_span payload, struct gt_agreement *agreement,
                    struct gt_answer *ret, struct gt_span *ret_signed, struct gt_proof *ret_proof)
{
    struct gt_reader reader = gt_reader(payload.data, payload.n);
    size_t n = 0;
    gt_read_bytes(&reader, GT_MESSAGE_HEADER);
    gt_read_into(&reader, agreement->id, sizeof(agreement->id));
    gt_read_into(&reader, agreement->gy, sizeof(agreement->gy));
    if (reader.failed || memcmp(agreement->id, ask->id, sizeof(ask->id)) != 0)
        return GT_ASK_E_IGNORE;
    int r = gt_agreement_meet(agreement, ask->x, agreement->gy);
    if (r == 0)
        r = gt_agreement_open(agreement, payload, ret->buffer, &n);
    if (r == 0)
        r = gt_ack_decode(gt_span(ret->buffer, n), &ret->ack, ret_signed, ret_proof);
    if (r)
        return ignored(r);
    bool is_for_us = strcmp(ret->ack.device, ask->settings.device) == 0 &&
                     strcmp(ret->ack.operator_, ask->settings.operator_) == 0;
    return is_for_us ? 0 : GT_ASK_E_IGNORE;
}

static int check_ack(struct gt_ask *ask, struct gt_span payload, time_t now,
                     struct gt_agreement *agreement, struct gt_answer *ret)
{
    struct gt_span said;
    struct gt_proof proof;
    const struct gt_pin *pin;
    int r = open_ack(ask, payload, agreement, ret, &said, &proof);
    if (r)
        return r;
    struct gt_span parts[] = {gt_span(agreement->th1, sizeof(agreement->th1)),
                              gt_span(agreement->gy, sizeof(agreement->gy)), said};
    r = gt_trust_check(ask->settings.trust, false, ask->settings.device, now, &proof,
                       GT_SIGNATURE_ACK, parts, GT_ARRAY_SIZE(parts), &pin);
    if (r < 0)
        return r;
    int condition = r ? GT_ASK_E_UNTRUSTED : ret->ack.status == GT_ACK_OK ? 0 : GT_ASK_E_REFUSED;
    if (ret->ack.status == GT_ACK_OK)
        r = gt_agreement_session(agreement, payload, &ret->keys);
    if (condition)
        gt_wipe(ret->keys.session, sizeof(ret->keys.session));
    return r < 0 ? r : condition;
}

/* An untrusted ACK leaves the question open: the device itself may still answer. */
static int receive_ack(struct gt_ask *ask, struct gt_span payload, time_t now,
                       struct gt_answer *ret)
{
    struct gt_agreement agreement = {.mix = ask->keys.mix, .topic = ask->rsp_topic};
    if (ask->is_close)
        return GT_ASK_E_IGNORE;
    memcpy(agreement.th1, ask->th1, sizeof(agreement.th1));
    int r = check_ack(ask, payload, now, &agreement, ret);
    gt_wipe(&agreement, sizeof(agreement));
    if (r == 0 || r == GT_ASK_E_REFUSED)
        forget_secrets(ask);
    return r;
}

static int receive_nak(struct gt_ask *ask, struct gt_span payload, struct gt_answer *ret)
{
    struct gt_nak nak;
    size_t n = 0;
    int r =
        gt_message_open(ask->keys.nak, GT_MESSAGE_NAK, ask->rsp_topic, payload, ret->buffer, &n);
    if (r > 0 && ask->has_previous)
        r = gt_message_open(ask->previous.nak, GT_MESSAGE_NAK, ask->rsp_topic, payload, ret->buffer,
                            &n);
    if (r == 0)
        r = gt_nak_decode(gt_span(ret->buffer, n), &nak);
    if (r)
        return ignored(r);
    bool is_closed = nak.code == GT_NAK_CLOSED;
    if (memcmp(nak.id, ask->id, sizeof(ask->id)) != 0 || (is_closed && !ask->is_close))
        return GT_ASK_E_IGNORE;
    forget_secrets(ask);
    memcpy(ret->epoch, nak.epoch, sizeof(ret->epoch));
    ret->nak_code = nak.code;
    ret->n_closed = is_closed ? nak.retry_after_s : 0;
    if (is_closed)
        return 0;
    return nak.code == GT_NAK_EPOCH && ask->n_naks++ == 0 ? GT_ASK_E_RETRY : GT_ASK_E_REFUSED;
}

int gt_ask_receive(struct gt_ask *ask, const char *topic, struct gt_span payload, time_t now,
                   struct gt_answer *ret)
{
    enum gt_message_type type;
    if (!ask->is_outstanding || strcmp(topic, ask->rsp_topic) != 0 ||
        gt_message_peek(payload, &type))
        return GT_ASK_E_IGNORE;
    ret->nak_code = 0xffff;
    ret->n_closed = 0;
    switch (type) {
    case GT_MESSAGE_ACK: return receive_ack(ask, payload, now, ret);
    case GT_MESSAGE_NAK: return receive_nak(ask, payload, ret);
    case GT_MESSAGE_STATE:
    case GT_MESSAGE_REQ:
    case GT_MESSAGE_CLOSE: break;
    }
    return GT_ASK_E_IGNORE;
}

int gt_ask_state(const struct gt_ask *ask, const char *topic, struct gt_span payload,
                 struct gt_state *ret, uint8_t *buffer)
{
    size_t n = 0;
    if (strcmp(topic, ask->state_topic) != 0)
        return GT_ASK_E_IGNORE;
    int r = gt_message_open(ask->keys.presence, GT_MESSAGE_STATE, topic, payload, buffer, &n);
    if (r > 0 && ask->has_previous)
        r = gt_message_open(ask->previous.presence, GT_MESSAGE_STATE, topic, payload, buffer, &n);
    if (r == 0)
        r = gt_state_decode(gt_span(buffer, n), ret);
    return ignored(r);
}
