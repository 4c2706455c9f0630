/* SPDX-License-Identifier: ISC */
/*
 * Nothing of the state is believed because of who sent it: another version of this program wrote
 * it. In a rehearsal there are no descriptors yet, and numbers are all that is looked at.
 */
#include "heir.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "gotthard/config.h"
#include "gotthard/log.h"
#include "handover.h"

static int heir_open(int fd, struct heir *ret)
{
    struct heir heir;

    if (sealed_open(fd, &heir.sealed)) {
        gt_error("upgrade: there is no state to take over");
        return HEIR_E_REFUSED;
    }
    int r = handover_check(heir_state(&heir));
    if (r) {
        gt_error("upgrade: the state is %s",
                 r == HANDOVER_E_VERSION ? "of another version" : "not sound");
        heir_deinit(&heir);
        return HEIR_E_REFUSED;
    }
    *ret = heir;
    return 0;
}

static int heir_keep_secret(void *userdata, const struct handover *record)
{
    return record->kind == HANDOVER_SECRET
               ? gt_config_keep_taken(record->secret.variable, record->secret.text)
               : 0;
}

int heir_rehearse(int fd, struct heir *ret)
{
    int r = heir_open(fd, ret);

    if (!r)
        r = handover_read(heir_state(ret), heir_keep_secret, NULL);
    return r;
}

/* --- descriptors ------------------------------------------------------------------------------ */

struct named {
    int *fds;
    size_t n;
};

static int named_count(void *userdata, int fd, unsigned type)
{
    struct named *named = userdata;

    named->n++;
    return 0;
}

static int named_on_fd(void *userdata, int fd, unsigned type)
{
    struct named *named = userdata;
    struct stat st;

    if (fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) != type || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return HANDOVER_E_BAD;
    named->fds[named->n++] = fd;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* What lies between those that are named, after the standard three. */
static void named_close_others(struct named *named)
{
    unsigned from = STDERR_FILENO + 1;

    qsort(named->fds, named->n, sizeof(*named->fds), by_number);
    for (size_t i = 0; i < named->n; i++) {
        unsigned fd = (unsigned)named->fds[i];
        if (fd > from)
            close_range(from, fd - 1, 0);
        from = fd + 1;
    }
    close_range(from, ~0u, 0);
}

/* Looks at each, and closes what else there may be. */
static int heir_take_fds(const struct heir *heir)
{
    struct named named = {0};
    int r = handover_each_fd(heir_state(heir), named_count, &named);

    named.fds = r ? NULL : calloc(named.n + 1, sizeof(*named.fds));
    if (!named.fds)
        return r ? r : -ENOMEM;
    named.n = 0;
    r = handover_each_fd(heir_state(heir), named_on_fd, &named);
    if (!r) {
        named.fds[named.n++] = heir->sealed.fd;
        named_close_others(&named);
    }
    free(named.fds);
    return r;
}

int heir_take_over(int fd, struct heir *ret)
{
    int r = heir_rehearse(fd, ret);

    if (!r)
        r = heir_take_fds(ret);
    if (r > 0)
        gt_error("upgrade: a descriptor is not what it should be");
    return r;
}

bool heir_is_one(const struct heir *heir)
{
    return heir->sealed.fd >= 0;
}

struct gt_span heir_state(const struct heir *heir)
{
    return gt_span(heir->sealed.data, heir->sealed.n);
}

void heir_deinit(struct heir *heir)
{
    sealed_close(&heir->sealed);
}
