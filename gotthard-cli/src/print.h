/* SPDX-License-Identifier: ISC */
/*
 * The output of gotthard-cli: for people on a terminal, as log lines elsewhere, as JSON events (one
 * object a line) for programs. Standard error is for people, standard output for data. Output never
 * stops a tunnel: it is dropped if a pipe or a terminal does not take it at once.
 */
#pragma once

#include <jansson.h>

#include "failure.h"
#include "gotthard/base/bytes.h"

enum print_style {
    PRINT_HUMAN, /* a terminal: marks, colors, short messages */
    PRINT_LINES, /* a file, a pipe, the journal: log lines with time and level */
};

typedef void (*print_warning_fn)(void *userdata, const char *text);

struct print {
    enum print_style style;
    print_warning_fn on_warning; /* takes the warnings instead; NULL: they are printed */
    void *userdata;              /* of on_warning */
    bool is_json, is_quiet;
    bool is_terse; /* warnings and errors only, because another program owns the terminal */
    bool has_color, has_marks; /* HUMAN: escape sequences; UTF-8 symbols */
    bool has_progress;         /* the terminal shows a transient line */
    bool has_clock;            /* HUMAN: notes, warnings and errors begin with the time of day */
    int stdout_errno;          /* of the first failed write to standard output; EINTR: a signal
                                * has ended it */
    unsigned n_events_lost;
};

struct print_options {
    bool is_json, is_quiet, is_plain_color;
};

/* Chooses the style by standard error, NO_COLOR, TERM and the locale. */
void print_init(struct print *print, const struct print_options *options);

/* HUMAN only: a line with a check mark; a plain line, which is not wrapped, so that a command in it
 * can be copied; a line that the next one overwrites. */
void print_done(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_plain(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_progress(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
/* Removes such a line, before data on the same terminal. */
void print_clear_progress(struct print *print);
/* LINES only: a milestone, level info. */
void print_fact(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
/* HUMAN and LINES. */
void print_note(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_warning(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
/* Unless quiet: a whole line of another process's log, without its end. */
void print_log_line(struct print *print, const char *line);
/* HUMAN and LINES, and the event "error". Returns the exit status of the failure. */
int print_failure(struct print *print, const struct failure *failure);

/* The event only. Returns the exit status of @id. */
int print_failure_event(struct print *print, enum failure_id id, const char *message,
                        const char *hint);

/* With --json: writes {"time": ..., "event": @event, ...}. @fmt is a format of json_pack() for a
 * flat object, "{s:s, s:i}", of the types s, i, I, b, f, o, O and o*. The references of o and o*
 * are released in any case. */
void print_event(struct print *print, const char *event, const char *fmt, ...);
/* These write to standard output and wait until all is written. */
void print_data(struct print *print, const char *fmt, ...) GT_PRINTF(2, 3);
void print_bytes(struct print *print, const char *text, size_t n); /* a secret: never copied */
void print_json(struct print *print, json_t *takes);
/* With --json: an event as of print_event() with the members of @takes, a flat object or one with
 * objects, which is written whole. */
void print_json_event(struct print *print, const char *event, json_t *takes);
/* Returns a JSON string; with \xHH for each byte that is not printable ASCII, if @text is not
 * UTF-8. */
json_t *print_json_text(struct gt_span text);
/* For functions that write to a descriptor and ignore errors: begin returns a descriptor (negative
 * on failure), and end copies its content to standard output and closes it. */
int print_page_begin(void) GT_MUST_CHECK;
void print_page_end(struct print *print, int fd);
