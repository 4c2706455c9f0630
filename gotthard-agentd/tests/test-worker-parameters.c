/* SPDX-License-Identifier: ISC */
/*
 * What goes into the pipe comes out of it, at every size; nothing else does.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "handover.h"

static struct handover make(size_t n_services)
{
    struct handover handover = {
        .relay = {"main", "relay.example", 7000},
        .is_single_port = true,
        .log_level = 2,
        .lifetime_s = 43200,
        .peer_timeout_ms = 30000,
        .resume_window_ms = 120000,
        .dial_timeout_ms = 10000,
        .ring_size = 1 << 20,
        .max_streams = 64,
    };
    memset(handover.keys.session, 0xa1, GT_KEY_SIZE);
    memset(handover.keys.rid, 0xb2, GT_RID_SIZE);
    memset(handover.client_key, 0xc3, GT_KEY_SIZE);
    snprintf(handover.device, sizeof(handover.device), "GatewayOli");
    memset(handover.operator_, 'a', GT_NAME_MAX);
    for (size_t i = 0; i < n_services; i++) {
        struct target service = {.port = (uint16_t)(i + 1)};
        memset(service.name, 'n', GT_SERVICE_MAX);
        memset(service.host, 'h', GT_HOST_MAX);
        assert_int_equal(targets_add(&handover.services, &service), 0);
    }
    return handover;
}

static void assert_same(const struct handover *a, const struct handover *b)
{
    assert_memory_equal(&a->keys, &b->keys, sizeof(a->keys));
    assert_memory_equal(a->client_key, b->client_key, GT_KEY_SIZE);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->operator_, b->operator_);
    assert_true(target_equals(&a->relay, &b->relay));
    assert_int_equal(a->is_single_port, b->is_single_port);
    assert_int_equal(a->log_level, b->log_level);
    assert_int_equal(a->lifetime_s, b->lifetime_s);
    assert_int_equal(a->peer_timeout_ms, b->peer_timeout_ms);
    assert_int_equal(a->resume_window_ms, b->resume_window_ms);
    assert_int_equal(a->dial_timeout_ms, b->dial_timeout_ms);
    assert_int_equal(a->ring_size, b->ring_size);
    assert_int_equal(a->max_streams, b->max_streams);
    assert_int_equal(a->services.n, b->services.n);
    for (size_t i = 0; i < a->services.n; i++)
        assert_true(target_equals(&a->services.all[i], &b->services.all[i]));
}

static void it_passes_a_pipe_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 64, 120};

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        struct handover sent = make(sizes[i]), got;
        int ends[2];
        assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
        assert_int_equal(handover_send(&sent, ends[1]), 0);
        close(ends[1]);
        assert_int_equal(handover_receive(ends[0], &got), 0);
        close(ends[0]);
        assert_same(&sent, &got);
        handover_deinit(&sent);
        handover_deinit(&got);
    }
}

static void too_much_is_refused(void **state)
{
    struct handover sent = make(200);
    int ends[2];

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    assert_int_equal(handover_send(&sent, ends[1]), -EMSGSIZE);
    close(ends[0]);
    close(ends[1]);
    handover_deinit(&sent);
}

static void nothing_but_the_whole_is_taken(void **state)
{
    static uint8_t bytes[HANDOVER_MAX + 1];
    struct handover sent = make(2), got;
    size_t n;

    assert_int_equal(handover_encode(&sent, bytes, &n), 0);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(handover_decode(gt_span(bytes, cut), &got), HANDOVER_E_BAD);
    assert_int_equal(handover_decode(gt_span(bytes, n + 1), &got), HANDOVER_E_BAD);
    bytes[0] ^= 1;
    assert_int_equal(handover_decode(gt_span(bytes, n), &got), HANDOVER_E_BAD);
    handover_deinit(&sent);
}

static void a_listener_that_is_gone_hands_over_nothing(void **state)
{
    struct handover got;
    int ends[2];

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    close(ends[1]);
    assert_int_equal(handover_receive(ends[0], &got), HANDOVER_E_BAD);
    close(ends[0]);
}

static void deinit_leaves_no_key(void **state)
{
    static const struct handover zero;
    struct handover handover = make(3);

    handover_deinit(&handover);
    assert_memory_equal(&handover, &zero, sizeof(zero));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_passes_a_pipe_whole),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(nothing_but_the_whole_is_taken),
        cmocka_unit_test(a_listener_that_is_gone_hands_over_nothing),
        cmocka_unit_test(deinit_leaves_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
