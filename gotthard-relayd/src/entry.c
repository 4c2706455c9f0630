/* SPDX-License-Identifier: ISC */
/*
 * A session at work. A refusal that concerns the session is an ERROR with its rid, one that
 * concerns a stream a STREAM_END with its number; both leave the connection alone. The plane learns
 * of a ticket before the clients do, so that no JOIN can be too early.
 */
#include "entry.h"

#include <stdio.h>

#include "gotthard/log.h"
#include "handover.h"

static const enum gt_role roles[] = {GT_ROLE_OPERATOR, GT_ROLE_DEVICE};

struct member *entry_member(struct entry *entry, enum gt_role role)
{
    return session_slot(&entry->session, role)->member;
}

static size_t place_of(enum gt_role role)
{
    return role == GT_ROLE_OPERATOR ? 0 : 1;
}

struct entry *entry_of_member(const struct member *member)
{
    if (!member_is_seated(member))
        return NULL;
    return gt_container_of(member->seats.next, struct entry, places[place_of(member->role)].seat);
}

size_t entry_n_held(const struct entry_host *host, enum gt_role role, const char *name)
{
    return tally_count(&host->holders[place_of(role)], name);
}

int entry_hold(struct entry *entry, enum gt_role role, const char *name)
{
    struct tally **holder = &entry->places[place_of(role)].holder;

    if (!*holder)
        *holder = tally_take(&entry->host->holders[place_of(role)], name);
    return *holder ? 0 : -ENOMEM;
}

static void entry_let_go(struct entry *entry)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(entry->places); i++)
        entry->places[i].holder = tally_give(&entry->host->holders[i], entry->places[i].holder);
}

static struct member *entry_peer(struct entry *entry, const struct member *member)
{
    return session_peer(&entry->session, member->role)->member;
}

static void entry_arm(struct entry *entry)
{
    struct entry_host *host = entry->host;
    uint64_t deadline = session_deadline(&entry->session, &host->limits.session);

    ev_timer_stop(host->loop, &entry->timer);
    if (deadline == NEVER)
        return;
    ev_timer_set(&entry->timer, now_seconds_to(now_ms(), deadline), 0);
    ev_timer_start(host->loop, &entry->timer);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void entry_send(struct entry *entry, struct member *member, struct gt_control_frame *frame)
{
    if (!member)
        return;
    memcpy(frame->rid, entry->session.rid, GT_RID_SIZE);
    member_send(member, frame);
}

static void entry_send_session(struct entry *entry, struct member *member)
{
    uint64_t now = now_ms(), expires_at = entry->session.expires_at;
    struct gt_control_frame frame = {.type = GT_CONTROL_SESSION};

    frame.session.port = entry->session.port;
    frame.session.ttl_left_s = (uint32_t)(expires_at > now ? (expires_at - now) / 1000 : 0);
    frame.session.is_peer_up = entry_peer(entry, member) != NULL;
    entry_send(entry, member, &frame);
}

static void entry_send_peer(struct entry *entry, struct member *to, bool is_up, enum gt_code reason)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_PEER};

    frame.peer.is_up = is_up;
    frame.peer.reason = (uint8_t)reason;
    entry_send(entry, to, &frame);
}

static void entry_send_end(struct entry *entry, struct member *to, uint32_t stream,
                           uint32_t attempt, enum gt_code code)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_STREAM_END};

    frame.stream_end.stream = stream;
    frame.stream_end.attempt = attempt;
    frame.stream_end.code = (uint16_t)code;
    entry_send(entry, to, &frame);
}

static void entry_send_ticket(struct entry *entry, struct member *to, const struct stream *stream)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_TICKET, .ticket = stream->ticket};
    uint64_t now = now_ms();

    frame.ticket.ttl_s =
        (uint16_t)(stream->expires_at > now ? (stream->expires_at - now + 999) / 1000 : 0);
    entry_send(entry, to, &frame);
    gt_wipe(&frame, sizeof(frame));
}

/* --- the end of a session --------------------------------------------------------------------- */

static void entry_leave(struct entry *entry, enum gt_role role)
{
    struct session_slot *slot = session_slot(&entry->session, role);
    struct member *member = slot->member;

    slot->member = NULL;
    if (member)
        member_unseat(member, &entry->places[place_of(role)].seat);
}

static void entry_release(struct entry *entry, enum gt_code code)
{
    struct entry_host *host = entry->host;

    ev_timer_stop(host->loop, &entry->timer);
    entry_let_go(entry);
    plane_undock(entry->plane, gt_steal(&entry->dock));
    host->on_ended(host->userdata, entry, code);
}

