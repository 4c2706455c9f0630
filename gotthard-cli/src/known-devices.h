/* SPDX-License-Identifier: ISC */
/*
 * The names of devices that are known without the broker: those that the operator has declared
 * (client.devices, device pins, an argument), and those that were seen before (device-memory.h).
 */
#pragma once

#include "device-table.h"
#include "gotthard/config/config.h"
#include "identity.h"
#include "selection.h"

/* Adds the names to @table. Loads the pins of @identity; a failure of that is a warning. */
void known_devices_load(const struct gt_config *config, struct identity *identity,
                        struct print *print, struct device_table *table);
/* Adds a name that the operator has declared. */
void known_devices_declare(struct device_table *table, const char *name);
/* The same for each name among the patterns of @selection. */
void known_devices_declare_all(struct device_table *table, const struct selection *selection);
/* Returns NULL if @names (NULL: none) are names of devices, separated by blanks; otherwise the
 * first invalid one, in @ret_name (GT_NAME_MAX + 1), shortened. */
const char *known_devices_check(const char *names, char *ret_name);
