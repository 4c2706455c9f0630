/* SPDX-License-Identifier: ISC */
/*
 * Calls the modules in the order that snapshot-format.c checks. Restored objects are charged
 * without regard to limits, because they exist already.
 */
#include "upgrade/snapshot.h"

#include <stdio.h>

#include "gotthard/base/log.h"
#include "gotthard/config/config.h"
#include "upgrade/snapshot-format.h"

/* --- writing ---------------------------------------------------------------------------------- */

static void snapshot_write_relay(const struct snapshot *snapshot, struct gt_writer *writer)
{
    struct saved_relay relay = {.stopped_at = gt_clock_ms()};

    memcpy(relay.boot_id, snapshot->clients->boot_id, sizeof(relay.boot_id));
    for (size_t i = 0; i < snapshot->n_data_threads; i++)
        relay.n_bytes += atomic_load(&snapshot->data_threads[i]->counts.n_bytes);
    saved_layout_write(&relay_layout, writer, &relay);
}

static void snapshot_on_secret(void *userdata, const char *variable, const char *text)
{
    struct gt_writer *writer = userdata;
    struct saved_secret secret;

    if (strlen(variable) >= sizeof(secret.variable) || strlen(text) >= sizeof(secret.text))
        writer->failed = true;
    snprintf(secret.variable, sizeof(secret.variable), "%s", variable);
    snprintf(secret.text, sizeof(secret.text), "%s", text);
    saved_layout_write(&secret_layout, writer, &secret);
    gt_wipe(&secret, sizeof(secret));
}

void snapshot_write(const struct snapshot *snapshot, struct gt_writer *writer)
{
    const struct registry *registry = snapshot->registry;
    uint64_t now = gt_clock_ms();

    snapshot_format_write_head(writer);
    snapshot_write_relay(snapshot, writer);
    gt_config_each_taken(snapshot_on_secret, writer);
    main_listener_save(snapshot->main_listener, writer);
    registry_save(registry, writer);
    ports_save(&registry->ports, now, writer);
    quota_save(snapshot->quota, writer);
    access_save(snapshot->access, writer);
    seen_binders_save(snapshot->seen_binders, writer);
    tombstones_save(&registry->tombstones, now, writer);
    registry_save_sessions(registry, writer);
    saved_layout_write(&end_layout, writer, NULL);
}

/* --- restoring -------------------------------------------------------------------------------- */

struct restoring {
    const struct snapshot *snapshot;
    struct session *session; /* the session to which the next records belong */
    struct pair *pair;       /* the last pair of it */
    struct snapshot_counts counts;
};

static void restore_relay(struct restoring *restoring, const struct saved_relay *relay)
{
    const struct snapshot *snapshot = restoring->snapshot;

    memcpy(snapshot->clients->boot_id, relay->boot_id, sizeof(relay->boot_id));
    atomic_store(&snapshot->data_threads[0]->counts.n_bytes, (unsigned long)relay->n_bytes);
    restoring->counts.stopped_at = relay->stopped_at;
}

/* All records of the last session have been read. */
static void restore_session_end(struct restoring *restoring)
{
    if (restoring->session)
        session_resume(restoring->session);
    restoring->session = NULL;
    restoring->pair = NULL;
}

static int restore_session(struct restoring *restoring, const struct saved_session *session)
{
    int fd = session->fd;

    restore_session_end(restoring);
    restoring->session = registry_restore_session(restoring->snapshot->registry, session, &fd);
    restoring->counts.n_sessions++;
    gt_close(&fd);
    return restoring->session ? 0 : -ENOMEM;
}

static int restore_pair(struct restoring *restoring, const struct saved_pair *saved)
{
    struct session_port *session_port = restoring->session->session_port;

    restoring->pair = session_port_new_pair(session_port, saved->stream, saved->attempt);
    if (!restoring->pair)
        return -ENOMEM;
    restoring->counts.n_pairs++;
    return pair_restore(restoring->pair, saved, restoring->snapshot->quota);
}

/* A used ticket belongs to the pair before it, which waits for its second side. */
static int restore_ticket(struct restoring *restoring, const struct saved_ticket *ticket)
{
    struct pair *pair = ticket->state == TICKET_UNUSED ? NULL : restoring->pair;

    restoring->counts.n_tickets++;
    return session_port_restore_ticket(restoring->session->session_port, ticket, pair);
}

static int restore_main_listener(const struct snapshot *snapshot,
                                 const struct saved_main_listener *saved)
{
    int r = main_listener_restore(snapshot->main_listener, snapshot->loop, saved,
                                  snapshot->on_accept, snapshot->userdata);

    return r ? -EINVAL : 0;
}

static int restore_stream(struct restoring *restoring, const struct stream *stream)
{
    return stream_slots_restore(&restoring->session->rendezvous.streams, stream) ? -EINVAL : 0;
}

static int restore_on_record(void *userdata, const struct saved_record *record)
{
    struct restoring *restoring = userdata;
    const struct snapshot *snapshot = restoring->snapshot;
    struct registry *registry = snapshot->registry;

    switch (record->kind) {
    case SAVED_RELAY: restore_relay(restoring, &record->relay); break;
    case SAVED_SECRET: break; /* used by restore.c, before the settings were loaded */
    case SAVED_MAIN_LISTENER: return restore_main_listener(snapshot, &record->main_listener);
    case SAVED_REGISTRY: registry_restore(registry, &record->registry); break;
    case SAVED_PORTS: ports_restore(&registry->ports, &record->ports); break;
    case SAVED_COOLDOWN: ports_restore_cooldown(&registry->ports, &record->cooldown); break;
    case SAVED_QUOTA: quota_restore(snapshot->quota, &record->quota); break;
    case SAVED_ACCESS: access_restore(snapshot->access, &record->access); break;
    case SAVED_BINDER: seen_binders_add(snapshot->seen_binders, record->binder.bytes); break;
    case SAVED_TOMBSTONE: tombstones_restore(&registry->tombstones, &record->tombstone); break;
    case SAVED_SESSION: return restore_session(restoring, &record->session);
    case SAVED_STREAM: return restore_stream(restoring, &record->stream);
    case SAVED_PAIR: return restore_pair(restoring, &record->pair);
    case SAVED_TICKET: return restore_ticket(restoring, &record->ticket);
    case SAVED_END: restore_session_end(restoring); break;
    }
    return 0;
}

int snapshot_restore(const struct snapshot *snapshot, struct gt_span state,
                     struct snapshot_counts *ret)
{
    struct restoring restoring = {.snapshot = snapshot};
    int r = snapshot_format_read(state, restore_on_record, &restoring);

    if (!r)
        *ret = restoring.counts;
    return r > 0 ? -EINVAL : r;
}
