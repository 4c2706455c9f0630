/* SPDX-License-Identifier: ISC */
/*
 * Publishes the request, and repeats the same bytes until an answer comes. At a broker of several
 * nodes a subscription may take effect some 100 ms after its SUBACK: then the request, or the
 * answer to it, reaches no one. The device answers a repetition with its stored answer, so that
 * there is never a second session.
 */
#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "request-internal.h"

#define EXPIRY_S 20 /* the broker discards a request that is not delivered by then */
#define REPEAT_S .3 /* to the first repetition; each further wait is twice as long */

int request_publish(struct request *request, const uint8_t *message, size_t n, int *ret_id)
{
    return gt_mqtt_publish(request->mqtt, request->initiator.req_topic, gt_span(message, n), false,
                           EXPIRY_S, ret_id);
}

static void request_repeat_in(struct request *request, double seconds)
{
    ev_timer_stop(request->settings.loop, &request->repeat);
    ev_timer_set(&request->repeat, seconds, 0);
    ev_timer_start(request->settings.loop, &request->repeat);
}

static int request_write(struct request *request)
{
    const struct request_settings *settings = &request->settings;
    struct gt_close close = {.scope = settings->scope};

    memcpy(request->sent_epoch, request->epoch, GT_EPOCH_SIZE);
    if (settings->service)
        return gt_initiator_request(&request->initiator, request->epoch, request->message,
                                    &request->n_message);
    if (settings->purpose)
        snprintf(close.purpose, sizeof(close.purpose), "%s", settings->purpose);
    return gt_initiator_close(&request->initiator, request->epoch, &close, request->message,
                              &request->n_message);
}

int request_send_first(struct request *request)
{
    int r = request_write(request);

    if (r == 0)
        r = request_publish(request, request->message, request->n_message, &request->publish_id);
    request->n_undelivered = 0;
    request->sent_at = gt_clock();
    if (r == 0)
        request_start_repeating(request);
    return r;
}

void request_notify_sent(struct request *request, bool is_likely)
{
    if (request_opens_session(request) && request->events.on_sent)
        request->events.on_sent(request->userdata, is_likely);
}

void request_start_repeating(struct request *request)
{
    request->repeat_wait = REPEAT_S;
    request_repeat_in(request, REPEAT_S);
}

/* A failure is not the end: if the connection is lost, on_down follows. */
void request_repeat(struct request *request)
{
    int r = request_publish(request, request->message, request->n_message, &request->publish_id);

    gt_debug("device=%s request repeated result=%d", request->settings.device, r);
    request->repeat_wait *= 2;
    request_repeat_in(request, request->repeat_wait);
}

void request_on_repeat(struct ev_loop *loop, ev_timer *timer, int revents)
{
    request_repeat(timer->data);
}

void request_stop_repeating(struct request *request)
{
    ev_timer_stop(request->settings.loop, &request->repeat);
}

bool request_wait_while_busy(struct request *request)
{
    const struct request_settings *settings = &request->settings;
    unsigned wait_s = GT_MAX(request->answer.retry_after_s, 1u);

    if (wait_s >= ev_timer_remaining(settings->loop, &request->deadline))
        return false;
    if (!request->is_noted)
        print_note(settings->print, "%s is busy with other requests; repeating this one in %u s",
                   settings->device, wait_s);
    request_repeat_in(request, wait_s);
    return true;
}
