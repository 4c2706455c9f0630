/* SPDX-License-Identifier: ISC */
/*
 * After the answer: the device's reports and its state, and withdrawing the session. A message that
 * is not authentic, or not new, must not change anything.
 */
#include <string.h>

#include "request-internal.h"

void request_notify_agreed(struct request *request)
{
    request->is_agreed = true;
    request->events.on_agreed(request->userdata, &request->answer);
    gt_wipe(request->answer.keys.session, sizeof(request->answer.keys.session));
    if (request->report.seq > 0) /* it arrived together with the answer */
        request->events.on_report(request->userdata, &request->report);
}

static void request_receive_report(struct request *request, struct gt_span payload)
{
    struct gt_report report;

    if (gt_report_open(request->answer.keys.report, request->initiator.rsp_topic, payload,
                       &report) != 0 ||
        report.seq <= request->report.seq)
        return; /* an answer, another session's, or not new */
    request->report = report;
    if (request->is_agreed)
        request->events.on_report(request->userdata, &report);
}

static void request_attend_state(struct request *request, const char *topic, bool is_retained,
                                 struct gt_span payload)
{
    enum device_state before = request->device_state;

    if (!request_keep_state(request, topic, is_retained, payload))
        return;
    if (request->is_agreed && before == DEVICE_ONLINE && request->device_state == DEVICE_OFFLINE)
        request->events.on_offline(request->userdata);
}

void request_attend(struct request *request, const char *topic, bool is_retained,
                    struct gt_span payload)
{
    if (strcmp(topic, request->initiator.state_topic) == 0)
        request_attend_state(request, topic, is_retained, payload);
    else
        request_receive_report(request, payload);
}

/* The CLOSE comes from a copy: the request may still be outstanding. Its answer is not awaited. */
static bool request_close(struct request *request, const struct gt_close *what)
{
    struct gt_initiator closing = request->initiator;
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    int ignored;

    bool is_sent = gt_initiator_close(&closing, request->epoch, what, message, &n) == 0 &&
                   request_publish(request, message, n, &ignored) == 0;
    gt_initiator_deinit(&closing);
    return is_sent;
}

bool request_withdraw(struct request *request)
{
    struct gt_close close = {.scope = GT_CLOSE_RID};

    memcpy(close.rid, request->answer.keys.rid, sizeof(close.rid));
    return request_close(request, &close);
}

bool request_reject_version(struct request *request)
{
    if (!request_opens_session(request) ||
        !diagnosis_of_version(request->settings.device, &request->answer.ack.extensions,
                              &request->failure))
        return false;
    (void)request_withdraw(request); /* without a connection nothing can be done */
    return true;
}

void request_withdraw_unanswered(struct request *request, bool with_refused)
{
    const struct gt_initiator *asked[] = {&request->initiator, &request->earlier};

    for (size_t i = 0; i < GT_ARRAY_SIZE(asked); i++) {
        struct gt_close close = {.scope = GT_CLOSE_REQUEST};

        if (!asked[i]->is_outstanding || (asked[i]->n_naks > 0 && !with_refused))
            continue;
        memcpy(close.request, asked[i]->id, sizeof(close.request));
        (void)request_close(request, &close); /* without a connection nothing can be done */
    }
}
