/* SPDX-License-Identifier: ISC */
/*
 * The states of a request, each with its deadline:
 *
 *   CONNECTING -> SUBSCRIBING -> AWAITING_STATE -> AWAITING_ANSWER -> ATTENDING, DONE
 *
 * A message that is not the device's own never ends a wait: the real one may follow. An answer that
 * is sealed correctly, but not trusted, is the failure only if no better one comes in time.
 *
 * The last callback always comes from a timer of zero and never from inside a callback of MQTT, so
 * that the owner may free everything at once. An offline device gets the request as well, with a
 * shorter deadline, because its retained state may be stale.
 */
#include "request-internal.h"

#include <stdio.h>
#include <string.h>

#include "broker-rights.h"
#include "diagnosis.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "mqtt-connect.h"
#include "operator-initiator.h"

#define SHORT_TIMEOUT_S  5. /* for the answer of a device that does not seem to be online */
#define NAME_TIMEOUT_S   3. /* for an answer that the broker probably withholds from this name */
#define SERVICE_OF_CLOSE ""
#define UNDELIVERED_MAX  2
#define WITHDRAWN_MAX    8 /* sessions of untrusted answers: each costs a message */

/* --- states -------------------------------------------------------------------------------- */

static void request_fail(struct request *request);
static void request_fail_broker_timeout(struct request *request);
static void request_fail_silence(struct request *request);
static void request_send(struct request *request);
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

static unsigned request_answer_timeout_s(const struct request *request)
{
    const struct request_settings *settings = &request->settings;
    unsigned timeout_s = (unsigned)((settings->settings->answer_timeout_ms + 999) / 1000);

    if (identity_has_other_name(settings->identity, settings->settings))
        return GT_MIN(timeout_s, (unsigned)NAME_TIMEOUT_S);
    return request->settings.is_query ? GT_MIN(timeout_s, (unsigned)SHORT_TIMEOUT_S) : timeout_s;
}

static void request_set_deadline(struct request *request, double seconds)
{
    ev_timer_stop(request->settings.loop, &request->deadline);
    ev_timer_set(&request->deadline, seconds, 0);
    ev_timer_start(request->settings.loop, &request->deadline);
}

static void request_enter(struct request *request, enum request_state state)
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

/* --- failures ------------------------------------------------------------------------------ */

/* Ends the request with ->failure. */
static void request_fail(struct request *request)
{
    if (request->state == REQUEST_DONE)
        return;
    if (request_wait(request)) {
        request_enter(request, REQUEST_WAITING);
        request_set_deadline(request, request_wait_s(request));
        return;
    }
    request->is_failed = true;
    request_enter(request, REQUEST_DONE);
}

static void request_fail_broker_timeout(struct request *request)
{
    mqtt_connect_failure(request->settings.settings, NULL, "no answer in time", &request->failure);
    request_fail(request);
}

/* Under another name than the one in the certificate a broker delivers neither state nor answer. */
static void request_diagnose_silence(struct request *request)
{
    const struct request_settings *settings = &request->settings;
    enum device_state state = request->device_state;

    diagnosis_of_silence(settings->device, state, request->since, request->is_will,
                         request_answer_timeout_s(request), &request->failure);
    if (!identity_has_other_name(settings->identity, settings->settings) ||
        (state != DEVICE_UNKNOWN && state != DEVICE_ONLINE))
        return;
    failure_set(&request->failure, FAILURE_BROKER_REFUSED, NULL,
                "the broker delivers no answer of %s: the certificate is for \"%s\", and "
                "client.name is %s",
                settings->device, settings->identity->own.name, settings->settings->client_name);
    broker_rights_hint(settings->settings, settings->identity, &request->failure);
}

static void request_fail_silence(struct request *request)
{
    if (!request->is_noted)
        request_diagnose_silence(request);
    if (request_opens_session(request) && request->n_undelivered < UNDELIVERED_MAX)
        request_withdraw_unanswered(request);
    request_fail(request);
}

