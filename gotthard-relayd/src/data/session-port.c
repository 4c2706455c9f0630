/* SPDX-License-Identifier: ISC */
/*
 * From JOIN to pair. A ticket is marked as used before anything else happens. The first JOIN
 * creates the pair, the second completes it. The reason why a JOIN is invalid is never disclosed.
 */
#include "data/session-port.h"

#include "data/data-thread.h"
#include "data/pair-snapshot.h"
#include "gotthard/base/log.h"

struct session_port *session_port_new(uint64_t serial, const char *tag, int *fd)
{
    struct session_port *session_port = calloc(1, sizeof(*session_port));

    if (!session_port)
        return NULL;
    session_port->serial = serial;
    session_port->fd = gt_steal_fd(fd);
    memcpy(session_port->tag, tag, sizeof(session_port->tag));
    gt_list_init(&session_port->tickets);
    gt_list_init(&session_port->pairs);
    gt_list_init(&session_port->of_data_thread);
    session_port->close_message =
        (struct message){.kind = MESSAGE_REMOVE_PORT, .session_port = session_port};
    return session_port;
}

static void session_port_report(struct session_port *session_port, enum message_kind kind,
                                const struct pair *pair, enum gt_code code)
{
    data_thread_report(session_port->data_thread, &(struct message){.kind = kind,
                                                                    .serial = session_port->serial,
                                                                    .stream = pair->stream,
                                                                    .attempt = pair->attempt,
                                                                    .code = code});
}

static void session_port_remove_pair(struct session_port *session_port, struct pair *pair)
{
    atomic_fetch_sub(&session_port->data_thread->counts.n_pairs, 1);
    atomic_fetch_add(&session_port->data_thread->counts.n_bytes,
                     pair->sides[0].n_bytes + pair->sides[1].n_bytes);
    gt_list_unlink(&pair->of_session_port);
    gt_list_append(&session_port->data_thread->closed_pairs, &pair->of_session_port);
}

static void session_port_forget_ticket(struct session_port *session_port, struct ticket *ticket)
{
    ticket_free(&session_port->data_thread->tickets, ticket);
    atomic_fetch_sub(&session_port->data_thread->counts.n_tickets, 1);
}

/* Returns the ticket of a pair that waits for its second side, or NULL. */
static struct ticket *session_port_ticket_of(const struct session_port *session_port,
                                             const struct pair *pair)
{
    gt_list_for_each_safe (at, next, &session_port->tickets) {
        struct ticket *ticket = gt_list_entry(at, struct ticket, of_session_port);

        if (ticket->pair == pair)
            return ticket;
    }
    return NULL;
}

static void session_port_on_pair_complete(void *userdata, struct pair *pair)
{
    session_port_report(userdata, MESSAGE_PAIRED, pair, GT_CODE_NONE);
}

static void session_port_on_pair_end(void *userdata, struct pair *pair, enum gt_code code)
{
    struct session_port *session_port = userdata;
    struct ticket *ticket = session_port_ticket_of(session_port, pair);

    if (ticket)
        session_port_forget_ticket(session_port, ticket);
    gt_debug("session=%s stream=%u attempt=%u closed up=%llu down=%llu reason=\"%s\"",
             session_port->tag, pair->stream, pair->attempt,
             (unsigned long long)pair->sides[0].n_bytes, (unsigned long long)pair->sides[1].n_bytes,
             gt_code_text(code));
    session_port_report(session_port, MESSAGE_ENDED, pair, code);
    session_port_remove_pair(session_port, pair);
}

static const struct pair_events session_port_pair_events = {session_port_on_pair_complete,
                                                            session_port_on_pair_end};

static void session_port_end_pair(struct session_port *session_port, struct pair *pair,
                                  enum gt_code code)
{
    pair_close(pair);
    session_port_on_pair_end(session_port, pair, code);
}

/* Ends a ticket that no side, or only one, has used. */
static void session_port_end_ticket(struct session_port *session_port, struct ticket *ticket,
                                    enum gt_code code)
{
    if (ticket->pair) {
        session_port_end_pair(session_port, ticket->pair, code);
        return;
    }
    struct pair nothing = {.stream = ticket->given.stream, .attempt = ticket->given.attempt};
    session_port_forget_ticket(session_port, ticket);
    session_port_report(session_port, MESSAGE_ENDED, &nothing, code);
}

