/* SPDX-License-Identifier: ISC */
/* Connects the access list with the setup, the sessions and the broker; see device.h. */
#include "device-private.h"
#include "gotthard/base/clock.h"

/* It is later than when the list was issued, whatever the wall clock shows. */
static void device_use_list(struct device *device)
{
    const struct gt_access_list *list = access_list(&device->access);

    device->setup->trust.list = list;
    if (list)
        expiry_clock_raise(&device->sessions.clock, gt_access_list_issued(list), gt_clock_ms());
}

void device_use_access(struct device *device)
{
    struct setup *setup = device->setup;
    struct access *access = &device->access;
    bool is_needed = setup->trust.policy == GT_POLICY_LIST;

    if (!is_needed || !access_has_authority(access, setup->authority))
        access_close(access);
    if (is_needed && !access_has_authority(access, setup->authority))
        access_open(access, device_name(device), device->sessions.folder, setup->authority);
    access->device = device_name(device);
    device_use_list(device);
}

bool device_receive_access(struct device *device, const char *topic, struct gt_span payload)
{
    if (!gt_topic_is_access(device->setup->settings->mqtt_prefix, topic))
        return false;
    if (device->setup->trust.policy != GT_POLICY_LIST)
        return true;
    bool is_new = access_receive(&device->access, payload, gt_clock_ms());
    presence_await_access(&device->presence, access_parts(&device->access));
    if (!is_new)
        return true;
    device_use_list(device);
    device_set_request_handlers(device);
    device_recheck(device);
    presence_changed(&device->presence);
    device->events->on_change(device->userdata);
    return true;
}

void device_tick_access(struct device *device)
{
    if (access_tick(&device->access))
        presence_request_access(&device->presence);
}
