/* SPDX-License-Identifier: ISC */
/*
 * The life of a shared connection: its states, and the data connections, one after another. Whether
 * to try another one is attempt-policy.h's. Must never leave a member attached to a data connection
 * that is lost.
 */
#include "gotthard/tunnel/shared-connection.h"

#include <assert.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/channel.h"
#include "gotthard/tunnel/shared-internal.h"

#define REQUEST_AGAIN_S 10. /* after a ticket that did not arrive */
#define SETTLED_S       10. /* a data connection that lasts as long as this ends the back-off */
#define IN_USE_S        0.1
#define UNSENT_MAX      (32 * 1024) /* bytes that wait in the kernel: more would delay turns */

static const struct shared_state_row {
    const char *name;
    ev_tstamp deadline_s; /* < 0: none */
    void (*on_deadline)(struct gt_shared_connection *shared);
} states[SHARED_CLOSING + 1]; /* defined below its handlers */

/* WAITING and CONNECTING share give_up_at. @after: seconds; < 0: never. */
static void shared_arm(struct gt_shared_connection *shared, ev_tstamp after)
{
    struct ev_loop *loop = shared->settings.loop;

    ev_timer_stop(loop, &shared->deadline);
    if (after < 0)
        return;
    if (shared->state < SHARED_UP)
        after = GT_MIN(after, shared->attempts.give_up_at - gt_clock());
    ev_timer_set(&shared->deadline, GT_MAX(after, 0.), 0);
    ev_timer_start(loop, &shared->deadline);
}

static void shared_enter(struct gt_shared_connection *shared, enum shared_state state)
{
    gt_debug("shared attempt=%u %s -> %s", shared->attempts.attempt, states[shared->state].name,
             states[state].name);
    shared->state = state;
    shared_arm(shared, states[state].deadline_s);
}

static bool is_established(const struct gt_shared_connection *shared)
{
    return shared->state >= SHARED_UP;
}

/* --- loss ------------------------------------------------------------------------------------- */

/* The operator requests a ticket. The device can only report the loss of the last connection, which
 * may be up at the operator's end even if it was not here. */
static void shared_request(struct gt_shared_connection *shared)
{
    struct gt_attempt_policy *attempts = &shared->attempts;

    shared_arm(shared, REQUEST_AGAIN_S);
    if (shared->settings.role == GT_ROLE_OPERATOR)
        shared->events->on_ticket_needed(shared->userdata, gt_attempt_policy_request(attempts));
    else if (attempts->attempt > 0)
        shared->events->on_connection_lost(shared->userdata, attempts->attempt,
                                           shared->is_black_hole);
}

/* Closes the data connection. Its members are still in the list. */
static void shared_disconnect(struct gt_shared_connection *shared)
{
    bool was_settled = is_established(shared) && gt_clock() - shared->up_at >= SETTLED_S;

    if (is_established(shared))
        gt_attempt_policy_wait(&shared->attempts, gt_clock());
    if (was_settled || shared->is_urgent)
        shared->attempts.backoff = (struct gt_backoff){0};
    shared->connection = gt_data_connection_free(shared->connection);
    gt_shared_io_stop(shared);
}

static void shared_notify_lost(struct gt_shared_connection *shared)
{
    gt_multiplexer_lose_members(&shared->mux);
    shared->events->on_down(shared->userdata);
}

static void shared_lose(struct gt_shared_connection *shared)
{
    bool was_established = is_established(shared);
    bool is_urgent = shared->is_urgent;

    shared_disconnect(shared);
    shared->is_urgent = false;
    if (shared->is_wanted && gt_attempt_policy_may_retry(&shared->attempts, gt_clock())) {
        shared_enter(shared, SHARED_WAITING);
        shared_arm(shared, is_urgent ? 0 : gt_backoff_next(&shared->attempts.backoff));
    } else {
        shared_enter(shared, SHARED_IDLE);
    }
    if (was_established)
        shared_notify_lost(shared);
}

void gt_shared_fail(struct gt_shared_connection *shared)
{
    if (shared->state == SHARED_UP)
        shared_enter(shared, SHARED_FAILED);
}

static void shared_on_waited(struct gt_shared_connection *shared)
{
    if (gt_clock() < shared->attempts.give_up_at)
        shared_request(shared);
    else
        shared_enter(shared, SHARED_IDLE);
}

static const struct shared_state_row states[SHARED_CLOSING + 1] = {
    [SHARED_IDLE] = {"idle", -1, NULL},
    [SHARED_WAITING] = {"waiting", REQUEST_AGAIN_S, shared_on_waited},
    [SHARED_CONNECTING] = {"connecting", 60, shared_lose},
    [SHARED_UP] = {"up", -1, NULL}, /* the data connection has a heartbeat */
    [SHARED_FAILED] = {"failed", 0, shared_lose},
    [SHARED_CLOSING] = {"closing", 10, shared_lose},
};

