/* SPDX-License-Identifier: ISC */
/*
 * memfd_create(2), mapped shared, so that what is written or wiped here is so for both. The seals
 * keep its size: no page of it can go away under who reads it.
 */
#include "sealed.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "gotthard/crypto.h"
#include "handover.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

#define SEALS      (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)
#define FIRST_SIZE ((size_t)256 * 1024)

/* Where the kernel has a rule about memory that may be executed, this is not to be. */
static int sealed_new_fd(void)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("gotthard-relayd", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("gotthard-relayd", flags);
    return fd;
}

static int sealed_map(struct sealed *sealed, size_t n)
{
    void *data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, sealed->fd, 0);

    if (data == MAP_FAILED)
        return -errno;
    sealed->data = data;
    sealed->n = n;
    return 0;
}

static void sealed_unmap(struct sealed *sealed)
{
    if (sealed->data)
        munmap(sealed->data, sealed->n);
    sealed->data = NULL;
}

void sealed_close(struct sealed *sealed)
{
    if (sealed->data)
        gt_wipe(sealed->data, sealed->n);
    sealed_unmap(sealed);
    gt_close(&sealed->fd);
}

/* Gives it another size. What is beyond that was never written. */
static int sealed_resize(struct sealed *sealed, size_t n)
{
    sealed_unmap(sealed);
    return ftruncate(sealed->fd, (off_t)n) < 0 ? -errno : sealed_map(sealed, n);
}

static int sealed_fill(struct sealed *sealed, sealed_write_fn write, void *userdata)
{
    struct gt_writer writer = {.failed = true};

    for (size_t size = FIRST_SIZE; writer.failed; size *= 4) {
        int r = size > HANDOVER_SIZE_MAX ? -EFBIG : sealed_resize(sealed, size);
        if (r)
            return r;
        writer = gt_writer(sealed->data, size);
        write(userdata, &writer);
    }
    int r = sealed_resize(sealed, writer.n);
    if (!r && fcntl(sealed->fd, F_ADD_SEALS, SEALS) < 0)
        r = -errno;
    return r;
}

int sealed_make(sealed_write_fn write, void *userdata, struct sealed *ret)
{
    struct sealed sealed = {.fd = sealed_new_fd()};

    if (sealed.fd < 0)
        return -errno;
    int r = sealed_fill(&sealed, write, userdata);
    if (r)
        sealed_close(&sealed);
    else
        *ret = sealed;
    return r;
}

int sealed_open(int fd, struct sealed *ret)
{
    struct sealed sealed = {.fd = fd};
    int seals = fcntl(fd, F_GET_SEALS);
    off_t size = lseek(fd, 0, SEEK_END);

    if (seals < 0 || (seals & SEALS) != SEALS || size <= 0 || (size_t)size > HANDOVER_SIZE_MAX)
        return -EINVAL;
    int r = sealed_map(&sealed, (size_t)size);
    if (!r && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        r = -errno;
    if (r)
        sealed_unmap(&sealed);
    else
        *ret = sealed;
    return r;
}
