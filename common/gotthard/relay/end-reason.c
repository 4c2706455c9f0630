/* SPDX-License-Identifier: ISC */
/* The texts are part of the output for scripts (--json): they must never change. */
#include "gotthard/relay/end-reason.h"

#include "gotthard/proto/control.h"

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

/* Each limit has a code, so that the user reads which one it was. */
enum gt_end_reason gt_end_reason_of_code(unsigned code)
{
    static const struct {
        unsigned code;
        enum gt_end_reason reason;
    } rows[] = {
        {GT_CODE_BYE, GT_END_CLOSED},          {GT_CODE_LIFETIME, GT_END_EXPIRED},
        {GT_CODE_IDLE, GT_END_IDLE},           {GT_CODE_PAIRING, GT_END_PEER},
        {GT_CODE_GRACE, GT_END_PEER},          {GT_CODE_LIMIT, GT_END_LIMIT},
        {GT_CODE_SESSIONS, GT_END_LIMIT},      {GT_CODE_IDENTITY, GT_END_LIMIT},
        {GT_CODE_WITHDRAWN, GT_END_WITHDRAWN},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (rows[i].code == code)
            return rows[i].reason;
    return GT_END_RELAY;
}
