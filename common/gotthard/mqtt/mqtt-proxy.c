/* SPDX-License-Identifier: ISC */
/* The handshake of net/proxy-handshake.c with poll(2); see the header. */
#include "gotthard/mqtt/mqtt-proxy.h"

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "gotthard/crypto/crypto.h"
#include "gotthard/net/route.h"

/* Returns true if the address or the route of the connection is gone. */
static bool has_no_route(int fd)
{
    struct gt_addr to;

    return gt_sock_peer(fd, &to) == 0 && gt_route_check_socket(fd, &to) == GT_ROUTE_GONE;
}

/* Waits for the socket. Returns true if the attempt is to end; a reason may be in @ret_why. */
static bool pass_wait(const struct gt_mqtt_proxy *pass, short events, char *ret_why)
{
    struct pollfd fds[] = {{.fd = pass->fd, .events = events},
                           {.fd = pass->wakeup_fd, .events = POLLIN}};
    eventfd_t n;

    if (poll(fds, GT_ARRAY_SIZE(fds), -1) < 0) /* EINTR: all signals are blocked here */
        return errno != EINTR;
    if (!fds[1].revents)
        return false;
    (void)eventfd_read(pass->wakeup_fd, &n);
    if (has_no_route(pass->fd)) {
        snprintf(ret_why, GT_PROXY_HANDSHAKE_WHY, "the route to the proxy is gone");
        return true;
    }
    return pass->is_over(pass->userdata);
}

bool gt_mqtt_proxy_pass(const struct gt_mqtt_proxy *pass,
                        char ret_why[static GT_PROXY_HANDSHAKE_WHY], bool *ret_is_denied)
{
    struct gt_proxy_handshake handshake;
    bool is_over = false;
    int r;

    gt_proxy_handshake_init(&handshake, pass->proxy, &pass->broker);
    do {
        r = gt_proxy_handshake_run(&handshake, pass->fd);
        if (r == GT_PROXY_HANDSHAKE_E_READ || r == GT_PROXY_HANDSHAKE_E_WRITE)
            is_over = pass_wait(pass, r == GT_PROXY_HANDSHAKE_E_READ ? POLLIN : POLLOUT, ret_why);
    } while (!is_over && (r == GT_PROXY_HANDSHAKE_E_READ || r == GT_PROXY_HANDSHAKE_E_WRITE));
    if (r == GT_PROXY_HANDSHAKE_E_FAILED)
        memcpy(ret_why, handshake.why, sizeof(handshake.why));
    *ret_is_denied = r == GT_PROXY_HANDSHAKE_E_FAILED && handshake.is_denied;
    gt_wipe(&handshake, sizeof(handshake));
    return r == 0;
}
