/* SPDX-License-Identifier: ISC */
/*
 * The commands of the proxy: one line per command, one line per answer, "ok ..." or "error ...".
 * The comment and the table in commands.c list them all.
 */
#pragma once

#include "proxy.h"

/* Carries out @line (which it takes apart) and prints the answer to standard output. */
void commands_execute(struct proxy *proxy, char *line);
