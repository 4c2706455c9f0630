/* SPDX-License-Identifier: ISC */
/*
 * Decodes arbitrary bytes as worker parameters. The encoding of accepted parameters has the same
 * bytes, except for booleans, of which any value but 0 is true.
 */
#include "worker-parameters.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct worker_parameters parameters;
    size_t n_bytes, n_different = 0;

    int r = worker_parameters_decode(gt_span(data, n), &parameters);
    if (r) {
        must(r == WORKER_PARAMETERS_E_BAD);
        return 0;
    }
    r = worker_parameters_encode(&parameters, bytes, &n_bytes);
    worker_parameters_deinit(&parameters);
    if (r) {
        must(n > WORKER_PARAMETERS_MAX);
        return 0;
    }
    must(n_bytes == n);
    for (size_t i = 0; i < n; i++)
        n_different += bytes[i] != data[i];
    must(n_different <= 1);
    return 0;
}
