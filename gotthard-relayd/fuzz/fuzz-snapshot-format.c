/* SPDX-License-Identifier: ISC */
/*
 * What one image of the relay tells the next. A state that is taken has one spelling: written again
 * it is the same, and it names no descriptor twice. The input is what comes after the head.
 */
#include "handover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int again(void *userdata, const struct handover *record)
{
    handover_write_record(userdata, record);
    return 0;
}

static int on_fd(void *userdata, int fd, unsigned type)
{
    uint8_t *seen = userdata;

    if (fd < 3 || fd >= HANDOVER_FD_MAX || seen[fd])
        abort();
    seen[fd] = 1;
    return 0;
}

static void check_state(struct gt_span state)
{
    uint8_t *copy = malloc(state.n), *seen = calloc(HANDOVER_FD_MAX, 1);
    struct gt_writer writer = gt_writer(copy, state.n);

    if (!copy || !seen)
        abort();
    handover_write_head(&writer);
    if (handover_read(state, again, &writer) || writer.failed || writer.n != state.n ||
        memcmp(copy, state.data, state.n) != 0 || handover_each_fd(state, on_fd, seen))
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
    handover_write_head(&writer);
    gt_write_bytes(&writer, data, n);
    /* of exactly the right size, so that a read beyond its end is seen */
    uint8_t *exact = realloc(state, writer.n);
    if (!exact)
        abort();
    if (!handover_check(gt_span(exact, writer.n)))
        check_state(gt_span(exact, writer.n));
    free(exact);
    return 0;
}
