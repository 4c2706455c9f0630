/* SPDX-License-Identifier: ISC */
/*
 * The names of devices that this operator has seen, with their services and tags, in a file for
 * each broker and fleet: $XDG_STATE_HOME/gotthard/devices-ID (by default ~/.local/state). A broker
 * that sends states only by name is asked for them, and a missing one is shown as unknown.
 * Completions offer names, services and tags. The file is used only if no other user can write it.
 * It is a convenience: a failure never fails a command.
 */
#pragma once

#include "device-table.h"
#include "identity.h"

typedef void (*device_memory_fn)(void *userdata, const char *device, const char *words);

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
/* Writes the services of one device whose state or answer was authentic; its tags stay. @services:
 * separated by blanks; "" if the state or answer names none. Does nothing if the file has them. */
void device_memory_note(const struct settings *settings, const struct identity *identity,
                        const char *device, const char *services, uint64_t now);
/* The same with the services of the device's answer to a request. */
void device_memory_note_answer(const struct settings *settings, const struct identity *identity,
                               const char *device, const struct gt_extensions *extensions,
                               uint64_t now);

/* Calls @on_device for each device of all files, of any broker and fleet; a device may come more
 * than once. @words: its services and tags as in remembered.h. Reads no settings and no
 * keys, and reports no failure. */
void device_memory_each(device_memory_fn on_device, void *userdata);
