/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as the kernel's answer about a connection. An accepted answer is about that connection:
 * the same bytes must not be accepted for another port, or under another number.
 */
#include "gotthard/net/inet-diag.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static struct gt_addr addr_of(const char *host, uint16_t port)
{
    struct gt_addr addr;

    must(gt_addr_parse(host, port, &addr) == 0);
    return addr;
}

static void check(struct gt_span answer, const char *host, uint16_t port)
{
    struct gt_addr own = addr_of(host, port), peer = addr_of(host, 4444);
    struct gt_inet_diag_owner owner, ignored;
    int r = gt_inet_diag_parse(answer, &own, &peer, 1, &owner);

    must(r >= 0);
    if (r != 0)
        return;
    must(answer.n >= GT_INET_DIAG_REQUEST_SIZE);
    must(gt_inet_diag_parse(answer, &peer, &own, 1, &ignored) != 0);
    must(gt_inet_diag_parse(answer, &own, &peer, 2, &ignored) != 0);
    gt_addr_set_port(&own, port + 1);
    must(gt_inet_diag_parse(answer, &own, &peer, 1, &ignored) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    check(gt_span(data, n), "127.0.0.1", 40001);
    check(gt_span(data, n), "::ffff:127.0.0.1", 40002);
    check(gt_span(data, n), "::1", 40003);
    return 0;
}
