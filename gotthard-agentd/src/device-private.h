/* SPDX-License-Identifier: ISC */
/* What device.c shares with device-requests.c. */
#pragma once

#include "device.h"

/* Creates the handler for the names and keys of @setup. A negative errno. */
int device_new_request_handler(struct device *device, const struct setup *setup,
                               struct request_handler **ret) GT_MUST_CHECK;
/* Applies the present setup to the handlers in use. */
void device_set_request_handlers(struct device *device);
/* Publishes a report on the way of a session; reports_publish_fn. */
void device_publish_report(void *userdata, const char *topic, struct gt_span payload);
