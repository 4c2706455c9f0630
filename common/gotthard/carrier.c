/* SPDX-License-Identifier: ISC */
/*
 * The life of one relay connection: each state has its watchers and its deadline in one table.
 * What is written is batched: records gather in the output buffer until it is full or flushed.
 * Must never read one byte beyond the relay's reply before TLS begins, and never send a byte of
 * the stream before the handshake has proved who is at the other end.
 */
#include "gotthard/carrier.h"

#include <openssl/crypto.h>
#include <sys/socket.h>

#include "gotthard/clock.h"
#include "gotthard/key.h"
#include "gotthard/log.h"
#include "gotthard/way.h"

#define PROOF_S 5. /* for a carrier that is in doubt */
#define FRESH_S 3. /* who was heard so lately is there */
#define STEPS   5  /* of the grid of heartbeats, in the time until we ask */

enum carrier_state {
    CARRIER_DIALLING,
    CARRIER_JOINING, /* the JOIN is on its way, or the other side's is awaited */
    CARRIER_HANDSHAKE,
    CARRIER_READY,
    CARRIER_DEAF,    /* the peer takes no more: what it said last is still read */
    CARRIER_CLOSING, /* our goodbye is on its way, the peer's awaited */
    CARRIER_GONE,
};

/* Deadlines in seconds. JOINING waits for the other side's ticket and dial too. */
static const struct {
    const char *name;
    ev_tstamp deadline;
    const char *expired;
    bool is_read, is_written;
} states[] = {
    [CARRIER_DIALLING] = {"dialling", 10, "the relay's port does not answer", false, true},
    [CARRIER_JOINING] = {"joining", 20, "the other side did not come", true, false},
    [CARRIER_HANDSHAKE] = {"handshake", 10, "the handshake took too long", true, false},
    [CARRIER_READY] = {"ready", GT_CARRIER_SILENT, "nothing came for long", true, false},
    [CARRIER_DEAF] = {"deaf", 5, "the peer takes nothing", true, false},
    [CARRIER_CLOSING] = {"closing", 5, "the peer's goodbye did not come", true, false},
    [CARRIER_GONE] = {"gone", 0, NULL, false, false},
};

struct gt_carrier {
    struct ev_loop *loop;
    enum gt_role role;
    enum carrier_state state;
    uint32_t stream, attempt;
    const struct gt_carrier_events *events;
    void *userdata;
    const char *why;
    bool is_goodbye; /* the peer's was heard */

    struct gt_addr relay;
    int fd;
    ev_io reader, writer;
    ev_timer deadline;
    ev_timer again;          /* more is buffered inside than one turn may take */
    ev_tstamp heard;         /* when, by gt_clock() */
    ev_tstamp asked;         /* ... for a sign of life */
    ev_tstamp doubted;       /* since when; 0: it is not */
    ev_tstamp quiet, silent; /* after how long */

    uint8_t join[GT_JOIN_SIZE];
    uint8_t reply[GT_JOIN_REPLY_SIZE];
    size_t n_joined; /* bytes of the JOIN sent, then of the reply */

    struct gt_tls_context *context;
    struct gt_tls *tls;
    struct gt_stream_psk psk; /* until the handshake */
};

static void watch(struct ev_loop *loop, ev_io *watcher, bool is_wanted)
{
    if (is_wanted)
        ev_io_start(loop, watcher);
    else
        ev_io_stop(loop, watcher);
}

static void carrier_arm(struct gt_carrier *carrier, ev_tstamp after)
{
    ev_timer_stop(carrier->loop, &carrier->deadline);
    ev_timer_set(&carrier->deadline, after, 0);
    ev_timer_start(carrier->loop, &carrier->deadline);
}

static void carrier_enter(struct gt_carrier *carrier, enum carrier_state state)
{
    gt_debug("stream=%u attempt=%u carrier %s -> %s", carrier->stream, carrier->attempt,
             states[carrier->state].name, states[state].name);
    carrier->state = state;
    watch(carrier->loop, &carrier->reader, states[state].is_read);
    watch(carrier->loop, &carrier->writer, states[state].is_written);
    carrier_arm(carrier, states[state].deadline);
}

