/* SPDX-License-Identifier: ISC */
/*
 * The last epoch of each device with which this operator has opened a session, in a file of its own
 * (state-file.h, "epochs"). With it a request need not wait for the device's state. It is a hint,
 * and never trusted: with a wrong epoch the device refuses the request (docs/protocol.md, section
 * 2), and the state has the right one. The file is bounded, and a failure never fails a command.
 */
#pragma once

#include "gotthard/signaling/message.h"
#include "state-file.h"

#define EPOCH_MEMORY_MAX 512 /* devices: those that were used last */

struct epoch_memory {
    char path[PATH_MAX]; /* "": no file */
};

/* Finds the file. Needs the keys of @identity; the others do not. */
void epoch_memory_init(struct epoch_memory *memory, const struct settings *settings,
                       const struct identity *identity);
/* Returns true with the epoch of @device. False if the file has none, is malformed there, or could
 * have been written by another user. */
bool epoch_memory_find(const struct epoch_memory *memory, const char *device,
                       uint8_t ret[static GT_EPOCH_SIZE]);
/* Writes the epoch of @device, NULL to remove it. Malformed lines of the file are dropped. */
void epoch_memory_set(const struct epoch_memory *memory, const char *device, const uint8_t *epoch);
