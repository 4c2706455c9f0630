/* SPDX-License-Identifier: ISC */
/*
 * record.c: the records of RFC 8448, every length with both suites, key updates, and records that
 * are not authentic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gotthard/base/text.h"
#include "gotthard/tls/record.h"
#include "vectors.h"

static const enum gt_record_suite suites[] = {GT_RECORD_AES128, GT_RECORD_CHACHA20};
static uint8_t plain[GT_RECORD_MAX], sealed[GT_RECORD_SIZE], out[GT_RECORD_SIZE];

struct ends {
    struct gt_record sealing, opening;
};

static void ends_init(struct ends *e, enum gt_record_suite suite)
{
    uint8_t secret[GT_KEY_SIZE];

    dice_fill(secret, sizeof(secret));
    assert_int_equal(gt_record_init(&e->sealing, suite, secret, true), 0);
    assert_int_equal(gt_record_init(&e->opening, suite, secret, false), 0);
}

static void ends_deinit(struct ends *e)
{
    gt_record_deinit(&e->sealing);
    gt_record_deinit(&e->opening);
}

static void seal(struct ends *e, enum gt_record_type type, size_t n)
{
    assert_int_equal(gt_record_seal(&e->sealing, type, &(struct gt_span){plain, n}, 1, sealed), 0);
}

/* RFC 8448, section 3: first application data of the client. */
static void test_record_matches_rfc_8448(void **state)
{
    static const char *const record =
        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20"
        "441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
    uint8_t secret[GT_KEY_SIZE], wanted[72], fifty[50];
    struct gt_record sealing;

    assert_int_equal(
        gt_text_unhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5", secret,
                      sizeof(secret)),
        0);
    assert_int_equal(gt_text_unhex(record, wanted, sizeof(wanted)), 0);
    for (size_t i = 0; i < sizeof(fifty); i++)
        fifty[i] = (uint8_t)i;
    assert_int_equal(gt_record_init(&sealing, GT_RECORD_AES128, secret, true), 0);
    struct gt_span parts[] = {{fifty, 0}, {fifty, 7}, {fifty + 7, 43}};
    assert_int_equal(gt_record_seal(&sealing, GT_RECORD_DATA, parts, 3, sealed), 0);
    assert_memory_equal(sealed, wanted, sizeof(wanted));
    gt_record_deinit(&sealing);
}

static void test_record_opens_at_every_length(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 16000, GT_RECORD_MAX - 1, GT_RECORD_MAX};
    struct ends e;

    dice_fill(plain, sizeof(plain));
    for (size_t s = 0; s < GT_ARRAY_SIZE(suites); s++) {
        ends_init(&e, suites[s]);
        for (size_t i = 0; i < 4 * GT_ARRAY_SIZE(sizes); i++) {
            size_t n = sizes[i % GT_ARRAY_SIZE(sizes)], n_record, n_content;
            bool is_in_place = i % 2;
            unsigned type;

            if (i % 8 == 7) {
                assert_int_equal(gt_record_update(&e.sealing), 0);
                assert_int_equal(gt_record_update(&e.opening), 0);
            }
            seal(&e, i % 3 ? GT_RECORD_DATA : GT_RECORD_ALERT, n);
            assert_int_equal(gt_record_size(sealed, &n_record), 0);
            assert_int_equal(n_record, n + GT_RECORD_OVERHEAD);
            uint8_t *ret = is_in_place ? sealed + GT_RECORD_HEADER : out;
            assert_int_equal(gt_record_open(&e.opening, sealed, n_record, ret, &n_content, &type),
                             0);
            assert_int_equal(n_content, n);
            assert_int_equal(type, i % 3 ? GT_RECORD_DATA : GT_RECORD_ALERT);
            assert_memory_equal(ret, plain, n);
        }
        ends_deinit(&e);
    }
}

