/* SPDX-License-Identifier: ISC */
/*
 * The format of snapshots. An accepted snapshot has one encoding: written write_again, it is the
 * same. It contains no descriptor twice. The input is the snapshot without its head.
 */
#include "upgrade/snapshot-format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int write_again(void *userdata, const struct saved_record *record)
{
    snapshot_format_write_record(userdata, record);
    return 0;
}

static int on_fd(void *userdata, int fd, unsigned type)
{
    uint8_t *seen = userdata;

    if (fd < 3 || fd >= SAVED_FD_MAX || seen[fd])
        abort();
    seen[fd] = 1;
    return 0;
}

static void check_state(struct gt_span state)
{
    uint8_t *copy = malloc(state.n), *seen = calloc(SAVED_FD_MAX, 1);
    struct gt_writer writer = gt_writer(copy, state.n);

    if (!copy || !seen)
        abort();
    snapshot_format_write_head(&writer);
    if (snapshot_format_read(state, write_again, &writer) || writer.failed || writer.n != state.n ||
        memcmp(copy, state.data, state.n) != 0 || snapshot_format_each_fd(state, on_fd, seen))
        abort();
    free(copy);
    free(seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *state = malloc(n + 64);
    struct gt_writer writer = gt_writer(state, n + 64);

    if (!state)
        abort();
    snapshot_format_write_head(&writer);
    gt_write_bytes(&writer, data, n);
    /* an allocation of the exact size, so that sanitizers detect a read beyond the end */
    uint8_t *exact = realloc(state, writer.n);
    if (!exact)
        abort();
    if (!snapshot_format_check(gt_span(exact, writer.n)))
        check_state(gt_span(exact, writer.n));
    free(exact);
    return 0;
}
