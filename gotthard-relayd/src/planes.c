/* SPDX-License-Identifier: ISC */
/*
 * Stopping is asked of all before any is waited for, so that it takes as long as the slowest turn
 * of one of them. Letters may answer letters: they are read until there is silence.
 */
#include "planes.h"

#include <string.h>

#include "gotthard/log.h"

int planes_new(struct planes *planes, const struct settings *settings, const struct budget *budget,
               struct mailbox *outbox, struct quota *quota)
{
    struct plane_settings each = {
        .outbox = outbox,
        .quota = quota,
        .pipe_kind = strcmp(settings->splice, "off") ? PIPE_SPLICED : PIPE_COPIED,
        .pipe_size = settings->pipe_size,
        .n_pipes_max = budget->n_pipes,
        .limits = limits_of_plane(settings),
    };

    for (*planes = (struct planes){.outbox = outbox}; planes->n < budget->n_planes; planes->n++) {
        each.index = (unsigned)planes->n;
        int r = plane_new(&each, &planes->all[planes->n]);
        if (r)
            return r;
    }
    return 0;
}

int planes_start(struct planes *planes)
{
    for (size_t i = 0; i < planes->n; i++) {
        int r = plane_start(planes->all[i]);
        if (r)
            return r;
    }
    return 0;
}

static bool planes_are_silent(struct planes *planes)
{
    for (size_t i = 0; i < planes->n; i++)
        if (!mailbox_is_empty(&planes->all[i]->inbox))
            return false;
    return mailbox_is_empty(planes->outbox);
}

void planes_stop(struct planes *planes)
{
    for (size_t i = 0; i < planes->n; i++)
        plane_ask_to_stop(planes->all[i]);
    for (size_t i = 0; i < planes->n; i++)
        plane_await_stop(planes->all[i]);
    do {
        for (size_t i = 0; i < planes->n; i++)
            plane_settle(planes->all[i]);
        mailbox_drain(planes->outbox);
    } while (!planes_are_silent(planes));
}

void planes_go_on(struct planes *planes)
{
    for (size_t i = 0; i < planes->n; i++)
        plane_go_on(planes->all[i]);
}

void planes_change(struct planes *planes, const struct plane_limits *limits)
{
    for (size_t i = 0; i < planes->n; i++)
        if (plane_change(planes->all[i], limits))
            gt_warn("plane=%zu keeps its old limits reason=\"no memory\"", i);
}

void planes_free(struct planes *planes)
{
    for (size_t i = 0; i < planes->n; i++)
        planes->all[i] = plane_free(planes->all[i]);
    planes->n = 0;
}
