/* SPDX-License-Identifier: ISC */
/*
 * Remembers across restarts, in the state directory, that operators were pinned. With trust.policy
 * `auto` a pins file that is absent after a restart, perhaps on a folder that is not mounted, would
 * otherwise open the device to every holder of the key.
 */
#pragma once

#include "gotthard/base/base.h"

/* Returns true if operators were pinned when the agent ran last. Without a state directory
 * ($STATE_DIRECTORY) it returns false. */
bool pin_memory_is_set(void);
/* Remembers or forgets it. A failure is logged. Without a state directory nothing happens. */
void pin_memory_set(bool is_pinned);
