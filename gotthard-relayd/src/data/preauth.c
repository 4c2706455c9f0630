/* SPDX-License-Identifier: ISC */
/*
 * Unauthenticated connections. Bytes that arrive together with their connection, as nearly all do,
 * are handled within the accept and need no watcher. One deadline covers all input of a connection:
 * a byte now and then gains no time, but it postpones an eviction.
 */
#include "data/preauth.h"

#include <sys/epoll.h>

#include "gotthard/base/log.h"

#define TLS_HANDSHAKE_RECORD 0x16 /* RFC 8446 section 5.1 */

static void preauth_unwatch(struct preauth *preauth)
{
    struct preauth_host *host = preauth->host;

    if (!ev_is_active(&preauth->timer))
        return;
    epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, preauth->fd, NULL);
    ev_timer_stop(host->loop, &preauth->timer);
}

static void preauth_schedule_reap(struct preauth *preauth)
{
    preauth->state = PREAUTH_DONE;
    gt_wipe(preauth->bytes, sizeof(preauth->bytes));
    gt_list_unlink(&preauth->of_host);
    gt_list_append(&preauth->host->closed, &preauth->of_host);
}

void preauth_close(struct preauth *preauth)
{
    preauth_unwatch(preauth);
    quota_release(&preauth->charge); /* before the descriptor, see quota_admit */
    gt_close(&preauth->fd);
    preauth_schedule_reap(preauth);
}

void preauth_host_reap(struct preauth_host *host)
{
    gt_list_for_each_safe (at, next, &host->closed) {
        gt_list_unlink(at);
        free(gt_list_entry(at, struct preauth, of_host));
    }
}

void preauth_host_deinit(struct preauth_host *host)
{
    gt_list_for_each_safe (at, next, &host->open)
        preauth_close(gt_list_entry(at, struct preauth, of_host));
    preauth_host_reap(host);
    ev_io_stop(host->loop, &host->io);
    gt_close(&host->epoll_fd);
}

void preauth_close_of_port(struct preauth_host *host, const void *session_port)
{
    gt_list_for_each_safe (at, next, &host->open) {
        struct preauth *preauth = gt_list_entry(at, struct preauth, of_host);

        if (preauth->session_port == session_port)
            preauth_close(preauth);
    }
}

static void preauth_arm(struct preauth *preauth)
{
    struct ev_loop *loop = preauth->host->loop;

    ev_timer_stop(loop, &preauth->timer);
    ev_timer_set(&preauth->timer, gt_clock_seconds_until(gt_clock_ms(), preauth->deadline), 0);
    ev_timer_start(loop, &preauth->timer);
}

/* --- charges ---------------------------------------------------------------------------------- */

static void preauth_log(const struct preauth *preauth, const char *what)
{
    static struct gt_log_rate rate;
    char text[GT_ADDR_TEXT];
    unsigned n_suppressed;

    if (gt_log_is_allowed(&rate, 2, &n_suppressed))
        gt_info("preauth=%s %s suppressed=%u", gt_addr_text(&preauth->addr, text), what,
                n_suppressed);
}

/* Charges a connection without a charge. Returns false if there is no descriptor for it; it is then
 * closed. */
static bool preauth_admit(struct preauth *preauth, const uint8_t *source, enum charge_state state)
{
    if (!quota_admit(preauth->host->quota, source, preauth->fd, state, &preauth->charge))
        return true;
    preauth_log(preauth, "rejected reason=\"descriptors\"");
    preauth_close(preauth);
    return false;
}

/* Charges the connection, or changes its charge. Returns as preauth_admit. */
static bool preauth_charge(struct preauth *preauth, enum charge_state state)
{
    uint8_t source[QUOTA_SOURCE];

    gt_addr_source(&preauth->addr, source);
    if (!preauth->charge.quota)
        return preauth_admit(preauth, source, state);
    quota_mark(&preauth->charge, state);
    return true;
}

bool preauth_prove(struct preauth *preauth, const char *identity)
{
    uint8_t digest[GT_KEY_SIZE];
    struct gt_span text = gt_span_text(identity);

    if (gt_sha256(&text, 1, digest))
        memset(digest, 0, sizeof(digest)); /* out of memory: one limit for all of these */
    if (!preauth->charge.quota)
        return preauth_admit(preauth, digest, CHARGE_PROVED);
    quota_prove(&preauth->charge, digest);
    return true;
}

