/* SPDX-License-Identifier: ISC */
/*
 * Any text as an endpoint: what is taken must be a host and a port that name each other back.
 */
#include "gotthard/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_endpoint endpoint;
    char text[512];

    if (n >= sizeof(text))
        return 0;
    if (n)
        memcpy(text, data, n);
    text[n] = 0;
    if (gt_endpoint_parse(text, &endpoint) != 0)
        return 0;
    if (!gt_text_is_host(endpoint.host) || endpoint.port == 0)
        abort();
    if (endpoint.alpn && (!endpoint.is_tls || endpoint.port != 443))
        abort();
    (void)gt_endpoint_is_loopback(&endpoint);
    return 0;
}
