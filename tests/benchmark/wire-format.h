/* SPDX-License-Identifier: ISC */
/*
 * The protocol between the load and the target of the benchmark. The first byte of a connection
 * selects the service. Received bytes are counted in one page of memory that both map, so that the
 * result is the number of delivered bytes and not of buffered ones. Each load has a counter of its
 * own: bytes that an earlier load left in a tunnel are not counted for a later one.
 */
#pragma once

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define WIRE_ECHO 'e' /* received bytes are returned */
#define WIRE_DISCARD \
    'd'                 /* the next byte selects a counter; later bytes are counted and discarded */
#define WIRE_SOURCE 's' /* endless bytes */
#define WIRE_ANSWER 'a' /* WIRE_ANSWER_SIZE bytes, then the end */

#define WIRE_BUFFER (256 * 1024)

#define WIRE_ANSWER_SIZE (100 * 1024)

#define WIRE_COUNTERS 256

struct wire_counters {
    _Atomic uint64_t n_discarded[WIRE_COUNTERS];
};

/* Maps the page of the file, which is created if it does not exist. NULL: failed. */
static inline struct wire_counters *wire_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    void *page = MAP_FAILED;

    if (fd < 0)
        return NULL;
    if (!ftruncate(fd, 4096))
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}
