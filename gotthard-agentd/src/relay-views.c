/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "relay-views.h"

#include <stdio.h>

static const struct relay_view *relay_views_find(const struct relay_views *views, const char *name)
{
    for (size_t i = 0; i < views->n; i++)
        if (strcmp(views->all[i].name, name) == 0)
            return &views->all[i];
    return NULL;
}

/* Returns a place for news of @name. */
static struct relay_view *relay_views_place(struct relay_views *views, const char *name)
{
    struct relay_view *oldest = &views->all[0];

    for (size_t i = 0; i < views->n; i++) {
        if (strcmp(views->all[i].name, name) == 0)
            return &views->all[i];
        if (views->all[i].at < oldest->at)
            oldest = &views->all[i];
    }
    return views->n < GT_STATUS_RELAYS_MAX ? &views->all[views->n++] : oldest;
}

void relay_views_note(struct relay_views *views, const char *name, const char *why, double now)
{
    struct relay_view *view = relay_views_place(views, name);

    *view = (struct relay_view){.is_failed = why != NULL, .at = now};
    gt_text_escape(gt_span_text(name), view->name, sizeof(view->name));
    gt_text_escape(gt_span_text(why ? why : ""), view->why, sizeof(view->why));
}

static void fill_relay(const struct relay_views *views, const struct target *relay, double now,
                       struct gt_status_relay *ret)
{
    const struct relay_view *view = relay_views_find(views, relay->name);
    const struct gt_host_port *address = &relay->address;
    bool is_ipv6 = strchr(address->host, ':') != NULL;

    *ret = (struct gt_status_relay){.state = GT_STATUS_RELAY_UNKNOWN};
    gt_text_escape(gt_span_text(relay->name), ret->name, sizeof(ret->name));
    int n = snprintf(ret->address, sizeof(ret->address), is_ipv6 ? "[%s]:%u" : "%s:%u",
                     address->host, address->port);
    if (n >= (int)sizeof(ret->address))
        ret->address[0] = 0;
    if (!view)
        return;
    ret->state = view->is_failed ? GT_STATUS_RELAY_FAILED : GT_STATUS_RELAY_REACHED;
    ret->age_s = (uint32_t)GT_MAX(now - view->at, 0.);
    memcpy(ret->why, view->why, sizeof(ret->why));
}

void relay_views_fill(const struct relay_views *views, const struct targets *relays, double now,
                      struct gt_device_status *ret)
{
    ret->n_relays = GT_MIN(relays->n, (size_t)GT_STATUS_RELAYS_MAX);
    for (size_t i = 0; i < ret->n_relays; i++)
        fill_relay(views, &relays->all[i], now, &ret->relays[i]);
}
