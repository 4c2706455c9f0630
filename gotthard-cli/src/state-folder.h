/* SPDX-License-Identifier: ISC */
/*
 * The folder for the memory of this user's commands, such as names of devices and access lists:
 * $XDG_STATE_HOME/gotthard, by default ~/.local/state/gotthard.
 */
#pragma once

#include "gotthard/base/base.h"

/* Writes the path of the folder. Returns false without a home of this user: root may run with that
 * of another one. A home is never created: build systems set one that must not exist. */
bool state_folder_find(char *ret, size_t cap);
/* Creates the folders of @path, up to its last slash, for this user alone. Existing ones stay as
 * they are. */
void state_folder_make(const char *path);