/* @err: of a call to the MQTT connection or the initiator. ENOTCONN is not an internal error: the
 * broker has closed the connection, and the loop does not know yet. */
static void request_fail_with(struct request *request, int err)
{
    if (err == -ENOTCONN)
        mqtt_connect_failure(request->settings.settings, NULL, "the connection was lost",
                             &request->failure);
    else if (err == -EOPNOTSUPP)
        failure_set(&request->failure, FAILURE_BROKER_REFUSED,
                    "configure the broker to accept messages of 8192 bytes and QoS 1",
                    "the broker does not accept a request of this size or QoS");
    else
        failure_set(&request->failure, FAILURE_INTERNAL, NULL, "request to %s: %s",
                    request->settings.device, err < 0 ? strerror(-err) : "not possible");
    request_fail(request);
}

/* --- sending the request ------------------------------------------------------------------- */

/* Shortens the deadline if the device does not seem to be online. Fails at once if the broker has
 * also reported twice that the device is not subscribed: once may be too early. */
static void request_adjust_deadline(struct request *request)
{
    if (request->state != REQUEST_AWAITING_ANSWER || request->device_state == DEVICE_ONLINE)
        return;
    if (request->n_undelivered >= UNDELIVERED_MAX)
        request_fail_silence(request);
    else if (ev_timer_remaining(request->settings.loop, &request->deadline) > SHORT_TIMEOUT_S)
        request_set_deadline(request, SHORT_TIMEOUT_S);
}

static void request_send(struct request *request)
{
    int r = request_send_first(request);

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
    if (!request->is_noted)
        print_note(request->settings.print,
                   "an answer was not signed by the %s key of %s; waiting for another",
                   request->settings.identity->access ? "listed" : "pinned",
                   request->settings.device);
    request->is_noted = true;
    request_explain_untrusted(request);
    request_withdraw_untrusted(request);
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
    if (!request_keep_state(request, topic, is_retained, payload))
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

    if (r != GT_INITIATOR_E_IGNORE)
        return r;
    r = gt_initiator_receive(&request->earlier, topic, payload, now, &request->answer);
    return r > 0 && request->answer.nak_code != UINT16_MAX ? GT_INITIATOR_E_IGNORE : r;
}

static void request_receive_answer(struct request *request, const char *topic,
                                   struct gt_span payload)
{
    int r = request_open_answer(request, topic, payload);

    if (r < 0) {
        request_fail_with(request, r);
        return;
    }
    switch (r) {
    case 0:
        request->answered_at = gt_clock();
        request_enter(request, request_opens_session(request) ? REQUEST_ATTENDING : REQUEST_DONE);
        return;
    case GT_INITIATOR_E_RETRY: request_retry(request); return;
    case GT_INITIATOR_E_REFUSED: request_refuse(request); return;
    case GT_INITIATOR_E_UNTRUSTED: request_note_untrusted(request); return;
    default: return; /* not an answer to this request */
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
    else if (request->state == REQUEST_AWAITING_ANSWER && !is_retained)
        request_receive_answer(request, topic, payload);
}

static void request_on_published(void *userdata, int id, bool is_undelivered)
{
    struct request *request = userdata;

    if (id != request->publish_id || !is_undelivered)
        return;
    if (++request->n_undelivered >= UNDELIVERED_MAX)
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
    if (request->state == REQUEST_AWAITING_ANSWER && request_opens_session(request))
        request_withdraw_unanswered(request);
    else if (request->state == REQUEST_ATTENDING && !request->is_agreed)
        (void)request_withdraw(request);
    ev_timer_stop(request->settings.loop, &request->deadline);
    request_stop_repeating(request);
    gt_mqtt_free(request->mqtt);
    gt_initiator_deinit(&request->initiator);
    gt_initiator_deinit(&request->earlier);
    gt_wipe(&request->answer, sizeof(request->answer));
    free(request);
    return NULL;
}
