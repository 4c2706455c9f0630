/* SPDX-License-Identifier: ISC */
/*
 * A request with the epoch that the device had the last time leaves together with the
 * subscriptions, one round trip before the device's state can arrive. If the state names another
 * epoch, the request is sent again at once, as it would have been without this one. An answer to
 * either counts.
 */
#include <string.h>

#include "request-internal.h"

void request_send_early(struct request *request)
{
    if (!request_opens_session(request) ||
        !epoch_memory_find(&request->epochs, request->settings.device, request->epoch))
        return;
    request->is_early = request_send_first(request) == 0;
    request_stop_repeating(request); /* until the state is there */
    if (request->is_early)
        request_notify_sent(request, true);
}

bool request_keep_early(struct request *request)
{
    bool is_current = memcmp(request->sent_epoch, request->epoch, GT_EPOCH_SIZE) == 0;

    if (!request->is_early)
        return false;
    request->is_early = false;
    if (is_current)
        request_start_repeating(request);
    else
        request->earlier = request->initiator;
    return is_current;
}

void request_remember_epoch(const struct request *request)
{
    uint8_t before[GT_EPOCH_SIZE];

    if (!request->is_epoch_confirmed)
        return;
    if (!epoch_memory_find(&request->epochs, request->settings.device, before) ||
        memcmp(before, request->sent_epoch, sizeof(before)) != 0)
        epoch_memory_set(&request->epochs, request->settings.device, request->sent_epoch);
}