static void session_port_arm(struct session_port *session_port)
{
    struct ev_loop *loop = session_port->data_thread->loop;

    ev_timer_stop(loop, &session_port->expiry);
    if (gt_list_is_empty(&session_port->tickets))
        return;
    const struct ticket *first =
        gt_list_entry(session_port->tickets.next, struct ticket, of_session_port);
    ev_timer_set(&session_port->expiry, gt_clock_seconds_until(gt_clock_ms(), first->expires_at),
                 0);
    ev_timer_start(loop, &session_port->expiry);
}

static void session_port_on_expiry(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct session_port *session_port = gt_container_of(timer, struct session_port, expiry);
    uint64_t now = gt_clock_ms();

    gt_list_for_each_safe (at, next, &session_port->tickets) {
        struct ticket *ticket = gt_list_entry(at, struct ticket, of_session_port);

        if (ticket->expires_at <= now)
            session_port_end_ticket(session_port, ticket, GT_CODE_EXPIRED);
    }
    session_port_arm(session_port);
}

static void session_port_on_accept(void *userdata, int fd, const struct gt_addr *addr)
{
    struct session_port *session_port = userdata;

    preauth_accept(&session_port->data_thread->preauths, fd, addr, session_port);
}

void session_port_start(struct session_port *session_port, struct data_thread *data_thread)
{
    session_port->data_thread = data_thread;
    ev_init(&session_port->expiry, session_port_on_expiry);
    gt_list_append(&data_thread->session_ports, &session_port->of_data_thread);
    atomic_fetch_add(&data_thread->counts.n_session_ports, 1);
    gt_sock_set_defer_accept(session_port->fd);
    gt_acceptor_init(&session_port->acceptor, data_thread->loop, gt_steal_fd(&session_port->fd),
                     &data_thread->reserve, session_port_on_accept, session_port);
    gt_acceptor_start(&session_port->acceptor);
}

void session_port_close(struct session_port *session_port)
{
    gt_acceptor_deinit(&session_port->acceptor);
    ev_timer_stop(session_port->data_thread->loop, &session_port->expiry);
    preauth_close_of_port(&session_port->data_thread->preauths, session_port);
    gt_list_for_each_safe (at, next, &session_port->tickets)
        session_port_forget_ticket(session_port, gt_list_entry(at, struct ticket, of_session_port));
    gt_list_for_each_safe (at, next, &session_port->pairs) {
        struct pair *pair = gt_list_entry(at, struct pair, of_session_port);

        pair_close(pair);
        session_port_remove_pair(session_port, pair);
    }
    gt_list_unlink(&session_port->of_data_thread);
    gt_list_append(&session_port->data_thread->closed_session_ports, &session_port->of_data_thread);
    atomic_fetch_sub(&session_port->data_thread->counts.n_session_ports, 1);
    quota_release_fd(session_port->data_thread->quota);
}

struct session_port *session_port_free(struct session_port *session_port)
{
    if (!session_port)
        return NULL;
    gt_list_unlink(&session_port->of_data_thread);
    gt_close(&session_port->fd);
    free(session_port);
    return NULL;
}

/* Inserts in the order of expiry, which is nearly always the order of arrival. */
static void session_port_insert_ticket(struct session_port *session_port, struct ticket *ticket)
{
    struct gt_list *before = session_port->tickets.previous;

    while (before != &session_port->tickets &&
           gt_list_entry(before, struct ticket, of_session_port)->expires_at > ticket->expires_at)
        before = before->previous;
    gt_list_append(before->next, &ticket->of_session_port);
}

static int session_port_new_ticket(struct session_port *session_port, const struct gt_ticket *given,
                                   uint64_t expires_at, struct ticket **ret)
{
    struct ticket *ticket;

    if (tickets_add(&session_port->data_thread->tickets, given, expires_at, session_port, &ticket))
        return -ENOMEM;
    atomic_fetch_add(&session_port->data_thread->counts.n_tickets, 1);
    session_port_insert_ticket(session_port, ticket);
    session_port_arm(session_port);
    *ret = ticket;
    return 0;
}

int session_port_restore_ticket(struct session_port *session_port, const struct saved_ticket *saved,
                                struct pair *pair)
{
    struct ticket *ticket;

