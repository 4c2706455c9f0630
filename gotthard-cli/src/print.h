/* SPDX-License-Identifier: ISC */
/*
 * All that gotthard-cli says: to people on a terminal, as plain lines elsewhere, as NDJSON events
 * for programs. Standard error is for people, standard output for data. Saying something never
 * stops a tunnel: what a full pipe does not take at once is dropped.
 */
#pragma once

#include <jansson.h>

#include "failure.h"

enum print_style {
    PRINT_HUMAN, /* a terminal: marks, colours, few words */
    PRINT_LINES, /* a file, a pipe, the journal: one fact a line, with time and level */
};

struct print {
    enum print_style style;
    bool is_json, is_quiet;
    bool has_color, has_marks; /* HUMAN: escape sequences; UTF-8 signs */
    bool has_progress;         /* a transient line stands on the terminal */
    int stdout_errno;          /* of the first write there that failed */
    unsigned n_events_lost;
};

struct print_options {
    bool is_json, is_quiet, is_plain_color;
};

/* Looks at standard error, NO_COLOR, TERM and the locale. */
void print_init(struct print *print, const struct print_options *options);

/* HUMAN only: a line with a check mark; a line as it is; one that the next line overwrites. */
void print_done(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_plain(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_progress(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
/* LINES only: a milestone. */
void print_fact(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
/* Both. */
void print_note(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_warning(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
/* Both, and the event "error". Returns its exit code. */
int print_failure(struct print *print, const struct failure *failure);

/* With --json: {"time":..., "event": @event, ...}, the rest by jansson's json_pack() format, which
 * describes an object: "{s:s, s:i}". */
void print_event(struct print *print, const char *event, const char *fmt, ...);
/* Standard output, all of it, whatever it takes. */
void print_data(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_bytes(struct print *print, const char *text, size_t n); /* a secret: no copy is made */
/* For what writes to a descriptor without telling whether it could: write to the one that begin
 * gives, and end copies it to standard output. */
int print_page_begin(void) GT_MUST_CHECK;
void print_page_end(struct print *print, int fd);
void print_json(struct print *print, json_t *takes);
