/* SPDX-License-Identifier: ISC */
/*
 * A load for gotthard-relayd: any number of sessions in one process, both sides of each, without
 * MQTT and without anything between the ends. It speaks the relay's protocol (docs/protocol.md,
 * section 3) with libgotthard-common's own frames, answers what the relay asks, and gives joined
 * pairs of sockets to who wants to measure something. One thread; it exits when the relay refuses.
 */
#pragma once

#include "gotthard/control.h"
#include "gotthard/tls.h"

struct relaying;
struct relaying_session;

/* The key is $GOTTHARD_CRYPT_KEY with $GOTTHARD_CRYPT_IV. */
struct relaying *relaying_new(const char *host, uint16_t port);
/* Both sides have registered: ~two TLS handshakes. */
struct relaying_session *relaying_session_new(struct relaying *relaying);
/* A new stream's two connections, joined: blocking sockets. */
void relaying_open(struct relaying_session *session, int ret_fds[2]);
/* Answers the relay's questions until @fd is readable (-1: as long as there are any now). */
void relaying_wait(struct relaying *relaying, int fd);
