/* SPDX-License-Identifier: ISC */
/*
 * Record by record, in the order that handover.h asks for. What is taken is charged without being
 * asked whether there is room: it is there.
 */
#include "estate.h"

#include <stdio.h>

#include "gotthard/config.h"
#include "gotthard/log.h"

/* --- writing ---------------------------------------------------------------------------------- */

static void estate_write_relay(const struct estate *estate, struct gt_writer *writer)
{
    const struct registry *registry = estate->registry;
    struct handover record = {.kind = HANDOVER_RELAY};
    struct quota_counts counts;

    quota_count(estate->quota, &counts);
    record.relay = (struct handover_relay){
        .stopped_at = now_ms(),
        .bind = registry->bind,
        .cursor = (uint16_t)(registry->ports.cursor % ports_n(&registry->ports)),
        .serial = registry->serial,
        .n_born = registry->n_born,
        .n_unlisted = registry->entries.n_unlisted,
        .n_refused = counts.n_refused,
    };
    memcpy(record.relay.boot_id, estate->members->boot_id, sizeof(record.relay.boot_id));
    for (size_t i = 0; i < estate->n_planes; i++)
        record.relay.n_bytes += atomic_load(&estate->planes[i]->counts.n_bytes);
    handover_write_record(writer, &record);
}

static void estate_on_secret(void *userdata, const char *variable, const char *text)
{
    struct gt_writer *writer = userdata;
    struct handover record = {.kind = HANDOVER_SECRET};

    if (strlen(variable) >= sizeof(record.secret.variable) ||
        strlen(text) >= sizeof(record.secret.text))
        writer->failed = true;
    snprintf(record.secret.variable, sizeof(record.secret.variable), "%s", variable);
    snprintf(record.secret.text, sizeof(record.secret.text), "%s", text);
    handover_write_record(writer, &record);
    gt_wipe(&record, sizeof(record));
}

static void estate_write_ports(const struct estate *estate, struct gt_writer *writer)
{
    const struct ports *ports = &estate->registry->ports;
    uint64_t now = now_ms();

    for (size_t i = 0; i < ports_n(ports); i++) {
        struct handover record = {.kind = HANDOVER_REST,
                                  .rest = {(uint16_t)(ports->from + i), ports->slots[i]}};
        if (record.rest.slot.state == PORT_FREE &&
            (record.rest.slot.is_known || record.rest.slot.rests_until > now))
            handover_write_record(writer, &record);
    }
}

static void estate_write_penalties(const struct estate *estate, struct gt_writer *writer)
{
    const struct quota_penalty *penalty;
    size_t at = 0;

    while ((penalty = quota_next_penalty(estate->quota, now_ms(), &at)))
        handover_write_record(writer,
                              &(struct handover){.kind = HANDOVER_PENALTY, .penalty = *penalty});
}

static void estate_write_tombs(const struct tombs *tombs, struct gt_writer *writer)
{
    for (size_t i = 0; i < TOMBS_N; i++) {
        const struct tomb *tomb = &tombs->all[(tombs->next + i) % TOMBS_N];
        if (tomb->until > now_ms())
            handover_write_record(writer, &(struct handover){.kind = HANDOVER_TOMB, .tomb = *tomb});
    }
}

static void estate_write_session(const struct entry *entry, struct gt_writer *writer)
{
    const struct session *session = &entry->session;
    struct handover record = {.kind = HANDOVER_SESSION};
    struct handover_session *to = &record.session;

    *to = (struct handover_session){
        .state = session->state,
        .serial = session->serial,
        .born_at = session->born_at,
        .entered_at = session->entered_at,
        .active_at = session->active_at,
        .expires_at = session->expires_at,
        .port = session->port,
        .fd = entry->dock->listener.fd,
        .streams_serial = session->streams.serial,
        .n_streams = entry->n_streams,
        .n_up = entry->n_up,
        .n_down = entry->n_down,
    };
    memcpy(to->rid, session->rid, sizeof(to->rid));
    for (size_t i = 0; i < GT_ARRAY_SIZE(to->slots); i++) {
        memcpy(to->slots[i].name, session->slots[i].name, sizeof(to->slots[i].name));
        to->slots[i].generation = session->slots[i].generation;
    }
    for (size_t i = 0; i < session->streams.n_slots; i++)
        to->n_slots += session->streams.slots[i].state != STREAM_FREE;
    handover_write_record(writer, &record);
}

static void estate_write_streams(const struct streams *streams, struct gt_writer *writer)
{
    for (size_t i = 0; i < streams->n_slots; i++) {
        struct handover record = {.kind = HANDOVER_STREAM, .stream = streams->slots[i]};
        if (record.stream.state != STREAM_FREE)
            handover_write_record(writer, &record);
        gt_wipe(&record.stream, sizeof(record.stream));
    }
}

