/* SPDX-License-Identifier: ISC */
/*
 * A thin layer over gt_dial: the errno becomes a stream code.
 */
#include "service.h"

#include "gotthard/net/dial.h"

struct service {
    const struct permit *permit;
    struct permit_target target;
    bool is_denied;       /* it was asked about addresses, and has permitted none */
    unsigned n_permitted; /* addresses */
    service_fn on_done;
    void *userdata;
    struct gt_dial *dial; /* owned */
};

enum gt_rst service_rst_code(int err)
{
    switch (err < 0 ? -err : err) {
    case 0: return GT_RST_NONE;
    case ECONNREFUSED:
    case ECONNRESET: return GT_RST_REFUSED;
    case ETIMEDOUT: return GT_RST_TIMEOUT;
    case ENXIO: return GT_RST_NO_NAME;
    case EAGAIN: return GT_RST_NO_RESOLVER;
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

struct service *service_free(struct service *service)
{
    if (!service)
        return NULL;
    gt_dial_free(service->dial);
    free(service);
    return NULL;
}

static void service_on_dial_done(void *userdata, int fd, const struct gt_addr *addr,
                                 const char *why)
{
    struct service *service = userdata;

    enum gt_rst code = service_rst_code(GT_MIN(fd, 0));

    /* The owner may free @service inside: it must not be used after this call. */
    service->on_done(service->userdata, service,
                     &(struct service_result){
                         .fd = GT_MAX(fd, -1),
                         .code = fd < 0 && service->is_denied ? GT_RST_DENIED : code,
                         .addr = addr,
                         .why = why,
                     });
}

static bool service_permits(void *userdata, const struct gt_addr *addr)
{
    struct service *service = userdata;
    bool is_permitted =
        permit_allows_address(service->permit, addr, service->target.is_udp,
                              permit_allows_name(service->permit, &service->target));

    service->is_denied = !is_permitted && service->n_permitted == 0;
    service->n_permitted += is_permitted;
    return is_permitted;
}

int service_new(struct ev_loop *loop, const struct service_settings *settings, service_fn on_done,
                void *userdata, struct service **ret)
{
    struct service *service = calloc(1, sizeof(*service));

    if (!service)
        return -ENOMEM;
    service->permit = settings->permit;
    service->target = *settings->target;
    service->on_done = on_done;
    service->userdata = userdata;
    int r = gt_dial_new(loop, &settings->target->to, settings->timeout_ms, service_on_dial_done,
                        service, &service->dial);
    if (r != 0) {
        service_free(service);
        return r;
    }
    if (service->target.is_udp)
        gt_dial_set_udp(service->dial);
    if (settings->permit)
        gt_dial_set_filter(service->dial, service_permits);
    *ret = service;
    gt_dial_try_now(service->dial);
    return 0;
}