/* The session is GONE: whoever is still there is told why. */
static void entry_end(struct entry *entry, enum gt_code code)
{
    struct session *session = &entry->session;

    for (size_t i = 0; i < GT_ARRAY_SIZE(roles); i++) {
        struct member *member = entry_member(entry, roles[i]);
        if (member)
            member_send_code(member, GT_CONTROL_BYE, session->rid, code);
        entry_leave(entry, roles[i]);
    }
    gt_info("session=%s ended operator=%s device=%s port=%u seconds=%llu streams=%llu up=%llu "
            "down=%llu reason=\"%s\"",
            session->tag, session->slots[0].name[0] ? session->slots[0].name : "-",
            session->slots[1].name[0] ? session->slots[1].name : "-", session->port,
            (unsigned long long)(now_ms() - session->born_at) / 1000,
            (unsigned long long)entry->n_streams, (unsigned long long)entry->n_up,
            (unsigned long long)entry->n_down, gt_code_text(code));
    entry_release(entry, code);
}

/* An event happened to it. True: it lives on. */
static bool entry_handle(struct entry *entry, enum session_event event, enum gt_code code)
{
    if (session_handle(&entry->session, event, now_ms())) {
        entry->host->n_unlisted++;
        code = GT_CODE_INTERNAL;
    }
    if (entry->session.state == SESSION_GONE) {
        entry_end(entry, code);
        return false;
    }
    entry_arm(entry);
    return true;
}

static void entry_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct entry *entry = gt_container_of(timer, struct entry, timer);
    uint64_t now = now_ms();

    if (now < session_deadline(&entry->session, &entry->host->limits.session))
        entry_arm(entry);
    else
        entry_handle(entry, session_due(&entry->session, now), GT_CODE_EXPIRED);
}

/* --- tickets ---------------------------------------------------------------------------------- */

/* The id begins with the session's port: it leads those who come in at the main port to the plane,
 * whichever that is by then. */
static int entry_make_ticket(const struct entry *entry, struct gt_ticket *ret)
{
    uint16_t port = entry->session.port;
    int r = gt_random(ret->id, sizeof(ret->id));

    if (!r)
        r = gt_random(ret->secret, sizeof(ret->secret));
    if (r)
        return r;
    ret->id[0] = (uint8_t)(port >> 8);
    ret->id[1] = (uint8_t)port;
    ret->ttl_s = (uint16_t)(entry->host->limits.ticket_ms / 1000);
    return 0;
}

static void entry_send_ticket_to_both(struct entry *entry, const struct stream *stream)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(roles); i++)
        entry_send_ticket(entry, entry_member(entry, roles[i]), stream);
}

static void entry_send_end_to_both(struct entry *entry, uint32_t stream, uint32_t attempt,
                                   enum gt_code code)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(roles); i++)
        entry_send_end(entry, entry_member(entry, roles[i]), stream, attempt, code);
}

/* Whoever waits for a ticket gets one, as long as not too many are out. The plane learns of it
 * before the clients do. */
static void entry_give_tickets(struct entry *entry)
{
    struct entry_host *host = entry->host;
    struct streams *streams = &entry->session.streams;
    uint64_t expires_at = now_ms() + host->limits.ticket_ms;

    for (struct stream *next = streams_next(streams); next; next = streams_next(streams)) {
        struct gt_ticket ticket = next->ticket;
        if (entry_make_ticket(entry, &ticket) ||
            plane_honour(entry->plane, entry->dock, &ticket, expires_at)) {
            entry_send_end_to_both(entry, ticket.stream, ticket.attempt, GT_CODE_INTERNAL);
            streams_end(streams, next);
            continue;
        }
        streams_give(streams, next, &ticket, expires_at);
        entry_send_ticket_to_both(entry, next);
        gt_wipe(&ticket, sizeof(ticket));
    }
}

/* A side that has just come learns of the tickets that are out. */
static void entry_repeat_tickets(struct entry *entry, struct member *member)
{
    const struct streams *streams = &entry->session.streams;

    for (size_t i = 0; i < streams->n_slots; i++)
        if (streams->slots[i].state == STREAM_TICKETED)
            entry_send_ticket(entry, member, &streams->slots[i]);
}

/* --- what its members ask --------------------------------------------------------------------- */

static void entry_on_registered(struct entry *entry, struct member *member,
                                const struct session_claim *claim)
{
    const struct session *session = &entry->session;
    enum gt_code reason = claim->is_new_process ? GT_CODE_NEW_PROCESS
                          : claim->replaced     ? GT_CODE_REPLACED
                                                : GT_CODE_NONE;

    entry_send_session(entry, member);
    entry_send_peer(entry, entry_peer(entry, member), true, reason);
    entry_repeat_tickets(entry, member);
    gt_info("session=%s %s=%s state=%s port=%u", session->tag,
            member->role == GT_ROLE_OPERATOR ? "operator" : "device", member->name,
            session_state_text(session->state), session->port);
}

/* One that was left for another is most likely half-open: it would only stand in the way of its
 * identity's next ones. */
