/* SPDX-License-Identifier: ISC */
/*
 * Ticket storage. The id is public and found through a hash; the secret is compared in constant
 * time. Every way of being wrong gives the same answer; being late is only said apart because it is
 * nobody's offence.
 */
#include "ticket.h"

void tickets_init(struct tickets *tickets)
{
    *tickets = (struct tickets){0};
    gt_list_init(&tickets->late);
}

int tickets_add(struct tickets *tickets, const struct gt_ticket *given, uint64_t expires_at,
                void *dock, struct ticket **ret)
{
    struct ticket *ticket = calloc(1, sizeof(*ticket));

    if (!ticket)
        return -ENOMEM;
    ticket->given = *given;
    ticket->expires_at = expires_at;
    ticket->dock = dock;
    gt_list_init(&ticket->of_dock);
    HASH_ADD(hh, tickets->by_id, given.id, GT_TICKET_ID_SIZE, ticket);
    if (!ticket->hh.tbl) {
        gt_wipe(ticket, sizeof(*ticket));
        free(ticket);
        return -ENOMEM;
    }
    *ret = ticket;
    return 0;
}

/* The state once @role has joined; E_BAD when it already had. */
static int ticket_next(enum ticket_state state, enum gt_role role, enum ticket_state *ret)
{
    bool is_operator = role == GT_ROLE_OPERATOR;

    switch (state) {
    case TICKET_UNUSED: *ret = is_operator ? TICKET_BY_OPERATOR : TICKET_BY_DEVICE; return 0;
    case TICKET_BY_OPERATOR: *ret = TICKET_BY_BOTH; return is_operator ? TICKET_E_BAD : 0;
    case TICKET_BY_DEVICE: *ret = TICKET_BY_BOTH; return is_operator ? 0 : TICKET_E_BAD;
    case TICKET_BY_BOTH: return TICKET_E_BAD;
    }
    return TICKET_E_BAD;
}

static bool ticket_fits(const struct ticket *ticket, const struct gt_join *join, uint64_t now)
{
    bool is_secret = gt_is_equal(ticket->given.secret, join->secret, sizeof(join->secret));

    return is_secret && ticket->given.stream == join->stream &&
           ticket->given.attempt == join->attempt && now < ticket->expires_at;
}

/* The ticket, ended or not, that is proved by a JOIN, and what its state will be. */
static struct ticket *tickets_find_any(const struct tickets *tickets, const struct gt_join *join,
                                       uint64_t now, enum ticket_state *ret_next)
{
    struct ticket *ticket;

    HASH_FIND(hh, tickets->by_id, join->id, GT_TICKET_ID_SIZE, ticket);
    if (!ticket || !ticket_fits(ticket, join, now) ||
        ticket_next(ticket->state, join->role, ret_next))
        return NULL;
    return ticket;
}

/* The ticket of a JOIN that is right in every way. */
static struct ticket *tickets_find(const struct tickets *tickets, const struct gt_join *join,
                                   const void *dock, uint64_t now, enum ticket_state *ret_next)
{
    struct ticket *ticket = tickets_find_any(tickets, join, now, ret_next);

    return ticket && ticket->dock && (!dock || ticket->dock == dock) ? ticket : NULL;
}

bool tickets_is_late(const struct tickets *tickets, const struct gt_join *join, uint64_t now)
{
    enum ticket_state next;
    const struct ticket *ticket = tickets_find_any(tickets, join, now, &next);

    return ticket && !ticket->dock;
}

bool tickets_is_good(const struct tickets *tickets, const struct gt_join *join, const void *dock,
                     uint64_t now)
{
    enum ticket_state next;

    return tickets_find(tickets, join, dock, now, &next) != NULL;
}

int tickets_spend(struct tickets *tickets, const struct gt_join *join, const void *dock,
                  uint64_t now, struct ticket **ret)
{
    enum ticket_state next;
    struct ticket *ticket = tickets_find(tickets, join, dock, now, &next);

    if (!ticket)
        return TICKET_E_BAD;
    ticket->state = next;
    *ret = ticket;
    return 0;
}

struct ticket *ticket_free(struct tickets *tickets, struct ticket *ticket)
{
    if (!ticket)
        return NULL;
    HASH_DELETE(hh, tickets->by_id, ticket);
    gt_list_unlink(&ticket->of_dock);
    gt_wipe(ticket, sizeof(*ticket));
    free(ticket);
    return NULL;
}

static struct ticket *tickets_first_late(const struct tickets *tickets)
{
    return gt_list_is_empty(&tickets->late)
               ? NULL
               : gt_list_entry(tickets->late.next, struct ticket, of_dock);
}

static void tickets_forget_first_late(struct tickets *tickets)
{
    ticket_free(tickets, tickets_first_late(tickets));
    tickets->n_late--;
}

/* The secrets of those whose time is over; and room for one. */
static void tickets_forget_late(struct tickets *tickets, uint64_t now)
{
    const struct ticket *first;

    while ((first = tickets_first_late(tickets)) &&
           (first->expires_at <= now || tickets->n_late == TICKETS_LATE_MAX))
        tickets_forget_first_late(tickets);
}

struct ticket *ticket_end(struct tickets *tickets, struct ticket *ticket, uint64_t now)
{
    if (!ticket || ticket->state == TICKET_BY_BOTH)
        return ticket_free(tickets, ticket);
    tickets_forget_late(tickets, now);
    ticket->dock = ticket->pair = NULL;
    ticket->expires_at = GT_MAX(ticket->expires_at, now + TICKETS_LATE_MS);
    gt_list_unlink(&ticket->of_dock);
    gt_list_append(&tickets->late, &ticket->of_dock);
    tickets->n_late++;
    return NULL;
}

void tickets_deinit(struct tickets *tickets)
{
    while (tickets->n_late)
        tickets_forget_first_late(tickets);
}
