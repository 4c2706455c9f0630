/* SPDX-License-Identifier: ISC */
/*
 * The life of a question, one state after the other, each with its deadline:
 *
 *   CONNECTING -> SUBSCRIBING -> LISTENING (for the retained presence) -> ASKING -> DONE
 *                                          (an answer that is not believed) -> WITHDRAWING -> DONE
 *
 * The end is always told from a timer of zero, never from inside MQTT's callbacks, so that the
 * owner may free everything at once. A device that is said to be offline is asked all the same (its
 * presence may be stale), only with less patience.
 */
#include "request.h"

#include <stdio.h>
#include <string.h>

#include "broker.h"
#include "gotthard/log.h"

#define EXPIRY_S         20 /* a question nobody has fetched by then is of no use any more */
#define PATIENCE         5. /* seconds, where no presence says that the device is there */
#define SERVICE_OF_CLOSE ""

enum request_state {
    REQUEST_CONNECTING,
    REQUEST_SUBSCRIBING,
    REQUEST_LISTENING,
    REQUEST_ASKING,
    REQUEST_WITHDRAWING, /* what was agreed to by somebody who is not believed is closed */
    REQUEST_DONE,
};

static const struct {
    const char *name;
    double deadline; /* seconds */
} states[] = {
    [REQUEST_CONNECTING] = {"connecting", 25},
    [REQUEST_SUBSCRIBING] = {"subscribing", 10},
    [REQUEST_LISTENING] = {"listening", 1},
    [REQUEST_ASKING] = {"asking", 0}, /* client.answer_timeout */
    [REQUEST_WITHDRAWING] = {"withdrawing", 1},
    [REQUEST_DONE] = {"done", 0},
};

/* What the device's retained presence told. */
enum seen { SEEN_NOTHING, SEEN_FOREIGN, SEEN_OFFLINE, SEEN_ONLINE };

struct request {
    struct request_settings settings;
    struct request_events events;
    void *userdata; /* keeps */
    enum request_state state;
    ev_timer deadline;
    struct gt_mqtt *mqtt;
    struct gt_ask ask;
    enum seen seen;
    uint8_t epoch[GT_EPOCH_SIZE]; /* zeros: unknown */
    uint64_t last_seen;           /* unix time, 0: not told */
    int publish_id;
    bool is_unheard;  /* the broker said: no subscriber for the question */
    bool is_repeated; /* and it was asked once more when the device came back: not a third time */
    bool is_failed;   /* DONE: by ->failure, else ->answer */
    struct failure failure;
    struct gt_answer answer;
};

static unsigned request_patience_s(const struct request *request)
{
    return (unsigned)((request->settings.settings->answer_timeout_ms + 999) / 1000);
}

static void request_enter(struct request *request, enum request_state state)
{
    gt_debug("device=%s %s -> %s", request->settings.device, states[request->state].name,
             states[state].name);
    request->state = state;
    ev_timer_stop(request->settings.loop, &request->deadline);
    double deadline =
        state == REQUEST_ASKING ? request_patience_s(request) : states[state].deadline;
    ev_timer_set(&request->deadline, deadline, 0);
    ev_timer_start(request->settings.loop, &request->deadline);
}

static void request_fail(struct request *request)
{
    if (request->state == REQUEST_DONE)
        return;
    request->is_failed = true;
    request_enter(request, REQUEST_DONE);
}

/* A broker that has gone already, before the loop heard of it, is no fault of the program's. */
static void request_fail_with(struct request *request, int err)
{
    if (err == -ENOTCONN)
        broker_failure(request->settings.settings, "the connection was lost", &request->failure);
    else if (err == -EOPNOTSUPP)
        failure_set(&request->failure, FAILURE_BROKER_REFUSED,
                    "the broker must take messages of 8192 bytes, and QoS 1",
                    "the broker does not take a question of this size or kind");
    else
        failure_set(&request->failure, FAILURE_INTERNAL, NULL, "asking %s: %s",
                    request->settings.device, err < 0 ? strerror(-err) : "not possible");
    request_fail(request);
}

