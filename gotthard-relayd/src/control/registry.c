/* SPDX-License-Identifier: ISC */
/*
 * Requests of clients, and the sessions that they concern. A request that no correct client sends
 * closes the connection. A session of another client looks like one that does not exist.
 */
#include "control/registry.h"

#include <stdio.h>

#include "control/session-snapshot.h"
#include "gotthard/base/log.h"
#include "gotthard/net/sock.h"

static struct session *registry_find(struct registry *registry, const uint8_t *rid)
{
    struct session *session;

    HASH_FIND(by_rid, registry->by_rid, rid, GT_RID_SIZE, session);
    return session;
}

/* Returns the session in which @client holds the slot of its role, or NULL. */
static struct session *registry_find_own(struct registry *registry, const struct client *client,
                                         const uint8_t *rid)
{
    struct session *session = registry_find(registry, rid);

    return session && session_client(session, client->role) == client ? session : NULL;
}

size_t registry_n_sessions(const struct registry *registry)
{
    return HASH_CNT(by_serial, registry->by_serial);
}

/* Adds @session to both tables. -ENOMEM: it may be in one of them. */
static int registry_add(struct registry *registry, struct session *session)
{
    HASH_ADD(by_rid, registry->by_rid, rendezvous.rid, GT_RID_SIZE, session);
    if (session->by_rid.tbl)
        HASH_ADD(by_serial, registry->by_serial, rendezvous.serial, sizeof(uint64_t), session);
    return session->by_rid.tbl && session->by_serial.tbl ? 0 : -ENOMEM;
}

/* Removes @session from the tables that it is in. */
static void registry_remove(struct registry *registry, struct session *session)
{
    if (session->by_rid.tbl)
        HASH_DELETE(by_rid, registry->by_rid, session);
    if (session->by_serial.tbl)
        HASH_DELETE(by_serial, registry->by_serial, session);
}

/* --- creation of a session -------------------------------------------------------------------- */

/* Opens a listening socket on a free port of the range. Ports that other programs use are skipped
 * for a while. Returns GT_CODE_NONE or the reason of the failure. */
static enum gt_code registry_listen(struct registry *registry, const struct gt_control_frame *frame,
                                    int *ret_fd, uint16_t *ret_port)
{
    struct gt_addr addr = registry->bind;
    uint64_t now = gt_clock_ms();
    uint16_t port;

    while (!ports_acquire(&registry->ports, frame->rendezvous.port_hint, frame->rid, now, &port)) {
        gt_addr_set_port(&addr, port);
        int fd = gt_sock_listen(&addr, GT_SOCK_BACKLOG);
        if (fd >= 0) {
            *ret_fd = fd;
            *ret_port = port;
            return GT_CODE_NONE;
        }
        ports_skip(&registry->ports, port, now);
        gt_log(GT_LOG_DEBUG, fd, "port=%u skipped", port);
        if (fd != -EADDRINUSE && fd != -EACCES)
            return GT_CODE_INTERNAL;
    }
    return GT_CODE_NO_PORT;
}

static struct data_thread *registry_choose_data_thread(struct registry *registry)
{
    struct data_thread *best = registry->data_threads[registry->serial % registry->n_data_threads];

    for (size_t i = 0; i < registry->n_data_threads; i++)
        if (atomic_load(&registry->data_threads[i]->counts.n_session_ports) <
            atomic_load(&best->counts.n_session_ports))
            best = registry->data_threads[i];
    return best;
}

static enum gt_code registry_open_session(struct registry *registry, const struct client *client,
                                          const struct gt_control_frame *frame,
                                          struct session **ret)
{
    gt_cleanup(gt_close) int fd = -1;
    uint16_t port;