/* Charges a connection that waits. Returns false if it was closed. */
static bool preauth_charge_waiting(struct preauth *preauth)
{
    if (preauth->state == PREAUTH_DRAINING)
        return preauth_charge(preauth, CHARGE_REJECTED);
    return preauth_charge(preauth, preauth->is_started ? CHARGE_STARTED : CHARGE_SILENT);
}

int preauth_release(struct preauth *preauth, struct quota_charge *ret_charge)
{
    preauth_unwatch(preauth);
    int fd = gt_steal_fd(&preauth->fd);

    quota_move(&preauth->charge, ret_charge);
    preauth_schedule_reap(preauth);
    return fd;
}

void preauth_detach(struct preauth *preauth)
{
    preauth_unwatch(preauth);
    gt_list_unlink(&preauth->of_host);
    preauth->host = NULL;
}

enum preauth_input { INPUT_COMPLETE, INPUT_WAITING, INPUT_ENDED };

/* Reads until 64 bytes have been received, the socket is empty or the connection has ended. */
static enum preauth_input preauth_read(struct preauth *preauth)
{
    while (preauth->n_bytes < GT_JOIN_SIZE) {
        ssize_t n = recv(preauth->fd, preauth->bytes + preauth->n_bytes,
                         GT_JOIN_SIZE - preauth->n_bytes, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return INPUT_WAITING;
        if (n <= 0)
            return INPUT_ENDED;
        preauth->n_bytes += (size_t)n;
        preauth->is_started = true;
    }
    return INPUT_COMPLETE;
}

static void preauth_drain(struct preauth *preauth)
{
    if (preauth_read(preauth) != INPUT_WAITING)
        preauth_close(preauth);
}

void preauth_reject(struct preauth *preauth)
{
    gt_wipe(preauth->bytes, sizeof(preauth->bytes));
    preauth->state = PREAUTH_DRAINING;
    preauth_drain(preauth);
}

/* A close with unread bytes would be a reset, which may overtake the alert. */
void preauth_refuse(struct preauth *preauth, struct gt_span alert)
{
    uint8_t hello[GT_CLIENT_HELLO_RECORD_MAX];

    if (recv(preauth->fd, hello, sizeof(hello), MSG_DONTWAIT) > 0)
        send(preauth->fd, alert.data, alert.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    preauth_close(preauth);
}

/* Returns true, here and below, if the connection was passed to another thread. */
static bool preauth_receive_join(struct preauth *preauth)
{
    enum preauth_input r = preauth_read(preauth);

    if (preauth->n_bytes && !gt_join_may_begin(preauth->bytes, preauth->n_bytes))
        preauth_reject(preauth);
    else if (r == INPUT_ENDED)
        preauth_close(preauth);
    else if (r == INPUT_COMPLETE && preauth_charge(preauth, CHARGE_KNOWN))
        return preauth->host->on_join(preauth->host->userdata, preauth);
    return false;
}

/* A TLS connection takes 60 KiB of memory. The ClientHello therefore stays in the kernel until it
 * is complete and has proved a key. */
static void preauth_receive_hello(struct preauth *preauth)
{
    uint8_t bytes[GT_CLIENT_HELLO_RECORD_MAX];
    struct gt_client_hello hello;
    ssize_t n = recv(preauth->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    int r = gt_client_hello_parse(gt_span(bytes, n > 0 ? (size_t)n : 0), &hello);

    preauth->is_started = true;
    if (!r)
        preauth->host->on_hello(preauth->host->userdata, preauth, &hello);
    else if (r == GT_CLIENT_HELLO_E_FOREIGN)
        preauth_reject(preauth);
    else if (preauth->is_ended)
        preauth_close(preauth);
}

/* The first byte is peeked at and left in the socket, because the TLS library reads it itself. */
static bool preauth_detect_protocol(struct preauth *preauth)
{
    struct preauth_host *host = preauth->host;
    uint8_t first;
    ssize_t n = recv(preauth->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        preauth_close(preauth);
        return false;
    }
    if (first == TLS_HANDSHAKE_RECORD && host->on_hello) {
        preauth_receive_hello(preauth);
        return false;
    }
    preauth->deadline = GT_MIN(preauth->deadline, gt_clock_ms() + host->join_ms);
    if (ev_is_active(&preauth->timer))
        preauth_arm(preauth);
    preauth->state = PREAUTH_JOINING;
    return preauth_receive_join(preauth);
}

static bool preauth_handle_input(struct preauth *preauth)
{
    switch (preauth->state) {
    case PREAUTH_NEW: return preauth_detect_protocol(preauth);
    case PREAUTH_JOINING: return preauth_receive_join(preauth);
    case PREAUTH_DRAINING: preauth_drain(preauth); return false;
    case PREAUTH_DONE: return false;
    }
    return false;
}

/* Edge-triggered: a ClientHello that is not complete stays in the socket. */
static void preauth_watch(struct preauth *preauth)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET,
                                .data.ptr = preauth};

    if (epoll_ctl(preauth->host->epoll_fd, EPOLL_CTL_ADD, preauth->fd, &event) < 0)
        preauth_close(preauth);
    else
        preauth_arm(preauth);
}

/* Most connections are DONE within the accept and are never watched. */
static void preauth_wait(struct preauth *preauth)
{
    if (preauth->state != PREAUTH_DONE && preauth_charge_waiting(preauth))
        preauth_watch(preauth);
}

/* An urgent byte hides those after it from a peek. */
static void preauth_on_events(struct preauth *preauth, uint32_t events)
{
    preauth->is_ended = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI);
    if (quota_is_evicted(&preauth->charge)) {
        preauth_log(preauth, "evicted");
        preauth_close(preauth);
    } else if (!preauth_handle_input(preauth) && preauth->state != PREAUTH_DONE) {
        preauth_charge_waiting(preauth);
    }
}