/* --- no answer came: why? ------------------------------------------------------------------ */

static void describe_offline(struct request *request)
{
    char when[40] = "";
    time_t at = (time_t)request->last_seen;
    struct tm local;
    if (at > 0 && localtime_r(&at, &local))
        strftime(when, sizeof(when), " (last seen %Y-%m-%d %H:%M:%S)", &local);
    failure_set(&request->failure, FAILURE_OFFLINE, NULL, "%s is offline%s",
                request->settings.device, when);
}

static void request_give_up(struct request *request)
{
    const char *device = request->settings.device;
    switch (request->seen) {
    case SEEN_NOTHING:
        failure_set(&request->failure, FAILURE_UNKNOWN_DEVICE, NULL,
                    "no device named %s has ever been at this broker", device);
        break;
    case SEEN_FOREIGN:
        failure_set(&request->failure, FAILURE_NO_ANSWER,
                    "the same GOTTHARD_CRYPT_KEY and _IV belong on all sides",
                    "%s does not answer, and what it says of itself is sealed with another key",
                    device);
        break;
    case SEEN_OFFLINE: describe_offline(request); break;
    case SEEN_ONLINE:
        failure_set(&request->failure, FAILURE_NO_ANSWER, NULL,
                    "%s is online, but did not answer within %u s", device,
                    request_patience_s(request));
        break;
    }
    request_fail(request);
}

/* Less patience where the signs are bad; none where the broker knows as well. */
static void request_consider(struct request *request)
{
    if (request->state != REQUEST_ASKING || request->seen == SEEN_ONLINE)
        return;
    if (request->is_unheard)
        request_give_up(request);
    else if (ev_timer_remaining(request->settings.loop, &request->deadline) > PATIENCE) {
        ev_timer_stop(request->settings.loop, &request->deadline);
        ev_timer_set(&request->deadline, PATIENCE, 0);
        ev_timer_start(request->settings.loop, &request->deadline);
    }
}

/* --- asking -------------------------------------------------------------------------------- */

static void request_ask(struct request *request)
{
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    int err = request->settings.service
                  ? gt_ask_request(&request->ask, request->epoch, message, &n)
                  : gt_ask_close(&request->ask, request->epoch, NULL, message, &n);
    if (err == 0)
        err = gt_mqtt_publish(request->mqtt, request->ask.req_topic, gt_span(message, n), false,
                              EXPIRY_S, &request->publish_id);
    if (err != 0) {
        request_fail_with(request, err);
        return;
    }
    request->is_unheard = false;
    request_enter(request, REQUEST_ASKING);
    request_consider(request);
}

static void request_on_state(struct request *request, const char *topic, struct gt_span payload)
{
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state state;
    if (gt_ask_state(&request->ask, topic, payload, &state, buffer) != 0) {
        if (request->seen == SEEN_NOTHING)
            request->seen = SEEN_FOREIGN;
    } else {
        request->seen = state.is_online ? SEEN_ONLINE : SEEN_OFFLINE;
        request->last_seen = state.extensions.since;
        memcpy(request->epoch, state.epoch, GT_EPOCH_SIZE);
    }
    if (request->state == REQUEST_LISTENING)
        request_ask(request);
    else if (request->is_unheard && request->seen == SEEN_ONLINE && !request->is_repeated) {
        request->is_repeated = true; /* it has just come back: nobody heard the first question */
        request_ask(request);
    } else {
        request_consider(request);
    }
}

static void describe_nak(struct request *request)
{
    const struct gt_answer *answer = &request->answer;
    const char *device = request->settings.device;
    switch ((enum gt_nak_code)answer->nak_code) {
    case GT_NAK_BUSY:
        failure_set(&request->failure, FAILURE_QUOTA, "try again in a moment",
                    "%s is busy with other requests", device);
        return;
    case GT_NAK_DENIED:
        failure_set(&request->failure, FAILURE_DENIED, NULL,
                    "%s does not let this operator close its sessions", device);
        return;
    case GT_NAK_EPOCH:
    case GT_NAK_CLOSED: break;
    }
    failure_set(&request->failure, FAILURE_NO_ANSWER, "try again",
                "%s did not take the question (NAK %u)", device, answer->nak_code);
}

