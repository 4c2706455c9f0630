/* SPDX-License-Identifier: ISC */
/*
 * Strangers. A JOIN that arrives together with its connection (nearly all do) is read and acted on
 * in the accept itself, without a watcher. The deadline is one for all that a stranger says: a byte
 * now and then buys no time.
 */
#include "stranger.h"

#include <sys/epoll.h>

#include "gotthard/log.h"

#define TLS_HANDSHAKE_RECORD 0x16 /* RFC 8446 section 5.1 */
#define TLS_RECORD_HEAD      5
#define TLS_CLIENT_HELLO     1 /* section 4 */
#define TLS_HELLO_HEAD       4
#define TLS_HELLO_MAX        4096 /* our clients' have 300 bytes, a browser's 2,000 */

static void stranger_unwatch(struct stranger *stranger)
{
    struct stranger_host *host = stranger->host;

    if (!ev_is_active(&stranger->timer))
        return;
    epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, stranger->fd, NULL);
    ev_timer_stop(host->loop, &stranger->timer);
}

static void stranger_bury_later(struct stranger *stranger)
{
    stranger->state = STRANGER_DONE;
    gt_wipe(stranger->bytes, sizeof(stranger->bytes));
    gt_list_unlink(&stranger->of_host);
    gt_list_append(&stranger->host->dead, &stranger->of_host);
}

static void stranger_close(struct stranger *stranger)
{
    stranger_unwatch(stranger);
    gt_close(&stranger->fd);
    quota_release(&stranger->charge);
    stranger_bury_later(stranger);
}

void stranger_host_bury(struct stranger_host *host)
{
    gt_list_for_each_safe (at, next, &host->dead) {
        gt_list_unlink(at);
        free(gt_list_entry(at, struct stranger, of_host));
    }
}

void stranger_host_deinit(struct stranger_host *host)
{
    gt_list_for_each_safe (at, next, &host->living)
        stranger_close(gt_list_entry(at, struct stranger, of_host));
    stranger_host_bury(host);
    ev_io_stop(host->loop, &host->io);
    gt_close(&host->epoll_fd);
}

void stranger_close_of(struct stranger_host *host, const void *dock)
{
    gt_list_for_each_safe (at, next, &host->living) {
        struct stranger *stranger = gt_list_entry(at, struct stranger, of_host);
        if (stranger->dock == dock)
            stranger_close(stranger);
    }
}

static void stranger_arm(struct stranger *stranger)
{
    struct ev_loop *loop = stranger->host->loop;

    ev_timer_stop(loop, &stranger->timer);
    ev_timer_set(&stranger->timer, now_seconds_to(now_ms(), stranger->deadline), 0);
    ev_timer_start(loop, &stranger->timer);
}

int stranger_release(struct stranger *stranger, struct quota_charge *ret_charge)
{
    stranger_unwatch(stranger);
    int fd = gt_steal_fd(&stranger->fd);

    quota_move(&stranger->charge, ret_charge);
    stranger_bury_later(stranger);
    return fd;
}

void stranger_detach(struct stranger *stranger)
{
    stranger_unwatch(stranger);
    gt_list_unlink(&stranger->of_host);
    stranger->host = NULL;
}

