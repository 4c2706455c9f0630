/* SPDX-License-Identifier: ISC */
/*
 * Requests to a device. The ephemeral private key exists until an authentic answer arrives or the
 * request is given up, and is wiped then. An answer is checked in the protocol's order: request id,
 * key agreement, seal, names, policy. Its contents must not be used before all of these succeed.
 */
#include "gotthard/signaling/initiator.h"

#include <stdio.h>

#include "gotthard/signaling/key-agreement.h"
#include "gotthard/signaling/topic.h"

static void forget_secrets(struct gt_initiator *initiator)
{
    initiator->is_outstanding = false;
    gt_wipe(initiator->x, sizeof(initiator->x));
}

static int derive_keys(struct gt_initiator *initiator, const uint8_t *of_device,
                       const uint8_t *previous)
{
    int r = gt_key_messages(of_device, &initiator->keys);

    initiator->has_previous = previous != NULL;
    if (r == 0 && previous)
        r = gt_key_messages(previous, &initiator->previous);
    return r;
}

int gt_initiator_init(struct gt_initiator *initiator, const struct gt_initiator_settings *settings,
                      const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous)
{
    *initiator = (struct gt_initiator){.settings = *settings};
    if (strcmp(settings->operator_, settings->device) == 0 ||
        gt_topic_req(settings->prefix, settings->device, initiator->req_topic) ||
        gt_topic_rsp(settings->prefix, settings->device, settings->operator_,
                     initiator->rsp_topic) ||
        gt_topic_state(settings->prefix, settings->device, initiator->state_topic) ||
        strcmp(settings->device, "+") == 0)
        return GT_MESSAGE_E_BAD;
    int r = derive_keys(initiator, of_device, previous);
    if (r)
        gt_initiator_deinit(initiator);
    return r;
}

void gt_initiator_deinit(struct gt_initiator *initiator)
{
    forget_secrets(initiator);
    gt_wipe(&initiator->keys, sizeof(initiator->keys));
    gt_wipe(&initiator->previous, sizeof(initiator->previous));
}

/* --- the request ---------------------------------------------------------------------------- */

/* Appends the proof to the body in @w. The signature covers the body and lp(certificate). */
static int sign(const struct gt_signer *signer, enum gt_signature_context context,
                struct gt_writer *w)
{
    uint8_t signature[GT_SIGNATURE_MAX];
    size_t n_signature = 0;

    gt_write_lp(w, gt_signer_certificate(signer));
    struct gt_span statement = gt_span(w->data, w->n);
    int r = signer ? gt_signer_sign(signer, context, &statement, 1, signature, &n_signature) : 0;
    gt_write_u16(w, gt_signer_algorithm(signer));
    gt_write_lp(w, gt_span(signature, n_signature));
    return r < 0 ? r : w->failed ? GT_MESSAGE_E_BAD : r;
}

static int seal(struct gt_initiator *initiator, enum gt_message_type type,
                enum gt_signature_context context, struct gt_writer *inner, uint8_t *ret,
                size_t *ret_n)
{
    int r = sign(initiator->settings.signer, context, inner);
    struct gt_span whole = gt_span(inner->data, inner->n);

    if (r == 0)
        r = gt_sha256(&whole, 1, initiator->th1);
    if (r == 0)
        r = gt_message_seal(initiator->keys.req, type, initiator->req_topic, whole, ret, ret_n);
    initiator->is_close = type == GT_MESSAGE_CLOSE;
    initiator->is_outstanding = r == 0;
    return r;
}

int gt_initiator_request(struct gt_initiator *initiator, const uint8_t *epoch, uint8_t *ret,
                         size_t *ret_n)
{
    const struct gt_initiator_settings *settings = &initiator->settings;
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_req req = {.lifetime_s = settings->lifetime_s, .is_query = settings->is_query};

    if (strlen(settings->service) >= sizeof(req.service) ||
        strlen(settings->relay) >= sizeof(req.relay))
        return GT_MESSAGE_E_BAD;
    int r = gt_random(initiator->id, sizeof(initiator->id));
    if (r == 0)
        r = gt_random(initiator->x, sizeof(initiator->x));
    if (r == 0)
        r = gt_x25519_public(initiator->x, initiator->gx);
    if (r)
        return r;
    stpcpy(req.operator_, settings->operator_);
    stpcpy(req.device, settings->device);
    stpcpy(req.service, settings->service);
    stpcpy(req.relay, settings->relay);
    if (settings->purpose)
        snprintf(req.purpose, sizeof(req.purpose), "%s", settings->purpose);
    memcpy(req.epoch, epoch, sizeof(req.epoch));
    memcpy(req.id, initiator->id, sizeof(req.id));
    memcpy(req.gx, initiator->gx, sizeof(req.gx));
    gt_req_encode(&req, &w);
    return seal(initiator, GT_MESSAGE_REQ, GT_SIGNATURE_REQ, &w, ret, ret_n);
}

