/* SPDX-License-Identifier: ISC */
/*
 * The parts of a session: the connection to the relay that is begun before the answer
 * (session-relay.c), the time until both sides are at the relay (session-joining.c), and everything
 * else (session.c). Only these files include this header.
 */
#pragma once

#include "diagnosis.h"
#include "request.h"
#include "session.h"

struct session {
    struct session_settings settings;
    struct session_events events;
    void *userdata; /* keeps */
    enum session_state state;
    ev_timer deadline;
    struct identity identity; /* until the tunnel is up; its keys until the session is agreed */
    struct gt_host_port relay;
    struct gt_proxy proxy;                     /* on the way to it */
    struct request *request;                   /* REQUESTING, JOINING */
    struct gt_control_connection *prepared;    /* REQUESTING: to the relay; NULL: none */
    struct gt_report report;                   /* the device's latest; seq 0: none */
    bool is_waiting;                           /* JOINING: this side is at the relay */
    enum gt_end_reason retry_cause;            /* JOINING: the last failure of this side, */
    char retry_why[GT_CONTROL_CONNECTION_WHY]; /* and its text; "": none */
    bool is_offline;          /* the device's agent left the broker while JOINING */
    struct gt_tunnel *tunnel; /* from JOINING on */
    unsigned n_streams, max_streams;
    uint64_t n_up, n_down; /* bytes of the streams that are over */
    double joined_at;      /* seconds of gt_clock() */
    uint32_t granted_s;    /* the lifetime that the device grants */
    bool was_up, is_withdrawn;
};

/* Ends the session. */
void session_fail(struct session *session, const char *reason, const struct failure *failure);

/* REQUESTING: begins to connect to the relay, unless that has begun. A failure is silent: the
 * tunnel connects again, and reports. */
void session_prepare_relay(struct session *session);
/* Closes that connection: no session uses it. */
void session_drop_prepared(struct session *session);
/* Derives K_rc; the caller wipes it. Returns 0, or 1 with @ret_failure. */
int session_relay_key(const struct session *session, uint8_t ret[static GT_KEY_SIZE],
                      struct failure *ret_failure) GT_MUST_CHECK;

/* Before the tunnel was up. The device may be unable to receive a BYE: requests it over MQTT to
 * close its side, once. Returns true if its side is or will be closed. */
bool session_withdraw(struct session *session);
/* The deadline of JOINING, and the last report: the device will not come, or it waits elsewhere. */
void session_fail_by_report(struct session *session);
/* The tunnel has ended for @cause before it was up. Returns true if the device's report may show
 * more: it is awaited for a moment, and session_fail_by_report() follows. */
bool session_awaits_report(struct session *session, enum gt_end_reason cause, const char *why);
/* Events of the request, and of the tunnel. @userdata: the session. */
void session_on_report(void *userdata, const struct gt_report *report);
void session_on_offline(void *userdata);
void session_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why);
void session_on_waiting(void *userdata);
