/* SPDX-License-Identifier: ISC */
/*
 * Any text as the address of a broker. An accepted one must give a valid host and port.
 */
#include "gotthard/config/mqtt-url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_mqtt_url url;
    char text[512];

    if (n >= sizeof(text))
        return 0;
    if (n)
        memcpy(text, data, n);
    text[n] = 0;
    if (gt_mqtt_url_parse(text, &url) != 0)
        return 0;
    if (!gt_text_is_host(url.host) || url.port == 0)
        abort();
    if (*url.alpn && (!url.is_tls || url.port != 443))
        abort();
    (void)gt_mqtt_url_is_loopback(&url);
    return 0;
}
