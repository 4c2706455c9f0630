/* SPDX-License-Identifier: ISC */
/*
 * The forwards that the arguments and options of `connect` describe.
 */
#pragma once

#include "commands.h"
#include "forwards.h"

/* Parses the arguments after the device. Returns 0 with *ret_n of at least 1, or an exit status
 * after a usage error was printed. */
int forward_arguments_parse(struct context *context, struct forward_spec ret[static FORWARDS_MAX],
                            size_t *ret_n) GT_MUST_CHECK;
