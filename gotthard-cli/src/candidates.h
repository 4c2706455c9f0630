/* SPDX-License-Identifier: ISC */
/*
 * Candidates of a completion: the words that begin with the text before the cursor, sorted, each
 * once. A shell inserts them into a command line, so only words that no shell interprets are
 * accepted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct candidate {
    char *word;       /* owned */
    const char *help; /* one line, or NULL; borrowed until candidates_print() */
};

struct candidates {
    const char *current; /* the text before the cursor */
    const char *lead;    /* written before each word ("--log-level="), or "" */
    struct candidate *rows;
    size_t n, capacity;
    bool is_file; /* the shell completes names of files */
};

/* Adds @word of @n bytes if lead and word begin as the text before the cursor. Drops it if it is
 * unsafe for a shell, or without memory. */
void candidates_add(struct candidates *candidates, const char *word, size_t n, const char *help);
/* Writes a line for each: the word, and after a tab its help. A line "/" stands for files. */
void candidates_print(struct candidates *candidates, int fd);
void candidates_deinit(struct candidates *candidates);
