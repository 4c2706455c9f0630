/* SPDX-License-Identifier: ISC */
/* resume.c: every position of the peer's receive offset relative to the sent bytes. */
#include "gotthard/proto/resume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static void test_offset_counts_the_fin_after_the_end_of_file(void **state)
{
    assert_int_equal(gt_resume_offset(0, false), 0);
    assert_int_equal(gt_resume_offset(0, true), 1);
    assert_int_equal(gt_resume_offset(UINT32_MAX, false), UINT32_MAX);
    assert_int_equal(gt_resume_offset(UINT32_MAX, true), UINT64_C(1) << 32);
}

static void test_only_a_fresh_stream_sends_before_hello(void **state)
{
    static const struct {
        struct gt_resume resume;
        bool must_wait;
    } cases[] = {
        {{0, 0, 0, false, false}, false},
        {{0, 0, 10, false, false}, false}, /* read, and not sent */
        {{0, 1, 10, false, false}, true},
        {{10, 10, 10, false, false}, true}, /* all acknowledged */
        {{0, 0, 0, true, false}, true},     /* a FIN without data */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        if (gt_resume_must_wait(&cases[i].resume) != cases[i].must_wait)
            fail_msg("case %zu", i);
}

static void test_offset_decides_release_and_replay(void **state)
{
    static const struct {
        const char *name;
        struct gt_resume resume; /* acked, sent, read, FIN sent, FIN acked */
        uint64_t offset;
        int r;
        struct gt_resume_ack ack; /* n_released, FIN acked, send_from */
    } cases[] = {
        {"nothing sent", {0, 0, 0, 0, 0}, 0, 0, {0, false, 0}},
        {"nothing sent, claims one", {0, 0, 0, 0, 0}, 1, GT_RESUME_E_UNSENT, {0}},
        {"read, not sent", {0, 0, 10, 0, 0}, 1, GT_RESUME_E_UNSENT, {0}},
        {"all lost", {20, 30, 40, 0, 0}, 20, 0, {0, false, 20}},
        {"part arrived", {20, 30, 40, 0, 0}, 27, 0, {7, false, 27}},
        {"all arrived", {20, 30, 40, 0, 0}, 30, 0, {10, false, 30}},
        {"claims unsent bytes", {20, 30, 40, 0, 0}, 31, GT_RESUME_E_UNSENT, {0}},
        {"claims everything", {20, 30, 40, 0, 0}, UINT64_MAX, GT_RESUME_E_UNSENT, {0}},
        {"lost acknowledged bytes", {20, 30, 40, 0, 0}, 19, GT_RESUME_E_LOST, {0}},
        {"forgot everything", {20, 30, 40, 0, 0}, 0, GT_RESUME_E_LOST, {0}},
        {"FIN in flight, bytes arrived", {20, 40, 40, 1, 0}, 40, 0, {20, false, 40}},
        {"FIN in flight, arrived", {20, 40, 40, 1, 0}, 41, 0, {20, true, 40}},
        {"FIN in flight, claims more", {20, 40, 40, 1, 0}, 42, GT_RESUME_E_UNSENT, {0}},
        {"FIN not sent", {20, 40, 40, 0, 0}, 41, GT_RESUME_E_UNSENT, {0}},
        {"FIN of an earlier connection, replay not finished",
         {20, 30, 40, 1, 0},
         31,
         GT_RESUME_E_UNSENT,
         {0}},
        {"FIN acknowledged, again", {40, 40, 40, 1, 1}, 41, 0, {0, true, 40}},
        {"FIN acknowledged, then not", {40, 40, 40, 1, 1}, 40, GT_RESUME_E_LOST, {0}},
        {"FIN without data", {0, 0, 0, 1, 0}, 1, 0, {0, true, 0}},
        {"beyond 4 GiB",
         {UINT64_C(1) << 40, (UINT64_C(1) << 40) + 9, UINT64_C(1) << 41, 0, 0},
         (UINT64_C(1) << 40) + 9,
         0,
         {9, false, (UINT64_C(1) << 40) + 9}},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_resume_ack ack = {.n_released = 4711};
        int r = gt_resume_evaluate(&cases[i].resume, cases[i].offset, &ack);

        if (r != cases[i].r)
            fail_msg("%s: returned %d", cases[i].name, r);
        if (r && ack.n_released != 4711)
            fail_msg("%s: result changed on failure", cases[i].name);
        if (r)
            continue;
        if (ack.n_released != cases[i].ack.n_released ||
            ack.is_end_acked != cases[i].ack.is_end_acked ||
            ack.send_from != cases[i].ack.send_from)
            fail_msg("%s: %zu released, FIN %d, from %llu", cases[i].name, ack.n_released,
                     ack.is_end_acked, (unsigned long long)ack.send_from);
    }
}

/* Random connections that lose the bytes in flight: every byte and the FIN arrive once, in order.
 */
static void test_random_losses_deliver_everything_once(void **state)
{
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    for (unsigned run = 0; run < 2000; run++) {
        struct gt_resume ours = {.read = (uint64_t)rand_r(&seed) % 1000};
        uint64_t received = 0;
        bool is_end_delivered = false;

        for (unsigned n_connections = 0; !ours.is_end_acked; n_connections++) {
            struct gt_resume_ack ack;
            bool is_last = n_connections >= 50;

            assert_true(n_connections <= 51);
            assert_int_equal(
                gt_resume_evaluate(&ours, gt_resume_offset(received, is_end_delivered), &ack), 0);
            ours.acked += ack.n_released;
            ours.is_end_acked = ack.is_end_acked;
            ours.sent = ack.send_from;
            assert_int_equal(ours.sent, received);
            uint64_t n = is_last ? ours.read - ours.sent
                                 : (uint64_t)rand_r(&seed) % (ours.read - ours.sent + 1);
            uint64_t n_arrived = is_last ? n : (uint64_t)rand_r(&seed) % (n + 1);
            ours.sent += n;
            ours.is_end_sent |= ours.sent == ours.read;
            received += n_arrived;
            if (ours.is_end_sent && received == ours.read && (is_last || rand_r(&seed) % 2))
                is_end_delivered = true;
        }
        assert_int_equal(received, ours.read);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offset_counts_the_fin_after_the_end_of_file),
        cmocka_unit_test(test_only_a_fresh_stream_sends_before_hello),
        cmocka_unit_test(test_offset_decides_release_and_replay),
        cmocka_unit_test(test_random_losses_deliver_everything_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
