/* SPDX-License-Identifier: ISC */
/*
 * Parts of an access list: whatever arrives in whatever order, a list that comes out is one that
 * the authority signed, and it comes out when its last part has arrived.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "gotthard/trust/access-parts.h"

#define N_LISTS   3
#define PARTS_MAX 8

static const uint8_t authority_key[GT_KEY_SIZE] = "the authority's private key ..";
static const uint8_t other_key[GT_KEY_SIZE] = "the private key of another one";
static uint8_t authority[GT_KEY_SIZE];

struct payload {
    uint8_t bytes[GT_ACCESS_PART_MAX];
    size_t n;
};

/* A text and its parts. The assembly does not read the text. */
struct list {
    uint64_t serial;
    uint8_t text[700];
    size_t n, n_parts;
    struct payload parts[PARTS_MAX];
};

static void list_make(struct list *list, uint64_t serial, size_t n, size_t n_parts,
                      const uint8_t *key, int fill)
{
    *list = (struct list){.serial = serial, .n = n, .n_parts = n_parts};
    for (size_t i = 0; i < n; i++)
        list->text[i] = (uint8_t)(fill + (int)i);
    for (size_t i = 0; i < n_parts; i++)
        assert_int_equal(gt_access_part_encode(key, gt_span(list->text, n), serial, i, n_parts,
                                               list->parts[i].bytes, &list->parts[i].n),
                         0);
}

/* Adds a part. Returns the result; a whole text must be @list's. */
static int add(struct gt_access_assembly *assembly, const struct list *list, size_t part,
               uint64_t in_force)
{
    uint8_t *text = NULL;
    size_t n = 0;
    int r = gt_access_assembly_add(assembly, gt_span(list->parts[part].bytes, list->parts[part].n),
                                   authority, in_force, &text, &n);

    if (r == 0) {
        assert_int_equal(n, list->n);
        assert_memory_equal(text, list->text, n);
    }
    free(text);
    return r;
}

static int setup(void **state)
{
    return gt_ed25519_public(authority_key, authority);
}

static void test_parts_in_any_order_make_the_text(void **state)
{
    static const size_t sizes[] = {1, 2, 7, 8, 9, 699, 700};
    struct gt_access_assembly assembly;
    struct list list;

    gt_access_assembly_init(&assembly);
    for (size_t i = 0; i < GT_ARRAY_SIZE(sizes); i++) {
        size_t n_parts = GT_MIN(sizes[i], (size_t)PARTS_MAX);

        list_make(&list, 5, sizes[i], n_parts, authority_key, 1);
        for (size_t j = n_parts; j-- > 1;)
            assert_int_equal(add(&assembly, &list, j, 4), GT_ACCESS_PART_E_MORE);
        assert_int_equal(add(&assembly, &list, 0, 4), 0);
    }
    gt_access_assembly_deinit(&assembly);
}

static void test_count_of_parts(void **state)
{
    assert_int_equal(gt_access_parts_count(1, GT_ACCESS_PIECE_MQTT), 1);
    assert_int_equal(gt_access_parts_count(7900, GT_ACCESS_PIECE_MQTT), 1);
    assert_int_equal(gt_access_parts_count(7901, GT_ACCESS_PIECE_MQTT), 2);
    assert_true(gt_access_parts_count(GT_ACCESS_TEXT_MAX, GT_ACCESS_PIECE_CONTROL) <=
                GT_ACCESS_PARTS_MAX);
}

