/* SPDX-License-Identifier: ISC */
/*
 * The parts of a request: from the broker to the answer (request.c), its failure
 * (request-failure.c), the answer (request-answer.c), the access list (request-access.c), before
 * the device's state is there (request-early.c), its repetitions (request-send.c), and the time
 * between the answer and a tunnel that is up (request-attend.c). Only these files include this
 * header.
 */
#pragma once

#include "diagnosis.h"
#include "epoch-memory.h"
#include "gotthard/mqtt/mqtt.h"
#include "gotthard/signaling/state-order.h"
#include "request.h"

enum request_state {
    REQUEST_CONNECTING,
    REQUEST_SUBSCRIBING,
    REQUEST_AWAITING_STATE,  /* the device's retained state message */
    REQUEST_AWAITING_ANSWER, /* the request is sent */
    REQUEST_WAITING,         /* for a device that could not answer: it is asked again */
    REQUEST_ATTENDING,       /* the session is agreed: the device may report */
    REQUEST_DONE,
};

/* Publications without a subscriber after which the device is not subscribed. */
#define REQUEST_UNDELIVERED_MAX 2

struct request {
    struct request_settings settings;
    struct request_events events;
    void *userdata; /* keeps */
    enum request_state state;
    ev_timer deadline;
    struct gt_mqtt *mqtt;
    struct gt_initiator initiator;
    struct gt_initiator earlier; /* the request before a NAK; all zeros: none */
    struct gt_state_order order; /* of the device's states */
    enum device_state device_state;
    uint8_t epoch[GT_EPOCH_SIZE];    /* the device's latest; zeros: unknown */
    uint64_t since;                  /* of the state, unix time; 0: unknown */
    bool is_will;                    /* ->since is when the device came online */
    uint8_t message[GT_MESSAGE_MAX]; /* the request, published again as it is */
    size_t n_message;
    uint8_t sent_epoch[GT_EPOCH_SIZE]; /* in ->message */
    struct epoch_memory epochs;
    bool is_early;               /* SUBSCRIBING, AWAITING_STATE: sent with the remembered epoch */
    bool is_epoch_confirmed;     /* the device has agreed to a request with ->sent_epoch */
    ev_timer repeat;             /* AWAITING_ANSWER: the next repetition */
    double repeat_wait;          /* seconds to the one after it */
    int publish_id;              /* of the last publication */
    double sent_at, answered_at; /* seconds of gt_clock() */
    unsigned n_undelivered;      /* publications for which the broker has found no subscriber */
    bool is_failed;              /* DONE: by ->failure, else ->answer */
    bool is_noted;               /* ->failure is set, unless a better answer follows */
    unsigned n_withdrawn;        /* sessions of untrusted answers */
    uint8_t withdrawn[GT_RID_SIZE]; /* the last of them: a repetition repeats its answer */
    struct failure failure;
    struct gt_answer answer;
    size_t n_parts;          /* of the access list, whose topics are subscribed */
    bool is_agreed;          /* on_agreed was called */
    bool was_up;             /* the broker was connected */
    double wait_until;       /* seconds of gt_clock(); 0: fail at once */
    struct gt_report report; /* the device's latest; seq 0: none yet */
};

void request_enter(struct request *request, enum request_state state);
void request_set_deadline(struct request *request, double seconds);
/* Returns the time for an answer of this request. */
unsigned request_answer_timeout_s(const struct request *request);

/* In request-failure.c. */
/* Ends the request with ->failure, or waits for the device. */
void request_fail(struct request *request);
/* The deadlines of the states in which the broker, and the device, is awaited. */
void request_fail_broker_timeout(struct request *request);
void request_fail_silence(struct request *request);
/* The same by @err of a call to the MQTT connection or the initiator. */
void request_fail_with(struct request *request, int err);
/* Sends the request, or keeps the early one, and awaits the answer. */
void request_send(struct request *request);
/* A message on the topic of answers, while a request is outstanding. */
void request_receive_answer(struct request *request, const char *topic, struct gt_span payload);

/* Returns true unless the request closes sessions or is a query. */
bool request_opens_session(const struct request *request);
/* Publishes a message on the req topic. Returns as gt_mqtt_publish. */
int request_publish(struct request *request, const uint8_t *message, size_t n, int *ret_id);
/* Writes and publishes a new request. It is repeated until request_stop_repeating. Returns as
 * gt_initiator_request or gt_mqtt_publish. */
int request_send_first(struct request *request);
/* The request was sent, or it turned out whether it will be answered: on_sent, for a session. */
void request_notify_sent(struct request *request, bool is_likely);
/* Begins to repeat the request, as after request_send_first. */
void request_start_repeating(struct request *request);
/* Publishes the same request again now. */
void request_repeat(struct request *request);
void request_on_repeat(struct ev_loop *loop, ev_timer *timer, int revents);
void request_stop_repeating(struct request *request);
/* The device is busy: the next repetition comes when it has room. Returns false if that is after
 * the deadline. */
bool request_wait_while_busy(struct request *request);
/* Keeps the device's state. Returns false if the message is not authentic, or not the latest. */
bool request_keep_state(struct request *request, const char *topic, bool is_retained,
                        struct gt_span payload);

/* SUBSCRIBING: sends a request for a session with the remembered epoch, if there is one. */
void request_send_early(struct request *request);
/* Returns true if there is an early request, and it has the present epoch: it is repeated from now
 * on. Otherwise a new one is due, and the early one becomes ->earlier. */
bool request_keep_early(struct request *request);
/* Remembers the epoch in which the device has agreed. */
void request_remember_epoch(const struct request *request);

/* Requests the device to close the sessions that the request may have opened, although no answer
 * has come. @with_refused: also those of requests that got a NAK, which is not signed. */
void request_withdraw_unanswered(struct request *request, bool with_refused);
/* Returns true, with ->failure, if the device has agreed to a session whose streams it carries in
 * another way. The session is withdrawn. */
bool request_reject_version(struct request *request);

/* The access list, where the policy is `list`; otherwise these do nothing. */
/* Subscribes to its first part. Returns as gt_mqtt_subscribe. */
int request_subscribe_list(struct request *request);
/* Returns true if the topic is that of a part, which is handled; subscribes to the others. */
bool request_receive_list(struct request *request, const char *topic, struct gt_span payload);
/* Returns true if the request should not be sent before more parts have come. */
bool request_awaits_list(const struct request *request);
/* Sets ->failure: an answer is not signed by a trusted key. */
void request_explain_untrusted(struct request *request);

/* Waits for the device if ->failure is temporary and there is time left. Returns false if the
 * request fails. */
bool request_wait(struct request *request);
/* Returns the seconds until the device is asked again, at most those that are left. */
double request_wait_s(const struct request *request);
/* Before the device is asked again. */
void request_wait_over(struct request *request);

/* ATTENDING: notifies the owner of the agreed session. */
void request_notify_agreed(struct request *request);
/* ATTENDING: a message of the device. */
void request_attend(struct request *request, const char *topic, bool is_retained,
                    struct gt_span payload);
