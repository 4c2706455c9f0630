/* SPDX-License-Identifier: ISC */
/* Chains of audit lines: changes that are found, in pieces of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/audit/audit-chain.h"

#define N_LINES 5

struct fixture {
    struct gt_audit_head head;
    char text[N_LINES * 512];
    size_t n, starts[N_LINES + 1], n_lines;
};

static void add(struct fixture *f, enum gt_audit_kind kind)
{
    char line[GT_AUDIT_LINE_MAX + 1];
    const struct gt_audit_event event = {.kind = kind, .reason = "as the test has it"};
    struct gt_span span =
        gt_span(line, gt_audit_line_encode(&event, &f->head, 1796047500123, line));

    assert_true(f->n + span.n <= sizeof(f->text));
    memcpy(f->text + f->n, line, span.n);
    f->n += span.n;
    f->starts[++f->n_lines] = f->n;
    f->head.seq++;
    assert_int_equal(gt_sha256(&span, 1, f->head.hash), 0);
}

static void fill(struct fixture *f)
{
    *f = (struct fixture){0};
    for (size_t i = 0; i < N_LINES; i++)
        add(f, i == 0 ? GT_AUDIT_START : GT_AUDIT_RELOAD);
}

/* Verdicts as a text: g(ood) t(orn) b(roken) m(alformed) i(ncomplete). */
static char verdicts[64];

static bool note(void *userdata, enum gt_audit_verdict verdict, struct gt_span line,
                 const struct gt_audit_line *decoded)
{
    size_t n = strlen(verdicts);

    assert_true(n < sizeof(verdicts) - 1);
    assert_true(line.n > 0 && line.n <= GT_AUDIT_LINE_MAX);
    assert_int_equal(decoded == NULL, verdict >= GT_AUDIT_VERDICT_MALFORMED);
    verdicts[n] = "gtbmi"[verdict];
    return true;
}

static struct gt_audit_chain verify(const char *text, size_t n, size_t piece)
{
    struct gt_audit_chain chain;

    memset(verdicts, 0, sizeof(verdicts));
    gt_audit_chain_init(&chain, note, NULL);
    for (size_t at = 0; at < n; at += piece)
        assert_int_equal(gt_audit_chain_feed(&chain, gt_span(text + at, GT_MIN(piece, n - at))), 0);
    assert_int_equal(gt_audit_chain_end(&chain), 0);
    return chain;
}

static void test_good_chain_is_intact_in_pieces_of_any_size(void **state)
{
    struct fixture f;

    fill(&f);
    for (size_t piece = 1; piece <= f.n; piece++) {
        struct gt_audit_chain chain = verify(f.text, f.n, piece);

        assert_string_equal(verdicts, "ggggg");
        assert_true(gt_audit_chain_is_intact(&chain));
        assert_memory_equal(&chain.head, &f.head, sizeof(f.head));
    }
}

static void test_rotated_chain_begins_anywhere(void **state)
{
    struct fixture f;

    fill(&f);
    struct gt_audit_chain chain = verify(f.text + f.starts[2], f.n - f.starts[2], f.n);
    assert_string_equal(verdicts, "ggg");
    assert_true(gt_audit_chain_is_intact(&chain));
}

/* Each changed byte of each line but the last is found, at this line or the next. */
static void test_every_changed_byte_is_found(void **state)
{
    struct fixture f;

    fill(&f);
    for (size_t at = 0; at < f.starts[N_LINES - 1]; at++) {
        f.text[at] ^= 1;
        struct gt_audit_chain chain = verify(f.text, f.n, f.n);
        assert_false(gt_audit_chain_is_intact(&chain));
        f.text[at] ^= 1;
    }
}

static void test_removed_line_is_found(void **state)
{
    struct fixture f;

    fill(&f);
    memmove(f.text + f.starts[1], f.text + f.starts[2], f.n - f.starts[2]);
    struct gt_audit_chain chain = verify(f.text, f.n - (f.starts[2] - f.starts[1]), f.n);
    assert_string_equal(verdicts, "gbgg");
    assert_int_equal(chain.n_broken, 1);
}

static void test_exchanged_and_repeated_lines_are_found(void **state)
{
    struct fixture f;
    char text[2 * sizeof(f.text)];

    fill(&f);
    size_t n = f.starts[2];
    memcpy(text, f.text, n);
    memcpy(text + n, f.text + f.starts[1], f.n - f.starts[1]);
    struct gt_audit_chain chain = verify(text, n + f.n - f.starts[1], sizeof(text));
    assert_string_equal(verdicts, "ggbggg");
    assert_false(gt_audit_chain_is_intact(&chain));
}

