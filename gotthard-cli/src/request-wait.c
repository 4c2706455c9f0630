/* SPDX-License-Identifier: ISC */
/*
 * Waiting for a device that cannot answer now (`connect --wait`). Its state message ends the wait.
 * The device is also asked again from time to time, because a retained state may be stale and a
 * busy device sends none when it has room.
 */
#include "gotthard/base/clock.h"
#include "request-internal.h"

#define ASK_AGAIN_S  30. /* a device that does not seem to be online */
#define SOON_AGAIN_S 5.  /* a device that has no room, or after a loss of the broker */

/* A broker that was connected returns; the connection does not end by itself. */
static bool is_temporary(const struct request *request)
{
    enum failure_id id = request->failure.id;

    if (id == FAILURE_BROKER_UNREACHABLE)
        return request->was_up;
    return id == FAILURE_UNKNOWN_DEVICE || id == FAILURE_OFFLINE || id == FAILURE_NO_ANSWER ||
           id == FAILURE_QUOTA;
}

bool request_wait(struct request *request)
{
    if (request->wait_until <= gt_clock() || !request->settings.service || !is_temporary(request))
        return false;
    if (request->events.on_wait)
        request->events.on_wait(request->userdata, &request->failure);
    return true;
}

double request_wait_s(const struct request *request)
{
    enum failure_id id = request->failure.id;
    bool is_soon = id == FAILURE_QUOTA || id == FAILURE_BROKER_UNREACHABLE;
    double again_s = is_soon ? SOON_AGAIN_S : ASK_AGAIN_S;
    double left_s = request->wait_until - gt_clock();

    return GT_MAX(GT_MIN(again_s, left_s), 1e-3);
}

void request_wait_over(struct request *request)
{
    request->is_noted = false;
    request->initiator.n_naks = 0;
    gt_initiator_deinit(&request->earlier);
    request->earlier = (struct gt_initiator){0};
}
