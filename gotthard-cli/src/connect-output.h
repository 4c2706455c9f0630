/* SPDX-License-Identifier: ISC */
/*
 * The output of `connect` at each of its milestones, in all three forms: for people on a terminal,
 * as log lines, and as JSON events. Output only: nothing is decided here. Single connections are in
 * connect-streams.h.
 */
#pragma once

#include "connect-progress.h"
#include "forwards.h"
#include "gotthard/signaling/report.h"
#include "gotthard/tunnel/tunnel.h"
#include "identity.h"
#include "print.h"
#include "session.h"

struct connect_output {
    struct print *print; /* keeps */
    const char *device;  /* keeps */
    const char *bind;    /* keeps; NULL: loopback */
    bool is_print_port;  /* the local ports go to standard output */
    struct connect_progress progress;
    const struct session *session;   /* keeps, from connect_output_requesting() on */
    unsigned n_attempts;             /* the latest that was reported */
    uint64_t started_ms, lost_ms;    /* lost: the connection to the relay */
    const struct identity *identity; /* borrowed, from connect_output_answered() on */
    bool is_device_troubled;         /* it reports that it does not reach the relay */
    char waiting[2][448];            /* the latest line while it waits: for this side, the device */
    char wait_message[640];          /* the latest reason to wait for the device */
    double wait_until;               /* how long, in seconds of gt_clock(); 0: no --wait */
    char services[512];              /* that the device offers, separated by blanks */
};

void connect_output_init(struct connect_output *output, struct ev_loop *loop, struct print *print,
                         const char *device, const char *bind, bool is_print_port);
void connect_output_deinit(struct connect_output *output);

/* Before the tunnel is up. */
void connect_output_requesting(struct connect_output *output, const struct session *session,
                               const struct forwards *forwards);
void connect_output_broker(struct connect_output *output, const char *endpoint);
/* The device is waited for, because of @why. */
void connect_output_device_wait(struct connect_output *output, const struct failure *why);
/* @extensions: of the answer; the event has the ssh host keys in it.
 * @identity: determines how the device was authenticated. */
void connect_output_answered(struct connect_output *output, const struct gt_extensions *extensions,
                             const struct identity *identity);
/* The device cannot reach the relay yet, or waits there. */
void connect_output_report(struct connect_output *output, const struct gt_report *report);
/* The device's agent has left the broker before the tunnel was up. */
void connect_output_offline(struct connect_output *output);
/* The relay cannot be reached from here (for @why), and is tried again. */
void connect_output_relay_retry(struct connect_output *output, const struct gt_host_port *relay,
                                const char *why);
/* Also while the tunnel is up. @text: about the way to the device. */
void connect_output_notice(struct connect_output *output, enum gt_path_notice notice,
                           const char *text);

/* The tunnel is up. @is_background: this process leaves the terminal. */
void connect_output_up(struct connect_output *output, const struct forwards *forwards,
                       const char *relay_host, uint16_t relay_port, bool is_background);
/* @reason, @why: of a loss. */
void connect_output_peer(struct connect_output *output, bool is_up, enum gt_code reason);
void connect_output_relay(struct connect_output *output, enum gt_relay_change change,
                          const char *why);

/* The end. */
void connect_output_closing(struct connect_output *output);
/* BYE could not be sent: there was no connection to the relay. */
void connect_output_bye_unsent(struct connect_output *output);
/* @code: exit status. */
void connect_output_closed(struct connect_output *output, const char *reason, int code);
