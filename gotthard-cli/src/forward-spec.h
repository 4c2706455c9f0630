/* SPDX-License-Identifier: ISC */
/*
 * One forward of the command line: what the operator wants to reach, and on which local port:
 *
 *     [udp:][LOCAL:|PATH:](SERVICE|[HOST:]PORT|socks)
 *
 *     ssh        the service of that name     8080:1880         port 1880 of the device, on 8080
 *     1880       the device's port 1880       2222:ssh          a service, on 2222
 *     :22, 0:22  on any free local port       8080:10.0.0.5:80  a host behind the device
 *     ./oli:ssh  on the Unix socket ./oli
 *     udp:5353:dns, udp:161:10.0.0.5:161  datagrams; LOCAL is required
 *     socks, 1081:socks  a SOCKS5 proxy, whose clients name hosts behind the device
 *
 * IPv6 addresses are written in brackets. The device's own settings decide what SERVICE, PORT and
 * HOST:PORT stand for. Pure text: this module must not touch a socket.
 */
#pragma once

#include "gotthard/base/text.h"
#include "local-socket.h"

#define FORWARD_BIND_MAX 63 /* bytes of a numeric address with a zone */

struct forward_spec {
    bool is_local_given; /* LOCAL was written: that port or a failure */
    uint16_t local;      /* 0: a free one. Without LOCAL: the preferred port, see below */
    char path[LOCAL_SOCKET_PATH_MAX + 1]; /* of a Unix socket instead of a port; "": none */
    char bind[FORWARD_BIND_MAX + 1];      /* a numeric address, or "*"; "": --bind, or loopback */
    char service[GT_SERVICE_MAX + 1];     /* as requested from the device: "ssh", "10.0.0.5:80" */
    bool is_udp;                          /* ->service begins with "udp:" */
    bool is_socks;                        /* ->service is "socks", and clients name theirs */
};

enum { FORWARD_SPEC_E_BAD = 1 };

/*
 * Parses @text. Without LOCAL, SOCKS has the local port 1080 if it is free. For any other service
 * without LOCAL the preferred local port is PORT itself if it needs no privilege (1024 and above),
 * else @default_local. Returns 0, or E_BAD with a static phrase in *ret_why.
 */
int forward_spec_parse(const char *text, uint16_t default_local, struct forward_spec *ret,
                       const char **ret_why) GT_MUST_CHECK;
/* Parses [BIND:]PORT of -D, as ssh's: a SOCKS5 proxy at that port. BIND is a numeric address (IPv6
 * in brackets), * or localhost. Returns likewise. */
int forward_spec_parse_socks(const char *text, struct forward_spec *ret,
                             const char **ret_why) GT_MUST_CHECK;
