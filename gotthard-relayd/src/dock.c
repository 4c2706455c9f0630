/* SPDX-License-Identifier: ISC */
/*
 * From JOIN to pair: a ticket is spent before anything else happens, the first JOIN makes the pair,
 * the second completes it. What a wrong JOIN was wrong about is told to nobody.
 */
#include "dock.h"

#include "gotthard/log.h"
#include "plane.h"

struct dock *dock_new(uint64_t serial, const char *tag, int *fd)
{
    struct dock *dock = calloc(1, sizeof(*dock));

    if (!dock)
        return NULL;
    dock->serial = serial;
    dock->fd = gt_steal_fd(fd);
    memcpy(dock->tag, tag, sizeof(dock->tag));
    gt_list_init(&dock->tickets);
    gt_list_init(&dock->pairs);
    gt_list_init(&dock->of_plane);
    dock->farewell = (struct letter){.kind = LETTER_UNDOCK, .dock = dock};
    return dock;
}

static void dock_tell(struct dock *dock, enum letter_kind kind, const struct pair *pair,
                      enum gt_code code)
{
    plane_tell(dock->plane, &(struct letter){.kind = kind,
                                             .serial = dock->serial,
                                             .stream = pair->stream,
                                             .attempt = pair->attempt,
                                             .code = code,
                                             .n_up = pair->sides[0].n_bytes,
                                             .n_down = pair->sides[1].n_bytes});
}

static void dock_bury_pair(struct dock *dock, struct pair *pair)
{
    atomic_fetch_sub(&dock->plane->counts.n_pairs, 1);
    atomic_fetch_add(&dock->plane->counts.n_bytes,
                     (unsigned long)(pair->sides[0].n_bytes + pair->sides[1].n_bytes));
    gt_list_unlink(&pair->of_dock);
    gt_list_append(&dock->plane->dead_pairs, &pair->of_dock);
}

static void dock_forget(struct dock *dock, struct ticket *ticket)
{
    ticket_end(&dock->plane->tickets, ticket, now_ms());
    atomic_fetch_sub(&dock->plane->counts.n_tickets, 1);
}

/* The ticket that a pair still waits with for its second side, or NULL. */
static struct ticket *dock_ticket_of(struct dock *dock, const struct pair *pair)
{
    gt_list_for_each_safe (at, next, &dock->tickets) {
        struct ticket *ticket = gt_list_entry(at, struct ticket, of_dock);
        if (ticket->pair == pair)
            return ticket;
    }
    return NULL;
}

static void dock_on_pair_complete(void *userdata, struct pair *pair)
{
    dock_tell(userdata, LETTER_PAIRED, pair, GT_CODE_NONE);
}

static void dock_on_pair_closed(void *userdata, struct pair *pair, enum gt_code code)
{
    struct dock *dock = userdata;
    struct ticket *ticket = dock_ticket_of(dock, pair);

    if (ticket)
        dock_forget(dock, ticket);
    gt_debug("session=%s stream=%u attempt=%u closed up=%llu down=%llu reason=\"%s\"", dock->tag,
             pair->stream, pair->attempt, (unsigned long long)pair->sides[0].n_bytes,
             (unsigned long long)pair->sides[1].n_bytes, gt_code_text(code));
    dock_tell(dock, LETTER_ENDED, pair, code);
    dock_bury_pair(dock, pair);
}

static const struct pair_events dock_pair_events = {dock_on_pair_complete, dock_on_pair_closed};

static void dock_end_pair(struct dock *dock, struct pair *pair, enum gt_code code)
{
    pair_close(pair);
    dock_on_pair_closed(dock, pair, code);
}

/* A ticket that nobody, or only one, came with. */
static void dock_end_ticket(struct dock *dock, struct ticket *ticket, enum gt_code code)
{
    if (ticket->pair) {
        dock_end_pair(dock, ticket->pair, code);
        return;
    }
    struct pair nothing = {.stream = ticket->given.stream, .attempt = ticket->given.attempt};
    dock_forget(dock, ticket);
    dock_tell(dock, LETTER_ENDED, &nothing, code);
}

static void dock_arm(struct dock *dock)
{
    struct ev_loop *loop = dock->plane->loop;

    ev_timer_stop(loop, &dock->expiry);
    if (gt_list_is_empty(&dock->tickets))
        return;
    const struct ticket *first = gt_list_entry(dock->tickets.next, struct ticket, of_dock);
    ev_timer_set(&dock->expiry, now_seconds_to(now_ms(), first->expires_at), 0);
    ev_timer_start(loop, &dock->expiry);
}

static void dock_on_expiry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct dock *dock = gt_container_of(timer, struct dock, expiry);
    uint64_t now = now_ms();

    gt_list_for_each_safe (at, next, &dock->tickets) {
        struct ticket *ticket = gt_list_entry(at, struct ticket, of_dock);
        if (ticket->expires_at <= now)
            dock_end_ticket(dock, ticket, GT_CODE_EXPIRED);
    }
    dock_arm(dock);
}

static void dock_on_accept(void *userdata, int fd, const struct gt_addr *addr)
{
    struct dock *dock = userdata;

    stranger_welcome(&dock->plane->strangers, fd, addr, dock);
}

void dock_start(struct dock *dock, struct plane *plane)
{
    dock->plane = plane;
    ev_init(&dock->expiry, dock_on_expiry);
    gt_list_append(&plane->docks, &dock->of_plane);
    atomic_fetch_add(&plane->counts.n_docks, 1);
    listener_start(&dock->listener, plane->loop, gt_steal_fd(&dock->fd), &plane->spare,
                   dock_on_accept, dock);
}

