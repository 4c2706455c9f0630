/* SPDX-License-Identifier: ISC */
/*
 * The way through a proxy, on the socket that the library has connected to it. The library has no
 * hook for that and its own SOCKS5 has no reasons for people, so the exchange takes place between
 * its connect and its first iteration: until then it writes nothing (mqtt-race.c), and TLS is held
 * (tls/certificate-context.h). For mqtt-thread.c only.
 */
#pragma once

#include "gotthard/net/proxy-handshake.h"

struct gt_mqtt_proxy {
    const struct gt_proxy *proxy; /* borrowed */
    struct gt_host_port broker;
    int fd;        /* connected to the proxy, non-blocking; borrowed */
    int wakeup_fd; /* an eventfd, borrowed */
    /* Called after each wake-up. Returns true if the attempt is to end. */
    bool (*is_over)(void *userdata);
    void *userdata;
};

/* Blocks until the proxy has connected to the broker. The owner has the time limit. Returns true;
 * or false, with a reason in @ret_why unless ->is_over() has ended it. *ret_is_denied: the proxy
 * does not permit it. */
bool gt_mqtt_proxy_pass(const struct gt_mqtt_proxy *pass,
                        char ret_why[static GT_PROXY_HANDSHAKE_WHY], bool *ret_is_denied);