static void test_encode_refuses_impossible_numbers(void **state)
{
    uint8_t bytes[GT_ACCESS_PART_MAX];
    size_t n;
    struct gt_span text = gt_span_text("text");

    assert_int_equal(gt_access_part_encode(authority_key, text, 0, 0, 1, bytes, &n),
                     GT_ACCESS_PART_E_BAD);
    assert_int_equal(gt_access_part_encode(authority_key, text, 1, 1, 1, bytes, &n),
                     GT_ACCESS_PART_E_BAD);
    assert_int_equal(gt_access_part_encode(authority_key, text, 1, 0, 5, bytes, &n),
                     GT_ACCESS_PART_E_BAD);
    assert_int_equal(gt_access_part_encode(authority_key, text, 1, 0, 0, bytes, &n),
                     GT_ACCESS_PART_E_BAD);
    assert_int_equal(
        gt_access_part_encode(authority_key, text, GT_ACCESS_SERIAL_MAX + 1, 0, 1, bytes, &n),
        GT_ACCESS_PART_E_BAD);
}

/* A flipped bit, a missing or an additional byte: no part of it is kept. */
static void test_damaged_part_changes_nothing(void **state)
{
    struct gt_access_assembly assembly;
    struct list list;
    uint8_t *text = NULL;
    size_t n = 0;

    gt_access_assembly_init(&assembly);
    list_make(&list, 5, 40, 2, authority_key, 1);
    for (size_t i = 0; i < list.parts[0].n * 8; i++) {
        struct payload damaged = list.parts[0];

        damaged.bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        int r = gt_access_assembly_add(&assembly, gt_span(damaged.bytes, damaged.n), authority, 4,
                                       &text, &n);
        assert_true(r == GT_ACCESS_PART_E_BAD || r == GT_ACCESS_PART_E_OLD);
    }
    for (size_t i = 0; i <= list.parts[0].n + 1; i++)
        if (i != list.parts[0].n)
            assert_int_equal(gt_access_assembly_add(&assembly, gt_span(list.parts[0].bytes, i),
                                                    authority, 4, &text, &n),
                             GT_ACCESS_PART_E_BAD);
    assert_int_equal(assembly.serial, 0);
    assert_null(assembly.text);
}

static void test_part_of_another_authority_takes_no_memory(void **state)
{
    struct gt_access_assembly assembly;
    struct list list;

    gt_access_assembly_init(&assembly);
    list_make(&list, 5, 40, 2, other_key, 1);
    assert_int_equal(add(&assembly, &list, 0, 4), GT_ACCESS_PART_E_BAD);
    assert_null(assembly.text);
}

static void test_part_is_judged_by_its_serial(void **state)
{
    struct gt_access_assembly assembly;
    struct list old, list, new;

    gt_access_assembly_init(&assembly);
    list_make(&old, 4, 40, 2, authority_key, 1);
    list_make(&list, 5, 40, 2, authority_key, 2);
    list_make(&new, 6, 40, 2, authority_key, 3);
    assert_int_equal(add(&assembly, &list, 0, 5), GT_ACCESS_PART_E_OLD);
    assert_int_equal(add(&assembly, &list, 0, 4), GT_ACCESS_PART_E_MORE);
    assert_int_equal(add(&assembly, &old, 1, 3), GT_ACCESS_PART_E_OLD);
    assert_int_equal(add(&assembly, &list, 0, 4), GT_ACCESS_PART_E_TWICE);
    assert_int_equal(add(&assembly, &new, 1, 4), GT_ACCESS_PART_E_MORE);
    assert_int_equal(add(&assembly, &list, 1, 4), GT_ACCESS_PART_E_OLD);
    assert_int_equal(add(&assembly, &new, 0, 4), 0);
    gt_access_assembly_deinit(&assembly);
}

/* Two lists of one serial: the one whose parts are all there last comes out whole, never a mixture.
 */
static void test_parts_of_two_texts_with_one_serial_do_not_mix(void **state)
{
    struct gt_access_assembly assembly;
    struct list a, b;

    gt_access_assembly_init(&assembly);
    list_make(&a, 5, 40, 2, authority_key, 1);
    list_make(&b, 5, 40, 2, authority_key, 2);
    assert_int_equal(add(&assembly, &a, 0, 4), GT_ACCESS_PART_E_MORE);
    assert_int_equal(add(&assembly, &b, 1, 4), GT_ACCESS_PART_E_MORE);
    assert_int_equal(add(&assembly, &a, 0, 4), GT_ACCESS_PART_E_MORE);
    assert_int_equal(add(&assembly, &a, 1, 4), 0);
    gt_access_assembly_deinit(&assembly);
}