static void estate_put_pipe(const struct pipe *pipe, struct handover_pipe *ret)
{
    *ret = (struct handover_pipe){.kind = HANDOVER_NO_PIPE, .fds = {-1, -1}};
    if (!pipe || !pipe->n_held)
        return;
    if (pipe->kind == PIPE_COPIED) {
        ret->kind = HANDOVER_COPIED;
        ret->bytes = gt_span(pipe->bytes + pipe->at, pipe->n_held);
        return;
    }
    *ret = (struct handover_pipe){.kind = HANDOVER_SPLICED,
                                  .fds = {pipe->fds[0], pipe->fds[1]},
                                  .n = (uint32_t)pipe->n_held,
                                  .capacity = (uint32_t)pipe->capacity};
}

static void estate_write_pair(struct pair *pair, struct gt_writer *writer)
{
    struct handover record = {.kind = HANDOVER_PAIR};
    uint64_t left = pair_deadline_left_ms(pair);

    record.pair = (struct handover_pair){.state = pair->state,
                                         .stream = pair->stream,
                                         .attempt = pair->attempt,
                                         .deadline = left == NEVER ? NEVER : now_ms() + left,
                                         .n_moved_at_deadline = pair->n_moved_at_deadline};
    for (size_t i = 0; i < GT_ARRAY_SIZE(pair->sides); i++) {
        const struct pair_side *side = &pair->sides[i];
        struct handover_side *to = &record.pair.sides[i];
        to->fd = side->fd;
        memcpy(to->source, side->charge.source, sizeof(to->source));
        to->flow = side->flow;
        to->n_bytes = side->n_bytes;
        estate_put_pipe(side->pipe, &to->pipe);
    }
    handover_write_record(writer, &record);
}

static void estate_write_ticket(const struct ticket *ticket, struct gt_writer *writer)
{
    struct handover record = {.kind = HANDOVER_TICKET,
                              .ticket = {ticket->state, ticket->given, ticket->expires_at}};

    handover_write_record(writer, &record);
    gt_wipe(&record.ticket, sizeof(record.ticket));
}

static const struct ticket *estate_ticket_of(const struct dock *dock, const struct pair *pair)
{
    gt_list_for_each_safe (at, next, &dock->tickets)
        if (gt_list_entry(at, struct ticket, of_dock)->pair == pair)
            return gt_list_entry(at, struct ticket, of_dock);
    return NULL;
}

/* A pair that waits, and its ticket after it; then the tickets that nobody has come with yet. */
static void estate_write_dock(const struct dock *dock, struct gt_writer *writer)
{
    gt_list_for_each_safe (at, next, &dock->pairs) {
        struct pair *pair = gt_list_entry(at, struct pair, of_dock);
        const struct ticket *ticket = estate_ticket_of(dock, pair);
        estate_write_pair(pair, writer);
        if (ticket)
            estate_write_ticket(ticket, writer);
    }
    gt_list_for_each_safe (at, next, &dock->tickets) {
        const struct ticket *ticket = gt_list_entry(at, struct ticket, of_dock);
        if (!ticket->pair)
            estate_write_ticket(ticket, writer);
    }
}

void estate_write(const struct estate *estate, struct gt_writer *writer)
{
    struct entry *entry, *next;

    handover_write_head(writer);
    estate_write_relay(estate, writer);
    gt_config_each_taken(estate_on_secret, writer);
    for (size_t i = 0; i < estate->door->n_listeners; i++)
        handover_write_record(writer, &(struct handover){.kind = HANDOVER_DOOR,
                                                         .door = estate->door->listeners[i].fd});
    estate_write_ports(estate, writer);
    estate_write_penalties(estate, writer);
    estate_write_tombs(&estate->registry->tombs, writer);
    HASH_ITER (by_serial, estate->registry->by_serial, entry, next) {
        estate_write_session(entry, writer);
        estate_write_streams(&entry->session.streams, writer);
        estate_write_dock(entry->dock, writer);
    }
    handover_write_record(writer, &(struct handover){.kind = HANDOVER_END});
}

/* --- taking ----------------------------------------------------------------------------------- */

struct taking {
    const struct estate *estate;
    struct entry *entry; /* of the session that is being read */
    struct pair *pair;   /* the last one */
    struct estate_counts counts;
};

