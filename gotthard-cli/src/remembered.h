/* SPDX-License-Identifier: ISC */
/*
 * A line of the file of remembered devices (device-memory.h): "NAME UNIXTIME SERVICE...
 * KEY=VALUE...", the services and the tags of the device. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct remembered {
    char *name, *words; /* services and tags, separated by one blank, perhaps ""; inside the line */
    uint64_t seen;      /* unix time */
};

enum remembered_kind { REMEMBERED_SERVICES, REMEMBERED_TAGS };

/* Splits the line @text, without its end, in place. Leaves out invalid services and tags. Returns
 * false for a malformed line. */
bool remembered_parse(char *text, struct remembered *ret);
/* Returns the line of @device in the file's @text, or NULL. */
const char *remembered_find(const char *text, const char *device);
/* Returns the words of @line, a result of remembered_find(). They end with the line. */
const char *remembered_words(const char *line);
/* Goes to the next word of @kind in *@at, up to the end of the line. Returns its length, 0 if there
 * is none; the caller adds the length to *@at. */
size_t remembered_next(const char **at, enum remembered_kind kind);
/* Returns true if both have the same words of @kind in the same order. */
bool remembered_equal(const char *a, const char *b, enum remembered_kind kind);
/* Writes the words of @kind, with a blank before each. */
void remembered_write(FILE *file, const char *words, enum remembered_kind kind);