/* A connection that is DONE within this turn stays in memory until preauth_host_reap. */
static void preauth_on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct preauth_host *host = gt_container_of(io, struct preauth_host, io);
    struct epoll_event ready[64];
    int n = epoll_wait(host->epoll_fd, ready, GT_ARRAY_SIZE(ready), 0);

    for (int i = 0; i < n; i++)
        preauth_on_events(ready[i].data.ptr, ready[i].events);
}

static void preauth_on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct preauth *preauth = gt_container_of(timer, struct preauth, timer);

    preauth_close(preauth);
}

void preauth_attach(struct preauth *preauth, struct preauth_host *host)
{
    preauth->host = host;
    gt_list_append(&host->open, &preauth->of_host);
    if (!preauth_receive_join(preauth))
        preauth_wait(preauth);
}

static struct preauth *preauth_new(struct preauth_host *host, int fd, const struct gt_addr *addr,
                                   void *session_port)
{
    struct preauth *preauth = calloc(1, sizeof(*preauth));

    if (!preauth)
        return NULL;
    preauth->state = host->on_hello ? PREAUTH_NEW : PREAUTH_JOINING;
    preauth->host = host;
    preauth->session_port = session_port;
    preauth->fd = fd;
    preauth->addr = *addr;
    preauth->created_at = gt_clock_ms();
    preauth->deadline = preauth->created_at + (host->on_hello ? host->first_ms : host->join_ms);
    ev_init(&preauth->timer, preauth_on_deadline);
    gt_list_append(&host->open, &preauth->of_host);
    return preauth;
}

void preauth_accept(struct preauth_host *host, int fd, const struct gt_addr *addr,
                    void *session_port)
{
    struct preauth *preauth = preauth_new(host, fd, addr, session_port);

    if (!preauth) {
        gt_close(&fd);
        return;
    }
    if (!preauth_handle_input(preauth))
        preauth_wait(preauth);
}

int preauth_host_init(struct preauth_host *host, struct ev_loop *loop, struct quota *quota)
{
    *host = (struct preauth_host){.loop = loop, .quota = quota};
    gt_list_init(&host->open);
    gt_list_init(&host->closed);
    host->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (host->epoll_fd < 0)
        return -errno;
    ev_io_init(&host->io, preauth_on_readable, host->epoll_fd, EV_READ);
    ev_io_start(loop, &host->io);
    return 0;
}
