/* SPDX-License-Identifier: ISC */
/*
 * Two ends of a stream, what their applications do, and every cut of every carrier, as the input
 * chooses: exact or loud (tests/stream-model.h asserts it).
 */
#include "../tests/stream-model.h"

struct input {
    struct model_source source;
    struct gt_reader in;
};

static uint32_t input_choose(struct model_source *source, uint32_t n)
{
    struct input *input = (struct input *)source;
    source->is_dry = input->in.left < 2;
    return (n > 256 ? gt_read_u16(&input->in) : gt_read_u8(&input->in)) % n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input input = {{input_choose, false}, gt_reader(data, n)};
    model_run(&input.source, 2000);
    return 0;
}
