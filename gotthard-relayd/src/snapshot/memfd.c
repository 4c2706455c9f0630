/* SPDX-License-Identifier: ISC */
/*
 * memfd_create(2), mapped shared, so that both images see every write and wipe. The seals fix
 * the size: no page can disappear while it is being read.
 */
#include "snapshot/memfd.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "gotthard/crypto/crypto.h"
#include "snapshot/saved-layout.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

#define SEALS      (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)
#define FIRST_SIZE ((size_t)256 * 1024)

/* The memory must never be executable. Kernels before 6.3 do not know the flag (EINVAL). */
static int memfd_new_fd(void)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("gotthard-relayd", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("gotthard-relayd", flags);
    return fd;
}

static int memfd_map(struct memfd *memfd, size_t n)
{
    void *data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, memfd->fd, 0);

    if (data == MAP_FAILED)
        return -errno;
    memfd->data = data;
    memfd->n = n;
    return 0;
}

static void memfd_unmap(struct memfd *memfd)
{
    if (memfd->data)
        munmap(memfd->data, memfd->n);
    memfd->data = NULL;
}

void memfd_close(struct memfd *memfd)
{
    if (memfd->data)
        gt_wipe(memfd->data, memfd->n);
    memfd_unmap(memfd);
    gt_close(&memfd->fd);
}

/* Changes the size. Bytes beyond a smaller size were never written, so none are left unwiped. */
static int memfd_resize(struct memfd *memfd, size_t n)
{
    memfd_unmap(memfd);
    return ftruncate(memfd->fd, (off_t)n) < 0 ? -errno : memfd_map(memfd, n);
}

static int memfd_fill(struct memfd *memfd, memfd_write_fn write, void *userdata)
{
    struct gt_writer writer = {.failed = true};

    /* The size after the largest is 4 GiB, which a size_t of 32 bits does not hold. */
    for (uint64_t size = FIRST_SIZE; writer.failed; size *= 4) {
        int r = size > SAVED_SIZE_MAX ? -EFBIG : memfd_resize(memfd, (size_t)size);

        if (r)
            return r;
        writer = gt_writer(memfd->data, (size_t)size);
        write(userdata, &writer);
    }
    int r = memfd_resize(memfd, writer.n);
    if (!r && fcntl(memfd->fd, F_ADD_SEALS, SEALS) < 0)
        r = -errno;
    return r;
}

int memfd_new(memfd_write_fn write, void *userdata, struct memfd *ret)
{
    struct memfd memfd = {.fd = memfd_new_fd()};

    if (memfd.fd < 0)
        return -errno;
    int r = memfd_fill(&memfd, write, userdata);
    if (r)
        memfd_close(&memfd);
    else
        *ret = memfd;
    return r;
}

int memfd_open(int fd, struct memfd *ret)
{
    struct memfd memfd = {.fd = fd};
    int seals = fcntl(fd, F_GET_SEALS);
    off_t size = lseek(fd, 0, SEEK_END);

    if (seals < 0 || (seals & SEALS) != SEALS || size <= 0 || (size_t)size > SAVED_SIZE_MAX)
        return -EINVAL;
    int r = memfd_map(&memfd, (size_t)size);
    if (!r && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        r = -errno;
    if (r)
        memfd_unmap(&memfd);
    else
        *ret = memfd;
    return r;
}
