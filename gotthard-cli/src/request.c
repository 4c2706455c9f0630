/* SPDX-License-Identifier: ISC */
/*
 * The states of a request, each with its deadline:
 *
 *   CONNECTING -> SUBSCRIBING -> AWAITING_STATE -> AWAITING_ANSWER -> ATTENDING, DONE
 *
 * The answer to an early request (request-early.c) may come before AWAITING_ANSWER.
 *
 * The last callback always comes from a timer of zero and never from inside a callback of MQTT, so
 * that the owner may free everything at once. An offline device gets the request as well, with a
 * shorter deadline, because its retained state may be stale.
 */
#include "request-internal.h"

#include <stdio.h>
#include <string.h>

#include "broker-rights.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "mqtt-connect.h"
#include "operator-initiator.h"

#define SHORT_TIMEOUT_S  5. /* for the answer of a device that does not seem to be online */
#define NAME_TIMEOUT_S   3. /* for an answer that the broker probably withholds from this name */
#define SERVICE_OF_CLOSE ""

/* --- states -------------------------------------------------------------------------------- */

static void request_notify_owner(struct request *request);
static void request_ask_again(struct request *request);

static const struct {
    const char *name;
    double deadline_s;
    void (*on_expiry)(struct request *request);
} states[] = {
    [REQUEST_CONNECTING] = {"connecting", 25, request_fail_broker_timeout},
    [REQUEST_SUBSCRIBING] = {"subscribing", 10, request_fail_broker_timeout},
    [REQUEST_AWAITING_STATE] = {"awaiting-state", 1, request_send},
    [REQUEST_AWAITING_ANSWER] = {"awaiting-answer", 0 /* timeouts.answer */, request_fail_silence},
    [REQUEST_WAITING] = {"waiting", 0 /* request_wait_s() */, request_ask_again},
    [REQUEST_ATTENDING] = {"attending", 0, request_notify_agreed},
    [REQUEST_DONE] = {"done", 0, request_notify_owner},
};

bool request_opens_session(const struct request *request)
{
    return request->settings.service && !request->settings.is_query;
}

double request_round_trip_s(const struct request *request)
{
    return request->answered_at - request->sent_at;
}

unsigned request_answer_timeout_s(const struct request *request)
{
    const struct request_settings *settings = &request->settings;
    unsigned timeout_s = (unsigned)((settings->settings->answer_timeout_ms + 999) / 1000);

    if (identity_has_other_name(settings->identity, settings->settings))
        return GT_MIN(timeout_s, (unsigned)NAME_TIMEOUT_S);
    return request->settings.is_query ? GT_MIN(timeout_s, (unsigned)SHORT_TIMEOUT_S) : timeout_s;
}

void request_set_deadline(struct request *request, double seconds)
{
    ev_timer_stop(request->settings.loop, &request->deadline);
    ev_timer_set(&request->deadline, seconds, 0);
    ev_timer_start(request->settings.loop, &request->deadline);
}

void request_enter(struct request *request, enum request_state state)
{
    gt_debug("device=%s state %s -> %s", request->settings.device, states[request->state].name,
             states[state].name);
    request->state = state;
    if (state != REQUEST_AWAITING_ANSWER)
        request_stop_repeating(request);
    request_set_deadline(request, state == REQUEST_AWAITING_ANSWER
                                      ? request_answer_timeout_s(request)
                                      : states[state].deadline_s);
}

static void request_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct request *request = timer->data;

    states[request->state].on_expiry(request);
}

static void request_notify_owner(struct request *request)
{
    if (request->is_failed)
        request->events.on_end(request->userdata, NULL, &request->failure);
    else
        request->events.on_end(request->userdata, &request->answer, NULL);
}

/* --- sending the request ------------------------------------------------------------------- */

/* Notifies the owner, and shortens the deadline if the device does not seem to be online. Fails at
 * once if the broker has also reported twice that the device is not subscribed: once may be too
 * early. */
static void request_adjust_deadline(struct request *request)
{
    if (request->state != REQUEST_AWAITING_ANSWER)
        return;
    request_notify_sent(request, request->device_state == DEVICE_ONLINE);
    if (request->device_state == DEVICE_ONLINE)
        return;
    if (request->n_undelivered >= REQUEST_UNDELIVERED_MAX)
        request_fail_silence(request);
    else if (ev_timer_remaining(request->settings.loop, &request->deadline) > SHORT_TIMEOUT_S)
        request_set_deadline(request, SHORT_TIMEOUT_S);
}

