/* SPDX-License-Identifier: ISC */
/*
 * What the load and the target of the benchmark say to each other: the first byte of a connection
 * is what it is for, and where the bytes are counted is one page of memory that both map, so that
 * what is measured is what arrived and not what some buffer took. Each load has a counter of its
 * own: what an earlier one left in a tunnel is not taken for a later one's.
 */
#pragma once

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define WIRE_ECHO    'e' /* what comes goes back */
#define WIRE_DISCARD 'd' /* one byte more: what comes after it is counted there, and forgotten */
#define WIRE_SOURCE  's' /* bytes without end */

#define WIRE_BUFFER (256 * 1024)

#define WIRE_COUNTERS 256

struct wire_counters {
    _Atomic uint64_t n_discarded[WIRE_COUNTERS];
};

/* The page of this file, made if it is not there. NULL: no such file can be. */
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