/* Everything is closed now; the deadline of GONE tells. */
static void carrier_lose(struct gt_carrier *carrier, const char *why)
{
    if (carrier->state == CARRIER_GONE)
        return;
    gt_debug("stream=%u attempt=%u carrier: %s", carrier->stream, carrier->attempt, why);
    carrier_enter(carrier, CARRIER_GONE);
    ev_timer_stop(carrier->loop, &carrier->again);
    carrier->tls = gt_tls_free(carrier->tls);
    gt_wipe(&carrier->psk, sizeof(carrier->psk));
    gt_wipe(carrier->join, sizeof(carrier->join));
    gt_close(&carrier->fd);
    carrier->why = why;
}

static void carrier_lose_errno(struct gt_carrier *carrier, int err)
{
    carrier_lose(carrier, strerrordesc_np(err));
}

/* The peer said goodbye, and gets ours (best effort), so that it knows that all was heard. */
static void carrier_part(struct gt_carrier *carrier)
{
    carrier->is_goodbye = true;
    if (carrier->state != CARRIER_CLOSING)
        gt_tls_close(carrier->tls);
    carrier_lose(carrier, "the peer said goodbye");
}

/* --- after the handshake ---------------------------------------------------------------------- */

static bool carrier_is_heard(const struct gt_carrier *carrier)
{
    return carrier->state == CARRIER_READY || carrier->state == CARRIER_DEAF;
}

bool gt_carrier_next(struct gt_carrier *carrier, struct gt_span *ret)
{
    if (!carrier_is_heard(carrier) || gt_tls_open(carrier->tls, ret))
        return false;
    carrier->heard = gt_clock();
    carrier->doubted = 0;
    return true;
}

bool gt_carrier_fill(struct gt_carrier *carrier)
{
    if (!carrier_is_heard(carrier))
        return false;
    int r = gt_tls_fill(carrier->tls);
    if (r == GT_TLS_E_CLOSED)
        carrier_part(carrier);
    else if (r == GT_TLS_E_BROKEN)
        carrier_lose(carrier, gt_tls_why(carrier->tls));
    return r == 0;
}

/* The table's watchers, and what TLS has left to send. */
static void carrier_watch(struct gt_carrier *carrier)
{
    bool is_full = carrier->tls && gt_tls_wants_write(carrier->tls);
    watch(carrier->loop, &carrier->writer, states[carrier->state].is_written || is_full);
}

void gt_carrier_flush(struct gt_carrier *carrier)
{
    if (carrier->state != CARRIER_READY)
        return;
    if (gt_tls_flush(carrier->tls) == GT_TLS_E_BROKEN)
        carrier_enter(carrier, CARRIER_DEAF);
    carrier_watch(carrier);
}

size_t gt_carrier_record(const struct gt_carrier *carrier)
{
    return gt_tls_record_size(carrier->tls);
}

/*
 * A full socket is waited for only with an empty output buffer behind us: then a batch of whole
 * records surely fits, and no record that was made is ever refused.
 */
bool gt_carrier_has_room(struct gt_carrier *carrier)
{
    if (carrier->state != CARRIER_READY || ev_is_active(&carrier->writer))
        return false;
    if (gt_tls_has_room(carrier->tls, GT_CARRIER_RECORD))
        return true;
    gt_carrier_flush(carrier);
    return carrier->state == CARRIER_READY && !ev_is_active(&carrier->writer);
}

void gt_carrier_write(struct gt_carrier *carrier, const struct gt_span *parts, size_t n_parts)
{
    if (carrier->state == CARRIER_READY && gt_tls_write_parts(carrier->tls, parts, n_parts))
        carrier_lose(carrier, "a record was refused");
}

static void carrier_read_on(struct gt_carrier *carrier)
{
    carrier->events->on_readable(carrier->userdata);
    if (carrier->tls)
        gt_tls_rest(carrier->tls);
    if (carrier->tls && gt_tls_has_pending(carrier->tls))
        ev_timer_start(carrier->loop, &carrier->again);
    else
        ev_timer_stop(carrier->loop, &carrier->again);
}

/* The goodbye's rest went out: the peer sees our end, and we wait for its goodbye. */
static void carrier_finish(struct gt_carrier *carrier)
{
    if (!gt_tls_wants_write(carrier->tls))
        shutdown(carrier->fd, SHUT_WR);
    carrier_watch(carrier);
}

void gt_carrier_close(struct gt_carrier *carrier)
{
    switch (carrier->state) {
    case CARRIER_READY:
        carrier_enter(carrier, CARRIER_CLOSING);
        if (gt_tls_has_pending(carrier->tls))
            ev_timer_start(carrier->loop, &carrier->again);
        gt_tls_close(carrier->tls);
        carrier_finish(carrier);
        break;
    case CARRIER_DIALLING:
    case CARRIER_JOINING:
    case CARRIER_HANDSHAKE:
    case CARRIER_DEAF: carrier_lose(carrier, "closed"); break;
    case CARRIER_CLOSING:
    case CARRIER_GONE: break;
    }
}