    if (session_port_new_ticket(session_port, &saved->given, saved->expires_at, &ticket))
        return -ENOMEM;
    ticket->state = saved->state;
    ticket->pair = pair;
    return 0;
}

void session_port_save(const struct session_port *session_port, struct gt_writer *writer)
{
    gt_list_for_each_safe (at, next, &session_port->pairs) {
        struct pair *pair = gt_list_entry(at, struct pair, of_session_port);
        const struct ticket *ticket = session_port_ticket_of(session_port, pair);

        pair_save(pair, writer);
        if (ticket)
            ticket_save(ticket, writer);
    }
    gt_list_for_each_safe (at, next, &session_port->tickets) {
        const struct ticket *ticket = gt_list_entry(at, struct ticket, of_session_port);

        if (!ticket->pair)
            ticket_save(ticket, writer);
    }
}

void session_port_add_ticket(struct session_port *session_port, const struct gt_ticket *given,
                             uint64_t expires_at)
{
    struct pair nothing = {.stream = given->stream, .attempt = given->attempt};
    struct ticket *ticket;

    if (session_port_new_ticket(session_port, given, expires_at, &ticket))
        session_port_report(session_port, MESSAGE_ENDED, &nothing, GT_CODE_INTERNAL);
}

void session_port_cancel(struct session_port *session_port, uint32_t stream, uint32_t attempt)
{
    gt_list_for_each_safe (at, next, &session_port->tickets) {
        struct ticket *ticket = gt_list_entry(at, struct ticket, of_session_port);

        if (ticket->given.stream == stream && ticket->given.attempt <= attempt && !ticket->pair)
            session_port_end_ticket(session_port, ticket, GT_CODE_REPLACED);
    }
    gt_list_for_each_safe (at, next, &session_port->pairs) {
        struct pair *pair = gt_list_entry(at, struct pair, of_session_port);

        if (pair->stream == stream && pair->attempt <= attempt)
            session_port_end_pair(session_port, pair, GT_CODE_REPLACED);
    }
    session_port_arm(session_port);
}

struct pair *session_port_new_pair(struct session_port *session_port, uint32_t stream,
                                   uint32_t attempt)
{
    struct data_thread *data_thread = session_port->data_thread;
    struct pair *pair = pair_new(data_thread->loop, &data_thread->pool, &data_thread->limits.pair,
                                 &session_port_pair_events, session_port);

    if (!pair)
        return NULL;
    pair->stream = stream;
    pair->attempt = attempt;
    for (size_t i = 0; i < GT_ARRAY_SIZE(pair->sides); i++)
        pair->sides[i].total = &session_port->n_bytes[i];
    gt_list_append(&session_port->pairs, &pair->of_session_port);
    atomic_fetch_add(&data_thread->counts.n_pairs, 1);
    return pair;
}

static struct pair *session_port_pair(struct session_port *session_port, struct ticket *ticket)
{
    if (!ticket->pair)
        ticket->pair =
            session_port_new_pair(session_port, ticket->given.stream, ticket->given.attempt);
    return ticket->pair;
}

static void session_port_accept_join(struct ticket *ticket, enum gt_role role,
                                     struct preauth *preauth)
{
    struct session_port *session_port = ticket->session_port;
    struct pair *pair = session_port_pair(session_port, ticket);
    struct quota_charge charge;

    if (!pair) {
        session_port_end_ticket(session_port, ticket, GT_CODE_INTERNAL);
        preauth_close(preauth);
        return;
    }
    if (ticket->state == TICKET_BY_BOTH)
        session_port_forget_ticket(session_port, ticket);
    int fd = preauth_release(preauth, &charge);
    pair_join(pair, role == GT_ROLE_OPERATOR ? 0 : 1, fd, &charge);
}

void session_port_join(struct data_thread *data_thread, struct preauth *preauth)
{
    struct ticket *ticket;
    struct gt_join join = {0};
    uint64_t now = gt_clock_ms();

    mailbox_drain(&data_thread->inbox); /* the ticket may be in it, or the end of the port */
    if (preauth->state == PREAUTH_DONE)
        return;
    if (gt_join_decode(preauth->bytes, &join) ||
        tickets_spend(&data_thread->tickets, &join, preauth->session_port, now, &ticket))
        preauth_close(preauth);
    else
        session_port_accept_join(ticket, join.role, preauth);
    gt_wipe(&join, sizeof(join));
}
