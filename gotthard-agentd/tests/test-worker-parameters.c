/* SPDX-License-Identifier: ISC */
/*
 * worker-parameters.c: the round trip through a pipe at every size, and damaged encodings.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "worker-parameters.h"

static struct worker_parameters make(size_t n_services)
{
    struct worker_parameters worker_parameters = {
        .relay = {"main", {"relay.example", 7000}},
        .is_single_port = true,
        .log_level = 2,
        .lifetime_s = 43200,
        .peer_timeout_ms = 30000,
        .resume_window_ms = 120000,
        .dial_timeout_ms = 10000,
        .vanished_ms = 100000,
        .linger_ms = 30000,
        .ring_size = 1 << 20,
        .max_streams = 64,
        .suite = 0x1303,
        .permit = "10.0.0.0/8:80",
    };

    memset(worker_parameters.keys.session, 0xa1, GT_KEY_SIZE);
    memset(worker_parameters.keys.rid, 0xb2, GT_RID_SIZE);
    memset(worker_parameters.client_key, 0xc3, GT_KEY_SIZE);
    snprintf(worker_parameters.device, sizeof(worker_parameters.device), "GatewayOli");
    memset(worker_parameters.operator_, 'a', GT_NAME_MAX);
    for (size_t i = 0; i < n_services; i++) {
        struct target service = {.address.port = (uint16_t)(i + 1)};

        memset(service.name, 'n', GT_SERVICE_MAX);
        memset(service.address.host, 'h', GT_HOST_MAX);
        assert_int_equal(targets_add(&worker_parameters.services, &service), 0);
    }
    return worker_parameters;
}

static void assert_same(const struct worker_parameters *a, const struct worker_parameters *b)
{
    assert_memory_equal(&a->keys, &b->keys, sizeof(a->keys));
    assert_memory_equal(a->client_key, b->client_key, GT_KEY_SIZE);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->operator_, b->operator_);
    assert_string_equal(a->permit, b->permit);
    assert_true(target_equals(&a->relay, &b->relay));
    assert_int_equal(a->is_single_port, b->is_single_port);
    assert_int_equal(a->log_level, b->log_level);
    assert_int_equal(a->lifetime_s, b->lifetime_s);
    assert_int_equal(a->peer_timeout_ms, b->peer_timeout_ms);
    assert_int_equal(a->resume_window_ms, b->resume_window_ms);
    assert_int_equal(a->dial_timeout_ms, b->dial_timeout_ms);
    assert_int_equal(a->vanished_ms, b->vanished_ms);
    assert_int_equal(a->linger_ms, b->linger_ms);
    assert_int_equal(a->ring_size, b->ring_size);
    assert_int_equal(a->max_streams, b->max_streams);
    assert_int_equal(a->suite, b->suite);
    assert_int_equal(a->services.n, b->services.n);
    for (size_t i = 0; i < a->services.n; i++)
        assert_true(target_equals(&a->services.all[i], &b->services.all[i]));
}

static void test_pipe_round_trip_at_each_size(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 64, 120};

    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        struct worker_parameters sent = make(sizes[i]), got;
        int ends[2];

        assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
        assert_int_equal(worker_parameters_send(&sent, ends[1]), 0);
        close(ends[1]);
        assert_int_equal(worker_parameters_receive(ends[0], &got), 0);
        close(ends[0]);
        assert_same(&sent, &got);
        worker_parameters_deinit(&sent);
        worker_parameters_deinit(&got);
    }
}

static void test_send_rejects_parameters_beyond_limit(void **state)
{
    struct worker_parameters sent = make(200);
    int ends[2];

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    assert_int_equal(worker_parameters_send(&sent, ends[1]), -EMSGSIZE);
    close(ends[0]);
    close(ends[1]);
    worker_parameters_deinit(&sent);
}

static void test_decode_rejects_every_cut_and_trailing_byte(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX + 1];
    struct worker_parameters sent = make(2), got;
    size_t n;

    assert_int_equal(worker_parameters_encode(&sent, bytes, &n), 0);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(worker_parameters_decode(gt_span(bytes, cut), &got),
                         WORKER_PARAMETERS_E_BAD);
    assert_int_equal(worker_parameters_decode(gt_span(bytes, n + 1), &got),
                     WORKER_PARAMETERS_E_BAD);
    bytes[0] ^= 1;
    assert_int_equal(worker_parameters_decode(gt_span(bytes, n), &got), WORKER_PARAMETERS_E_BAD);
    worker_parameters_deinit(&sent);
}

static void test_receive_rejects_closed_pipe(void **state)
{
    struct worker_parameters got;
    int ends[2];

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    close(ends[1]);
    assert_int_equal(worker_parameters_receive(ends[0], &got), WORKER_PARAMETERS_E_BAD);
    close(ends[0]);
}

static void test_deinit_wipes_keys(void **state)
{
    static const struct worker_parameters zero;
    struct worker_parameters worker_parameters = make(3);

    worker_parameters_deinit(&worker_parameters);
    assert_memory_equal(&worker_parameters, &zero, sizeof(zero));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipe_round_trip_at_each_size),
        cmocka_unit_test(test_send_rejects_parameters_beyond_limit),
        cmocka_unit_test(test_decode_rejects_every_cut_and_trailing_byte),
        cmocka_unit_test(test_receive_rejects_closed_pipe),
        cmocka_unit_test(test_deinit_wipes_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
