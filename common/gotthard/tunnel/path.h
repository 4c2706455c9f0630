/* SPDX-License-Identifier: ISC */
/*
 * What this side of a session knows of its way to the relay's data ports, for all data connections
 * to come: which port is reachable, and which size of TCP segments arrives. Pure: it decides, and
 * data-dial.h and stall.h observe.
 *
 * A network may let only the relay's main port out. A data connection therefore starts at the
 * session's port and, if that gives no answer for gt_path_patience(), at the main port as well.
 * That choice remains for the session.
 *
 * A link with a small MTU whose ICMP messages are filtered drops large packets without notice.
 * Small segments pass. Both ends need them, since each limits what the relay sends to it.
 */
#pragma once

#include "gotthard/base/proxy.h"
#include "gotthard/net/host-port.h"

/* Bytes of a TCP segment. The first passes a link with the smallest MTU of IPv6 (1,280, RFC 8200),
 * also inside a tunnel; the second one with the smallest of IPv4 (576, RFC 879). */
#define GT_PATH_SEGMENT_SMALL 1160
#define GT_PATH_SEGMENT_LEAST 536

#define GT_PATH_TEXT 200 /* bytes of a text, with its NUL */

enum gt_path_notice {
    GT_PATH_MAIN_PORT,      /* data connections use the main port from now on */
    GT_PATH_SMALL_SEGMENTS, /* new data connections use small segments from now on */
    GT_PATH_NO_DATA,        /* no data connection has come about so far: this side's way failed */
    GT_PATH_NO_PEER_DATA,   /* the same: the other side's JOIN did not come */
};

/* How far a data connection came that failed. */
enum gt_path_stage {
    GT_PATH_AT_NO_PORT, /* the relay did not receive the JOIN, as far as this side knows */
    GT_PATH_RECEIVED,   /* the other side did not join */
    GT_PATH_JOINED,     /* the handshake with the other side failed */
};

struct gt_path {                      /* zero-initialize; the callbacks may be NULL */
    const struct gt_proxy *proxy;     /* borrowed; NULL: the relay is connected directly */
    const struct gt_host_port *relay; /* borrowed; with a proxy: the name that it connects to */
    uint16_t main_port;     /* of the relay; 0: unknown, and the session's port is used alone */
    double rtt_s;           /* round trip to the relay, or to the proxy; 0: unknown */
    bool is_relay_lost;     /* the control connection is lost: the relay may be another process */
    bool is_main_only;      /* the session's port is not used */
    unsigned n_unanswered;  /* handshakes in a row at the session's port without an answer */
    bool is_proven;         /* a data connection has come about */
    uint16_t segment;       /* bytes; 0: the kernel decides */
    uint16_t failed_port;   /* of the last failure ... */
    char why[GT_PATH_TEXT]; /* ... and its reason; "": none yet */
    /* The first data connection has come about: its handshake was an authenticated round trip. */
    void (*on_proven)(void *userdata);
    /* For people: one line for each thing that was learned. */
    void (*on_notice)(void *userdata, enum gt_path_notice notice, const char *text);
    void *userdata;
};

/* The time in seconds within which the session's port must answer. */
double gt_path_patience(const struct gt_path *path);
/* Returns true if the next data connection uses the main port alone. */
bool gt_path_skips_session_port(const struct gt_path *path);
/* A data connection came about over @port. @session_port: the port that was tried before, for the
 * reason @why; @why is NULL if none was. */
void gt_path_on_success(struct gt_path *path, uint16_t port, uint16_t session_port,
                        const char *why);
/* A data connection over @port did not come about. After two failed handshakes at the session's
 * port, the next one uses the main port. */
void gt_path_on_failure(struct gt_path *path, uint16_t port, enum gt_path_stage stage,
                        const char *why);
/* Large packets were lost on a connection with segments of @segment bytes. Returns true if smaller
 * ones are used from now on; false if a newer connection already uses them, or none are left. */
bool gt_path_on_black_hole(struct gt_path *path, uint16_t segment);
/* The other side requests segments of at most @segment bytes (unchecked; 0: no limit). */
void gt_path_limit_segment(struct gt_path *path, uint16_t segment);
