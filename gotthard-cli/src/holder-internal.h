/* SPDX-License-Identifier: ISC */
/*
 * The parts of a holder: its session and the streams of it (holder-session.c), and the process, its
 * control socket and its end (holder.c). Only these files include this header.
 */
#pragma once

#include "commands.h"
#include "connect-output.h"
#include "holder-server.h"
#include "holder.h"
#include "session.h"

struct holder {
    const struct holder_settings *settings;
    const struct settings *values; /* of ->settings->config */
    struct ev_loop *loop;
    struct command_signals signals;
    struct print print;           /* warnings become notices */
    struct connect_output output; /* the words of losses */
    struct holder_server server;
    struct session *session;          /* NULL before the first request */
    char service[GT_SERVICE_MAX + 1]; /* of that request */
    ev_timer hold;                    /* no client has a stream */
    ev_timer restart; /* the device refused the service of one client, and another one waits */
    ev_io log;        /* lines of this process */
    uint64_t started_ms;
    bool is_stale;   /* another holder takes the place of this one */
    bool is_agreed;  /* ->host_keys are known */
    bool is_closing; /* no more clients */
    char host_keys[HOLDER_HOST_KEYS_MAX];
};

/* Takes no more clients, and leaves the loop when the device is notified. */
void holder_close(struct holder *holder);
/* A client has come or gone: without one the session is kept for a while, if it is up. */
void holder_check_idle(struct holder *holder);

/* Requests the session, whose first stream is to @service. A failure ends all clients. */
void holder_start_session(struct holder *holder, const char *service);
/* The timer ->restart: the same for the service of the first client. */
void holder_on_restart(struct ev_loop *loop, ev_timer *timer, int revents);
/* Opens the streams of waiting clients, if the session is up. */
void holder_open_waiting(struct holder *holder);
