/* SPDX-License-Identifier: ISC */
/* Writing to a reader that may be slow, until a signal ends the command. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "gotthard/base/base.h"

/* True: a signal that ends the command has come, and no write waits any longer. For signal
 * handlers. */
void print_wait_set_interrupted(bool value);
/* Writes all of @text and waits for the reader, or not if the command is interrupted. Returns 0 or
 * a positive errno; EINTR: interrupted, and a part may be written. */
int print_wait_write(int fd, const char *text, size_t n) GT_MUST_CHECK;
