/* SPDX-License-Identifier: ISC */
/* What device.c shares with device-requests.c and device-fault.c. */
#pragma once

#include "device.h"

/* Creates the handler for the names and keys of @setup. A negative errno. */
int device_new_request_handler(struct device *device, const struct setup *setup,
                               struct request_handler **ret) GT_MUST_CHECK;
/* Gives the present setup its access list, in device-access.c. Opens or closes it as the setup
 * needs. */
void device_use_access(struct device *device);
/* Handles a part. Returns true if @topic is of one. */
bool device_receive_access(struct device *device, const char *topic, struct gt_span payload);
/* Call it about every 30 s. */
void device_tick_access(struct device *device);
/* Withdraws sessions that are no longer granted, now and when the next pin expires. */
void device_recheck(struct device *device);
/* Applies the present setup to the handlers in use. */
void device_set_request_handlers(struct device *device);
/* Publishes a report on the way of a session; reports_publish_fn. */
void device_publish_report(void *userdata, const char *topic, struct gt_span payload);

/* Changes the reason why the present files are not in use (empty: they are), also for operators. */
void device_change_fault(struct device *device, const char *fault);
/* Logs it, at the start and then every ten minutes. */
void device_log_fault(struct device *device);
/* Uses the present files in place of the last good configuration if they are usable now. A negative
 * errno as device_reload(). */
int device_retry_files(struct device *device) GT_MUST_CHECK;
