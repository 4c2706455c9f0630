/* SPDX-License-Identifier: ISC */
/*
 * The names of devices that this operator has seen, in a file for each broker and fleet:
 * $XDG_STATE_HOME/gotthard/devices-ID (by default ~/.local/state). A broker that sends states only
 * by name is asked for them, and a missing one is shown as unknown. The file is used only if no
 * other user can write it. It is a convenience: a failure never fails a command.
 */
#pragma once

#include "device-table.h"
#include "identity.h"

/* Adds the remembered names to @table, with ->seen. */
void device_memory_load(const struct settings *settings, const struct identity *identity,
                        struct print *print, struct device_table *table);
/* Removes one name. */
void device_memory_forget(const struct settings *settings, const struct identity *identity,
                          struct print *print, const char *name, uint64_t now);
/* Writes the names of all devices with an authentic state, and those that were seen within the last
 * 90 days. @now: unix time. */
void device_memory_save(const struct settings *settings, const struct identity *identity,
                        const struct device_table *table, uint64_t now);
