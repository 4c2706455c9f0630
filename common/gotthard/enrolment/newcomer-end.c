/* SPDX-License-Identifier: ISC */
/* The reasons why an enrolment ends, for people and for scripts; see newcomer.h. */
#include "gotthard/enrolment/newcomer-internal.h"

static const struct {
    const char *text;
    enum gt_exit_status status;
} ends[] = {
    [GT_NEWCOMER_INSTALLED] = {"enrolled", GT_EXIT_SUCCESS},
    [GT_NEWCOMER_NOT_ACCEPTED] = {"the relay does not accept the token: it has expired, or it is "
                                  "of another fleet",
                                  GT_EXIT_REFUSED},
    [GT_NEWCOMER_UNREACHABLE] = {"the relay cannot be reached", GT_EXIT_UNAVAILABLE},
    [GT_NEWCOMER_IN_USE] =
        {"another machine uses this token at this moment: ask the operator for a new one, "
         "and whether that machine is known",
         GT_EXIT_REFUSED},
    [GT_NEWCOMER_ENDED] = {"the operator's command has ended: the token was used before, or the "
                           "operator stopped it",
                           GT_EXIT_REFUSED},
    [GT_NEWCOMER_REJECTED] = {"the operator rejected the request", GT_EXIT_REFUSED},
    [GT_NEWCOMER_FORGED] =
        {"the answer does not come from the command that made this token, so the token is in "
         "wrong hands. Nothing was installed. Warn the operator, and ask for a new one",
         GT_EXIT_REFUSED},
    [GT_NEWCOMER_NOT_INSTALLED] = {"the answer could not be installed", GT_EXIT_CONFIGURATION},
    [GT_NEWCOMER_EXPIRED] = {"no operator answered before the token expired", GT_EXIT_UNAVAILABLE},
    [GT_NEWCOMER_INTERNAL] = {"internal error", GT_EXIT_INTERNAL},
};

const char *gt_newcomer_end_text(enum gt_newcomer_end end)
{
    return ends[end].text;
}

enum gt_exit_status gt_newcomer_exit_status(enum gt_newcomer_end end)
{
    return ends[end].status;
}

enum gt_newcomer_end newcomer_end_of(enum gt_end_reason cause, enum gt_code code)
{
    if (code == GT_CODE_IN_USE || code == GT_CODE_REPLACED || code == GT_CODE_IDENTITY)
        return GT_NEWCOMER_IN_USE;
    if (code == GT_CODE_REFUSED || code == GT_CODE_OLD_KEY)
        return GT_NEWCOMER_NOT_ACCEPTED;
    switch (cause) {
    case GT_END_REFUSED: return GT_NEWCOMER_NOT_ACCEPTED;
    case GT_END_CLOSED:
    case GT_END_IDLE:
    case GT_END_WITHDRAWN: return GT_NEWCOMER_ENDED;
    case GT_END_PEER:
    case GT_END_EXPIRED: return GT_NEWCOMER_EXPIRED;
    case GT_END_UNREACHABLE:
    case GT_END_PROXY:
    case GT_END_RELAY:
    case GT_END_LIMIT:
    case GT_END_LOST: return GT_NEWCOMER_UNREACHABLE;
    case GT_END_INTERNAL: return GT_NEWCOMER_INTERNAL;
    }
    return GT_NEWCOMER_INTERNAL;
}
