/* SPDX-License-Identifier: ISC */
/* holder-message.c: a round trip of each type, and everything that is not exactly one message. */
#include "holder-message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct holder_message decoded;
static uint8_t bytes[HOLDER_MESSAGE_MAX + 1];

static void fill(char *text, size_t cap)
{
    memset(text, 'x', cap - 1);
    text[cap - 1] = 0;
}

/* A message of this type whose texts are as long as they can be. */
static struct holder_message longest(enum holder_message_type type)
{
    struct holder_message message = {.type = type};

    switch (type) {
    case HOLDER_HELLO: memset(message.check, 0xa5, sizeof(message.check)); break;
    case HOLDER_OPEN: fill(message.service, sizeof(message.service)); break;
    case HOLDER_NOTICE:
        message.notice.kind = HOLDER_NOTICE_LOG;
        fill(message.notice.text, sizeof(message.notice.text));
        break;
    case HOLDER_FAILURE:
        message.failure.id = 99;
        fill(message.failure.message, sizeof(message.failure.message));
        fill(message.failure.hint, sizeof(message.failure.hint));
        break;
    case HOLDER_END:
        message.end.status = 255;
        fill(message.end.text, sizeof(message.end.text));
        break;
    case HOLDER_STATUS:
        message.status.kind = HOLDER_KIND_CONNECT;
        message.status.state = HOLDER_STATE_CLOSING;
        message.status.n_down = UINT64_MAX;
        fill(message.status.device, sizeof(message.status.device));
        fill(message.status.operator_, sizeof(message.status.operator_));
        fill(message.status.relay, sizeof(message.status.relay));
        fill(message.status.forwards, sizeof(message.status.forwards));
        break;
    case HOLDER_HOST_KEYS: fill(message.host_keys, sizeof(message.host_keys)); break;
    case HOLDER_READY:
    case HOLDER_STALE:
    case HOLDER_ACCEPTED:
    case HOLDER_CONNECTED:
    case HOLDER_STATUS_QUERY:
    case HOLDER_HOST_KEYS_QUERY: break;
    }
    return message;
}

static void test_message_of_each_type_is_decoded_as_it_was(void **state)
{
    for (unsigned type = HOLDER_HELLO; type <= HOLDER_HOST_KEYS; type++) {
        struct holder_message message = longest(type);
        size_t n = holder_message_encode(&message, bytes);

        assert_in_range(n, 2, HOLDER_MESSAGE_MAX);
        memset(&decoded, 0xff, sizeof(decoded));
        assert_int_equal(holder_message_decode(gt_span(bytes, n), &decoded), 0);
        assert_memory_equal(&decoded, &message, sizeof(message));
    }
}

static void test_message_of_another_length_is_rejected(void **state)
{
    for (unsigned type = HOLDER_HELLO; type <= HOLDER_HOST_KEYS; type++) {
        struct holder_message message = longest(type);
        size_t n = holder_message_encode(&message, bytes);

        for (size_t shorter = 0; shorter < n; shorter++)
            assert_int_equal(holder_message_decode(gt_span(bytes, shorter), &decoded),
                             HOLDER_MESSAGE_E_BAD);
        bytes[n] = 0;
        assert_int_equal(holder_message_decode(gt_span(bytes, n + 1), &decoded),
                         HOLDER_MESSAGE_E_BAD);
    }
}

static void test_message_of_another_version_or_type_is_rejected(void **state)
{
    static const uint8_t messages[][2] = {
        {0, HOLDER_READY},     {HOLDER_VERSION + 1, HOLDER_READY},
        {HOLDER_VERSION, 0},   {HOLDER_VERSION, HOLDER_HOST_KEYS + 1},
        {HOLDER_VERSION, 255},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(messages); i++)
        assert_int_equal(holder_message_decode(gt_span(messages[i], 2), &decoded),
                         HOLDER_MESSAGE_E_BAD);
}

static void check_rejected(const struct holder_message *message)
{
    size_t n = holder_message_encode(message, bytes);

    assert_int_equal(holder_message_decode(gt_span(bytes, n), &decoded), HOLDER_MESSAGE_E_BAD);
}

static void test_values_out_of_range_are_rejected(void **state)
{
    struct holder_message message = longest(HOLDER_NOTICE);

    message.notice.kind = HOLDER_NOTICE_LOG + 1;
    check_rejected(&message);
    message = longest(HOLDER_END);
    message.end.status = 256;
    check_rejected(&message);
    message = longest(HOLDER_STATUS);
    message.status.kind = HOLDER_KIND_CONNECT + 1;
    check_rejected(&message);
    message = longest(HOLDER_STATUS);
    message.status.state = HOLDER_STATE_CLOSING + 1;
    check_rejected(&message);
    message = longest(HOLDER_STATUS);
    strcpy(message.status.device, "a/b");
    check_rejected(&message);
}

static void test_text_with_a_terminator_inside_is_rejected(void **state)
{
    struct holder_message message = longest(HOLDER_OPEN);
    size_t n = holder_message_encode(&message, bytes);

    bytes[n - 1] = 0;
    assert_int_equal(holder_message_decode(gt_span(bytes, n), &decoded), HOLDER_MESSAGE_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_of_each_type_is_decoded_as_it_was),
        cmocka_unit_test(test_message_of_another_length_is_rejected),
        cmocka_unit_test(test_message_of_another_version_or_type_is_rejected),
        cmocka_unit_test(test_values_out_of_range_are_rejected),
        cmocka_unit_test(test_text_with_a_terminator_inside_is_rejected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