static void shared_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_shared_connection *shared = watcher->data;

    states[shared->state].on_deadline(shared);
}

/* --- events of the data connection ------------------------------------------------------------ */

/* A data connection that is lost soon after it was up does not end the back-off. */
static void shared_on_ready(void *userdata)
{
    struct gt_shared_connection *shared = userdata;

    gt_attempt_policy_up(&shared->attempts);
    shared->up_at = gt_clock();
    shared_enter(shared, SHARED_UP);
    shared->events->on_up(shared->userdata);
}

static void shared_on_readable(void *userdata)
{
    gt_shared_io_receive(userdata);
}

static void shared_on_writable(void *userdata)
{
    gt_shared_io_send(userdata);
}

static void shared_on_heartbeat(void *userdata, bool is_quiet)
{
    struct gt_shared_connection *shared = userdata;

    gt_multiplexer_heartbeat(&shared->mux);
    if (!is_quiet)
        return;
    gt_multiplexer_ping(&shared->mux);
    gt_iobuf_trim();
    gt_ring_trim();
}

/* The operator closes a connection that carries nothing. The device then waits for a ticket. */
static void shared_on_gone(void *userdata, bool is_closed_by_peer)
{
    struct gt_shared_connection *shared = userdata;

    if (is_closed_by_peer && shared->settings.role == GT_ROLE_DEVICE)
        shared->is_wanted = false;
    shared->is_urgent |= shared->state == SHARED_CLOSING;
    shared_lose(shared);
}

static const struct gt_data_connection_events connection_events = {
    .on_ready = shared_on_ready,
    .on_readable = shared_on_readable,
    .on_writable = shared_on_writable,
    .on_heartbeat = shared_on_heartbeat,
    .on_gone = shared_on_gone,
};

/* --- events of the streams -------------------------------------------------------------------- */

static struct gt_shared_member *shared_find(void *userdata, uint32_t number)
{
    struct gt_shared_connection *shared = userdata;

    return shared->events->find(shared->userdata, number);
}

static struct gt_shared_member *shared_on_begin(void *userdata, uint32_t number,
                                                const struct gt_frame *hello, enum gt_rst *ret_code)
{
    struct gt_shared_connection *shared = userdata;

    return shared->events->on_begin(shared->userdata, number, hello, ret_code);
}

static const struct gt_multiplexer_events mux_events = {
    .on_output = gt_shared_io_schedule,
    .find = shared_find,
    .on_begin = shared_on_begin,
};

/* --- commands --------------------------------------------------------------------------------- */

static int shared_dial(struct gt_shared_connection *shared, const struct gt_addr *relay,
                       const struct gt_ticket *ticket, struct gt_data_connection **ret)
{
    const struct gt_data_connection_settings settings = {
        .loop = shared->settings.loop,
        .role = shared->settings.role,
        .session_key = shared->settings.session_key,
        .tls = shared->settings.tls,
        .path = shared->settings.path,
        .heartbeat_s = shared->settings.heartbeat_s,
        .timeout_s = shared->settings.timeout_s,
        .unsent_max = UNSENT_MAX,
    };

    return gt_data_connection_new(&settings, relay, ticket, &connection_events, shared, ret);
}

static bool is_ticket_useful(const struct gt_shared_connection *shared,
                             const struct gt_ticket *ticket)
{
    bool is_wanted = shared->is_wanted || shared->settings.role == GT_ROLE_DEVICE;

    return is_wanted && ticket->stream == 0 &&
           gt_attempt_policy_accepts(&shared->attempts, ticket->attempt);
}

int gt_shared_connection_connect(struct gt_shared_connection *shared, const struct gt_addr *relay,
                                 const struct gt_ticket *ticket)
{
    bool was_established = is_established(shared);
    struct gt_data_connection *connection;

    if (!is_ticket_useful(shared, ticket))
        return GT_CHANNEL_E_STALE;
    gt_path_limit_segment(shared->settings.path, ticket->segment);
    int r = shared_dial(shared, relay, ticket, &connection);
    if (r)
        return r;
    if (shared->state == SHARED_IDLE)
        gt_attempt_policy_wait(&shared->attempts, gt_clock());
    shared_disconnect(shared);
    shared->connection = connection;
    shared->is_wanted = true;
    shared->is_urgent = shared->is_black_hole = false;
    shared->segment = shared->settings.path->segment;
    gt_attempt_policy_dialed(&shared->attempts, ticket->attempt);
    shared_enter(shared, SHARED_CONNECTING);
    if (was_established)
        shared_notify_lost(shared);
    return 0;
}

