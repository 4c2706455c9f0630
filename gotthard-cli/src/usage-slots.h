/* SPDX-License-Identifier: ISC */
/*
 * The meaning of a command's arguments, from its usage text in the table of commands:
 * "DEVICE [SERVICE|[HOST:]PORT]". For completions. Pure.
 */
#pragma once

#include <stddef.h>

enum usage_slot {
    USAGE_NONE, /* no argument may be here */
    USAGE_FREE, /* a text of the user */
    USAGE_REST, /* arguments of another program from here on, options included */
    USAGE_DEVICE,
    USAGE_SERVICE, /* of the device in another argument; also LOCAL:SERVICE, and a path */
    USAGE_TAG,     /* KEY=VALUE of devices */
    USAGE_COMMAND, /* of gotthard-cli */
};

/* @word: a literal word ("show") with its length, or NULL; then @slot is its meaning. */
typedef void (*usage_slot_fn)(void *userdata, enum usage_slot slot, const char *word, size_t n);

/*
 * Calls @on_slot for each alternative of the argument after @arguments. Alternatives of the whole
 * usage are separated by " | ", literal words by "|". A final word with "..." repeats; if a usage
 * with " | " ends with it, each alternative does.
 */
void usage_slots(const char *usage, const char *const *arguments, size_t n_arguments,
                 usage_slot_fn on_slot, void *userdata);
