/* SPDX-License-Identifier: ISC */
/* The texts are part of the output for scripts (--json): they must never change. */
#include "gotthard/relay/end-reason.h"

const char *gt_end_reason_text(enum gt_end_reason reason)
{
    switch (reason) {
    case GT_END_CLOSED: return "closed";
    case GT_END_UNREACHABLE: return "unreachable";
    case GT_END_PROXY: return "proxy";
    case GT_END_REFUSED: return "refused";
    case GT_END_RELAY: return "relay";
    case GT_END_LOST: return "lost";
    case GT_END_PEER: return "peer";
    case GT_END_EXPIRED: return "expired";
    case GT_END_IDLE: return "idle";
    case GT_END_LIMIT: return "limit";
    case GT_END_WITHDRAWN: return "withdrawn";
    case GT_END_INTERNAL: return "internal";
    }
    return "unknown";
}