int gt_initiator_close(struct gt_initiator *initiator, const uint8_t *epoch,
                       const struct gt_close *what, uint8_t *ret, size_t *ret_n)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_close close = *what;
    int r = gt_random(initiator->id, sizeof(initiator->id));

    if (r)
        return r;
    stpcpy(close.operator_, initiator->settings.operator_);
    stpcpy(close.device, initiator->settings.device);
    memcpy(close.epoch, epoch, sizeof(close.epoch));
    memcpy(close.id, initiator->id, sizeof(close.id));
    gt_close_encode(&close, &w);
    return seal(initiator, GT_MESSAGE_CLOSE, GT_SIGNATURE_CLOSE, &w, ret, ret_n);
}

/* --- the answer ----------------------------------------------------------------------------- */

/* Until a message is authentic, every condition means that it is not an answer. */
static int ignore_condition(int r)
{
    return r > 0 ? GT_INITIATOR_E_IGNORE : r;
}

static int open_ack(struct gt_initiator *initiator, struct gt_span payload,
                    struct gt_key_agreement *agreement, struct gt_answer *ret,
                    struct gt_span *ret_signed, struct gt_proof *ret_proof)
{
    struct gt_reader reader = gt_reader(payload.data, payload.n);
    size_t n = 0;

    gt_read_bytes(&reader, GT_MESSAGE_HEADER);
    gt_read_into(&reader, agreement->id, sizeof(agreement->id));
    gt_read_into(&reader, agreement->gy, sizeof(agreement->gy));
    if (reader.failed || memcmp(agreement->id, initiator->id, sizeof(initiator->id)) != 0)
        return GT_INITIATOR_E_IGNORE;
    int r = gt_key_agreement_derive(agreement, initiator->x, agreement->gy);
    if (r == 0)
        r = gt_key_agreement_open(agreement, payload, ret->buffer, &n);
    if (r == 0)
        r = gt_ack_decode(gt_span(ret->buffer, n), &ret->ack, ret_signed, ret_proof);
    if (r)
        return ignore_condition(r);
    bool is_for_us = strcmp(ret->ack.device, initiator->settings.device) == 0 &&
                     strcmp(ret->ack.operator_, initiator->settings.operator_) == 0;
    return is_for_us ? 0 : GT_INITIATOR_E_IGNORE;
}

/* The device may shorten the lifetime, and must not extend it. 0 is none. */
static uint32_t shorter_lifetime(uint32_t requested_s, uint32_t granted_s)
{
    return requested_s && granted_s ? GT_MIN(requested_s, granted_s)
                                    : GT_MAX(requested_s, granted_s);
}

static int check_ack(struct gt_initiator *initiator, struct gt_span payload, time_t now,
                     struct gt_key_agreement *agreement, struct gt_answer *ret)
{
    struct gt_span statement;
    struct gt_proof proof;
    const struct gt_pin *pin;
    int r = open_ack(initiator, payload, agreement, ret, &statement, &proof);

    if (r)
        return r;
    struct gt_span parts[] = {gt_span(agreement->th1, sizeof(agreement->th1)),
                              gt_span(agreement->gy, sizeof(agreement->gy)), statement};
    r = gt_trust_check(initiator->settings.trust, false, initiator->settings.device, now, &proof,
                       GT_SIGNATURE_ACK, parts, GT_ARRAY_SIZE(parts), &pin);
    if (r < 0)
        return r;
    ret->ack.lifetime_s = shorter_lifetime(initiator->settings.lifetime_s, ret->ack.lifetime_s);
    int condition = r                              ? GT_INITIATOR_E_UNTRUSTED
                    : ret->ack.status == GT_ACK_OK ? 0
                                                   : GT_INITIATOR_E_REFUSED;
    if (ret->ack.status == GT_ACK_OK && !initiator->settings.is_query)
        r = gt_key_agreement_session(agreement, payload, &ret->keys);
    if (condition)
        gt_wipe(ret->keys.session, sizeof(ret->keys.session));
    return r < 0 ? r : condition;
}

