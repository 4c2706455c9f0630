/* SPDX-License-Identifier: ISC */
/*
 * Ticket storage. The id is public and found through a hash; the secret is compared in constant
 * time. Every way of being wrong gives the same answer.
 */
#include "ticket.h"

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

static bool ticket_fits(const struct ticket *ticket, const struct gt_join *join, const void *dock,
                        uint64_t now)
{
    bool is_secret = gt_is_equal(ticket->given.secret, join->secret, sizeof(join->secret));

    return is_secret && ticket->given.stream == join->stream &&
           ticket->given.attempt == join->attempt && (!dock || ticket->dock == dock) &&
           now < ticket->expires_at;
}

/* The ticket of a JOIN that is right in every way, and what its state will be. */
static struct ticket *tickets_find(const struct tickets *tickets, const struct gt_join *join,
                                   const void *dock, uint64_t now, enum ticket_state *ret_next)
{
    struct ticket *ticket;

    HASH_FIND(hh, tickets->by_id, join->id, GT_TICKET_ID_SIZE, ticket);
    if (!ticket || !ticket_fits(ticket, join, dock, now) ||
        ticket_next(ticket->state, join->role, ret_next))
        return NULL;
    return ticket;
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
