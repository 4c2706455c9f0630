/* SPDX-License-Identifier: ISC */
/*
 * Where the broker is, out of one string; see the header. A URL's path, user or any other scheme is
 * refused rather than ignored: what is not understood must not be connected to.
 */
#include "gotthard/endpoint.h"

#include <strings.h>

static bool text_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && strcasecmp(text + n - n_end, end) == 0;
}

static bool host_is_of_aws(const char *host)
{
    return text_ends_with(host, ".amazonaws.com") || text_ends_with(host, ".amazonaws.com.cn");
}

/* Steps over the scheme, if there is one that is known; whatever else has one fails as a host. */
static const char *skip_scheme(const char *text, bool *ret_is_tls)
{
    static const char tls[] = "mqtts://", plain[] = "mqtt://";

    *ret_is_tls = strncasecmp(text, plain, strlen(plain)) != 0;
    if (!*ret_is_tls)
        return text + strlen(plain);
    if (strncasecmp(text, tls, strlen(tls)) == 0)
        return text + strlen(tls);
    return text;
}

int gt_endpoint_parse(const char *text, struct gt_endpoint *ret)
{
    struct gt_endpoint endpoint = {0};
    const char *rest = skip_scheme(text, &endpoint.is_tls);

    if (gt_text_host_port(rest, endpoint.is_tls ? GT_ENDPOINT_TLS_PORT : GT_ENDPOINT_PLAIN_PORT,
                          endpoint.host, &endpoint.port) != 0)
        return GT_ENDPOINT_E_SYNTAX;
    if (endpoint.is_tls && endpoint.port == 443 && host_is_of_aws(endpoint.host))
        endpoint.alpn = GT_ENDPOINT_AWS_ALPN;
    *ret = endpoint;
    return 0;
}

bool gt_endpoint_is_loopback(const struct gt_endpoint *endpoint)
{
    const char *host = endpoint->host;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0)
        return true;
    return strncmp(host, "127.", 4) == 0 && host[strspn(host, "0123456789.")] == 0;
}
