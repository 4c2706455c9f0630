/* SPDX-License-Identifier: ISC */
/*
 * The options with which ssh(1) reaches a device through this program: lines of ssh_config(5),
 * quoted as the reader of each needs it. The settings that were given as options of this command
 * are passed on. Pure text, except for the path of this program.
 */
#pragma once

#include <stdio.h>

#include "command-line.h"

/* The short options of ssh with a value (ssh.c of OpenSSH 9.9). */
#define SSH_LETTERS "bceilmopBDEFIJLOPQRSwW"

enum { SSH_OPTIONS_E_TEXT = 1 };

/* Returns true if `ssh NAME` reaches the device of this name. In a destination the last @ ends the
 * name of the user, and .gotthard at the end is not part of the device's name. */
bool ssh_options_can_name(const char *device);
/* Writes the path of this program, by which it can be executed again. Returns 0 or a negative
 * errno. */
int ssh_options_self(char *ret, size_t cap) GT_MUST_CHECK;
/* Writes one option a line, "KEYWORD VALUE", each after @indent. @self: the path of this program.
 * Returns 0, E_TEXT if an option of @line has characters that cannot be quoted, or -ENOMEM. */
int ssh_options_write(const struct command_line *line, const char *self, const char *indent,
                      FILE *file) GT_MUST_CHECK;