    if (!quota_acquire_fd(registry->quota))
        return GT_CODE_LIMIT;
    enum gt_code code = registry_listen(registry, frame, &fd, &port);
    struct session *session = NULL;
    if (!code)
        session = session_new(&registry->sessions, frame->rid, ++registry->serial,
                              registry_choose_data_thread(registry), port,
                              registry->sessions.limits.n_streams, &fd);
    if (session && (session_hold(session, client->role, client->name) ||
                    registry_add(registry, session) || session_start(session))) {
        registry_remove(registry, session);
        session = session_free(session);
    }
    if (!session) {
        quota_release_fd(registry->quota);
        if (!code)
            ports_release(&registry->ports, port, frame->rid, gt_clock_ms());
        return code ? code : GT_CODE_INTERNAL;
    }
    registry->data_thread_of_port[port] = (uint8_t)session->data_thread->index;
    registry->n_created++;
    *ret = session;
    return GT_CODE_NONE;
}

struct session *registry_restore_session(struct registry *registry,
                                         const struct saved_session *saved, int *fd)
{
    struct data_thread *data_thread = registry_choose_data_thread(registry);
    struct session *session = session_restore(&registry->sessions, saved, data_thread, fd);

    if (!session)
        return NULL;
    quota_restore_fd(registry->quota);
    session_port_start(session->session_port, data_thread);
    if (registry_add(registry, session)) {
        registry_remove(registry, session);
        session_port_close(gt_steal(&session->session_port));
        return session_free(session);
    }
    ports_mark_in_use(&registry->ports, saved->port);
    registry->data_thread_of_port[saved->port] = (uint8_t)data_thread->index;
    return session;
}

/* The sessions that @client's identity may hold. */
static size_t sessions_max(const struct registry *registry, const struct client *client)
{
    size_t max = registry->limits.n_sessions_per_identity;

    return admission_is_token(client->role, client->name)
               ? GT_MIN(max, (size_t)ADMISSION_TOKEN_SESSIONS)
               : max;
}

/* Returns GT_CODE_NONE if @client may hold one more session, else the reason why not. */
static enum gt_code registry_check_limits(struct registry *registry, const struct client *client,
                                          bool is_new)
{
    if (registry->state != REGISTRY_OPEN)
        return GT_CODE_SHUTDOWN;
    if (is_new && registry_n_sessions(registry) >= registry->limits.n_sessions)
        return GT_CODE_SESSIONS;
    if (session_n_held(&registry->sessions, client->role, client->name) >=
        sessions_max(registry, client))
        return GT_CODE_IDENTITY;
    return GT_CODE_NONE;
}

/* --- requests of clients ---------------------------------------------------------------------- */

/* Returns the value of the limit that @code names, or 0. */
static size_t registry_limit_of(const struct registry *registry, const struct client *client,
                                enum gt_code code)
{
    if (code == GT_CODE_SESSIONS)
        return registry->limits.n_sessions;
    return code == GT_CODE_IDENTITY ? sessions_max(registry, client) : 0;
}

/* Logs which limit rejects the session of @client, and reports it to the client. */
static void registry_reject(const struct registry *registry, struct client *client,
                            const struct gt_control_frame *frame, enum gt_code code)
{
    static struct gt_log_rate rate;
    size_t limit = registry_limit_of(registry, client, code);
    unsigned n_suppressed;
    char why[96];

    snprintf(why, sizeof(why), "%s", gt_code_limit_text(code, (uint32_t)limit));
    if (code == GT_CODE_NO_PORT)
        snprintf(why, sizeof(why), "no free port in %u-%u", registry->ports.from,
                 registry->ports.to);
    if (gt_log_is_allowed(&rate, 1, &n_suppressed))
        gt_warn("client=%s rejected suppressed=%u reason=\"%s\"", client->identity, n_suppressed,
                why);
    if (limit > 0)
        client_send_limit(client, frame->rid, code, limit);
    else
        client_send_code(client, GT_CONTROL_ERROR, frame->rid, code);
}

/* Rejects a client that returns to a session that the other side has ended. */
static void registry_send_end(struct client *client, const struct gt_control_frame *frame,
                              enum gt_code code)
{
    gt_info("client=%s rejoined an ended session reason=\"%s\"", client->identity,
            gt_code_text(code));
    client_charge(client, 10);
    client_send_code(client, GT_CONTROL_BYE, frame->rid, code);
}

