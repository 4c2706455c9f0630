/* SPDX-License-Identifier: ISC */
/*
 * Saves and restores a session; see the header. Its time continues: all its times are of the clock
 * since boot, which an upgrade does not change.
 */
#include "control/session-snapshot.h"

#include <stdio.h>

#include "control/session-internal.h"
#include "gotthard/base/text.h"

#define N_SLOTS_MAX 2049u /* the shared connection's, and two for each of limits.streams */

static bool session_is_valid(const void *record)
{
    const struct saved_session *saved = record;

    for (size_t i = 0; i < GT_ARRAY_SIZE(saved->slots); i++)
        if (saved->slots[i].name[0] && !gt_text_is_name(gt_span_text(saved->slots[i].name)))
            return false;
    return saved->state <= RENDEZVOUS_GRACE && saved->n_slots <= N_SLOTS_MAX;
}

static const struct gt_field session_fields[] = {
    GT_FIELD_U32(struct saved_session, state),
    GT_FIELD_BYTES(struct saved_session, rid, GT_RID_SIZE),
    GT_FIELD_U64(struct saved_session, serial),
    GT_FIELD_U64(struct saved_session, created_at),
    GT_FIELD_U64(struct saved_session, entered_at),
    GT_FIELD_U64(struct saved_session, active_at),
    GT_FIELD_U64(struct saved_session, expires_at),
    GT_FIELD_ORDINAL16(struct saved_session, port),
    GT_FIELD_STRING(struct saved_session, slots[0].name),
    GT_FIELD_BYTES(struct saved_session, slots[0].key_id, GT_KEY_ID_SIZE),
    GT_FIELD_U32(struct saved_session, slots[0].generation),
    GT_FIELD_STRING(struct saved_session, slots[1].name),
    GT_FIELD_BYTES(struct saved_session, slots[1].key_id, GT_KEY_ID_SIZE),
    GT_FIELD_U32(struct saved_session, slots[1].generation),
    GT_FIELD_U64(struct saved_session, streams_serial),
    GT_FIELD_U64(struct saved_session, n_connections),
    GT_FIELD_U64(struct saved_session, n_up),
    GT_FIELD_U64(struct saved_session, n_down),
    GT_FIELD_U32(struct saved_session, n_slots),
};

static const struct saved_fd session_fds[] = {SAVED_SOCKET(struct saved_session, fd)};

const struct saved_layout session_layout = {SAVED_LAYOUT(SESSION, session_fields),
                                            SAVED_LAYOUT_FDS(session_fds),
                                            .is_valid = session_is_valid};

void session_save(const struct session *session, struct gt_writer *writer)
{
    const struct rendezvous *rendezvous = &session->rendezvous;
    struct saved_session saved = {
        .state = rendezvous->state,
        .serial = rendezvous->serial,
        .created_at = rendezvous->created_at,
        .entered_at = rendezvous->entered_at,
        .active_at = rendezvous->active_at,
        .expires_at = rendezvous->expires_at,
        .port = rendezvous->port,
        .fd = session->session_port->acceptor.fd,
        .streams_serial = rendezvous->streams.serial,
        .n_connections = session->n_connections,
        .n_up = session_n_bytes(session, GT_ROLE_OPERATOR),
        .n_down = session_n_bytes(session, GT_ROLE_DEVICE),
        .n_slots = (uint32_t)stream_slots_n_used(&rendezvous->streams),
    };

    memcpy(saved.rid, rendezvous->rid, sizeof(saved.rid));
    for (size_t i = 0; i < GT_ARRAY_SIZE(saved.slots); i++) {
        memcpy(saved.slots[i].name, rendezvous->slots[i].name, sizeof(saved.slots[i].name));
        memcpy(saved.slots[i].key_id, rendezvous->slots[i].key_id, GT_KEY_ID_SIZE);
        saved.slots[i].generation = rendezvous->slots[i].generation;
    }
    saved_layout_write(&session_layout, writer, &saved);
    stream_slots_save(&rendezvous->streams, writer);
    session_port_save(session->session_port, writer);
}

struct session *session_restore(struct session_host *host, const struct saved_session *saved,
                                struct data_thread *data_thread, int *fd)
{
    size_t n_streams = GT_MAX(host->limits.n_streams, ((size_t)saved->n_slots + 1) / 2);
    struct session *session =
        session_new(host, saved->rid, saved->serial, data_thread, saved->port, n_streams, fd);

    if (!session)
        return NULL;
    struct rendezvous *rendezvous = &session->rendezvous;
    rendezvous_restore(rendezvous, saved->state, saved->entered_at, gt_clock_ms());
    rendezvous->created_at = saved->created_at;
    rendezvous->active_at = saved->active_at;
    rendezvous->expires_at = saved->expires_at;
    rendezvous->streams.serial = saved->streams_serial;
    for (size_t i = 0; i < GT_ARRAY_SIZE(rendezvous->slots); i++) {
        snprintf(rendezvous->slots[i].name, sizeof(rendezvous->slots[i].name), "%s",
                 saved->slots[i].name);
        memcpy(rendezvous->slots[i].key_id, saved->slots[i].key_id, GT_KEY_ID_SIZE);
        rendezvous->slots[i].generation = saved->slots[i].generation;
        if (rendezvous->slots[i].name[0] &&
            session_hold(session, session_roles[i], rendezvous->slots[i].name))
            return session_free(session);
    }
    session->n_connections = saved->n_connections;
    session->n_before[0] = saved->n_up;
    session->n_before[1] = saved->n_down;
    return session;
}