/* A peer may pad. A record of padding only has no type and is invalid. */
static void test_record_removes_padding(void **state)
{
    struct ends e;
    size_t n;
    unsigned type;

    ends_init(&e, GT_RECORD_AES128);
    memcpy(plain, "abc\x17\0\0\0", 7);
    seal(&e, 0, 7);
    assert_int_equal(gt_record_open(&e.opening, sealed, 7 + GT_RECORD_OVERHEAD, out, &n, &type), 0);
    assert_int_equal(n, 3);
    assert_int_equal(type, GT_RECORD_DATA);
    memset(plain, 0, 7);
    seal(&e, 0, 7);
    assert_int_equal(gt_record_open(&e.opening, sealed, 7 + GT_RECORD_OVERHEAD, out, &n, &type),
                     GT_RECORD_E_BAD);
    ends_deinit(&e);
}

static void test_record_rejects_every_changed_bit(void **state)
{
    enum { N = 40, SIZE = N + GT_RECORD_OVERHEAD };
    static const struct ends none;

    for (size_t s = 0; s < GT_ARRAY_SIZE(suites); s++)
        for (size_t bit = 0; bit < 8 * SIZE; bit++) {
            struct ends e = none;
            size_t n;
            unsigned type;

            ends_init(&e, suites[s]);
            seal(&e, GT_RECORD_DATA, N);
            sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(gt_record_open(&e.opening, sealed, SIZE, out, &n, &type),
                             GT_RECORD_E_BAD);
            ends_deinit(&e);
        }
}

/* Own records are rejected a second time, out of order, and with the previous key. */
static void test_record_rejects_replay_and_reordering(void **state)
{
    struct ends e;
    uint8_t second[1 + GT_RECORD_OVERHEAD];
    size_t n;
    unsigned type;

    ends_init(&e, GT_RECORD_CHACHA20);
    seal(&e, GT_RECORD_DATA, 1);
    memcpy(second, sealed, sizeof(second));
    assert_int_equal(gt_record_open(&e.opening, second, sizeof(second), out, &n, &type), 0);
    assert_int_equal(gt_record_open(&e.opening, second, sizeof(second), out, &n, &type),
                     GT_RECORD_E_BAD);
    ends_deinit(&e);
    ends_init(&e, GT_RECORD_AES128);
    seal(&e, GT_RECORD_DATA, 1);
    assert_int_equal(gt_record_update(&e.opening), 0);
    assert_int_equal(gt_record_open(&e.opening, sealed, 1 + GT_RECORD_OVERHEAD, out, &n, &type),
                     GT_RECORD_E_BAD);
    ends_deinit(&e);
}

static void test_record_size_rejects_other_headers(void **state)
{
    static const struct {
        uint8_t header[GT_RECORD_HEADER];
        bool is_one;
    } cases[] = {
        {{23, 3, 3, 0, 17}, true},       {{23, 3, 3, 0, 16}, false}, {{23, 3, 3, 0x41, 0x00}, true},
        {{23, 3, 3, 0x41, 0x01}, false}, {{23, 3, 1, 1, 0}, true},   {{23, 2, 3, 1, 0}, false},
        {{22, 3, 3, 1, 0}, false},       {{20, 3, 3, 0, 1}, false},  {{21, 3, 3, 0, 2}, false},
        {{23, 3, 3, 0xff, 0xff}, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        size_t n = 0;
        int r = gt_record_size(cases[i].header, &n);

        assert_int_equal(r, cases[i].is_one ? 0 : GT_RECORD_E_BAD);
        assert_true(n <= GT_RECORD_SIZE && (n > 0) == cases[i].is_one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_matches_rfc_8448),
        cmocka_unit_test(test_record_opens_at_every_length),
        cmocka_unit_test(test_record_removes_padding),
        cmocka_unit_test(test_record_rejects_every_changed_bit),
        cmocka_unit_test(test_record_rejects_replay_and_reordering),
        cmocka_unit_test(test_record_size_rejects_other_headers),
    };

    dice_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