/* An untrusted ACK leaves the request outstanding: the device itself may still answer. */
static int receive_ack(struct gt_initiator *initiator, struct gt_span payload, time_t now,
                       struct gt_answer *ret)
{
    struct gt_key_agreement agreement = {.mix = initiator->keys.mix, .topic = initiator->rsp_topic};

    if (initiator->is_close)
        return GT_INITIATOR_E_IGNORE;
    memcpy(agreement.th1, initiator->th1, sizeof(agreement.th1));
    int r = check_ack(initiator, payload, now, &agreement, ret);
    gt_wipe(&agreement, sizeof(agreement));
    if (r == 0 || r == GT_INITIATOR_E_REFUSED)
        forget_secrets(initiator);
    return r;
}

static int receive_nak(struct gt_initiator *initiator, struct gt_span payload,
                       struct gt_answer *ret)
{
    struct gt_nak nak;
    size_t n = 0;
    int r = gt_message_open(initiator->keys.nak, GT_MESSAGE_NAK, initiator->rsp_topic, payload,
                            ret->buffer, &n);

    if (r > 0 && initiator->has_previous)
        r = gt_message_open(initiator->previous.nak, GT_MESSAGE_NAK, initiator->rsp_topic, payload,
                            ret->buffer, &n);
    if (r == 0)
        r = gt_nak_decode(gt_span(ret->buffer, n), &nak);
    if (r)
        return ignore_condition(r);
    bool is_closed = nak.code == GT_NAK_CLOSED;
    if (memcmp(nak.id, initiator->id, sizeof(initiator->id)) != 0 ||
        (is_closed && !initiator->is_close))
        return GT_INITIATOR_E_IGNORE;
    if (initiator->is_close &&
        nak.code != GT_NAK_BUSY) /* a NAK is not signed: the ACK of a REQ may still follow */
        forget_secrets(initiator);
    memcpy(ret->epoch, nak.epoch, sizeof(ret->epoch));
    ret->nak_code = nak.code;
    ret->n_closed = is_closed ? nak.retry_after_s : 0;
    ret->retry_after_s = is_closed ? 0 : nak.retry_after_s;
    if (is_closed)
        return 0;
    return nak.code == GT_NAK_EPOCH && initiator->n_naks++ == 0 ? GT_INITIATOR_E_RETRY
                                                                : GT_INITIATOR_E_REFUSED;
}

int gt_initiator_receive(struct gt_initiator *initiator, const char *topic, struct gt_span payload,
                         time_t now, struct gt_answer *ret)
{
    enum gt_message_type type;

    if (!initiator->is_outstanding || strcmp(topic, initiator->rsp_topic) != 0 ||
        gt_message_peek(payload, &type))
        return GT_INITIATOR_E_IGNORE;
    ret->nak_code = 0xffff;
    ret->n_closed = 0;
    switch (type) {
    case GT_MESSAGE_ACK: return receive_ack(initiator, payload, now, ret);
    case GT_MESSAGE_NAK: return receive_nak(initiator, payload, ret);
    case GT_MESSAGE_STATE:
    case GT_MESSAGE_REQ:
    case GT_MESSAGE_CLOSE:
    case GT_MESSAGE_REPORT: break;
    }
    return GT_INITIATOR_E_IGNORE;
}

int gt_initiator_state(const struct gt_initiator *initiator, const char *topic,
                       struct gt_span payload, struct gt_state *ret, uint8_t *buffer)
{
    size_t n = 0;

    if (strcmp(topic, initiator->state_topic) != 0)
        return GT_INITIATOR_E_IGNORE;
    int r = gt_message_open(initiator->keys.presence, GT_MESSAGE_STATE, topic, payload, buffer, &n);
    if (r > 0 && initiator->has_previous)
        r = gt_message_open(initiator->previous.presence, GT_MESSAGE_STATE, topic, payload, buffer,
                            &n);
    if (r == 0)
        r = gt_state_decode(gt_span(buffer, n), ret);
    return ignore_condition(r);
}
