/* SPDX-License-Identifier: ISC */
/*
 * The messages of the device: STATE, ACK and NAK. A message that the broker would reject for its
 * size is made smaller, in the order in which operators can do without its parts. It is never
 * sealed before it is small enough: the key and IV of an ACK serve for one message.
 */
#include "gotthard/signaling/responder-internal.h"

void gt_responder_set_message_max(struct gt_responder *responder, size_t n)
{
    responder->message_max = n;
}

/* Returns the largest payload on @topic. */
static size_t payload_max(const struct gt_responder *responder, const char *topic)
{
    size_t n_topic = strlen(topic);

    if (responder->message_max == 0)
        return GT_MESSAGE_MAX;
    return responder->message_max > n_topic
               ? GT_MIN(responder->message_max - n_topic, (size_t)GT_MESSAGE_MAX)
               : 0;
}

static void omit(struct gt_extensions *extensions, enum gt_omitted omitted)
{
    switch (omitted) {
    case GT_OMITTED_TAGS: extensions->n_tags = 0; break;
    case GT_OMITTED_SERVICES:
        extensions->n_services = 0;
        extensions->status = gt_span(NULL, 0);
        extensions->fault = gt_span(NULL, 0);
        break;
    case GT_OMITTED_HOST_KEYS: extensions->n_host_keys = 0; break;
    case GT_OMITTED_NONE: break;
    }
}

/* Returns 0, or E_BAD if a payload with the inner form in @w and @n_around more bytes is too large.
 * The size of the first attempt, which is complete, is kept. */
static int check_size(const struct gt_responder *responder, const char *topic,
                      const struct gt_writer *w, size_t n_around, struct gt_fit *fit)
{
    size_t n = w->failed ? GT_MESSAGE_MAX + 1 : w->n + n_around;

    fit->max = payload_max(responder, topic);
    fit->n = GT_MAX(fit->n, n);
    return n > fit->max ? GT_MESSAGE_E_BAD : 0;
}

/* --- STATE ---------------------------------------------------------------------------------- */

/* A will comes after each STATE of its connection and before those of the next one. */
static uint64_t state_seq(struct gt_responder *responder, const struct gt_state_form *form)
{
    uint32_t n = form->kind == GT_STATE_WILL ? UINT32_MAX : ++responder->n_states;

    return (uint64_t)form->connection << 32 | n;
}

static int write_state(struct gt_responder *responder, const struct gt_state *state,
                       struct gt_fit *fit, uint8_t *ret, size_t *ret_n)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));

    gt_state_encode(state, &w);
    int r = check_size(responder, responder->state_topic, &w, GT_MESSAGE_HEADER + GT_SEAL_OVERHEAD,
                       fit);
    return r ? r
             : gt_message_seal(responder->keys.presence, GT_MESSAGE_STATE, responder->state_topic,
                               gt_span(inner, w.n), ret, ret_n);
}

int gt_responder_state(struct gt_responder *responder, const struct gt_state_form *form,
                       struct gt_fit *ret_fit, uint8_t *ret, size_t *ret_n)
{
    struct gt_state state = {.is_online = form->kind == GT_STATE_ONLINE,
                             .seq = state_seq(responder, form)};
    int r = GT_MESSAGE_E_BAD;

    memcpy(state.epoch, responder->current.id, sizeof(state.epoch));
    if (form->extensions)
        state.extensions = *form->extensions;
    *ret_fit = (struct gt_fit){0};
    for (enum gt_omitted i = GT_OMITTED_NONE; r > 0 && i <= GT_OMITTED_TAGS; i++) {
        ret_fit->omitted = i;
        omit(&state.extensions, i);
        r = write_state(responder, &state, ret_fit, ret, ret_n);
    }
    return r;
}

/* --- NAK ------------------------------------------------------------------------------------ */

/* The epoch may have rotated between the request and its answer, so both are tried. */
static int store_reply(struct gt_responder *responder, const struct gt_incoming *in)
{
    struct gt_span reply = gt_span(in->reply, in->n_reply);
    int r = gt_replay_cache_answer(&responder->current, in->agreement.id, reply);

    return r ? r : gt_replay_cache_answer(&responder->previous, in->agreement.id, reply);
}

