/* SPDX-License-Identifier: ISC */
/*
 * CONNECTING -> SUBSCRIBING -> ASKED -> DONE. The same bytes are published again while no STATE
 * comes: a subscription may work only some time after its SUBACK. The owner is notified from the
 * loop.
 */
#include "device-question.h"

#include <stdio.h>
#include <string.h>

#include "mqtt-connect.h"
#include "operator-initiator.h"

#define REPEAT_S      .4 /* until the first repetition; each wait doubles */
#define UNDELIVERED_S 1. /* for a device that is just connecting again */

enum question_state { QUESTION_CONNECTING, QUESTION_SUBSCRIBING, QUESTION_ASKED, QUESTION_DONE };

static const double deadlines_s[] = {
    [QUESTION_CONNECTING] = 25.,
    [QUESTION_SUBSCRIBING] = 10.,
    [QUESTION_ASKED] = 5.,
    [QUESTION_DONE] = 0.,
};

struct device_question {
    struct device_question_settings settings;
    struct device_question_events events;
    void *userdata; /* keeps */
    enum question_state state;
    ev_timer deadline, repeat;
    double repeat_s;
    struct gt_mqtt *mqtt; /* owned */
    struct gt_initiator initiator;
    uint8_t message[GT_MESSAGE_MAX], buffer[GT_MESSAGE_MAX];
    size_t n_message;
    bool has_answer, is_failed;
    struct gt_state answer; /* its spans point into ->buffer */
    struct failure failure;
};

static void question_enter(struct device_question *question, enum question_state state)
{
    question->state = state;
    ev_timer_stop(question->settings.loop, &question->deadline);
    ev_timer_set(&question->deadline, deadlines_s[state], 0.);
    ev_timer_start(question->settings.loop, &question->deadline);
}

static void question_fail(struct device_question *question, const char *why)
{
    if (question->state == QUESTION_DONE)
        return;
    mqtt_connect_failure(question->settings.settings, gt_mqtt_last_outcome(question->mqtt), why,
                         &question->failure);
    question->is_failed = true;
    question_enter(question, QUESTION_DONE);
}

/* A failure to publish ends the connection, or the next repetition tries again. */
static void question_publish(struct device_question *question)
{
    int id;

    (void)!gt_mqtt_publish(question->mqtt, question->initiator.req_topic,
                           gt_span(question->message, question->n_message), false,
                           (unsigned)deadlines_s[QUESTION_ASKED], &id);
    ev_timer_set(&question->repeat, question->repeat_s, 0.);
    ev_timer_start(question->settings.loop, &question->repeat);
    question->repeat_s *= 2;
}

static void question_on_repeat(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct device_question *question = timer->data;

    if (question->state == QUESTION_ASKED)
        question_publish(question);
}

static void question_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct device_question *question = timer->data;

    switch (question->state) {
    case QUESTION_CONNECTING:
    case QUESTION_SUBSCRIBING: question_fail(question, "no answer in time"); return;
    case QUESTION_ASKED: question_enter(question, QUESTION_DONE); return;
    case QUESTION_DONE: break;
    }
    ev_timer_stop(loop, &question->repeat);
    question->events.on_end(question->userdata, question->has_answer ? &question->answer : NULL,
                            question->is_failed ? &question->failure : NULL);
}

/* --- events of the MQTT connection --------------------------------------------------------- */

static void question_on_up(void *userdata)
{
    struct device_question *question = userdata;
    const char *filter = question->initiator.state_topic; /* the answer is a state */
    int id;

    if (question->state != QUESTION_CONNECTING)
        return;
    if (gt_mqtt_subscribe_all(question->mqtt, &filter, 1, 1, &id) != 0)
        question_fail(question, "the connection was lost");
    else
        question_enter(question, QUESTION_SUBSCRIBING);
}

static void question_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    question_fail(userdata, why);
}

