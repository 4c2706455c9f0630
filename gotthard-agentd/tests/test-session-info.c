/* SPDX-License-Identifier: ISC */
/* session-info.c: the encoding restores each field, and nothing else is decoded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "session-info.h"

static struct session_info sample(void)
{
    static const struct target service = {"ssh", {"127.0.0.1", 22}};
    struct session_info info = {.pid = getpid(),
                                .device = "dev",
                                .operator_ = "alice",
                                .is_signed = true,
                                .ends_at_ms = 0x0102030405060708,
                                .relay = {"main", {"relay.example.org", 7000}}};

    memset(info.rid, 0xab, sizeof(info.rid));
    memset(info.key_id, 0xbc, sizeof(info.key_id));
    memset(info.fingerprint, 0xcd, sizeof(info.fingerprint));
    assert_int_equal(targets_add(&info.services, &service), 0);
    return info;
}

static void assert_same(const struct session_info *a, const struct session_info *b)
{
    assert_int_equal(a->grant, b->grant);
    assert_int_equal(a->applied, b->applied);
    assert_int_equal(a->pid, b->pid);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->operator_, b->operator_);
    assert_memory_equal(a->rid, b->rid, sizeof(a->rid));
    assert_memory_equal(a->key_id, b->key_id, sizeof(a->key_id));
    assert_int_equal(a->is_signed, b->is_signed);
    assert_memory_equal(a->fingerprint, b->fingerprint, sizeof(a->fingerprint));
    assert_int_equal(a->ends_at_ms, b->ends_at_ms);
    assert_string_equal(a->purpose, b->purpose);
    assert_string_equal(a->permit, b->permit);
    assert_true(target_equals(&a->relay, &b->relay));
    assert_int_equal(a->services.n, b->services.n);
    for (size_t i = 0; i < a->services.n; i++)
        assert_true(target_equals(&a->services.all[i], &b->services.all[i]));
}

static void test_decode_restores_each_field(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n;

    for (int has_purpose = 0; has_purpose < 2; has_purpose++) {
        strcpy(info.purpose, has_purpose ? "disk full" : "");
        assert_int_equal(session_info_encode(&info, bytes, &n), 0);
        assert_int_equal(bytes[3], has_purpose ? '4' : '3'); /* an earlier agent reads GTW3 */
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), 0);
        assert_same(&info, &got);
        session_info_deinit(&got);
        bytes[3] = has_purpose ? '3' : '4';
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), SESSION_INFO_E_BAD);
    }
    session_info_deinit(&info);
}

static void test_decode_restores_permitted_targets(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n;

    strcpy(info.permit, "10.0.0.0/8:80 plc.local:*");
    for (int has_purpose = 0; has_purpose < 2; has_purpose++) {
        strcpy(info.purpose, has_purpose ? "disk full" : "");
        assert_int_equal(session_info_encode(&info, bytes, &n), 0);
        assert_int_equal(bytes[3], '5');
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), 0);
        assert_same(&info, &got);
        session_info_deinit(&got);
        bytes[3] = '4';
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), SESSION_INFO_E_BAD);
    }
    session_info_deinit(&info);
}

/* The worker acknowledges by one byte, at a place that depends on nothing. */
static void test_decode_restores_changed_grant(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n;

    info.grant = 2;
    info.applied = 1;
    for (int has_permit = 0; has_permit < 2; has_permit++) {
        strcpy(info.permit, has_permit ? "10.0.0.0/8:80" : "");
        assert_int_equal(session_info_encode(&info, bytes, &n), 0);
        assert_int_equal(bytes[3], '6');
        assert_int_equal(bytes[SESSION_INFO_APPLIED_AT], 1);
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), 0);
        assert_same(&info, &got);
        session_info_deinit(&got);
        bytes[SESSION_INFO_APPLIED_AT] = 2; /* by the worker */
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), 0);
        assert_int_equal(got.applied, 2);
        session_info_deinit(&got);
        bytes[SESSION_INFO_APPLIED_AT - 1] = 0; /* has its own magic */
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), SESSION_INFO_E_BAD);
    }
    session_info_deinit(&info);
}

