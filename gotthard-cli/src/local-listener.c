/* SPDX-License-Identifier: ISC */
/*
 * Binds a port on up to two addresses and accepts on both (acceptor.h). A port that another program
 * has on only one of the two loopback addresses counts as in use: `localhost` would lead some
 * programs there. When descriptors run out, or too many connections wait for the tunnel, further
 * ones wait in the kernel's queue. Must never hand on a connection to a loopback port before its
 * user is known.
 */
#include "local-listener.h"

#include <string.h>
#include <sys/ioctl.h>

#include "gotthard/net/acceptor.h"
#include "gotthard/net/fin-hold.h"
#include "gotthard/net/peer-uid.h"
#include "gotthard/tunnel/endpoint.h"

#define N_FREE_TRIES 16 /* for a port that is free on both addresses */
#define N_SOCKETS    2

struct socket {
    struct local_listener *listener;
    struct gt_acceptor acceptor;
    struct gt_addr addr;
};

struct local_listener {
    struct ev_loop *loop;
    const struct local_listener_events *events;
    void *userdata;
    bool is_shared;
    bool is_held; /* connections are, until their user is known (fin-hold.h) */
    uid_t user;   /* of this process */
    double vanished_s;
    struct gt_peer_uids uids;
    struct gt_addr addr; /* of the first socket */
    struct local_socket file;
    struct socket sockets[N_SOCKETS];
    size_t n_sockets;
    bool is_udp;
    int udp[N_SOCKETS]; /* owned */
    size_t n_udp;
    bool is_started;
    struct local_queue queue; /* of connections since it was stopped */
    ev_timer queue_due;       /* hands them on in a turn of their own, as if they were new */
};

static int condition_of(int err)
{
    switch (-err) {
    case EADDRINUSE: return LOCAL_LISTENER_E_BUSY;
    case EACCES:
    case EPERM: return LOCAL_LISTENER_E_DENIED;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: return LOCAL_LISTENER_E_ADDRESS;
    default: return err;
    }
}

