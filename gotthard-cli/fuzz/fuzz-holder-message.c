/* SPDX-License-Identifier: ISC */
/*
 * Decodes arbitrary bytes as a message of a control socket. An accepted message has terminated
 * texts, and its encoding has the same bytes.
 */
#include "holder-message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct holder_message message;
    static uint8_t again[HOLDER_MESSAGE_MAX];

    if (n > HOLDER_MESSAGE_MAX || holder_message_decode(gt_span(data, n), &message) != 0)
        return 0;
    must(message.type >= HOLDER_HELLO && message.type <= HOLDER_HOST_KEYS);
    must(holder_message_encode(&message, again) == n);
    must(memcmp(again, data, n) == 0);
    return 0;
}