void dock_end(struct dock *dock)
{
    listener_stop(&dock->listener);
    ev_timer_stop(dock->plane->loop, &dock->expiry);
    stranger_close_of(&dock->plane->strangers, dock);
    gt_list_for_each_safe (at, next, &dock->tickets)
        dock_forget(dock, gt_list_entry(at, struct ticket, of_dock));
    gt_list_for_each_safe (at, next, &dock->pairs) {
        struct pair *pair = gt_list_entry(at, struct pair, of_dock);
        pair_close(pair);
        dock_bury_pair(dock, pair);
    }
    gt_list_unlink(&dock->of_plane);
    gt_list_append(&dock->plane->dead_docks, &dock->of_plane);
    atomic_fetch_sub(&dock->plane->counts.n_docks, 1);
    quota_give_fd(dock->plane->quota);
}

struct dock *dock_free(struct dock *dock)
{
    if (!dock)
        return NULL;
    gt_list_unlink(&dock->of_plane);
    gt_close(&dock->fd);
    free(dock);
    return NULL;
}

/* In the order of expiry, which is nearly always that of coming. */
static void dock_file(struct dock *dock, struct ticket *ticket)
{
    struct gt_list *before = dock->tickets.previous;

    while (before != &dock->tickets &&
           gt_list_entry(before, struct ticket, of_dock)->expires_at > ticket->expires_at)
        before = before->previous;
    gt_list_append(before->next, &ticket->of_dock);
}

int dock_adopt_ticket(struct dock *dock, const struct gt_ticket *given, uint64_t expires_at,
                      enum ticket_state state, struct pair *pair)
{
    struct ticket *ticket;

    if (tickets_add(&dock->plane->tickets, given, expires_at, dock, &ticket))
        return -ENOMEM;
    ticket->state = state;
    ticket->pair = pair;
    atomic_fetch_add(&dock->plane->counts.n_tickets, 1);
    dock_file(dock, ticket);
    dock_arm(dock);
    return 0;
}

void dock_honour(struct dock *dock, const struct gt_ticket *given, uint64_t expires_at)
{
    struct pair nothing = {.stream = given->stream, .attempt = given->attempt};

    if (dock_adopt_ticket(dock, given, expires_at, TICKET_UNUSED, NULL))
        dock_tell(dock, LETTER_ENDED, &nothing, GT_CODE_INTERNAL);
}

void dock_cancel(struct dock *dock, uint32_t stream, uint32_t attempt)
{
    gt_list_for_each_safe (at, next, &dock->tickets) {
        struct ticket *ticket = gt_list_entry(at, struct ticket, of_dock);
        if (ticket->given.stream == stream && ticket->given.attempt <= attempt && !ticket->pair)
            dock_end_ticket(dock, ticket, GT_CODE_REPLACED);
    }
    gt_list_for_each_safe (at, next, &dock->pairs) {
        struct pair *pair = gt_list_entry(at, struct pair, of_dock);
        if (pair->stream == stream && pair->attempt <= attempt)
            dock_end_pair(dock, pair, GT_CODE_REPLACED);
    }
    dock_arm(dock);
}

struct pair *dock_new_pair(struct dock *dock, uint32_t stream, uint32_t attempt)
{
    struct plane *plane = dock->plane;
    struct pair *pair =
        pair_new(plane->loop, &plane->pool, &plane->limits.pair, &dock_pair_events, dock);

    if (!pair)
        return NULL;
    pair->stream = stream;
    pair->attempt = attempt;
    gt_list_append(&dock->pairs, &pair->of_dock);
    atomic_fetch_add(&plane->counts.n_pairs, 1);
    return pair;
}

static struct pair *dock_pair(struct dock *dock, struct ticket *ticket)
{
    if (!ticket->pair)
        ticket->pair = dock_new_pair(dock, ticket->given.stream, ticket->given.attempt);
    return ticket->pair;
}

static void dock_seat(struct ticket *ticket, enum gt_role role, struct stranger *stranger)
{
    struct dock *dock = ticket->dock;
    struct pair *pair = dock_pair(dock, ticket);
    struct quota_charge charge;

    if (!pair) {
        dock_end_ticket(dock, ticket, GT_CODE_INTERNAL);
        stranger_refuse(stranger);
        return;
    }
    if (ticket->state == TICKET_BY_BOTH)
        dock_forget(dock, ticket);
    int fd = stranger_release(stranger, &charge);
    pair_join(pair, role == GT_ROLE_OPERATOR ? 0 : 1, fd, &charge);
}

bool dock_vouch(struct plane *plane, const uint8_t *bytes, const struct dock *dock)
{
    struct gt_join join;

    mailbox_drain(&plane->inbox); /* the letter with its ticket may have come in the same turn */
    bool is_good =
        !gt_join_decode(bytes, &join) && tickets_is_good(&plane->tickets, &join, dock, now_ms());
    gt_wipe(&join, sizeof(join));
    return is_good;
}

void dock_join(struct plane *plane, struct stranger *stranger)
{
    struct ticket *ticket;
    struct gt_join join = {0};
    uint64_t now = now_ms();

    mailbox_drain(&plane->inbox); /* as above; it may also have ended the dock */
    if (stranger->state == STRANGER_DONE)
        return;
    if (gt_join_decode(stranger->bytes, &join))
        stranger_refuse(stranger);
    else if (!tickets_spend(&plane->tickets, &join, stranger->dock, now, &ticket))
        dock_seat(ticket, join.role, stranger);
    else if (tickets_is_late(&plane->tickets, &join, now))
        stranger_dismiss(stranger);
    else
        stranger_refuse(stranger);
    gt_wipe(&join, sizeof(join));
}
