/* SPDX-License-Identifier: ISC */
/*
 * A line of the file of remembered devices (device-memory.h): "NAME UNIXTIME SERVICE...". Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct remembered {
    char *name, *services; /* the services separated by one blank, perhaps ""; inside the line */
    uint64_t seen;         /* unix time */
};

/* Splits the line @text, without its end, in place. Leaves out services whose name is invalid.
 * Returns false for a malformed line. */
bool remembered_parse(char *text, struct remembered *ret);
/* Returns the line of @device in the file's @text, or NULL. */
const char *remembered_find(const char *text, const char *device);
/* Returns true if @line, a result of remembered_find(), has exactly these services. */
bool remembered_has_services(const char *line, const char *services);