static void registry_on_rendezvous(struct registry *registry, struct client *client,
                                   const struct gt_control_frame *frame)
{
    struct session *session = registry_find(registry, frame->rid);
    enum gt_code end =
        session ? GT_CODE_NONE : tombstones_find(&registry->tombstones, frame->rid, gt_clock_ms());

    if (end) {
        registry_send_end(client, frame, end);
        return;
    }
    bool is_registered =
        session &&
        strcmp(rendezvous_slot(&session->rendezvous, client->role)->name, client->name) == 0;
    enum gt_code code = GT_CODE_NONE;

    if (!is_registered) {
        client_charge(client, 10); /* a rejection costs as much */
        code = registry_check_limits(registry, client, !session);
    }
    if (!code && !session)
        code = registry_open_session(registry, client, frame, &session);
    if (code)
        registry_reject(registry, client, frame, code);
    else
        session_register(session, client, frame);
}

static void registry_on_open(struct registry *registry, struct client *client,
                             const struct gt_control_frame *frame)
{
    struct session *session = registry_find_own(registry, client, frame->rid);

    if (client->role != GT_ROLE_OPERATOR) {
        client_fail(client, GT_CODE_PROTOCOL, frame->rid, "OPEN by a device");
        return;
    }
    if (!session) {
        client_send_code(client, GT_CONTROL_ERROR, frame->rid, GT_CODE_NO_SESSION);
        return;
    }
    session_open(session, client, frame);
}

static void registry_on_load(struct registry *registry, struct client *client,
                             const struct gt_control_frame *frame)
{
    struct session *session = registry_find_own(registry, client, frame->rid);

    if (client->role != GT_ROLE_OPERATOR)
        client_fail(client, GT_CODE_PROTOCOL, frame->rid, "LOAD by a device");
    else if (session)
        session_set_load(session, frame->load);
}

static void registry_on_stream_end(struct registry *registry, struct client *client,
                                   const struct gt_control_frame *frame)
{
    struct session *session = registry_find_own(registry, client, frame->rid);

    if (session)
        session_stream_end(session, client, frame);
}

/* A BYE with a rid ends that session; one without a rid ends all sessions of this connection. */
static void registry_on_bye(struct registry *registry, struct client *client,
                            const struct gt_control_frame *frame)
{
    static const uint8_t all[GT_RID_SIZE];
    bool is_to_all = memcmp(frame->rid, all, GT_RID_SIZE) == 0;
    struct session *session = registry_find_own(registry, client, frame->rid);

    if (session)
        session_bye(session, client, frame->code);
    while (is_to_all && (session = session_of_client(client)))
        session_bye(session, client, frame->code);
    if (!client_has_slot(client))
        client_close(client, "BYE received");
}

void registry_on_frame(struct registry *registry, struct client *client,
                       const struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_RENDEZVOUS: registry_on_rendezvous(registry, client, frame); return;
    case GT_CONTROL_OPEN: registry_on_open(registry, client, frame); return;
    case GT_CONTROL_STREAM_END: registry_on_stream_end(registry, client, frame); return;
    case GT_CONTROL_LOAD: registry_on_load(registry, client, frame); return;
    case GT_CONTROL_BYE: registry_on_bye(registry, client, frame); return;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_WELCOME:
    case GT_CONTROL_SESSION:
    case GT_CONTROL_PEER:
    case GT_CONTROL_TICKET:
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_ACCESS:
    case GT_CONTROL_EFFECT:
    case GT_CONTROL_LIMIT:
    case GT_CONTROL_ERROR: return; /* handled by the client itself */
    }
}

void registry_on_client_end(struct registry *registry, struct client *client)
{
    struct session *session;

    while ((session = session_of_client(client)))
        session_lose(session, client);
}

struct data_thread *registry_find_data_thread(const struct registry *registry,
                                              const struct gt_join *join)
{
    unsigned port = (unsigned)join->id[0] << 8 | join->id[1];

    return registry->data_threads[registry->data_thread_of_port[port]];
}