static void entry_replace(struct entry *entry, struct member *replaced)
{
    member_send_code(replaced, GT_CONTROL_BYE, entry->session.rid, GT_CODE_REPLACED);
    if (!member_is_seated(replaced))
        member_close(replaced, "replaced");
}

void entry_register(struct entry *entry, struct member *member,
                    const struct gt_control_frame *frame)
{
    struct session_claim claim;
    uint64_t ttl_ms = frame->rendezvous.ttl_s * 1000ull, now = now_ms();
    struct gt_list *seat = &entry->places[place_of(member->role)].seat;

    if (entry_hold(entry, member->role, member->name)) {
        member_send_code(member, GT_CONTROL_ERROR, frame->rid, GT_CODE_INTERNAL);
        return;
    }
    if (session_claim(&entry->session, member->role, member->name, frame->rendezvous.generation,
                      member, &claim)) {
        member_send_code(member, GT_CONTROL_ERROR, frame->rid, GT_CODE_TAKEN);
        return;
    }
    if (claim.replaced)
        member_unseat(claim.replaced, seat);
    member_seat(member, seat);
    if (member->role == GT_ROLE_OPERATOR)
        streams_unmark_all(&entry->session.streams); /* what it said last may be lost */
    if (ttl_ms)
        entry->session.expires_at = GT_MIN(entry->session.expires_at, now + ttl_ms);
    if (claim.replaced && claim.replaced != member)
        entry_replace(entry, claim.replaced);
    if (entry_handle(entry, claim.event, GT_CODE_INTERNAL))
        entry_on_registered(entry, member, &claim);
}

static void entry_cancel(struct entry *entry, uint32_t stream, uint32_t attempt)
{
    if (plane_cancel(entry->plane, entry->dock, stream, attempt))
        gt_warn("session=%s lost a letter reason=\"no memory\"", entry->session.tag);
}

/* A spare that comes and goes is no sign of life. */
static void entry_end_stream(struct entry *entry, struct stream *stream)
{
    if (!stream->is_spare)
        entry->session.active_at = now_ms();
    streams_end(&entry->session.streams, stream);
}

void entry_open(struct entry *entry, struct member *member, uint32_t stream, uint32_t attempt)
{
    switch (streams_open(&entry->session.streams, stream, attempt)) {
    case STREAMS_E_ORDER:
        member_fail(member, GT_CODE_PROTOCOL, entry->session.rid,
                    "an attempt that is not the next");
        return;
    case STREAMS_E_FULL: entry_send_end(entry, member, stream, attempt, GT_CODE_LIMIT); return;
    }
    if (attempt > 1)
        entry_cancel(entry, stream, attempt - 1); /* the older one's ticket and pair */
    entry_give_tickets(entry);
    entry_arm(entry);
}

void entry_spare(struct entry *entry, uint32_t stream, uint32_t attempt, bool is_spare)
{
    streams_mark(&entry->session.streams, stream, attempt, is_spare);
    entry_arm(entry);
}

void entry_stream_end(struct entry *entry, struct member *member,
                      const struct gt_control_frame *frame)
{
    uint32_t number = frame->stream_end.stream, attempt = frame->stream_end.attempt;
    struct stream *stream = streams_tell(&entry->session.streams, number, attempt);
    struct gt_control_frame copy = *frame;

    if (!stream)
        return; /* however often it comes, the other side's queue is not for that */
    entry_send(entry, entry_peer(entry, member), &copy);
    if (stream->state != STREAM_WAITING && stream->state != STREAM_TICKETED)
        return; /* its pair ends by itself, after the last byte, or has */
    entry_end_stream(entry, stream);
    entry_cancel(entry, number, attempt);
    entry_give_tickets(entry);
    entry_arm(entry);
}

void entry_bye(struct entry *entry, struct member *member, enum gt_code code)
{
    struct member *peer = entry_peer(entry, member);

    if (code != GT_CODE_NEW_PROCESS) /* there is nothing else to tell apart */
        code = GT_CODE_BYE;
    entry_leave(entry, member->role);
    entry_send_peer(entry, peer, false, code);
    entry_handle(entry, SESSION_BYE, code);
}

void entry_lose(struct entry *entry, struct member *member)
{
    struct member *peer = entry_peer(entry, member);

    entry_leave(entry, member->role);
    entry_send_peer(entry, peer, false, member->is_hung_up ? GT_CODE_HUNG_UP : GT_CODE_LOST);
    entry_handle(entry, SESSION_LOST, GT_CODE_LOST);
}

void entry_stop(struct entry *entry, enum gt_code code)
{
    entry_handle(entry, SESSION_STOPPED, code);
}

/* --- what its plane reports ------------------------------------------------------------------- */

