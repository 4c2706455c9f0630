/* SPDX-License-Identifier: ISC */
/*
 * Remembers across restarts, in the state directory, that operators were pinned, or that an access
 * list was required. With trust.policy `auto` a pins file that is absent after a restart, perhaps
 * on a folder that is not mounted, would otherwise open the device to every holder of the key, and
 * so would a drop-in with trust.authority.
 */
#pragma once

#include "gotthard/base/base.h"

enum pin_memory { PIN_MEMORY_PINS, PIN_MEMORY_LIST };

/* Returns true if operators were pinned, or an access list was required, when the agent ran last.
 * Without a state directory ($STATE_DIRECTORY) it returns false. */
bool pin_memory_is_set(enum pin_memory memory);
/* Remembers or forgets it. A failure is logged. Without a state directory nothing happens. */
void pin_memory_set(enum pin_memory memory, bool is_set);