int gt_responder_nak(struct gt_responder *responder, struct gt_incoming *in, enum gt_nak_code code,
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

int gt_responder_closed(struct gt_responder *responder, struct gt_incoming *in,
                        enum gt_nak_code code, uint16_t n_closed)
{
    int r = gt_responder_nak(responder, in, code, n_closed);

    return r ? r : store_reply(responder, in);
}

/* --- ACK ------------------------------------------------------------------------------------ */

/* The certificate is part of the signed bytes; the signature follows it. */
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

/* Returns GT_MESSAGE_E_BAD if the ACK is too large. */
static int seal_ack(struct gt_responder *responder, struct gt_incoming *in,
                    const struct gt_ack *ack)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));

    gt_ack_encode(ack, &w);
    int r = write_proof(responder, in, &w);
    if (r == 0)
        r = check_size(responder, in->rsp_topic, &w, GT_ACK_HEADER + GT_TAG_SIZE, &in->fit);
    if (r == 0)
        r = gt_key_agreement_seal(&in->agreement, gt_span(inner, w.n), in->reply, &in->n_reply);
    return r;
}

/* Answers by a NAK, which has a fixed size: not even the shortest ACK is small enough. */
static int reply_too_large(struct gt_responder *responder, struct gt_incoming *in)
{
    int r = gt_responder_nak(responder, in, GT_NAK_SIZE, (uint16_t)in->fit.n);

    if (r == 0)
        r = store_reply(responder, in);
    return r ? r : GT_RESPONDER_E_SIZE;
}

/* Sets the names in @ack to the request's. */
static int reply_ack(struct gt_responder *responder, struct gt_incoming *in, struct gt_ack ack)
{
    int r = GT_MESSAGE_E_BAD;

    in->agreement.topic = in->rsp_topic; /* set late: the caller may have copied @in */
    memcpy(ack.device, in->req.device, sizeof(ack.device));
    memcpy(ack.operator_, in->req.operator_, sizeof(ack.operator_));
    in->fit = (struct gt_fit){0};
    for (enum gt_omitted i = GT_OMITTED_NONE; r > 0 && i <= GT_OMITTED_SERVICES; i++) {
        in->fit.omitted = i;
        omit(&ack.extensions, i);
        r = seal_ack(responder, in, &ack);
    }
    if (r > 0)
        return reply_too_large(responder, in);
    return r ? r : store_reply(responder, in);
}

int gt_responder_grant(struct gt_responder *responder, struct gt_incoming *in,
                       const struct gt_ack *ack, struct gt_session_keys *ret)
{
    struct gt_ack granted = *ack;

    granted.status = GT_ACK_OK;
    int r = reply_ack(responder, in, granted);
    if (r == 0)
        r = gt_key_agreement_session(&in->agreement, gt_span(in->reply, in->n_reply), ret);
    gt_wipe(in->agreement.prk, sizeof(in->agreement.prk));
    return r;
}

static int responder_answer(struct gt_responder *responder, struct gt_incoming *in,
                            const struct gt_ack *ack)
{
    int r = reply_ack(responder, in, *ack);

    gt_wipe(in->agreement.prk, sizeof(in->agreement.prk));
    return r == GT_RESPONDER_E_SIZE ? 0 : r;
}

int gt_responder_inform(struct gt_responder *responder, struct gt_incoming *in,
                        const struct gt_extensions *extensions)
{
    return responder_answer(responder, in,
                            &(struct gt_ack){.status = GT_ACK_OK, .extensions = *extensions});
}

int gt_responder_deny(struct gt_responder *responder, struct gt_incoming *in,
                      enum gt_ack_status status)
{
    return responder_answer(responder, in, &(struct gt_ack){.status = (uint8_t)status});
}

int gt_responder_deny_limit(struct gt_responder *responder, struct gt_incoming *in,
                            const char *limit)
{
    return responder_answer(
        responder, in,
        &(struct gt_ack){.status = GT_ACK_QUOTA, .extensions.limit = gt_span_text(limit)});
}
