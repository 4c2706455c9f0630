/* SPDX-License-Identifier: ISC */
/*
 * Memory without a name, of a size that is sealed, that one image of the relay fills and the next
 * reads. It holds keys and tickets: whoever closes it wipes it first.
 */
#pragma once

#include "gotthard/bytes.h"

struct sealed {
    int fd; /* close-on-exec */
    uint8_t *data;
    size_t n;
};

/* Writes the same each time. */
typedef void (*sealed_write_fn)(void *userdata, struct gt_writer *writer);
/* Calls @write until there is room enough for all of it. -EFBIG: there never is. */
int sealed_make(sealed_write_fn write, void *userdata, struct sealed *ret) GT_MUST_CHECK;
/* That of the other image, by its number. Takes @fd, unless it is none: -EINVAL. */
int sealed_open(int fd, struct sealed *ret) GT_MUST_CHECK;
/* Wipes it, in the other image as well. A closed one, or { .fd = -1 }, is fine. */
void sealed_close(struct sealed *sealed);
