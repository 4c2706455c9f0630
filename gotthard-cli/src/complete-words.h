/* SPDX-License-Identifier: ISC */
/*
 * `gotthard-cli complete-words PROGRAM WORD...`: the words that may stand at the cursor of a
 * command line, for the completion scripts of the shells. They follow from the tables of commands,
 * options and settings, and from the devices that this user's commands have remembered
 * (device-memory.h). Reads no settings, keys or secrets, uses no network, and prints nothing on an
 * error.
 */
#pragma once

#define COMPLETE_WORDS "complete-words"

/* @words: the name of the program as it was typed, the words before the cursor, and the text of the
 * last one up to the cursor. Writes to @fd. */
void complete_words(int n_words, char **words, int fd);