/* The relay can be reached: the time without a data connection starts again. */
void gt_shared_connection_resume(struct gt_shared_connection *shared)
{
    bool is_operator = shared->settings.role == GT_ROLE_OPERATOR;

    shared->is_wanted |= is_operator;
    if (shared->state != SHARED_WAITING && !(shared->state == SHARED_IDLE && is_operator))
        return;
    gt_attempt_policy_wait(&shared->attempts, gt_clock());
    shared->attempts.backoff = (struct gt_backoff){0};
    shared_enter(shared, SHARED_WAITING);
    shared_request(shared);
}

void gt_shared_connection_want(struct gt_shared_connection *shared)
{
    shared->is_wanted = true;
    if (shared->state == SHARED_IDLE)
        gt_shared_connection_resume(shared);
}

void gt_shared_connection_close(struct gt_shared_connection *shared)
{
    shared->is_wanted = false;
    switch (shared->state) {
    case SHARED_UP:
        gt_data_connection_close(shared->connection);
        shared_enter(shared, SHARED_CLOSING);
        break;
    case SHARED_WAITING:
    case SHARED_CONNECTING: shared_lose(shared); break;
    case SHARED_IDLE:
    case SHARED_FAILED:
    case SHARED_CLOSING: break;
    }
}

void gt_shared_connection_drop(struct gt_shared_connection *shared, uint32_t attempt)
{
    if (attempt != shared->attempts.attempt || shared->state != SHARED_UP)
        return;
    shared->is_urgent = true;
    gt_shared_fail(shared);
}

/* The operator decides about the size of packets, with its next OPEN. */
void gt_shared_connection_blocked(struct gt_shared_connection *shared, bool is_black_hole)
{
    if (shared->state != SHARED_UP)
        return;
    gt_debug("shared attempt=%u no data arrives, using another data connection",
             shared->attempts.attempt);
    if (is_black_hole && shared->settings.role == GT_ROLE_OPERATOR)
        gt_path_on_black_hole(shared->settings.path, shared->segment);
    shared->is_black_hole = is_black_hole;
    shared->is_urgent = true;
    gt_shared_fail(shared);
}

/* Both may receive data from inside, so they wait for the end of the loop iteration. */
void gt_shared_connection_check(struct gt_shared_connection *shared, bool has_slept)
{
    shared->is_check_due = true;
    shared->has_slept |= has_slept;
    gt_shared_io_schedule(shared);
}

void gt_shared_connection_probe(struct gt_shared_connection *shared)
{
    shared->is_probe_due = true;
    gt_shared_io_schedule(shared);
}

/* --- life ------------------------------------------------------------------------------------- */

int gt_shared_connection_new(const struct gt_shared_connection_settings *settings,
                             const struct gt_shared_connection_events *events, void *userdata,
                             struct gt_shared_connection **ret)
{
    struct gt_shared_connection *shared = calloc(1, sizeof(*shared));

    if (!shared)
        return -ENOMEM;
    shared->settings = *settings;
    shared->events = events;
    shared->userdata = userdata;
    gt_attempt_policy_init(&shared->attempts, settings->resume_s, gt_clock());
    ev_init(&shared->deadline, shared_on_deadline);
    shared->deadline.data = shared;
    gt_multiplexer_init(&shared->mux, settings->role, &mux_events, shared);
    gt_shared_io_init(shared);
    *ret = shared;
    return 0;
}

struct gt_shared_connection *gt_shared_connection_free(struct gt_shared_connection *shared)
{
    if (shared) {
        assert(gt_list_is_empty(&shared->mux.members));
        gt_data_connection_free(shared->connection);
        gt_shared_io_stop(shared);
        ev_timer_stop(shared->settings.loop, &shared->deadline);
        free(shared);
    }
    return NULL;
}

/* --- queries ---------------------------------------------------------------------------------- */

bool gt_shared_connection_is_up(const struct gt_shared_connection *shared)
{
    return shared->state == SHARED_UP;
}

uint32_t gt_shared_connection_attempt(const struct gt_shared_connection *shared)
{
    return gt_attempt_policy_attempt(&shared->attempts);
}

void gt_shared_connection_acknowledged(struct gt_shared_connection *shared)
{
    shared->acked_at = gt_clock();
}

double gt_shared_connection_up_at(const struct gt_shared_connection *shared)
{
    return shared->up_at;
}

bool gt_shared_connection_is_in_use(const struct gt_shared_connection *shared)
{
    return gt_clock() - shared->busy_at < IN_USE_S;
}

double gt_shared_connection_acked_at(const struct gt_shared_connection *shared)
{
    return shared->acked_at;
}

uint16_t gt_shared_connection_segment(const struct gt_shared_connection *shared)
{
    return shared->segment;
}