void request_send(struct request *request)
{
    int r = request_keep_early(request) ? 0 : request_send_first(request);

    if (r != 0) {
        request_fail_with(request, r);
        return;
    }
    request_enter(request, REQUEST_AWAITING_ANSWER);
    request_adjust_deadline(request);
}

/* WAITING: the deadline, or the device is online. */
static void request_ask_again(struct request *request)
{
    if (!gt_mqtt_is_up(request->mqtt)) {
        request_fail(request); /* which waits on, while there is time */
        return;
    }
    request_wait_over(request);
    request_send(request);
}

/* --- messages of the device ---------------------------------------------------------------- */

bool request_keep_state(struct request *request, const char *topic, bool is_retained,
                        struct gt_span payload)
{
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state state;

    if (gt_initiator_state(&request->initiator, topic, payload, &state, buffer) != 0) {
        if (request->device_state == DEVICE_UNKNOWN)
            request->device_state = DEVICE_FOREIGN;
        return false;
    }
    if (!gt_state_order_accept(&request->order, &state, is_retained))
        return false;
    request->device_state = state.is_online ? DEVICE_ONLINE : DEVICE_OFFLINE;
    request->since = state.extensions.since;
    request->is_will = gt_state_is_will(&state);
    memcpy(request->epoch, state.epoch, GT_EPOCH_SIZE);
    return true;
}

/* An answer that comes before the access list would not be trusted. The deadline of the state
 * limits the wait for both. */
static void request_send_when_ready(struct request *request)
{
    bool is_known =
        request->device_state == DEVICE_ONLINE || request->device_state == DEVICE_OFFLINE;

    if (request->state == REQUEST_AWAITING_STATE && is_known && !request_awaits_list(request))
        request_send(request);
}

static void request_receive_state(struct request *request, const char *topic, bool is_retained,
                                  struct gt_span payload)
{
    if (!request_keep_state(request, topic, is_retained, payload) ||
        request->state == REQUEST_SUBSCRIBING)
        return;
    if (request->state == REQUEST_AWAITING_STATE) {
        request_send_when_ready(request);
    } else if (request->state == REQUEST_WAITING) {
        if (request->device_state == DEVICE_ONLINE)
            request_ask_again(request);
    } else if (request->n_undelivered > 0 && request->device_state == DEVICE_ONLINE) {
        request->n_undelivered = 0; /* the device has just reconnected */
        request_repeat(request);
    } else {
        request_adjust_deadline(request);
    }
}

/* --- events of the MQTT connection --------------------------------------------------------- */

static void request_on_up(void *userdata)
{
    struct request *request = userdata;

    request->was_up = true;
    if (request->state != REQUEST_CONNECTING && request->state != REQUEST_ATTENDING &&
        request->state != REQUEST_WAITING)
        return;
    int r = request_subscribe_list(request);
    if (r == 0)
        r = gt_mqtt_subscribe(request->mqtt, request->initiator.rsp_topic);
    if (r == 0)
        r = gt_mqtt_subscribe(request->mqtt, request->initiator.state_topic);
    if (request->state != REQUEST_CONNECTING)
        return; /* without a subscription: there are no reports, and the device is asked again */
    if (r != 0) {
        request_fail_with(request, r);
        return;
    }
    request_enter(request, REQUEST_SUBSCRIBING);
    request_send_early(request);
    request->events.on_broker(request->userdata);
}

static void request_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct request *request = userdata;

    if (request->state == REQUEST_ATTENDING || request->state == REQUEST_WAITING)
        return; /* it reconnects */
    if (request->state != REQUEST_DONE)
        mqtt_connect_failure(request->settings.settings, gt_mqtt_last_outcome(request->mqtt), why,
                             &request->failure);
    request_fail(request);
}

static void request_on_subscribed(void *userdata)
{
    struct request *request = userdata;

    if (request->state != REQUEST_SUBSCRIBING)
        return;
    request_enter(request, REQUEST_AWAITING_STATE);
    request_send_when_ready(request); /* if the state arrived before the SUBACK was reported */
}