/* Reads on until 64 bytes are in. 0: they are; 1: not yet; 2: it ended. */
static int stranger_read(struct stranger *stranger)
{
    while (stranger->n_bytes < GT_JOIN_SIZE) {
        ssize_t n = recv(stranger->fd, stranger->bytes + stranger->n_bytes,
                         GT_JOIN_SIZE - stranger->n_bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (n <= 0)
            return 2;
        stranger->n_bytes += (size_t)n;
    }
    return 0;
}

/* A connection that came and went without a word is a health check, not an offence. */
static void stranger_on_ended(struct stranger *stranger)
{
    if (stranger->n_bytes)
        quota_punish(&stranger->charge, QUOTA_FAILED, now_ms());
    stranger_close(stranger);
}

static void stranger_drain(struct stranger *stranger)
{
    if (stranger_read(stranger) != 1)
        stranger_on_ended(stranger);
}

void stranger_refuse(struct stranger *stranger)
{
    gt_wipe(stranger->bytes, sizeof(stranger->bytes));
    stranger->state = STRANGER_DRAINING;
    stranger_drain(stranger);
}

void stranger_dismiss(struct stranger *stranger)
{
    stranger_close(stranger);
}

/* True here and below: it went to another thread. */
static bool stranger_join(struct stranger *stranger)
{
    int r = stranger_read(stranger);

    if (stranger->n_bytes && !gt_join_may_begin(stranger->bytes, stranger->n_bytes))
        stranger_refuse(stranger);
    else if (r == 2)
        stranger_on_ended(stranger);
    else if (r == 0)
        return stranger->host->on_join(stranger->host->userdata, stranger);
    return false;
}

/* From how many bytes on the kernel says that there is something to read. */
static void stranger_expect(struct stranger *stranger, size_t n)
{
    setsockopt(stranger->fd, SOL_SOCKET, SO_RCVLOWAT, &(int){(int)n}, sizeof(int));
}

/* How many bytes the first record has if it is a hello and nothing else: fewer than its head as
 * long as that is unknown, 0 for what our clients do not send. */
static size_t hello_size(const uint8_t *bytes, size_t n)
{
    size_t n_head = TLS_RECORD_HEAD + TLS_HELLO_HEAD;

    if (n < n_head)
        return n_head;
    size_t n_record = (size_t)bytes[3] << 8 | bytes[4];
    size_t n_hello = (size_t)bytes[6] << 16 | (size_t)bytes[7] << 8 | bytes[8];
    bool is_hello = bytes[5] == TLS_CLIENT_HELLO && n_hello + TLS_HELLO_HEAD == n_record;
    return is_hello && n_record <= TLS_HELLO_MAX ? TLS_RECORD_HEAD + n_record : 0;
}

/* A TLS connection has sixty KiB: too much for whoever never ends his first sentence. So the hello
 * stays in the kernel until it is whole. Who is announced with not a byte more than before has put
 * urgent ones in between, and would be announced for ever. */
static void stranger_await_hello(struct stranger *stranger)
{
    uint8_t bytes[TLS_RECORD_HEAD + TLS_HELLO_MAX];
    ssize_t n = recv(stranger->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    size_t wanted = hello_size(bytes, n > 0 ? (size_t)n : 0);

    stranger_expect(stranger, 1);
    if (!wanted) {
        stranger_refuse(stranger);
    } else if (n >= (ssize_t)wanted) {
        stranger->host->on_tls(stranger->host->userdata, stranger);
    } else if (n <= (ssize_t)stranger->n_seen || stranger->is_ended) {
        quota_punish(&stranger->charge, QUOTA_FAILED, now_ms());
        stranger_close(stranger);
    } else {
        stranger->n_seen = (size_t)n;
        stranger_expect(stranger, wanted);
    }
}

/* The first byte is looked at and left in the socket: a TLS library wants to read it itself. */
static bool stranger_demux(struct stranger *stranger)
{
    struct stranger_host *host = stranger->host;
    uint8_t first;
    ssize_t n = recv(stranger->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        stranger_on_ended(stranger);
        return false;
    }
    if (first == TLS_HANDSHAKE_RECORD && host->on_tls) {
        stranger_await_hello(stranger);
        return false;
    }
    stranger->deadline = GT_MIN(stranger->deadline, now_ms() + host->join_ms);
    if (ev_is_active(&stranger->timer))
        stranger_arm(stranger);
    stranger->state = STRANGER_JOINING;
    return stranger_join(stranger);
}

static bool stranger_look(struct stranger *stranger)
{
    switch (stranger->state) {
    case STRANGER_NEW: return stranger_demux(stranger);
    case STRANGER_JOINING: return stranger_join(stranger);
    case STRANGER_DRAINING: stranger_drain(stranger); return false;
    case STRANGER_DONE: return false;
    }
    return false;
}

/* Most are done at first sight and never watched. */
static void stranger_watch(struct stranger *stranger)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = stranger};

    if (stranger->state == STRANGER_DONE)
        return;
    if (epoll_ctl(stranger->host->epoll_fd, EPOLL_CTL_ADD, stranger->fd, &event) < 0)
        stranger_close(stranger);
    else
        stranger_arm(stranger);
}

