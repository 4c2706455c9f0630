/* SPDX-License-Identifier: ISC */
/*
 * The parsers of text.c. The first byte of the input selects one, the other bytes are its text.
 * Accepted values must be within the documented limits. Where a formatter exists, it must produce
 * the same text.
 */
#include "gotthard/base/text.h"

#include <inttypes.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(bool is_true)
{
    if (!is_true)
        abort();
}

static void try_number(const char *text)
{
    uint64_t value, duration, size;
    char again[32];

    if (gt_text_number(text, 1, 65535, &value) == 0) {
        check(value >= 1 && value <= 65535);
        snprintf(again, sizeof(again), "%" PRIu64, value);
        check(strcmp(text, again) == 0);
    }
    if (gt_text_duration(text, &duration) == 0)
        check(gt_text_size(text, &size) != 0); /* no text is valid as both */
}

static void try_hex(const char *text)
{
    uint8_t bytes[256];
    char again[sizeof(bytes) * 2 + 1];
    size_t n = strlen(text) / 2;

    if (n > sizeof(bytes) || gt_text_unhex(text, bytes, n) != 0)
        return;
    gt_text_hex(bytes, n, again);
    check(strcasecmp(text, again) == 0);
}

static void try_base64(struct gt_span text)
{
    uint8_t bytes[256];
    char again[400];
    size_t n;

    if (gt_text_unbase64(text, bytes, sizeof(bytes), &n) != 0)
        return;
    check(n <= sizeof(bytes));
    bool is_url = memchr(text.data, '-', text.n) || memchr(text.data, '_', text.n);
    check(gt_text_base64(bytes, n, is_url, again, sizeof(again)) == 0);
    size_t n_digits = strcspn(again, "=");
    check(n_digits <= text.n && memcmp(text.data, again, n_digits) == 0);
}

static void try_name(struct gt_span text)
{
    if (!gt_text_is_name(text))
        return;
    check(text.n >= 1 && text.n <= GT_NAME_MAX);
    for (size_t i = 0; i < text.n; i++)
        check(text.data[i] > ' ' && text.data[i] < 0x7f && !strchr("/+#$*?\\'\"`", text.data[i]));
}

static void try_host(const char *text)
{
    char host[GT_HOST_MAX + 1];
    uint16_t port;

    if (gt_text_host_port(text, 0, host, &port) != 0)
        return;
    check(gt_text_is_host(host) && port != 0);
    char again[GT_HOST_MAX + 16], host_again[GT_HOST_MAX + 1];
    uint16_t port_again;
    snprintf(again, sizeof(again), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    check(gt_text_host_port(again, 0, host_again, &port_again) == 0);
    check(strcmp(host, host_again) == 0 && port == port_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[512];
    bool ignored;

    if (n < 1 || n > sizeof(text))
        return 0;
    memcpy(text, data + 1, n - 1);
    text[n - 1] = 0;
    switch (data[0] % 6) {
    case 0: try_number(text); break;
    case 1: try_hex(text); break;
    case 2: try_base64(gt_span(data + 1, n - 1)); break;
    case 3: try_name(gt_span(data + 1, n - 1)); break;
    case 4: try_host(text); break;
    case 5: check(gt_text_bool(text, &ignored) != 0 || strlen(text) <= 5); break;
    }
    return 0;
}