static void estate_take_relay(struct taking *taking, const struct handover_relay *relay)
{
    const struct estate *estate = taking->estate;
    struct registry *registry = estate->registry;

    memcpy(estate->members->boot_id, relay->boot_id, sizeof(relay->boot_id));
    registry->bind = relay->bind;
    registry->ports.cursor = relay->cursor % ports_n(&registry->ports);
    registry->serial = relay->serial;
    registry->n_born = relay->n_born;
    registry->entries.n_unlisted = relay->n_unlisted;
    estate->quota->n_refused = relay->n_refused;
    atomic_store(&estate->planes[0]->counts.n_bytes, (unsigned long)relay->n_bytes);
    taking->counts.stopped_at = relay->stopped_at;
}

/* The session before is whole now. */
static void estate_finish_session(struct taking *taking)
{
    if (taking->entry)
        entry_go_on(taking->entry);
    taking->entry = NULL;
    taking->pair = NULL;
}

static int estate_take_session(struct taking *taking, const struct handover_session *session)
{
    int fd = session->fd;

    estate_finish_session(taking);
    taking->entry = registry_adopt(taking->estate->registry, session, &fd);
    taking->counts.n_sessions++;
    gt_close(&fd);
    return taking->entry ? 0 : -ENOMEM;
}

static int estate_take_side(const struct estate *estate, struct pair_side *side,
                            const struct handover_side *from)
{
    const struct handover_pipe *pipe = &from->pipe;

    side->flow = from->flow;
    side->n_bytes = from->n_bytes;
    if (from->fd < 0)
        return 0;
    side->fd = from->fd;
    quota_adopt(estate->quota, from->source, &side->charge);
    if (pipe->kind == HANDOVER_NO_PIPE)
        return 0;
    side->pipe = pipe->kind == HANDOVER_SPLICED
                     ? pipe_adopt_spliced(side->pair->pool, pipe->fds, pipe->capacity, pipe->n)
                     : pipe_adopt_copied(side->pair->pool, pipe->bytes);
    return side->pipe ? 0 : -ENOMEM;
}

static int estate_take_pair(struct taking *taking, const struct handover_pair *from)
{
    struct pair *pair = dock_new_pair(taking->entry->dock, from->stream, from->attempt);
    uint64_t now = now_ms();

    if (!pair)
        return -ENOMEM;
    pair->state = from->state;
    pair->n_moved_at_deadline = from->n_moved_at_deadline;
    for (size_t i = 0; i < GT_ARRAY_SIZE(pair->sides); i++)
        if (estate_take_side(taking->estate, &pair->sides[i], &from->sides[i]))
            return -ENOMEM;
    pair_go_on(pair, from->deadline == NEVER ? NEVER
                     : from->deadline > now  ? from->deadline - now
                                             : 1);
    taking->pair = pair;
    taking->counts.n_pairs++;
    return 0;
}

static int estate_take_ticket(struct taking *taking, const struct handover_ticket *ticket)
{
    taking->counts.n_tickets++;
    return dock_adopt_ticket(taking->entry->dock, &ticket->given, ticket->expires_at, ticket->state,
                             ticket->state == TICKET_UNUSED ? NULL : taking->pair);
}

static int estate_on_record(void *userdata, const struct handover *record)
{
    struct taking *taking = userdata;
    const struct estate *estate = taking->estate;

    switch (record->kind) {
    case HANDOVER_RELAY: estate_take_relay(taking, &record->relay); return 0;
    case HANDOVER_SECRET: return 0; /* was needed before there were any settings */
    case HANDOVER_DOOR:
        return door_adopt(estate->door, estate->loop, record->door, estate->on_accept,
                          estate->userdata)
                   ? -EINVAL
                   : 0;
    case HANDOVER_REST:
        ports_adopt(&estate->registry->ports, record->rest.port, &record->rest.slot);
        return 0;
    case HANDOVER_PENALTY: quota_adopt_penalty(estate->quota, &record->penalty); return 0;
    case HANDOVER_TOMB:
        tombs_add(&estate->registry->tombs, record->tomb.rid, record->tomb.code,
                  record->tomb.until);
        return 0;
    case HANDOVER_SESSION: return estate_take_session(taking, &record->session);
    case HANDOVER_STREAM:
        return streams_adopt(&taking->entry->session.streams, &record->stream) ? -EINVAL : 0;
    case HANDOVER_PAIR: return estate_take_pair(taking, &record->pair);
    case HANDOVER_TICKET: return estate_take_ticket(taking, &record->ticket);
    case HANDOVER_END: estate_finish_session(taking); return 0;
    }
    return 0;
}

int estate_take(const struct estate *estate, struct gt_span state, struct estate_counts *ret)
{
    struct taking taking = {.estate = estate};
    int r = handover_read(state, estate_on_record, &taking);

    if (!r)
        *ret = taking.counts;
    return r > 0 ? -EINVAL : r;
}
