/* SPDX-License-Identifier: ISC */
/*
 * A thin layer over gt_dial: the errno becomes a stream code.
 */
#include "service.h"

#include "gotthard/net/dial.h"

struct service {
    struct service_settings settings;
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

    /* The owner may free @service inside: it must not be used after this call. */
    service->on_done(service->userdata, service,
                     &(struct service_result){
                         .fd = GT_MAX(fd, -1),
                         .code = service_rst_code(GT_MIN(fd, 0)),
                         .addr = addr,
                         .why = why,
                     });
}

int service_new(struct ev_loop *loop, const struct service_settings *settings, service_fn on_done,
                void *userdata, struct service **ret)
{
    struct service *service = calloc(1, sizeof(*service));

    if (!service)
        return -ENOMEM;
    service->settings = *settings;
    service->on_done = on_done;
    service->userdata = userdata;
    int r = gt_dial_new(loop, &settings->target->address, settings->timeout_ms,
                        service_on_dial_done, service, &service->dial);
    if (r != 0) {
        service_free(service);
        return r;
    }
    *ret = service;
    return 0;
}
