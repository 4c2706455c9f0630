/* SPDX-License-Identifier: ISC */
/*
 * A load for gotthard-relayd: any number of sessions in one process, both sides of each, without
 * MQTT and without the ends of a tunnel. It implements the relay's protocol (docs/protocol.md,
 * section 3) with the frames of libgotthard-common, answers the relay, and returns joined pairs of
 * sockets to the measuring caller. One thread. It exits the program if the relay rejects anything.
 */
#pragma once

#include "gotthard/proto/control.h"
#include "gotthard/tls/tls.h"

struct relay_client;
struct relay_client_session;

/* The key is $GOTTHARD_CRYPT_KEY with $GOTTHARD_CRYPT_IV. */
struct relay_client *relay_client_new(const char *host, uint16_t port);
/* Both sides have registered: ~two TLS handshakes. */
struct relay_client_session *relay_client_session_new(struct relay_client *relay_client);
/* Opens a stream: two joined connections, as blocking sockets. */
void relay_client_open(struct relay_client_session *session, int ret_fds[2]);
/* Answers the relay until @fd is readable (-1: only pending messages). */
void relay_client_wait(struct relay_client *relay_client, int fd);
