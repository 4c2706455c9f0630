/* SPDX-License-Identifier: ISC */
/* Connects the access list with the setup, the sessions and the broker; see device.h. */
#include "device-private.h"
#include "gotthard/base/clock.h"

/* Events of the audit have the serial of the list that judged them. */
static void device_note_access(struct device *device)
{
    const struct gt_access_list *list = device->setup->trust.list;
    uint64_t serial = list ? gt_access_list_serial(list) : 0, before = device->audit.serial;

    device->audit.serial = serial;
    if (serial != before)
        device_note(device, GT_AUDIT_ACCESS_LIST, list ? "in force" : "not used any more");
}

void device_use_access(struct device *device)
{
    struct setup *setup = device->setup;
    struct access *access = &device->access;
    bool is_needed = setup->trust.policy == GT_POLICY_LIST;

    if (!is_needed || !access_has_authority(access, setup->authority))
        access_close(access);
    if (is_needed && !access_has_authority(access, setup->authority))
        access_open(access, device_name(device), device->sessions.folder, setup->authority,
                    gt_clock_ms());
    access->device = device_name(device);
    device->sessions.access = access;
    setup->trust.list = access_list(access);
    device_note_access(device);
}

bool device_receive_access(struct device *device, const char *topic, struct gt_span payload)
{
    if (!gt_topic_is_access(device->setup->settings->mqtt_prefix, topic))
        return false;
    if (device->setup->trust.policy != GT_POLICY_LIST ||
        !access_receive(&device->access, payload, gt_clock_ms()))
        return true;
    device->setup->trust.list = access_list(&device->access);
    device_note_access(device);
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
