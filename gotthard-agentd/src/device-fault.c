/* SPDX-License-Identifier: ISC */
/*
 * Configuration files that are not in use, because they contain an error: after a reload, or after
 * a start with the last good configuration. The next start may find the same files. So the
 * operators and the service manager see the reason, and mended files are used without a reload: the
 * operator who mends them may have no other way to the device than this agent.
 */
#include <stdio.h>

#include "device-private.h"
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"

#define FAULT_MS (10 * 60 * 1000) /* between lines of the log */

void device_set_fault(struct device *device, const char *fault)
{
    snprintf(device->fault, sizeof(device->fault), "%s", fault);
}

void device_change_fault(struct device *device, const char *fault)
{
    if (strcmp(device->fault, fault) == 0)
        return;
    device_set_fault(device, fault);
    device_set_request_handlers(device);
    presence_changed(&device->presence);
    device->events->on_change(device->userdata);
}

void device_log_fault(struct device *device)
{
    uint64_t now = gt_clock_ms();

    if (!*device->fault || now < device->fault_due_ms)
        return;
    gt_error("device=%s the present configuration is not in use, %s is: %s", device_name(device),
             device->setup->is_last_good ? "the last good one" : "the one before", device->fault);
    device->fault_due_ms = now + FAULT_MS;
}

bool device_is_retrying(const struct device *device)
{
    return device->setup->is_last_good;
}

/* Returns true if the present files could replace the last good configuration. */
static bool device_has_good_files(struct device *device)
{
    char error[GT_CONFIG_ERROR_MAX] = "cannot load the configuration";
    struct setup *setup = NULL;
    int r = setup_new(device->args, &setup, error);

    if (r == 0)
        r = setup_check_reload(device->setup, setup, error);
    setup_free(setup);
    if (r)
        device_change_fault(device, error);
    return r == 0;
}

int device_retry_files(struct device *device)
{
    char error[GT_CONFIG_ERROR_MAX];

    if (!device_is_retrying(device) || !device_has_good_files(device))
        return 0;
    int r = device_reload(device, error);
    return r < 0 ? r : 0;
}