static void describe_refusal(struct request *request)
{
    const char *device = request->settings.device;
    if (request->answer.nak_code != UINT16_MAX) {
        describe_nak(request);
        return;
    }
    struct failure *failure = &request->failure;
    switch ((enum gt_ack_status)request->answer.ack.status) {
    case GT_ACK_OK: break;
    case GT_ACK_DENIED:
        failure_set(failure, FAILURE_DENIED, NULL, "%s does not let this operator in", device);
        return;
    case GT_ACK_SERVICE:
        failure_set(failure, FAILURE_NO_SERVICE, NULL, "%s offers this operator no service \"%s\"",
                    device, request->settings.service);
        return;
    case GT_ACK_QUOTA:
        failure_set(failure, FAILURE_QUOTA, NULL, "%s has as many sessions as it takes", device);
        return;
    case GT_ACK_RELAY:
        failure_set(failure, FAILURE_NO_RELAY, NULL, "%s knows no relay named \"%s\"", device,
                    request->settings.settings->relay);
        return;
    case GT_ACK_INTERNAL:
        failure_set(failure, FAILURE_DEVICE_INTERNAL, NULL, "%s could not open a session", device);
        return;
    }
    failure_set(failure, FAILURE_DENIED, "a newer gotthard-cli may know more",
                "%s refused (status %u)", device, request->answer.ack.status);
}

/* Whoever it was has a session open now, and would wait for us at the relay. */
static void request_withdraw(struct request *request)
{
    uint8_t message[GT_MESSAGE_MAX];
    size_t n;
    bool is_open =
        request->answer.ack.status == GT_ACK_OK &&
        gt_ask_close(&request->ask, request->epoch, request->answer.keys.rid, message, &n) == 0;
    if (is_open && gt_mqtt_publish(request->mqtt, request->ask.req_topic, gt_span(message, n),
                                   false, EXPIRY_S, &request->publish_id) == 0)
        request_enter(request, REQUEST_WITHDRAWING);
    else
        request_fail(request);
}

static void request_on_response(struct request *request, const char *topic, struct gt_span payload)
{
    int err = gt_ask_receive(&request->ask, topic, payload, time(NULL), &request->answer);
    if (err < 0) {
        request_fail_with(request, err);
        return;
    }
    switch (err) {
    case 0: request_enter(request, REQUEST_DONE); return;
    case GT_ASK_E_RETRY:
        memcpy(request->epoch, request->answer.epoch, GT_EPOCH_SIZE);
        request_ask(request);
        return;
    case GT_ASK_E_REFUSED: describe_refusal(request); break;
    case GT_ASK_E_UNTRUSTED:
        failure_set(&request->failure, FAILURE_UNTRUSTED, NULL,
                    "the answer is not proven to be %s's: its key is not pinned in %s",
                    request->settings.device, request->settings.identity->pins_path);
        request_withdraw(request);
        return;
    default: return; /* not an answer to this question */
    }
    request_fail(request);
}

/* --- what MQTT tells ----------------------------------------------------------------------- */

static void request_on_up(void *userdata)
{
    struct request *request = userdata;
    if (request->state != REQUEST_CONNECTING)
        return;
    int err = gt_mqtt_subscribe(request->mqtt, request->ask.rsp_topic);
    if (err == 0)
        err = gt_mqtt_subscribe(request->mqtt, request->ask.state_topic);
    if (err != 0) {
        request_fail_with(request, err);
        return;
    }
    request_enter(request, REQUEST_SUBSCRIBING);
    request->events.on_broker(request->userdata);
}

static void request_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct request *request = userdata;
    if (request->state < REQUEST_WITHDRAWING)
        broker_failure(request->settings.settings, why, &request->failure);
    request_fail(request);
}

