/* SPDX-License-Identifier: ISC */
/*
 * Moves the records of a shared connection: one flush at the end of a loop iteration, and all
 * records of one recv() before their members are settled. Must never free or replace the data
 * connection, since its callbacks come here.
 */
#include <assert.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/shared-internal.h"

#define BATCH          (48 * 1024)  /* bytes of records in one write: the next turns wait for it */
#define RECEIVE_BUDGET (256 * 1024) /* bytes in one loop iteration */

void gt_shared_connection_attach(struct gt_shared_connection *shared, uint32_t number,
                                 uint32_t attempt, const struct gt_shared_member_events *events,
                                 struct gt_shared_member *member)
{
    assert(shared->state == SHARED_UP);
    gt_multiplexer_attach(&shared->mux, number, attempt, events, member);
}

static void write_batch(struct gt_shared_connection *shared)
{
    struct gt_data_connection *connection = shared->connection;
    struct gt_multiplexer_record record;

    if (gt_multiplexer_has_output(&shared->mux))
        shared->busy_at = gt_clock();
    for (size_t total = 0; total < BATCH && gt_multiplexer_has_output(&shared->mux) &&
                           gt_data_connection_make_room(connection);
         total += record.n)
        if (gt_multiplexer_compose(&shared->mux, gt_data_connection_record_size(connection),
                                   &record) > 0)
            gt_data_connection_write(connection, record.parts, record.n_parts);
}

/* Continues after a flush: on_writable comes only if the flush left something. */
void gt_shared_io_send(struct gt_shared_connection *shared)
{
    if (shared->state != SHARED_UP)
        return;
    do {
        write_batch(shared);
        gt_data_connection_flush(shared->connection);
    } while (gt_multiplexer_has_output(&shared->mux) &&
             gt_data_connection_make_room(shared->connection));
}

void gt_shared_io_schedule(void *shared)
{
    struct gt_shared_connection *self = shared;

    ev_prepare_start(self->settings.loop, &self->prepare);
}

static void io_on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
    struct gt_shared_connection *shared = watcher->data;

    ev_prepare_stop(loop, watcher);
    if (shared->is_check_due && shared->connection)
        gt_data_connection_check(shared->connection, shared->has_slept);
    if (shared->is_probe_due && shared->state == SHARED_UP)
        gt_data_connection_probe(shared->connection);
    shared->is_check_due = shared->is_probe_due = shared->has_slept = false;
    gt_shared_io_send(shared);
}

/* Members borrow from the records until they are settled. */
void gt_shared_io_receive(struct gt_shared_connection *shared)
{
    struct gt_span record;
    size_t total = 0;

    while (total < RECEIVE_BUDGET && shared->state == SHARED_UP) {
        if (gt_data_connection_next_record(shared->connection, &record)) {
            total += record.n;
            if (gt_multiplexer_receive(&shared->mux, record)) {
                gt_debug("shared attempt=%u malformed record", shared->attempts.attempt);
                gt_shared_fail(shared);
            }
            continue;
        }
        gt_multiplexer_settle(&shared->mux);
        if (!gt_data_connection_fill(shared->connection, RECEIVE_BUDGET))
            break;
    }
    if (total > 0)
        shared->busy_at = gt_clock();
    gt_multiplexer_settle(&shared->mux);
}

void gt_shared_io_init(struct gt_shared_connection *shared)
{
    ev_prepare_init(&shared->prepare, io_on_prepare);
    shared->prepare.data = shared;
}

/* A probe that is due may concern the next data connection, which is new. */
void gt_shared_io_stop(struct gt_shared_connection *shared)
{
    ev_prepare_stop(shared->settings.loop, &shared->prepare);
    shared->is_check_due = shared->is_probe_due = shared->has_slept = false;
    gt_multiplexer_reset(&shared->mux);
}
