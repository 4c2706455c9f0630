/* SPDX-License-Identifier: ISC */
/*
 * The files in which the operator's commands remember something about devices:
 * $XDG_STATE_HOME/gotthard/KIND-ID (by default ~/.local/state). ID is a hash of the broker, the
 * prefix and the fleet, so that each has files of its own.
 */
#pragma once

#include <limits.h>

#include "identity.h"

#define STATE_FILE_ID 16 /* characters: hex digits */

/* Writes the path of the folder. Returns false without a home of this user. */
bool state_file_folder(char ret[static PATH_MAX]);
/* Writes the path of a file; @kind is a static word. Needs the keys of @identity. Returns false if
 * there is none. */
bool state_file_path(const char *kind, const struct settings *settings,
                     const struct identity *identity, char ret[static PATH_MAX]);
/* Replaces the file at once, with mode 0600. Creates its folders, for this user alone. @is_durable:
 * waits for the disk; otherwise the file may be empty after a power cut. Returns false with errno,
 * also if another user could replace the file. */
bool state_file_write(const char *path, const char *text, size_t n, bool is_durable);