static void request_on_subscribed(void *userdata)
{
    struct request *request = userdata;
    if (request->state != REQUEST_SUBSCRIBING)
        return;
    request_enter(request, REQUEST_LISTENING);
    if (request->seen != SEEN_NOTHING)
        request_ask(request); /* the presence was faster than the SUBACK's way here */
}

static void request_on_message(void *userdata, const char *topic, bool is_retained,
                               struct gt_span payload)
{
    struct request *request = userdata;
    if (request->state >= REQUEST_WITHDRAWING)
        return;
    if (strcmp(topic, request->ask.state_topic) == 0)
        request_on_state(request, topic, payload);
    else if (request->state == REQUEST_ASKING && !is_retained)
        request_on_response(request, topic, payload);
}

static void request_on_published(void *userdata, int id, bool is_unheard)
{
    struct request *request = userdata;
    if (id == request->publish_id && request->state == REQUEST_WITHDRAWING)
        request_fail(request);
    if (id != request->publish_id || !is_unheard)
        return;
    request->is_unheard = true;
    request_consider(request);
}

static void request_on_refused(void *userdata, int id, const char *why)
{
    struct request *request = userdata;
    if (id != request->publish_id)
        return;
    if (request->state >= REQUEST_WITHDRAWING) {
        request_fail(request);
        return;
    }
    failure_set(
        &request->failure, FAILURE_BROKER_REFUSED,
        "the broker must let this side write to .../d/+/req and read .../rsp/ and .../state",
        "the broker does not take the question: %s", why);
    request_fail(request);
}

/* Each state's deadline; DONE's is zero and tells the owner. */
static void request_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct request *request = timer->data;
    switch (request->state) {
    case REQUEST_CONNECTING:
    case REQUEST_SUBSCRIBING:
        broker_failure(request->settings.settings, "it did not answer in time", &request->failure);
        request_fail(request);
        return;
    case REQUEST_LISTENING: request_ask(request); return;
    case REQUEST_ASKING: request_give_up(request); return;
    case REQUEST_WITHDRAWING: request_fail(request); return;
    case REQUEST_DONE: break;
    }
    if (request->is_failed)
        request->events.on_failure(request->userdata, &request->failure);
    else
        request->events.on_answer(request->userdata, &request->answer);
}

/* --- birth and end ------------------------------------------------------------------------- */

static int init_ask(struct request *request, struct failure *ret_failure)
{
    const struct request_settings *settings = &request->settings;
    struct gt_ask_settings ask = {
        .prefix = settings->settings->mqtt_prefix,
        .operator_ = settings->settings->client_name,
        .device = settings->device,
        .service = settings->service ? settings->service : SERVICE_OF_CLOSE,
        .relay = settings->settings->relay,
        .lifetime_s = (uint32_t)(settings->settings->lifetime_ms / 1000),
        .signer = settings->identity->signer,
        .trust = &settings->identity->trust,
    };
    uint8_t key[GT_KEY_SIZE], previous[GT_KEY_SIZE];
    if (strcmp(ask.operator_, ask.device) == 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "give this operator another name: GOTTHARD_CLIENT_NAME or --client-name",
                           "client.name is %s, which is the device's", ask.operator_);
    if (identity_of_device(settings->identity, settings->device, key, previous, ret_failure) != 0)
        return 1;
    int err =
        gt_ask_init(&request->ask, &ask, key, settings->identity->has_previous ? previous : NULL);
    gt_wipe(key, sizeof(key));
    gt_wipe(previous, sizeof(previous));
    if (err != 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "prefix, device and operator must fit a topic of 256 bytes",
                           "no topic can be made for %s", settings->device);
    return 0;
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
    ev_init(&request->deadline, request_on_deadline);
    request->deadline.data = request;
    if (init_ask(request, ret_failure) != 0 ||
        broker_connect(settings->loop, settings->settings, settings->print, &mqtt_events, request,
                       &request->mqtt, ret_failure) != 0) {
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
    ev_timer_stop(request->settings.loop, &request->deadline);
    gt_mqtt_free(request->mqtt);
    gt_ask_deinit(&request->ask);
    gt_wipe(&request->answer, sizeof(request->answer));
    free(request);
    return NULL;
}
