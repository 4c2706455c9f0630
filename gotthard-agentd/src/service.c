/* SPDX-License-Identifier: ISC */
/*
 * Dialling a target: RESOLVING -> CONNECTING (one address after the other) -> done. One timer runs
 * over all of it; a name with several addresses gives each its share of the time, so that a dead
 * first one does not use up the second one's.
 */
#include "service.h"

#include "gotthard/log.h"

enum service_state {
    SERVICE_RESOLVING,
    SERVICE_CONNECTING,
};

struct service {
    struct ev_loop *loop;
    struct service_settings settings;
    service_fn done;
    void *userdata;
    enum service_state state;
    struct gt_resolve *resolve;
    struct gt_addr addrs[GT_RESOLVE_MAX];
    size_t n_addrs, at;
    int fd;
    ev_io writable;
    ev_timer deadline; /* of the whole dial */
    ev_timer patience; /* of one address, while others wait */
};

enum gt_rst service_code_of(int err)
{
    switch (err < 0 ? -err : err) {
    case 0: return GT_RST_NONE;
    case ECONNREFUSED:
    case ECONNRESET: return GT_RST_REFUSED;
    case ETIMEDOUT: return GT_RST_TIMEOUT;
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EACCES:
    case EPERM: return GT_RST_UNREACHABLE;
    default: return GT_RST_INTERNAL;
    }
}

uint32_t service_stream(const struct service *service)
{
    return service->settings.stream;
}

static void service_drop_socket(struct service *service)
{
    ev_io_stop(service->loop, &service->writable);
    ev_timer_stop(service->loop, &service->patience);
    gt_close(&service->fd);
}

struct service *service_free(struct service *service)
{
    if (!service)
        return NULL;
    service_drop_socket(service);
    ev_timer_stop(service->loop, &service->deadline);
    gt_resolve_cancel(service->resolve);
    free(service);
    return NULL;
}

/* Careful: frees @service. */
static void service_finish(struct service *service, int fd, enum gt_rst code)
{
    service->done(service->userdata, service, fd, code);
    service_free(service);
}

static void service_log_success(const struct service *service, int fd)
{
    char from[GT_ADDR_TEXT] = "?", to[GT_ADDR_TEXT];
    struct gt_addr local;

    if (gt_sock_local(fd, &local) == 0)
        gt_addr_text(&local, from);
    gt_info("%s service=%s stream=%u dialled: target=%s source=%s", service->settings.log_prefix,
            service->settings.target->name, service->settings.stream,
            gt_addr_text(&service->addrs[service->at], to), from);
}

/* A TCP connection to a free local port can, once in 28,000 times, find itself. */
static bool sock_is_its_own_peer(int fd)
{
    struct gt_addr local, peer;

    return gt_sock_local(fd, &local) == 0 && gt_sock_peer(fd, &peer) == 0 && local.n == peer.n &&
           memcmp(&local.any, &peer.any, local.n) == 0;
}

/* Begins with the address at ->at, or the next one that can be begun. Careful: may free. */
static void service_try(struct service *service)
{
    int err = -EHOSTUNREACH;

    for (; service->at < service->n_addrs; service->at++) {
        err = gt_sock_connect(&service->addrs[service->at]);
        if (err < 0)
            continue;
        service->fd = err;
        ev_io_set(&service->writable, service->fd, EV_WRITE);
        ev_io_start(service->loop, &service->writable);
        if (service->at + 1 < service->n_addrs) {
            double share = service->settings.timeout_ms / 1000.0 / (double)service->n_addrs;
            ev_timer_set(&service->patience, share, 0.);
            ev_timer_start(service->loop, &service->patience);
        }
        return;
    }
    service_finish(service, -1, service_code_of(err));
}

/* This address will not do. Careful: may free. */
static void service_try_next(struct service *service, int err)
{
    service_drop_socket(service);
    if (service->at + 1 < service->n_addrs) {
        service->at++;
        service_try(service);
    } else {
        service_finish(service, -1, service_code_of(err));
    }
}

static void service_on_writable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct service *service = watcher->data;
    int err = gt_sock_error(service->fd);

    if (!err && sock_is_its_own_peer(service->fd))
        err = -ECONNREFUSED;
    if (err) {
        service_try_next(service, err);
        return;
    }
    ev_io_stop(loop, watcher);
    service_log_success(service, service->fd);
    service_finish(service, gt_steal_fd(&service->fd), GT_RST_NONE);
}

static void service_on_patience_over(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    service_try_next(watcher->data, -ETIMEDOUT);
}

static void service_on_deadline(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct service *service = watcher->data;

    service_finish(service, -1,
                   service->state == SERVICE_RESOLVING ? GT_RST_UNREACHABLE : GT_RST_TIMEOUT);
}

static void service_on_resolved(void *userdata, int err, const struct gt_addr *addrs,
                                size_t n_addrs)
{
    struct service *service = userdata;

    service->resolve = NULL;
    if (err || !n_addrs) {
        service_finish(service, -1, GT_RST_UNREACHABLE);
        return;
    }
    service->state = SERVICE_CONNECTING;
    service->n_addrs = GT_MIN(n_addrs, GT_ARRAY_SIZE(service->addrs));
    memcpy(service->addrs, addrs, service->n_addrs * sizeof(*addrs));
    service_try(service);
}

int service_new(struct ev_loop *loop, const struct service_settings *settings, service_fn done,
                void *userdata, struct service **ret)
{
    struct service *service = calloc(1, sizeof(*service));
    if (!service)
        return -ENOMEM;
    service->loop = loop;
    service->settings = *settings;
    service->done = done;
    service->userdata = userdata;
    service->fd = -1;
    ev_io_init(&service->writable, service_on_writable, -1, EV_WRITE);
    ev_timer_init(&service->deadline, service_on_deadline, settings->timeout_ms / 1000.0, 0.);
    ev_timer_init(&service->patience, service_on_patience_over, 0., 0.);
    service->writable.data = service->deadline.data = service->patience.data = service;
    int r = gt_resolve_new(loop, settings->target->host, settings->target->port,
                           service_on_resolved, service, &service->resolve);
    if (r) {
        service_free(service);
        return r;
    }
    ev_timer_start(loop, &service->deadline);
    *ret = service;
    return 0;
}