/* Each part is signed, but the text is not what its hash states. */
static void test_text_that_differs_from_its_hash_is_rejected(void **state)
{
    struct gt_access_assembly assembly;
    struct list list;
    uint8_t *text = NULL;
    size_t n = 0;

    gt_access_assembly_init(&assembly);
    list_make(&list, 5, 40, 2, authority_key, 1);
    struct payload *part = &list.parts[1];
    part->bytes[part->n - GT_ED25519_SIGNATURE_SIZE - 1] ^= 1;
    assert_int_equal(gt_access_sign(authority_key, GT_ACCESS_CONTEXT_PART,
                                    gt_span(part->bytes, part->n - GT_ED25519_SIGNATURE_SIZE),
                                    part->bytes + part->n - GT_ED25519_SIGNATURE_SIZE),
                     0);
    assert_int_equal(add(&assembly, &list, 0, 4), GT_ACCESS_PART_E_MORE);
    assert_int_equal(
        gt_access_assembly_add(&assembly, gt_span(part->bytes, part->n), authority, 4, &text, &n),
        GT_ACCESS_PART_E_BAD);
    assert_null(text);
    assert_int_equal(assembly.serial, 0);
}

/* Random parts of lists with rising serials, some damaged. The model: the parts of the greatest
 * serial since it was first seen. */
static void test_random_arrivals_agree_with_the_model(void **state)
{
    unsigned seed = (unsigned)time(NULL), n_whole = 0;
    static struct list lists[N_LISTS];
    struct gt_access_assembly assembly;
    uint64_t in_force = 0, current = 0;
    bool has[PARTS_MAX] = {false};

    print_message("seed %u\n", seed);
    gt_access_assembly_init(&assembly);
    for (size_t i = 0; i < N_LISTS; i++)
        list_make(&lists[i], i + 1, 100 + (size_t)rand_r(&seed) % 600,
                  1 + (size_t)rand_r(&seed) % PARTS_MAX, authority_key, (int)i);
    for (int i = 0; i < 3000; i++) {
        const struct list *list = &lists[(size_t)rand_r(&seed) % N_LISTS];
        size_t part = (size_t)rand_r(&seed) % list->n_parts, n_has = 0;
        int r = add(&assembly, list, part, in_force);

        if (list->serial <= in_force || list->serial < current) {
            assert_int_equal(r, GT_ACCESS_PART_E_OLD);
            continue;
        }
        if (list->serial > current)
            memset(has, 0, sizeof(has));
        current = list->serial;
        assert_int_equal(r == GT_ACCESS_PART_E_TWICE, has[part]);
        has[part] = true;
        for (size_t j = 0; j < list->n_parts; j++)
            n_has += has[j];
        assert_int_equal(r == 0, n_has == list->n_parts);
        if (r == 0) {
            n_whole++;
            in_force = list->serial;
            current = 0;
            memset(has, 0, sizeof(has));
        }
        if (in_force == N_LISTS)
            in_force = 0; /* start again */
    }
    assert_true(n_whole > 0);
    gt_access_assembly_deinit(&assembly);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_in_any_order_make_the_text),
        cmocka_unit_test(test_count_of_parts),
        cmocka_unit_test(test_encode_refuses_impossible_numbers),
        cmocka_unit_test(test_damaged_part_changes_nothing),
        cmocka_unit_test(test_part_of_another_authority_takes_no_memory),
        cmocka_unit_test(test_part_is_judged_by_its_serial),
        cmocka_unit_test(test_parts_of_two_texts_with_one_serial_do_not_mix),
        cmocka_unit_test(test_text_that_differs_from_its_hash_is_rejected),
        cmocka_unit_test(test_random_arrivals_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
