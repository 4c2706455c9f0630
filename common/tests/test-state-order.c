/* SPDX-License-Identifier: ISC */
#include "gotthard/signaling/state-order.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct arrival {
    char epoch;
    uint64_t seq;
    bool is_retained, is_accepted;
};

#define RETAINED true
#define LIVE     false

static const struct row {
    const char *what;
    struct arrival arrivals[4]; /* up to one with seq 0 */
} rows[] = {
    {"a first retained state", {{'a', 1, RETAINED, true}}},
    {"a first live state", {{'a', 1, LIVE, true}}},
    {"a retained state after a live one", {{'a', 2, LIVE, true}, {'a', 1, RETAINED, false}}},
    {"the same state, retained", {{'a', 2, LIVE, true}, {'a', 2, RETAINED, false}}},
    {"a retained one of another epoch", {{'b', 1, LIVE, true}, {'a', 900, RETAINED, false}}},
    {"a live one after a retained one", {{'a', 5, RETAINED, true}, {'a', 6, LIVE, true}}},
    {"a live one after a restart", {{'a', 500, RETAINED, true}, {'b', 1, LIVE, true}}},
    {"a late will of the same epoch", {{'a', 8, LIVE, true}, {'a', 7, LIVE, false}}},
    {"a live one that is older than a retained one",
     {{'a', 9, RETAINED, true}, {'a', 8, LIVE, false}, {'a', 10, RETAINED, true}}},
    {"a live copy of a retained one makes it live",
     {{'a', 9, RETAINED, true}, {'a', 9, LIVE, false}, {'b', 1, RETAINED, false}}},
    {"two retained ones",
     {{'a', 3, RETAINED, true}, {'a', 2, RETAINED, false}, {'a', 4, RETAINED, true}}},
    {"the greatest seq",
     {{'a', UINT64_MAX, LIVE, true}, {'a', 1, LIVE, false}, {'b', 1, LIVE, true}}},
};

static void test_state_order_of_arrivals(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++) {
        struct gt_state_order order = {0};

        for (const struct arrival *at = rows[i].arrivals; at->seq > 0; at++) {
            struct gt_state message = {.seq = at->seq};

            memset(message.epoch, at->epoch, sizeof(message.epoch));
            if (gt_state_order_accept(&order, &message, at->is_retained) != at->is_accepted)
                fail_msg("%s: arrival %zu", rows[i].what, (size_t)(at - rows[i].arrivals));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_state_order_of_arrivals)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