/* The worker may read while the next grant, of the same length, is written. */
static void test_decode_rejects_a_mixture_of_two_changes(void **state)
{
    static uint8_t old[WORKER_PARAMETERS_MAX], new[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n, n_new;

    info.grant = 1;
    strcpy(info.permit, "10.0.0.0/8:80");
    assert_int_equal(session_info_encode(&info, old, &n), 0);
    info.grant = 2;
    info.services.all[0].address.port = 23;
    strcpy(info.permit, "10.0.0.0/8:81");
    assert_int_equal(session_info_encode(&info, new, &n_new), 0);
    assert_int_equal(n, n_new);
    for (size_t n_written = 1; n_written < n; n_written++) {
        old[n_written - 1] = new[n_written - 1];
        bool is_old = n_written < SESSION_INFO_APPLIED_AT; /* the magic is that of both */
        bool is_new = memcmp(old, new, n) == 0; /* the last bytes of both may be the same */
        int r = session_info_decode(gt_span(old, n), &got);
        assert_int_equal(r, is_old || is_new ? 0 : SESSION_INFO_E_BAD);
        if (r == 0)
            session_info_deinit(&got);
    }
    session_info_deinit(&info);
}

static void test_decode_rejects_every_cut_and_trailing_byte(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n;

    assert_int_equal(session_info_encode(&info, bytes, &n), 0);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(session_info_decode(gt_span(bytes, cut), &got), SESSION_INFO_E_BAD);
    assert_int_equal(session_info_decode(gt_span(bytes, n + 1), &got), SESSION_INFO_E_BAD);
    session_info_deinit(&info);
}

static void test_decode_rejects_other_versions(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n;

    assert_int_equal(session_info_encode(&info, bytes, &n), 0);
    for (const char *version = "012456"; *version; version++) {
        bytes[3] = (uint8_t)*version;
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), SESSION_INFO_E_BAD);
    }
    session_info_deinit(&info);
}

/* A name is part of log lines and of identities at the relay. */
static void test_decode_rejects_ill_formed_names(void **state)
{
    static const char *const names[] = {"", "al ice", "a\nb", "#", "-x", "a/b"};
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    size_t n;

    for (size_t i = 0; i < 2 * GT_ARRAY_SIZE(names); i++) {
        struct session_info info = sample(), got;
        const char *name = names[i / 2];

        snprintf(i % 2 ? info.device : info.operator_, sizeof(info.device), "%s", name);
        if (session_info_encode(&info, bytes, &n) == 0)
            assert_int_equal(session_info_decode(gt_span(bytes, n), &got), SESSION_INFO_E_BAD);
        session_info_deinit(&info);
    }
}

/* A pid of 1, 0 or below would signal init or a group of processes. */
static void test_decode_rejects_pid_below_2(void **state)
{
    static const pid_t pids[] = {1, 0, -1, INT32_MIN};
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample(), got;
    size_t n;

    for (size_t i = 0; i < GT_ARRAY_SIZE(pids); i++) {
        info.pid = pids[i];
        assert_int_equal(session_info_encode(&info, bytes, &n), 0);
        assert_int_equal(session_info_decode(gt_span(bytes, n), &got), SESSION_INFO_E_BAD);
    }
    session_info_deinit(&info);
}

static void test_encode_rejects_too_many_services(void **state)
{
    static uint8_t bytes[WORKER_PARAMETERS_MAX];
    struct session_info info = sample();
    struct target service = {.address.port = 1};
    size_t n;

    memset(service.name, 'n', GT_SERVICE_MAX);
    memset(service.address.host, 'h', GT_HOST_MAX);
    for (int i = 0; i < 200; i++)
        assert_int_equal(targets_add(&info.services, &service), 0);
    assert_int_equal(session_info_encode(&info, bytes, &n), SESSION_INFO_E_BAD);
    session_info_deinit(&info);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_restores_each_field),
        cmocka_unit_test(test_decode_restores_permitted_targets),
        cmocka_unit_test(test_decode_restores_changed_grant),
        cmocka_unit_test(test_decode_rejects_a_mixture_of_two_changes),
        cmocka_unit_test(test_decode_rejects_every_cut_and_trailing_byte),
        cmocka_unit_test(test_decode_rejects_other_versions),
        cmocka_unit_test(test_decode_rejects_ill_formed_names),
        cmocka_unit_test(test_decode_rejects_pid_below_2),
        cmocka_unit_test(test_encode_rejects_too_many_services),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