static void question_on_subscribed(void *userdata)
{
    struct device_question *question = userdata;

    if (question->state != QUESTION_SUBSCRIBING)
        return;
    question_enter(question, QUESTION_ASKED);
    question_publish(question);
}

/* A retained state is none of now. */
static void question_on_message(void *userdata, const char *topic, bool is_retained,
                                struct gt_span payload)
{
    struct device_question *question = userdata;

    if (is_retained || question->state != QUESTION_ASKED)
        return;
    question->has_answer = gt_initiator_state(&question->initiator, topic, payload,
                                              &question->answer, question->buffer) == 0;
    if (question->has_answer)
        question_enter(question, QUESTION_DONE);
}

/* The device is not subscribed. It may be connecting again. */
static void question_on_published(void *userdata, int id, bool has_no_subscribers)
{
    struct device_question *question = userdata;

    if (has_no_subscribers && question->state == QUESTION_ASKED &&
        ev_timer_remaining(question->settings.loop, &question->deadline) > UNDELIVERED_S) {
        ev_timer_stop(question->settings.loop, &question->deadline);
        ev_timer_set(&question->deadline, UNDELIVERED_S, 0.);
        ev_timer_start(question->settings.loop, &question->deadline);
    }
}

static void question_on_refused(void *userdata, int id, const char *why)
{
    question_fail(userdata, why);
}

/* --- creation and end ---------------------------------------------------------------------- */

static int question_write(struct device_question *question, struct failure *ret_failure)
{
    static const uint8_t no_epoch[GT_EPOCH_SIZE];
    static const struct gt_close no_session = {.scope = GT_CLOSE_RID};
    const struct device_question_settings *settings = &question->settings;
    struct gt_initiator_settings initiator = {.service = "", .relay = ""};

    if (operator_initiator_init(settings->settings, settings->identity, settings->device,
                                &initiator, &question->initiator, ret_failure) != 0)
        return 1;
    int r = gt_initiator_close(&question->initiator, no_epoch, &no_session, question->message,
                               &question->n_message);
    return r == 0 ? 0
                  : failure_set(ret_failure, FAILURE_INTERNAL, NULL, "question to %s: %s",
                                settings->device, r < 0 ? strerror(-r) : "not possible");
}

int device_question_new(const struct device_question_settings *settings,
                        const struct device_question_events *events, void *userdata,
                        struct device_question **ret, struct failure *ret_failure)
{
    static const struct gt_mqtt_events mqtt_events = {
        .on_up = question_on_up,
        .on_down = question_on_down,
        .on_subscribed = question_on_subscribed,
        .on_message = question_on_message,
        .on_published = question_on_published,
        .on_refused = question_on_refused,
    };
    struct device_question *question = calloc(1, sizeof(*question));

    if (!question)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    question->settings = *settings;
    question->events = *events;
    question->userdata = userdata;
    question->repeat_s = REPEAT_S;
    ev_timer_init(&question->deadline, question_on_deadline, 0., 0.);
    ev_timer_init(&question->repeat, question_on_repeat, 0., 0.);
    question->deadline.data = question->repeat.data = question;
    int r = question_write(question, ret_failure);
    if (r == 0)
        r = mqtt_connect(settings->loop, settings->settings, settings->identity, settings->print,
                         &mqtt_events, question, &question->mqtt, ret_failure);
    if (r != 0) {
        device_question_free(question);
        return 1;
    }
    question_enter(question, QUESTION_CONNECTING);
    *ret = question;
    return 0;
}

struct device_question *device_question_free(struct device_question *question)
{
    if (!question)
        return NULL;
    ev_timer_stop(question->settings.loop, &question->deadline);
    ev_timer_stop(question->settings.loop, &question->repeat);
    gt_mqtt_free(question->mqtt);
    gt_initiator_deinit(&question->initiator);
    gt_wipe(question, sizeof(*question));
    free(question);
    return NULL;
}
