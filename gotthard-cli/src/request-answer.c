/* SPDX-License-Identifier: ISC */
/*
 * The answers of the device to a request. A message that is not the device's own never ends a wait:
 * the real one may follow. An answer that is sealed correctly, but not trusted, is the failure only
 * if no better one comes in time.
 */
#include <string.h>

#include "diagnosis.h"
#include "gotthard/base/clock.h"
#include "request-internal.h"

#define WITHDRAWN_MAX 8 /* sessions of untrusted answers: each costs a message */

/* Closes the session that the sender of an untrusted answer has opened, because it would wait for
 * this operator at the relay. */
static void request_withdraw_untrusted(struct request *request)
{
    const uint8_t *rid = request->answer.keys.rid;

    if (!request_opens_session(request) || request->answer.ack.status != GT_ACK_OK ||
        request->n_withdrawn >= WITHDRAWN_MAX || memcmp(request->withdrawn, rid, GT_RID_SIZE) == 0)
        return;
    memcpy(request->withdrawn, rid, GT_RID_SIZE);
    request->n_withdrawn += request_withdraw(request);
}

/* Keeps the failure for the end of the wait. */
static void request_note_untrusted(struct request *request)
{
    const struct request_settings *settings = &request->settings;

    if (!request->is_noted)
        print_note(settings->print,
                   "an answer was not signed by the pinned key of %s; waiting for another",
                   settings->device);
    request->is_noted = true;
    failure_set(&request->failure, FAILURE_UNTRUSTED, NULL,
                "the answer is not from a trusted key: the key of %s is not pinned in %s",
                settings->device, settings->identity->pins_path);
    request_withdraw_untrusted(request);
}

/* The answer to an early request came before the device's state. */
static void request_end_early(struct request *request)
{
    if (!request->is_early)
        return;
    request->is_early = false;
    request_enter(request, REQUEST_AWAITING_ANSWER);
    request_start_repeating(request);
}

/* A NAK: the device has another epoch, or a holder of the key pretends that. The request before it
 * stays outstanding beside the new one. */
static void request_retry(struct request *request)
{
    if (memcmp(request->sent_epoch, request->answer.epoch, GT_EPOCH_SIZE) == 0)
        return;
    memcpy(request->epoch, request->answer.epoch, GT_EPOCH_SIZE);
    request->earlier = request->initiator;
    request_send(request);
}

static void request_refuse(struct request *request)
{
    const struct request_settings *settings = &request->settings;
    bool is_signed = request->answer.nak_code == UINT16_MAX;

    diagnosis_of_refusal(settings->device, &request->answer, settings->service,
                         settings->settings->relay, &request->failure);
    if (request->answer.nak_code == GT_NAK_BUSY && request_wait_while_busy(request)) {
        request->is_noted = true;
        return;
    }
    request->is_noted = true;
    if (is_signed || !settings->service || settings->identity->trust.policy == GT_POLICY_PSK)
        request_fail(request);
}

/* Returns as gt_initiator_receive. Of the request before a NAK only an ACK counts. */
static int request_open_answer(struct request *request, const char *topic, struct gt_span payload)
{
    time_t now = time(NULL);
    int r = gt_initiator_receive(&request->initiator, topic, payload, now, &request->answer);

    request->is_epoch_confirmed = r == 0;
    if (r != GT_INITIATOR_E_IGNORE)
        return r;
    r = gt_initiator_receive(&request->earlier, topic, payload, now, &request->answer);
    return r > 0 && request->answer.nak_code != UINT16_MAX ? GT_INITIATOR_E_IGNORE : r;
}

void request_receive_answer(struct request *request, const char *topic, struct gt_span payload)
{
    int r = request_open_answer(request, topic, payload);

    if (r < 0) {
        request_fail_with(request, r);
        return;
    }
    if (r != GT_INITIATOR_E_IGNORE)
        request_end_early(request);
    switch (r) {
    case 0:
        request->answered_at = gt_clock();
        if (request_opens_session(request)) /* both are new if the epoch changes at this moment */
            request_withdraw_unanswered(request, false);
        if (request_reject_version(request))
            request_fail(request);
        else
            request_enter(request,
                          request_opens_session(request) ? REQUEST_ATTENDING : REQUEST_DONE);
        return;
    case GT_INITIATOR_E_RETRY: request_retry(request); return;
    case GT_INITIATOR_E_REFUSED: request_refuse(request); return;
    case GT_INITIATOR_E_UNTRUSTED: request_note_untrusted(request); return;
    default: return; /* not an answer to this request */
    }
}
