/* SPDX-License-Identifier: ISC */
/*
 * Two ends of a stream. The input chooses the actions of their applications and every cut of every
 * data connection. Data arrives exactly, or both ends are reset (tests/stream-model.h checks it).
 */
#include "../tests/stream-model.h"

struct input {
    struct model_source source;
    struct gt_reader in;
};

static uint32_t input_choose(struct model_source *source, uint32_t n)
{
    struct input *input = (struct input *)source;

    source->is_exhausted = input->in.left < 2;
    return (n > 256 ? gt_read_u16(&input->in) : gt_read_u8(&input->in)) % n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input input = {{input_choose, false}, gt_reader(data, n)};

    model_run(&input.source, 2000);
    return 0;
}
