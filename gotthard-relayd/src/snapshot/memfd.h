/* SPDX-License-Identifier: ISC */
/*
 * Anonymous memory of a sealed size. One image of the relay fills it, the next reads it. It holds
 * keys and tickets, so it is always wiped before it is closed.
 */
#pragma once

#include "gotthard/base/bytes.h"

struct memfd {
    int fd; /* close-on-exec */
    uint8_t *data;
    size_t n;
};

/* Writes the content. It is called again with a larger buffer if the writer failed, and must then
 * write the same. */
typedef void (*memfd_write_fn)(void *userdata, struct gt_writer *writer);
/* Calls @write until the buffer is large enough, and seals the size. -EFBIG: more than
 * SAVED_SIZE_MAX; or another negative errno. */
int memfd_new(memfd_write_fn write, void *userdata, struct memfd *ret) GT_MUST_CHECK;
/* Maps the memory of the other image. Takes @fd on success. -EINVAL: @fd is no sealed memory of an
 * allowed size; or another negative errno. */
int memfd_open(int fd, struct memfd *ret) GT_MUST_CHECK;
/* Wipes the content, which the other image sees as well, and closes. May be called twice, and on
 * { .fd = -1 }. */
void memfd_close(struct memfd *memfd);