/* What still comes is for nobody but for the goodbye; closing with it unread would send a reset
 * after our last words. */
static void carrier_discard(struct gt_carrier *carrier)
{
    uint8_t scrap[GT_CARRIER_RECORD];
    size_t n = 0;
    int r = 0;
    for (size_t total = 0; r == 0 && total < GT_TLS_BATCH; total += n)
        r = gt_tls_read(carrier->tls, scrap, sizeof(scrap), &n);
    if (r == 0)
        ev_timer_start(carrier->loop, &carrier->again);
    else
        ev_timer_stop(carrier->loop, &carrier->again);
    if (r == GT_TLS_E_CLOSED)
        carrier_part(carrier);
    else if (r == GT_TLS_E_BROKEN)
        carrier_lose(carrier, "closed");
}

static void carrier_on_again(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_carrier *carrier = watcher->data;
    if (carrier->state == CARRIER_CLOSING)
        carrier_discard(carrier);
    else
        carrier_read_on(carrier);
}

/* --- the heartbeat ---------------------------------------------------------------------------- */

/* Until it is lost for being silent. */
static ev_tstamp carrier_left(const struct gt_carrier *carrier)
{
    ev_tstamp left = carrier->heard + carrier->silent - gt_clock();
    if (carrier->doubted > 0)
        left = GT_MIN(left, carrier->doubted + PROOF_S - gt_clock());
    return left;
}

/*
 * On a grid that every carrier of this process shares: thousands are asked in one turn of the loop,
 * and heard of in a few. The device's turn comes a step later, so that of two ends that hear
 * nothing but each other one asks and one answers.
 */
static ev_tstamp carrier_ask_at(const struct gt_carrier *carrier)
{
    ev_tstamp step = carrier->quiet / STEPS;
    ev_tstamp at = GT_MAX(carrier->heard, carrier->asked) + carrier->quiet;
    return gt_clock_grid(carrier->role == GT_ROLE_DEVICE ? at + step : at, step);
}

/* The loop's own time is of when its turn began, which would scatter them again. */
static void carrier_arm_beat(struct gt_carrier *carrier)
{
    ev_tstamp after = GT_MIN(carrier_ask_at(carrier) - gt_clock(), carrier_left(carrier));
    ev_now_update(carrier->loop);
    carrier_arm(carrier, GT_MAX(after, 0.));
}

/*
 * How long was it silent? After a pause of the whole process (a suspend) what came meanwhile is
 * still unread, and nobody is given up before it was looked at.
 */
static void carrier_beat(struct gt_carrier *carrier)
{
    if (carrier_left(carrier) <= 0)
        carrier_read_on(carrier);
    if (carrier->state != CARRIER_READY)
        return;
    if (carrier_left(carrier) <= 0) {
        carrier_lose(carrier, states[CARRIER_READY].expired);
        return;
    }
    bool is_quiet = gt_clock() >= carrier_ask_at(carrier);
    if (is_quiet)
        carrier->asked = gt_clock();
    carrier_arm_beat(carrier);
    carrier->events->on_beat(carrier->userdata, is_quiet);
}

/* What was under way before the doubt is read first: it proves nothing. */
static void carrier_doubt(struct gt_carrier *carrier, bool has_slept)
{
    carrier_read_on(carrier);
    if (carrier->state != CARRIER_READY || carrier->doubted > 0)
        return;
    gt_debug("stream=%u attempt=%u carrier is to prove itself", carrier->stream, carrier->attempt);
    carrier->doubted = carrier->asked = gt_clock();
    if (has_slept)
        carrier->heard = carrier->doubted; /* asleep nobody hears */
    carrier_arm_beat(carrier);
    carrier->events->on_beat(carrier->userdata, true);
}

void gt_carrier_prove(struct gt_carrier *carrier)
{
    if (gt_clock() - carrier->heard > FRESH_S)
        carrier_doubt(carrier, false);
}

void gt_carrier_check(struct gt_carrier *carrier, bool has_slept)
{
    if (carrier->fd < 0)
        return;
    enum gt_way way = gt_way_of(carrier->fd, &carrier->relay);
    if (way == GT_WAY_GONE)
        carrier_lose(carrier, "the network has gone");
    else if (carrier->state == CARRIER_READY && (way == GT_WAY_DOUBTFUL || has_slept))
        carrier_doubt(carrier, has_slept);
}

