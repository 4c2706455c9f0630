/* SPDX-License-Identifier: ISC */
/*
 * Feeds arbitrary bytes to a SOCKS negotiation, in pieces whose sizes come from the input as well.
 * It never takes more bytes than it asked for, ends within the longest messages, and a target that
 * it accepts is a host with a port.
 */
#include <string.h>

#include "socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct socks socks = {0};
    char host[GT_HOST_MAX + 1];
    size_t n_taken = 0;
    uint16_t port;

    for (size_t wanted; n > 0 && (wanted = socks_wanted(&socks)) > 0;) {
        size_t piece = GT_MIN(GT_MIN(n, wanted), 1 + (size_t)(data[0] % 7));

        socks_consume(&socks, data, piece);
        data += piece;
        n -= piece;
        n_taken += piece;
        must(socks.n_in <= SOCKS_IN_MAX && socks.n_out <= SOCKS_OUT_MAX);
        socks.n_out = 0;
    }
    must(n_taken <= 2 + 255 + SOCKS_IN_MAX);
    must(n == 0 || socks.state == SOCKS_READY || socks.state == SOCKS_FAILED);
    must((socks.state == SOCKS_READY) == (socks.target[0] != 0) || socks.state == SOCKS_FAILED);
    if (socks.state == SOCKS_READY)
        must(gt_text_host_port(socks.target, 0, host, &port) == 0 && port > 0);
    return 0;
}