static bool has_unread(int fd)
{
    int n = 0;

    return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

/* A loopback socket accepts at its own address only. */
static int find_user(struct socket *socket, int fd, struct local_peer *peer)
{
    if (socket->addr.any.sa_family == AF_UNIX)
        return gt_peer_uid(fd, &peer->uid);
    return gt_peer_uids_find(&socket->listener->uids, fd, &socket->addr, &peer->addr, &peer->uid);
}

/* Sets the user of @peer. Returns true if it may use the tunnel, else false with *ret_why. */
static bool is_admitted(struct socket *socket, int fd, struct local_peer *peer,
                        enum local_refusal *ret_why)
{
    int r = find_user(socket, fd, peer);

    peer->is_uid_known = r == 0;
    if (r == GT_PEER_UID_E_CLOSED)
        *ret_why = has_unread(fd) ? LOCAL_REFUSED_LATE : LOCAL_REFUSED_CLOSED;
    else if (r != 0)
        *ret_why = LOCAL_REFUSED_UID;
    else
        *ret_why = LOCAL_REFUSED_USER;
    return r == 0 && (peer->uid == socket->listener->user || peer->uid == 0);
}

static void local_listener_accept(struct local_listener *listener, bool is_accepting)
{
    for (size_t i = 0; i < listener->n_sockets; i++)
        if (is_accepting)
            gt_acceptor_start(&listener->sockets[i].acceptor);
        else
            gt_acceptor_stop(&listener->sockets[i].acceptor);
}

static void local_listener_admit(struct local_listener *listener, int fd,
                                 const struct local_peer *peer)
{
    if (listener->is_started && local_queue_is_empty(&listener->queue)) {
        listener->events->on_accept(listener->userdata, fd, peer);
        return;
    }
    local_queue_push(&listener->queue, fd, peer);
    if (local_queue_is_full(&listener->queue))
        local_listener_accept(listener, false);
}

/* A stopped listener accepts as well: the kernel may not know the user of a connection any more
 * that its program closes before it is accepted. */
static void acceptor_on_accept(void *userdata, int fd, const struct gt_addr *addr)
{
    struct socket *socket = userdata;
    struct local_listener *listener = socket->listener;
    struct local_peer peer = {.addr = *addr};
    enum local_refusal why;

    if (listener->is_held)
        gt_fin_release(fd);
    if (listener->is_shared || is_admitted(socket, fd, &peer, &why)) {
        local_listener_admit(listener, fd, &peer);
        return;
    }
    gt_sock_reset(fd);
    listener->events->on_refused(listener->userdata, &peer, why);
}

static void local_listener_on_queue_due(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct local_listener *listener = timer->data;
    struct local_peer peer;
    int fd;

    while (listener->is_started && (fd = local_queue_pop(&listener->queue, &peer)) >= 0)
        listener->events->on_accept(listener->userdata, fd, &peer);
    if (!local_queue_is_full(&listener->queue))
        local_listener_accept(listener, true);
}

static void local_listener_take(struct local_listener *listener, int fd)
{
    struct socket *socket = &listener->sockets[listener->n_sockets++];

    socket->listener = listener;
    socket->addr.any.sa_family = AF_UNIX;
    gt_acceptor_init(&socket->acceptor, listener->loop, fd, NULL, acceptor_on_accept, socket);
}

static int local_listener_take_port(struct local_listener *listener, int fd)
{
    gt_endpoint_prepare(fd, listener->vanished_s);
    local_listener_take(listener, fd);
    return gt_sock_local(fd, &listener->sockets[listener->n_sockets - 1].addr);
}

/* Returns 0 or a negative errno, as the functions below do. */
static int local_listener_add(struct local_listener *listener, const struct gt_addr *addr)
{
    int fd = listener->is_udp ? gt_sock_bind_udp(addr) : gt_sock_listen(addr, GT_SOCK_BACKLOG);

    if (fd < 0)
        return fd;
    if (!listener->is_udp)
        return local_listener_take_port(listener, fd);
    listener->udp[listener->n_udp++] = fd;
    return 0;
}

static void local_listener_close(struct local_listener *listener)
{
    for (size_t i = 0; i < listener->n_sockets; i++)
        gt_acceptor_deinit(&listener->sockets[i].acceptor);
    listener->n_sockets = 0;
    while (listener->n_udp > 0)
        gt_close(&listener->udp[--listener->n_udp]);
}

static int first_fd(const struct local_listener *listener)
{
    return listener->is_udp ? listener->udp[0] : listener->sockets[0].acceptor.fd;
}

static int bind_one(struct local_listener *listener, const char *host, uint16_t port)
{
    struct gt_addr addr;

    if (gt_addr_parse(host, port, &addr) != 0)
        return -EADDRNOTAVAIL;
    int r = local_listener_add(listener, &addr);
    return r != 0 ? r : gt_sock_local(first_fd(listener), &listener->addr);
}

/* "::" accepts IPv4 as well, if there is any IPv6. */
static int bind_all(struct local_listener *listener, uint16_t port)
{
    int r = bind_one(listener, "::", port);

    return r == -EAFNOSUPPORT ? bind_one(listener, "0.0.0.0", port) : r;
}

/* Both loopback addresses on one port; only the first if there is no IPv6. */
static int bind_loopback(struct local_listener *listener, uint16_t port)
{
    struct gt_addr second;
    int r = bind_one(listener, "127.0.0.1", port);

    if (r != 0 || gt_addr_parse("::1", gt_addr_port(&listener->addr), &second) != 0)
        return r;
    r = local_listener_add(listener, &second);
    return r == -EADDRINUSE ? r : 0;
}

static int local_listener_bind(struct local_listener *listener, const char *host, uint16_t port)
{
    if (host && strcmp(host, "*") == 0)
        return bind_all(listener, port);
    if (host)
        return bind_one(listener, host, port);
    int r = bind_loopback(listener, port);
    for (int n = 0; n < N_FREE_TRIES && port == 0 && r == -EADDRINUSE; n++) {
        local_listener_close(listener);
        r = bind_loopback(listener, port);
    }
    return r;
}

/* A program that sends a few bytes and closes at once is faster than this one accepts. */
static void local_listener_hold(struct local_listener *listener)
{
    if (listener->is_shared || !gt_peer_uid_is_kept())
        return;
    listener->is_held = true;
    for (size_t i = 0; i < listener->n_sockets; i++)
        gt_fin_hold(listener->sockets[i].acceptor.fd);
}

static struct local_listener *listener_new(const struct local_listener_settings *settings,
                                           const struct local_listener_events *events,
                                           void *userdata)
{
    struct local_listener *listener = calloc(1, sizeof(*listener));

    if (!listener)
        return NULL;
    listener->loop = settings->loop;
    listener->events = events;
    listener->userdata = userdata;
    listener->is_shared = settings->is_shared;
    listener->is_udp = settings->is_udp;
    listener->user = geteuid();
    listener->vanished_s = settings->vanished_s;
    gt_peer_uids_init(&listener->uids);
    ev_timer_init(&listener->queue_due, local_listener_on_queue_due, 0., 0.);
    listener->queue_due.data = listener;
    return listener;
}

int local_listener_new(const struct local_listener_settings *settings,
                       const struct local_listener_events *events, void *userdata,
                       struct local_listener **ret)
{
    struct local_listener *listener = listener_new(settings, events, userdata);

    if (!listener)
        return -ENOMEM;
    int r = local_listener_bind(listener, settings->bind, settings->port);
    if (r != 0) {
        local_listener_free(listener);
        return condition_of(r);
    }
    listener->is_shared |= !gt_addr_is_loopback(&listener->addr);
    local_listener_hold(listener);
    local_listener_accept(listener, true);
    *ret = listener;
    return 0;
}

int local_listener_new_at_path(const struct local_listener_settings *settings, const char *path,
                               const struct local_listener_events *events, void *userdata,
                               struct local_listener **ret, char ret_why[static LOCAL_SOCKET_WHY])
{
    struct local_listener *listener = listener_new(settings, events, userdata);
    int fd;

    if (!listener)
        return -ENOMEM;
    int r =
        local_socket_listen(path, SOCK_STREAM, settings->is_shared, &listener->file, &fd, ret_why);
    if (r != 0) {
        local_listener_free(listener);
        return r == LOCAL_SOCKET_E_BUSY ? LOCAL_LISTENER_E_BUSY : LOCAL_LISTENER_E_ADDRESS;
    }
    local_listener_take(listener, fd);
    listener->addr.any.sa_family = AF_UNIX;
    local_listener_accept(listener, true);
    *ret = listener;
    return 0;
}

struct local_listener *local_listener_free(struct local_listener *listener)
{
    if (!listener)
        return NULL;
    local_socket_remove(&listener->file);
    local_listener_close(listener);
    gt_peer_uids_deinit(&listener->uids);
    ev_timer_stop(listener->loop, &listener->queue_due);
    local_queue_deinit(&listener->queue);
    free(listener);
    return NULL;
}

void local_listener_start(struct local_listener *listener)
{
    listener->is_started = true;
    if (!local_queue_is_empty(&listener->queue))
        ev_timer_start(listener->loop, &listener->queue_due);
}

void local_listener_stop(struct local_listener *listener)
{
    listener->is_started = false;
}

size_t local_listener_udp(const struct local_listener *listener, const int **ret)
{
    *ret = listener->udp;
    return listener->n_udp;
}

bool local_listener_is_shared(const struct local_listener *listener)
{
    return listener->is_shared;
}

uint16_t local_listener_port(const struct local_listener *listener)
{
    return gt_addr_port(&listener->addr);
}

const char *local_listener_path(const struct local_listener *listener)
{
    return listener->file.path[0] ? listener->file.path : NULL;
}

const struct gt_addr *local_listener_addr(const struct local_listener *listener)
{
    return &listener->addr;
}