/* --- reports of data threads ------------------------------------------------------------------ */

void registry_on_message(struct registry *registry, const struct message *message)
{
    struct session *session;

    HASH_FIND(by_serial, registry->by_serial, &message->serial, sizeof(uint64_t), session);
    if (session) /* the message may be late */
        session_on_message(session, message);
}

/* --- the registry ----------------------------------------------------------------------------- */

/* Returns true if a session that ended with @code must not be created again. A BYE is final,
 * whether it reached the other side or not. */
static bool is_final(enum gt_code code)
{
    return code == GT_CODE_BYE || code == GT_CODE_NEW_PROCESS || code == GT_CODE_LIFETIME ||
           code == GT_CODE_OLD_KEY || code == GT_CODE_REFUSED || code == GT_CODE_WITHDRAWN;
}

static void registry_on_session_end(void *userdata, struct session *session, enum gt_code code)
{
    struct registry *registry = userdata;
    uint64_t until = gt_clock_ms() + registry->sessions.limits.rendezvous.grace_ms;

    if (is_final(code))
        tombstones_add(&registry->tombstones, session->rendezvous.rid, code, until);

    registry_remove(registry, session);
    ports_release(&registry->ports, session->rendezvous.port, session->rendezvous.rid,
                  gt_clock_ms());
    gt_list_append(&registry->ended, &session->ended);
}

/* After a restart, clients ask for the ports of their sessions. A random cursor makes it unlikely
 * that new sessions get these ports before. */
static int registry_set_random_cursor(struct registry *registry)
{
    uint16_t random;
    int r = gt_random(&random, sizeof(random));

    registry->ports.cursor = r ? 0 : random % ports_n(&registry->ports);
    return r;
}

int registry_init(struct registry *registry, struct ev_loop *loop, struct quota *quota,
                  uint16_t ports_from, uint16_t ports_to, uint64_t cooldown_ms)
{
    *registry = (struct registry){
        .quota = quota,
        .sessions = {.loop = loop, .on_end = registry_on_session_end, .userdata = registry}};
    gt_list_init(&registry->ended);
    int r = ports_init(&registry->ports, ports_from, ports_to, cooldown_ms);
    return r ? r : registry_set_random_cursor(registry);
}

void registry_set_data_threads(struct registry *registry, struct data_thread **data_threads,
                               size_t n_data_threads)
{
    registry->data_threads = data_threads;
    registry->n_data_threads = n_data_threads;
}

void registry_reap(struct registry *registry)
{
    gt_list_for_each_safe (at, next, &registry->ended) {
        session_free(gt_list_entry(at, struct session, ended));
    }
}

void registry_deinit(struct registry *registry)
{
    registry_close(registry, GT_CODE_SHUTDOWN);
    registry_reap(registry);
    ports_deinit(&registry->ports);
}

void registry_check(struct registry *registry, client_check_fn check, void *userdata)
{
    struct session *session, *next;

    HASH_ITER (by_serial, registry->by_serial, session, next)
        session_check(session, check, userdata);
}

void registry_drain(struct registry *registry)
{
    registry->state = REGISTRY_DRAINING;
}

void registry_close(struct registry *registry, enum gt_code code)
{
    struct session *session, *next;

    registry->state = REGISTRY_CLOSED;
    HASH_ITER (by_serial, registry->by_serial, session, next)
        session_stop(session, code);
}

bool registry_is_busy(const struct registry *registry)
{
    struct session *session, *next;

    HASH_ITER (by_serial, registry->by_serial, session, next)
        if (rendezvous_carries_streams(&session->rendezvous))
            return true;
    return false;
}

void registry_each_session(const struct registry *registry,
                           void (*on_session)(void *userdata, const struct session_status *status),
                           void *userdata)
{
    struct session *session, *next;

    HASH_ITER (by_serial, registry->by_serial, session, next) {
        struct session_status status;

        session_get_status(session, &status);
        on_session(userdata, &status);
    }
}
