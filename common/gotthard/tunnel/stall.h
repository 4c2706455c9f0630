/* SPDX-License-Identifier: ISC */
/*
 * Judges whether a data connection still carries data, long before its heartbeat expires. Pure: all
 * times are seconds of gt_clock(), and all facts are passed by the caller.
 *
 * Data that is not acknowledged for some seconds, while the relay answers on the control
 * connection, shows a data connection that is blocked. On the shared connection an acknowledgement
 * of any stream counts: bytes arrive in order there, and on a slow link each stream waits for many
 * others. If that happens again at the same offset on
 * a new connection, whose small handshake packets arrived, then large packets are lost: a black
 * hole for packets above some size. A limit that has expired wrongly again doubles, as it does when
 * smaller packets are lost as well.
 */
#pragma once

#include "gotthard/base/base.h"

struct gt_stall {     /* zero-initialize */
    uint64_t acked;   /* the offset at the last look, */
    double since;     /* and since when it is that */
    double asked_at;  /* the other side and the relay were asked for an answer; 0: not yet */
    bool has_lost;    /* a connection was given up, */
    uint64_t lost_at; /* at this offset, */
    double lost_when; /* then */
    unsigned n_false; /* times that the limit was exceeded and the data arrived after all */
    unsigned n_again; /* losses in a row at ->lost_at, after the first */
};

struct gt_stall_facts {
    double now;
    uint64_t acked, sent; /* offsets of the stream */
    double acked_at;      /* the last acknowledgement of any stream in the connection */
    double connected_at;  /* when its handshake was complete */
    double rtt_s;         /* to the relay; 0: unknown */
    double relay_at;      /* time of the last byte on the control connection */
};

enum gt_stall_verdict {
    GT_STALL_NONE,
    GT_STALL_ASK,        /* request an answer from the other side and from the relay */
    GT_STALL_BLOCKED,    /* use another data connection */
    GT_STALL_BLACK_HOLE, /* the same, with smaller packets */
};

/* A new data connection starts. */
void gt_stall_restart(struct gt_stall *stall, double now, uint64_t acked);
/* Call it about once a second while ->acked < ->sent. After BLOCKED and BLACK_HOLE call
 * gt_stall_restart. */
enum gt_stall_verdict gt_stall_judge(struct gt_stall *stall, const struct gt_stall_facts *facts);
/* True while the relay has answered and the data makes no progress: other data connections of this
 * session may be blocked in the same way. For use after gt_stall_judge. */
bool gt_stall_is_suspect(const struct gt_stall *stall, const struct gt_stall_facts *facts);
