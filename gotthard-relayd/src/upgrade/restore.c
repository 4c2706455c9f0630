/* SPDX-License-Identifier: ISC */
/*
 * The state is not trusted because of its origin: another version of this program wrote it. A
 * rehearsal does not inherit the descriptors, so only their numbers are checked there.
 */
#include "upgrade/restore.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "gotthard/base/log.h"
#include "gotthard/config/config.h"
#include "upgrade/snapshot-format.h"

static int restore_open(int fd, struct restore *ret)
{
    struct restore restore;

    if (memfd_open(fd, &restore.memfd)) {
        gt_error("upgrade: descriptor %d is not a sealed state", fd);
        return RESTORE_E_REJECTED;
    }
    int r = snapshot_format_check(restore_state(&restore));
    if (r) {
        gt_error("upgrade: the state is %s",
                 r == SNAPSHOT_FORMAT_E_VERSION ? "of another version" : "invalid");
        restore_deinit(&restore);
        return RESTORE_E_REJECTED;
    }
    *ret = restore;
    return 0;
}

static int restore_keep_secret(void *userdata, const struct saved_record *record)
{
    return record->kind == SAVED_SECRET
               ? gt_config_keep_taken(record->secret.variable, record->secret.text)
               : 0;
}

int restore_rehearse(int fd, struct restore *ret)
{
    int r = restore_open(fd, ret);

    if (!r)
        r = snapshot_format_read(restore_state(ret), restore_keep_secret, NULL);
    return r;
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* Descriptors of the state. */
struct taken_fds {
    int *fds;
    size_t n;
};

static int fd_count(void *userdata, int fd, unsigned type)
{
    struct taken_fds *taken = userdata;

    taken->n++;
    return 0;
}

static int fd_take(void *userdata, int fd, unsigned type)
{
    struct taken_fds *taken = userdata;
    struct stat st;

    if (fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) != type || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return SNAPSHOT_FORMAT_E_BAD;
    taken->fds[taken->n++] = fd;
    return 0;
}

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* close_range(2), for which not every C library has a function. */
static void close_range_of(unsigned first, unsigned last)
{
    syscall(SYS_close_range, first, last, 0);
}

/* Sorts @taken and closes all other descriptors after the standard streams. */
static void close_other_fds(struct taken_fds *taken)
{
    unsigned from = STDERR_FILENO + 1;

    qsort(taken->fds, taken->n, sizeof(*taken->fds), compare_fds);
    for (size_t i = 0; i < taken->n; i++) {
        unsigned fd = (unsigned)taken->fds[i];

        if (fd > from)
            close_range_of(from, fd - 1);
        from = fd + 1;
    }
    close_range_of(from, ~0u);
}

/* Checks and takes the descriptors of the state, and closes all others. E_BAD, -ENOMEM. */
static int restore_take_fds(const struct restore *restore)
{
    struct taken_fds taken = {0};
    int r = snapshot_format_each_fd(restore_state(restore), fd_count, &taken);

    taken.fds = r ? NULL : calloc(taken.n + 1, sizeof(*taken.fds));
    if (!taken.fds)
        return r ? r : -ENOMEM;
    taken.n = 0;
    r = snapshot_format_each_fd(restore_state(restore), fd_take, &taken);
    if (!r) {
        taken.fds[taken.n++] = restore->memfd.fd;
        close_other_fds(&taken);
    }
    free(taken.fds);
    return r;
}

int restore_take_over(int fd, struct restore *ret)
{
    int r = restore_rehearse(fd, ret);

    if (r)
        return r;
    r = restore_take_fds(ret);
    if (r <= 0)
        return r;
    gt_error("upgrade: a descriptor of the state is closed or has another type");
    return RESTORE_E_REJECTED;
}

bool restore_is_pending(const struct restore *restore)
{
    return restore->memfd.fd >= 0;
}

struct gt_span restore_state(const struct restore *restore)
{
    return gt_span(restore->memfd.data, restore->memfd.n);
}

void restore_deinit(struct restore *restore)
{
    memfd_close(&restore->memfd);
}