/* Those who end in one of these turns stay in memory until the loop sleeps. */
static void stranger_on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct stranger_host *host = gt_container_of(io, struct stranger_host, io);
    struct epoll_event ready[64];
    int n = epoll_wait(host->epoll_fd, ready, GT_ARRAY_SIZE(ready), 0);

    for (int i = 0; i < n; i++) {
        struct stranger *stranger = ready[i].data.ptr;
        stranger->is_ended = ready[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
        stranger_look(stranger);
    }
}

static void stranger_on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct stranger *stranger = gt_container_of(timer, struct stranger, timer);

    quota_punish(&stranger->charge, QUOTA_TIMEOUT, now_ms());
    stranger_close(stranger);
}

void stranger_attach(struct stranger *stranger, struct stranger_host *host)
{
    stranger->host = host;
    gt_list_append(&host->living, &stranger->of_host);
    if (!stranger_join(stranger))
        stranger_watch(stranger);
}

static void stranger_log_refusal(const struct gt_addr *addr, int condition)
{
    static struct gt_log_rate rate;
    static const char *const why[] = {[QUOTA_E_PENALTY] = "penalty",
                                      [QUOTA_E_SOURCE] = "source limit",
                                      [QUOTA_E_FULL] = "full",
                                      [QUOTA_E_FDS] = "descriptors"};
    char text[GT_ADDR_TEXT];
    unsigned left_out;

    if (gt_log_is_allowed(&rate, 2, &left_out))
        gt_info("stranger=%s refused reason=\"%s\" left-out=%u", gt_addr_text(addr, text),
                why[condition], left_out);
}

static struct stranger *stranger_new(struct stranger_host *host, int fd, const struct gt_addr *addr,
                                     void *dock)
{
    struct stranger *stranger = calloc(1, sizeof(*stranger));

    if (!stranger)
        return NULL;
    stranger->state = host->on_tls ? STRANGER_NEW : STRANGER_JOINING;
    stranger->host = host;
    stranger->dock = dock;
    stranger->fd = fd;
    stranger->addr = *addr;
    stranger->born_at = now_ms();
    stranger->deadline = stranger->born_at + (host->on_tls ? host->first_ms : host->join_ms);
    ev_init(&stranger->timer, stranger_on_deadline);
    gt_list_append(&host->living, &stranger->of_host);
    return stranger;
}

static int stranger_admit(struct stranger *stranger)
{
    struct stranger_host *host = stranger->host;
    uint8_t source[QUOTA_SOURCE];

    gt_addr_source(&stranger->addr, source);
    int r = quota_admit(host->quota, source, stranger->born_at, &stranger->charge);
    if (r && r != QUOTA_E_FDS && host->is_vouched && !stranger_read(stranger) &&
        host->is_vouched(host->userdata, stranger->bytes, stranger->dock))
        r = quota_admit_known(host->quota, source, &stranger->charge);
    return r;
}

void stranger_welcome(struct stranger_host *host, int fd, const struct gt_addr *addr, void *dock)
{
    struct stranger *stranger = stranger_new(host, fd, addr, dock);

    if (!stranger) {
        gt_close(&fd);
        return;
    }
    int r = stranger_admit(stranger);
    if (r) {
        stranger_log_refusal(addr, r);
        stranger_close(stranger);
        return;
    }
    if (!stranger_look(stranger))
        stranger_watch(stranger);
}

int stranger_host_init(struct stranger_host *host, struct ev_loop *loop, struct quota *quota)
{
    *host = (struct stranger_host){.loop = loop, .quota = quota};
    gt_list_init(&host->living);
    gt_list_init(&host->dead);
    host->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (host->epoll_fd < 0)
        return -errno;
    ev_io_init(&host->io, stranger_on_readable, host->epoll_fd, EV_READ);
    ev_io_start(loop, &host->io);
    return 0;
}
