/* SPDX-License-Identifier: ISC */
/*
 * A holder: the background process that has one session with one device, and opens a stream of it
 * for each client of its control socket. It ends some time after its last client (client.hold), at
 * the end of the session, and by SIGTERM. Failures and warnings go to its clients, whose standard
 * error it never has.
 */
#pragma once

#include "holder-message.h"
#include "local-socket.h"
#include "print.h"
#include "settings.h"

struct holder_settings { /* kept until the holder ends */
    struct gt_config *config;
    const char *device;
    const char *purpose;        /* --reason, or NULL */
    uint8_t check[GT_KEY_SIZE]; /* holder_check(), before the secrets are wiped */
};

struct holder_sockets {       /* all are taken */
    int client;               /* the first client, connected */
    int listener;             /* or -1: no other client can come */
    struct local_socket file; /* of the listener */
    int log;                  /* the other end of standard error: one line in each datagram */
};

/* Holds the session until its end. */
void holder_run(const struct holder_settings *settings, struct holder_sockets *sockets);