static void entry_on_paired(struct entry *entry, struct stream *stream)
{
    streams_join(&entry->session.streams, stream);
    entry_give_tickets(entry);
    entry_arm(entry);
}

/* The ends see for themselves how a joined stream ended; one that never joined they are told of. */
static void entry_on_ended(struct entry *entry, struct stream *stream, const struct letter *letter)
{
    entry->n_streams += stream->state == STREAM_JOINED && !stream->is_spare;
    if (stream->state != STREAM_JOINED)
        entry_send_end_to_both(entry, letter->stream, letter->attempt, letter->code);
    entry_end_stream(entry, stream);
    entry_give_tickets(entry);
    entry_arm(entry);
}

void entry_on_letter(struct entry *entry, const struct letter *letter)
{
    struct stream *stream = streams_find(&entry->session.streams, letter->stream, letter->attempt);

    if (letter->kind == LETTER_ENDED) {
        entry->n_up += letter->n_up;
        entry->n_down += letter->n_down;
    }
    if (stream && letter->kind == LETTER_PAIRED)
        entry_on_paired(entry, stream);
    else if (stream && letter->kind == LETTER_ENDED)
        entry_on_ended(entry, stream, letter);
}

/* --- birth and burial ------------------------------------------------------------------------- */

struct entry *entry_free(struct entry *entry)
{
    if (!entry)
        return NULL;
    gt_list_unlink(&entry->dead);
    entry_let_go(entry);
    dock_free(entry->dock);
    streams_deinit(&entry->session.streams);
    free(entry);
    return NULL;
}

static struct entry *entry_make(struct entry_host *host, const uint8_t rid[static GT_RID_SIZE],
                                uint64_t serial, struct plane *plane, uint16_t port,
                                size_t n_streams, int *fd)
{
    struct entry *entry = calloc(1, sizeof(*entry));
    uint64_t now = now_ms();

    if (!entry)
        return NULL;
    session_init(&entry->session, rid, now);
    entry->session.port = port;
    entry->session.serial = serial;
    entry->session.expires_at = now + host->limits.lifetime_ms;
    entry->host = host;
    entry->plane = plane;
    gt_list_init(&entry->dead);
    for (size_t i = 0; i < GT_ARRAY_SIZE(entry->places); i++)
        gt_list_init(&entry->places[i].seat);
    ev_init(&entry->timer, entry_on_timer);
    entry->dock = dock_new(serial, entry->session.tag, fd);
    if (!entry->dock || streams_init(&entry->session.streams, n_streams, host->limits.n_tickets))
        return entry_free(entry);
    return entry;
}

struct entry *entry_new(struct entry_host *host, const uint8_t rid[static GT_RID_SIZE],
                        uint64_t serial, struct plane *plane, uint16_t port, int *fd)
{
    return entry_make(host, rid, serial, plane, port, host->limits.n_streams, fd);
}

struct entry *entry_adopt(struct entry_host *host, const struct handover_session *from,
                          struct plane *plane, int *fd)
{
    size_t n_streams = GT_MAX(host->limits.n_streams, ((size_t)from->n_slots + 1) / 2);
    struct entry *entry =
        entry_make(host, from->rid, from->serial, plane, from->port, n_streams, fd);

    if (!entry)
        return NULL;
    struct session *session = &entry->session;
    session_adopt(session, from->state, from->entered_at, now_ms());
    session->born_at = from->born_at;
    session->active_at = from->active_at;
    session->expires_at = from->expires_at;
    session->streams.serial = from->streams_serial;
    for (size_t i = 0; i < GT_ARRAY_SIZE(session->slots); i++) {
        snprintf(session->slots[i].name, sizeof(session->slots[i].name), "%s", from->slots[i].name);
        session->slots[i].generation = from->slots[i].generation;
        if (session->slots[i].name[0] && entry_hold(entry, roles[i], session->slots[i].name))
            return entry_free(entry);
    }
    entry->n_streams = from->n_streams;
    entry->n_up = from->n_up;
    entry->n_down = from->n_down;
    return entry;
}

void entry_go_on(struct entry *entry)
{
    entry_arm(entry);
}

int entry_start(struct entry *entry)
{
    return plane_dock(entry->plane, entry->dock);
}

void entry_show(const struct entry *entry)
{
    const struct session *session = &entry->session;

    gt_info("status session=%s state=%s operator=%s%s device=%s%s port=%u plane=%u streams=%zu "
            "spares=%zu tickets=%zu seconds=%llu",
            session->tag, session_state_text(session->state), session->slots[0].name,
            session->slots[0].member ? "" : "(away)", session->slots[1].name,
            session->slots[1].member ? "" : "(away)", session->port, entry->plane->index,
            session->streams.n_live - session->streams.n_spares, session->streams.n_spares,
            session->streams.n_tickets, (unsigned long long)(now_ms() - session->born_at) / 1000);
}
