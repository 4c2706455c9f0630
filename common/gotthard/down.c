/* SPDX-License-Identifier: ISC */
/* The words are part of what scripts read (--json): they must never change. */
#include "gotthard/down.h"

const char *gt_down_text(enum gt_down cause)
{
    switch (cause) {
    case GT_DOWN_CLOSED: return "closed";
    case GT_DOWN_UNREACHABLE: return "unreachable";
    case GT_DOWN_REFUSED: return "refused";
    case GT_DOWN_RELAY: return "relay";
    case GT_DOWN_LOST: return "lost";
    case GT_DOWN_PEER: return "peer";
    case GT_DOWN_EXPIRED: return "expired";
    case GT_DOWN_INTERNAL: return "internal";
    }
    return "unknown";
}
