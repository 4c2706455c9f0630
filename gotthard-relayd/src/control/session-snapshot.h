/* SPDX-License-Identifier: ISC */
/*
 * A session in a snapshot. Control connections are not saved, because the state of TLS cannot be:
 * after the upgrade both slots are as after a loss, and both sides reconnect.
 */
#pragma once

#include "control/session.h"
#include "snapshot/saved-layout.h"

struct saved_session {
    enum rendezvous_state state;
    uint8_t rid[GT_RID_SIZE];
    uint64_t serial, created_at, entered_at, active_at, expires_at;
    uint16_t port;
    int fd; /* listening socket */
    struct {
        char name[GT_NAME_MAX + 1]; /* "": unused */
        uint8_t key_id[GT_KEY_ID_SIZE];
        uint32_t generation;
    } slots[2];
    uint64_t streams_serial, n_connections, n_up, n_down;
    uint32_t n_slots; /* SAVED_STREAM records that follow */
};

extern const struct saved_layout session_layout;

/* Writes SAVED_SESSION and what belongs to it: streams, pairs and tickets. */
void session_save(const struct session *session, struct gt_writer *writer);
/* Creates the session of @saved, without streams, pairs and tickets, and not started. Takes *fd,
 * its listening socket, unless it returns NULL (out of memory). */
struct session *session_restore(struct session_host *host, const struct saved_session *saved,
                                struct data_thread *data_thread, int *fd);