static void request_on_message(void *userdata, const char *topic, bool is_retained,
                               struct gt_span payload)
{
    struct request *request = userdata;

    if (request->state == REQUEST_DONE)
        return;
    if (request_receive_list(request, topic, payload))
        request_send_when_ready(request);
    else if (request->state == REQUEST_ATTENDING)
        request_attend(request, topic, is_retained, payload);
    else if (strcmp(topic, request->initiator.state_topic) == 0)
        request_receive_state(request, topic, is_retained, payload);
    else if ((request->state == REQUEST_AWAITING_ANSWER || request->is_early) && !is_retained)
        request_receive_answer(request, topic, payload);
}

static void request_on_published(void *userdata, int id, bool is_undelivered)
{
    struct request *request = userdata;

    if (id != request->publish_id || !is_undelivered)
        return;
    if (++request->n_undelivered >= REQUEST_UNDELIVERED_MAX)
        request_stop_repeating(request); /* until the device's next state */
    request_adjust_deadline(request);
}

static void request_note_refused(struct request *request, const char *why)
{
    const struct request_settings *settings = &request->settings;

    failure_set(&request->failure, FAILURE_BROKER_REFUSED, NULL,
                "the broker refused the request to %s: %s", settings->device, why);
    broker_rights_hint(settings->settings, settings->identity, &request->failure);
}

static void request_on_refused(void *userdata, int id, const char *why)
{
    struct request *request = userdata;

    if (id != request->publish_id || request->state == REQUEST_ATTENDING)
        return;
    if (request->state != REQUEST_DONE)
        request_note_refused(request, why);
    request_fail(request);
}

/* --- creation and end ---------------------------------------------------------------------- */

static int request_init_initiator(struct request *request, struct failure *ret_failure)
{
    const struct request_settings *settings = &request->settings;
    struct gt_initiator_settings initiator = {
        .service = settings->service ? settings->service : SERVICE_OF_CLOSE,
        .relay = settings->settings->relay,
        .purpose = settings->purpose,
        .is_query = settings->is_query,
        .lifetime_s = (uint32_t)(settings->settings->lifetime_ms / 1000),
    };

    return operator_initiator_init(settings->settings, settings->identity, settings->device,
                                   &initiator, &request->initiator, ret_failure);
}

int request_new(const struct request_settings *settings, const struct request_events *events,
                void *userdata, struct request **ret, struct failure *ret_failure)
{
    static const struct gt_mqtt_events mqtt_events = {
        .on_up = request_on_up,
        .on_down = request_on_down,
        .on_subscribed = request_on_subscribed,
        .on_message = request_on_message,
        .on_published = request_on_published,
        .on_refused = request_on_refused,
    };
    struct request *request = calloc(1, sizeof(*request));

    if (!request)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    request->settings = *settings;
    request->events = *events;
    request->userdata = userdata;
    request->publish_id = -1;
    request->wait_until = settings->wait_s > 0 ? gt_clock() + settings->wait_s : 0;
    ev_init(&request->deadline, request_on_deadline);
    ev_init(&request->repeat, request_on_repeat);
    epoch_memory_init(&request->epochs, settings->settings, settings->identity);
    request->deadline.data = request->repeat.data = request;
    if (request_init_initiator(request, ret_failure) != 0 ||
        mqtt_connect(settings->loop, settings->settings, settings->identity, settings->print,
                     &mqtt_events, request, &request->mqtt, ret_failure) != 0) {
        request_free(request);
        return 1;
    }
    request_enter(request, REQUEST_CONNECTING);
    *ret = request;
    return 0;
}

struct request *request_free(struct request *request)
{
    if (!request)
        return NULL;
    if ((request->state == REQUEST_AWAITING_ANSWER || request->is_early) &&
        request_opens_session(request))
        request_withdraw_unanswered(request, true);
    else if (request->state == REQUEST_ATTENDING && !request->is_agreed)
        (void)request_withdraw(request);
    ev_timer_stop(request->settings.loop, &request->deadline);
    request_stop_repeating(request);
    request_remember_epoch(request);
    gt_mqtt_free(request->mqtt);
    gt_initiator_deinit(&request->initiator);
    gt_initiator_deinit(&request->earlier);
    gt_wipe(&request->answer, sizeof(request->answer));
    free(request);
    return NULL;
}