static void test_first_line_of_all_has_no_line_before(void **state)
{
    struct fixture f = {.head = {.hash = {1}}};

    add(&f, GT_AUDIT_START);
    struct gt_audit_chain chain = verify(f.text, f.n, f.n);
    assert_string_equal(verdicts, "b");
    assert_false(gt_audit_chain_is_intact(&chain));
}

static void test_incomplete_last_line_is_reported(void **state)
{
    struct fixture f;

    fill(&f);
    struct gt_audit_chain chain = verify(f.text, f.n - 1, f.n);
    assert_string_equal(verdicts, "ggggi");
    assert_true(gt_audit_chain_is_incomplete(&chain));
    assert_true(gt_audit_chain_is_intact(&chain));
}

/* As after a power cut: garbage, then a line that continues from its hash. */
static size_t make_torn(struct fixture *f, const char *garbage, enum gt_audit_kind kind)
{
    struct gt_span span = gt_span_text(garbage);

    f->n = f->starts[3];
    f->head.seq = 3;
    memcpy(f->text + f->n, garbage, span.n);
    f->n += span.n;
    assert_int_equal(gt_sha256(&span, 1, f->head.hash), 0);
    add(f, kind);
    return f->n;
}

static void test_torn_line_is_explained_by_the_next_one(void **state)
{
    struct fixture f;

    fill(&f);
    make_torn(&f, "{\"seq\":4,\"time\":\n", GT_AUDIT_TORN);
    struct gt_audit_chain chain = verify(f.text, f.n, f.n);
    assert_string_equal(verdicts, "gggmt");
    assert_true(gt_audit_chain_is_intact(&chain));
    assert_int_equal(chain.n_torn, 1);
}

static void test_malformed_line_without_that_is_broken(void **state)
{
    struct fixture f;

    fill(&f);
    make_torn(&f, "garbage\n", GT_AUDIT_RELOAD);
    struct gt_audit_chain chain = verify(f.text, f.n, f.n);
    assert_string_equal(verdicts, "gggmb");
    assert_false(gt_audit_chain_is_intact(&chain));
    chain = verify("garbage\n", 8, 8);
    assert_string_equal(verdicts, "m");
    assert_false(gt_audit_chain_is_intact(&chain));
    assert_true(gt_audit_chain_is_torn(&chain));
}

static void test_torn_cannot_hide_a_removed_line(void **state)
{
    struct fixture f;

    fill(&f);
    make_torn(&f, "garbage\n", GT_AUDIT_TORN);
    f.text[f.starts[3]] ^= 1; /* other garbage */
    struct gt_audit_chain chain = verify(f.text, f.n, f.n);
    assert_string_equal(verdicts, "gggmb");
    assert_false(gt_audit_chain_is_intact(&chain));
}

static void test_endless_line_is_cut(void **state)
{
    static char text[3 * GT_AUDIT_LINE_MAX + 7];

    memset(text, 'a', sizeof(text));
    struct gt_audit_chain chain = verify(text, sizeof(text), 100);
    assert_string_equal(verdicts, "mmmi");
    assert_false(gt_audit_chain_is_intact(&chain));
}

static bool stop(void *userdata, enum gt_audit_verdict verdict, struct gt_span line,
                 const struct gt_audit_line *decoded)
{
    return false;
}

static void test_reader_can_stop(void **state)
{
    struct gt_audit_chain chain;
    struct fixture f;

    fill(&f);
    gt_audit_chain_init(&chain, stop, NULL);
    assert_int_equal(gt_audit_chain_feed(&chain, gt_span(f.text, f.n)), GT_AUDIT_CHAIN_E_STOPPED);
    assert_int_equal(chain.n_lines, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_chain_is_intact_in_pieces_of_any_size),
        cmocka_unit_test(test_rotated_chain_begins_anywhere),
        cmocka_unit_test(test_every_changed_byte_is_found),
        cmocka_unit_test(test_removed_line_is_found),
        cmocka_unit_test(test_exchanged_and_repeated_lines_are_found),
        cmocka_unit_test(test_first_line_of_all_has_no_line_before),
        cmocka_unit_test(test_incomplete_last_line_is_reported),
        cmocka_unit_test(test_torn_line_is_explained_by_the_next_one),
        cmocka_unit_test(test_malformed_line_without_that_is_broken),
        cmocka_unit_test(test_torn_cannot_hide_a_removed_line),
        cmocka_unit_test(test_endless_line_is_cut),
        cmocka_unit_test(test_reader_can_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