/* --- up to the handshake ---------------------------------------------------------------------- */

static bool carrier_on_psk(void *userdata, struct gt_span identity,
                           uint8_t ret_psk[static GT_KEY_SIZE])
{
    const struct gt_carrier *carrier = userdata;
    if (identity.n != GT_STREAM_ID_SIZE ||
        CRYPTO_memcmp(identity.data, carrier->psk.id, GT_STREAM_ID_SIZE) != 0)
        return false;
    memcpy(ret_psk, carrier->psk.psk, GT_KEY_SIZE);
    return true;
}

static void carrier_shake_hands(struct gt_carrier *carrier)
{
    int r = gt_tls_handshake(carrier->tls);
    if (r == GT_TLS_E_AGAIN) {
        carrier_watch(carrier);
        return;
    }
    if (r) {
        carrier_lose(carrier, gt_tls_why(carrier->tls));
        return;
    }
    gt_wipe(&carrier->psk, sizeof(carrier->psk));
    carrier->heard = gt_clock();
    carrier_enter(carrier, CARRIER_READY);
    carrier_arm_beat(carrier);
    carrier->events->on_ready(carrier->userdata); /* and the handshake's last goes with its first */
    gt_carrier_flush(carrier);
    if (carrier->state == CARRIER_READY && gt_tls_has_pending(carrier->tls))
        carrier_read_on(carrier); /* the peer's first bytes came with its last of the handshake */
}

/* Both sides have joined. The operator speaks first; the device waits for it. */
static void carrier_begin_tls(struct gt_carrier *carrier)
{
    bool is_client = carrier->role == GT_ROLE_OPERATOR;
    struct gt_span id = gt_span(carrier->psk.id, sizeof(carrier->psk.id));
    int r = is_client ? gt_tls_new_client(carrier->context, carrier->fd, id, carrier->psk.psk,
                                          &carrier->tls)
                      : gt_tls_new_server(carrier->context, carrier->fd, carrier_on_psk, carrier,
                                          &carrier->tls);
    if (r) {
        carrier_lose(carrier, "out of memory");
        return;
    }
    carrier_enter(carrier, CARRIER_HANDSHAKE);
    if (is_client)
        carrier_shake_hands(carrier);
}

static void carrier_send_join(struct gt_carrier *carrier)
{
    ssize_t n = send(carrier->fd, carrier->join + carrier->n_joined,
                     sizeof(carrier->join) - carrier->n_joined, MSG_NOSIGNAL);
    if (n < 0) { /* the outcome of connect(), too */
        if (errno != EAGAIN && errno != EINTR)
            carrier_lose_errno(carrier, errno);
        return;
    }
    carrier->n_joined += (size_t)n;
    if (carrier->n_joined < sizeof(carrier->join))
        return;
    gt_wipe(carrier->join, sizeof(carrier->join));
    carrier->n_joined = 0;
    carrier_enter(carrier, CARRIER_JOINING);
}

static void carrier_take_reply(struct gt_carrier *carrier)
{
    ssize_t n = recv(carrier->fd, carrier->reply + carrier->n_joined,
                     sizeof(carrier->reply) - carrier->n_joined, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            carrier_lose_errno(carrier, errno);
        return;
    }
    carrier->n_joined += (size_t)n;
    if (n == 0)
        carrier_lose(carrier, "the relay refused the ticket, or the other side did not come");
    else if (memcmp(carrier->reply, gt_join_reply, carrier->n_joined) != 0)
        carrier_lose(carrier, "the relay's answer is none");
    else if (carrier->n_joined == sizeof(carrier->reply))
        carrier_begin_tls(carrier);
}

/* --- events ----------------------------------------------------------------------------------- */

static void carrier_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_carrier *carrier = watcher->data;
    switch (carrier->state) {
    case CARRIER_JOINING: carrier_take_reply(carrier); break;
    case CARRIER_HANDSHAKE: carrier_shake_hands(carrier); break;
    case CARRIER_READY:
    case CARRIER_DEAF: carrier_read_on(carrier); break;
    case CARRIER_CLOSING: carrier_discard(carrier); break;
    case CARRIER_DIALLING:
    case CARRIER_GONE: break;
    }
}

