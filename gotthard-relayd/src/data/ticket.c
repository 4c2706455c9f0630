/* SPDX-License-Identifier: ISC */
/*
 * Ticket storage. The id is public and found through a hash table; the secret is compared in
 * constant time. Every error has the same result.
 */
#include "data/ticket.h"

int tickets_add(struct tickets *tickets, const struct gt_ticket *given, uint64_t expires_at,
                void *session_port, struct ticket **ret)
{
    struct ticket *ticket = calloc(1, sizeof(*ticket));

    if (!ticket)
        return -ENOMEM;
    ticket->given = *given;
    ticket->expires_at = expires_at;
    ticket->session_port = session_port;
    gt_list_init(&ticket->of_session_port);
    HASH_ADD(hh, tickets->by_id, given.id, GT_TICKET_ID_SIZE, ticket);
    if (!ticket->hh.tbl) {
        gt_wipe(ticket, sizeof(*ticket));
        free(ticket);
        return -ENOMEM;
    }
    *ret = ticket;
    return 0;
}

/* Sets *@ret to the state after @role has joined. E_BAD: it had joined before. */
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

static bool ticket_matches(const struct ticket *ticket, const struct gt_join *join, uint64_t now)
{
    bool is_secret = gt_is_equal(ticket->given.secret, join->secret, sizeof(join->secret));

    return is_secret && ticket->given.stream == join->stream &&
           ticket->given.attempt == join->attempt && now < ticket->expires_at;
}

/* Returns true if @session_port (NULL: the main port) accepts @role now. Sets *@ret_next to the
 * state afterwards. A repeated JOIN at the main port changes nothing: the side had no answer from
 * its session's port. */
static bool ticket_accepts(const struct ticket *ticket, enum gt_role role, const void *session_port,
                           enum ticket_state *ret_next)
{
    if (ticket_next(ticket->state, role, ret_next) == 0)
        return true;
    *ret_next = ticket->state;
    return !session_port && ticket->state != TICKET_BY_BOTH;
}

/* Returns the ticket of a valid JOIN, or NULL. */
static struct ticket *tickets_find(const struct tickets *tickets, const struct gt_join *join,
                                   const void *session_port, uint64_t now,
                                   enum ticket_state *ret_next)
{
    struct ticket *ticket;

    HASH_FIND(hh, tickets->by_id, join->id, GT_TICKET_ID_SIZE, ticket);
    if (!ticket || !ticket_matches(ticket, join, now))
        return NULL;
    if (session_port && ticket->session_port != session_port)
        return NULL;
    return ticket_accepts(ticket, join->role, session_port, ret_next) ? ticket : NULL;
}

int tickets_spend(struct tickets *tickets, const struct gt_join *join, const void *session_port,
                  uint64_t now, struct ticket **ret)
{
    enum ticket_state next;
    struct ticket *ticket = tickets_find(tickets, join, session_port, now, &next);

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
    gt_list_unlink(&ticket->of_session_port);
    gt_wipe(ticket, sizeof(*ticket));
    free(ticket);
    return NULL;
}

/* --- snapshot --------------------------------------------------------------------------------- */

static bool ticket_is_valid(const void *record)
{
    return ((const struct saved_ticket *)record)->state <= TICKET_BY_DEVICE;
}

static const struct gt_field ticket_fields[] = {
    GT_FIELD_U32(struct saved_ticket, state),
    SAVED_TICKET_FIELDS(struct saved_ticket, given),
    GT_FIELD_U64(struct saved_ticket, expires_at),
};

const struct saved_layout ticket_layout = {SAVED_LAYOUT(TICKET, ticket_fields),
                                           .is_valid = ticket_is_valid};

void ticket_save(const struct ticket *ticket, struct gt_writer *writer)
{
    struct saved_ticket saved = {ticket->state, ticket->given, ticket->expires_at};

    saved_layout_write(&ticket_layout, writer, &saved);
    gt_wipe(&saved, sizeof(saved));
}