static void carrier_on_writable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_carrier *carrier = watcher->data;
    switch (carrier->state) {
    case CARRIER_DIALLING: carrier_send_join(carrier); break;
    case CARRIER_HANDSHAKE: carrier_shake_hands(carrier); break;
    case CARRIER_READY:
        gt_carrier_flush(carrier);
        if (gt_tls_has_pending(carrier->tls)) /* reading had to wait for room, too */
            ev_timer_start(loop, &carrier->again);
        if (!ev_is_active(&carrier->writer))
            carrier->events->on_writable(carrier->userdata);
        break;
    case CARRIER_CLOSING:
        if (gt_tls_flush(carrier->tls) == GT_TLS_E_BROKEN)
            carrier_lose(carrier, "closed");
        else
            carrier_finish(carrier);
        break;
    case CARRIER_JOINING:
    case CARRIER_DEAF:
    case CARRIER_GONE: break;
    }
}

static void carrier_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct gt_carrier *carrier = watcher->data;
    switch (carrier->state) {
    case CARRIER_DIALLING:
    case CARRIER_JOINING:
    case CARRIER_HANDSHAKE:
    case CARRIER_DEAF:
    case CARRIER_CLOSING: carrier_lose(carrier, states[carrier->state].expired); break;
    case CARRIER_READY: carrier_beat(carrier); break;
    case CARRIER_GONE:
        carrier->events->on_gone(carrier->userdata, carrier->is_goodbye, carrier->why);
        break;
    }
}

/* --- birth and end ---------------------------------------------------------------------------- */

/*
 * The kernel gives it up when it takes nothing for as long as we would listen in vain. That is
 * right for a slow reader, too, although he shuts the window: what he has not read is bounded by
 * the stream's own window, which his end has room for, so that it reads its carrier always,
 * whatever its local socket does; and the relay reads ours as long as his end reads his. Its
 * sockets have no such timeout. Only an end that is dead or stopped, for longer than we would
 * listen, keeps our window shut.
 */
static void carrier_dial(struct gt_carrier *carrier, const struct gt_addr *relay)
{
    carrier->relay = *relay;
    carrier->fd = gt_sock_connect(relay);
    if (carrier->fd < 0) {
        carrier_lose_errno(carrier, -carrier->fd);
        return;
    }
    gt_sock_set_timeout(carrier->fd, carrier->silent);
    ev_io_set(&carrier->reader, carrier->fd, EV_READ);
    ev_io_set(&carrier->writer, carrier->fd, EV_WRITE);
    carrier_enter(carrier, CARRIER_DIALLING);
}

int gt_carrier_new(const struct gt_carrier_settings *settings, const struct gt_addr *relay,
                   const struct gt_ticket *ticket, const struct gt_carrier_events *events,
                   void *userdata, struct gt_carrier **ret)
{
    struct gt_carrier *carrier = calloc(1, sizeof(*carrier));
    if (!carrier)
        return -ENOMEM;
    carrier->loop = settings->loop;
    carrier->role = settings->role;
    carrier->stream = ticket->stream;
    carrier->attempt = ticket->attempt;
    carrier->events = events;
    carrier->userdata = userdata;
    carrier->context = settings->tls;
    carrier->quiet = settings->quiet_s > 0 ? settings->quiet_s : GT_CARRIER_QUIET;
    carrier->silent = settings->silent_s > 0 ? settings->silent_s : GT_CARRIER_SILENT;
    carrier->fd = -1;
    ev_init(&carrier->reader, carrier_on_readable);
    ev_init(&carrier->writer, carrier_on_writable);
    ev_init(&carrier->deadline, carrier_on_deadline);
    ev_timer_init(&carrier->again, carrier_on_again, 0, 0);
    carrier->reader.data = carrier->writer.data = carrier;
    carrier->deadline.data = carrier->again.data = carrier;

    int r = gt_key_stream(settings->session_key, ticket->stream, ticket->attempt, &carrier->psk);
    if (r) {
        gt_carrier_free(carrier);
        return r;
    }
    struct gt_join join = {settings->role, ticket->stream, ticket->attempt, {0}, {0}};
    memcpy(join.id, ticket->id, sizeof(join.id));
    memcpy(join.secret, ticket->secret, sizeof(join.secret));
    gt_join_encode(&join, carrier->join);
    gt_wipe(&join, sizeof(join));
    carrier_dial(carrier, relay);
    *ret = carrier;
    return 0;
}

struct gt_carrier *gt_carrier_free(struct gt_carrier *carrier)
{
    if (carrier) {
        carrier_lose(carrier, "freed");
        ev_timer_stop(carrier->loop, &carrier->deadline);
        free(carrier);
    }
    return NULL;
}
