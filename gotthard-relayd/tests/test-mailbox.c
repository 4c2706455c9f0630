/* SPDX-License-Identifier: ISC */
/* mailbox.c: the order of letters, whoever reads them when. */
#include "mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct {
    struct ev_loop *loop;
    struct mailbox mailbox;
    uint64_t seen[16];
    size_t n_seen;
} world;

static void post(uint64_t serial)
{
    struct letter *letter = letter_new(LETTER_ENDED, NULL);
    assert_non_null(letter);
    letter->serial = serial;
    mailbox_post(&world.mailbox, letter);
}

/* The reader of 1 posts 4 and looks into its box again before it is done. */
static void on_letter(void *userdata, struct letter *letter)
{
    world.seen[world.n_seen++] = letter->serial;
    if (letter->serial == 1) {
        post(4);
        mailbox_drain(&world.mailbox);
    }
    letter_free(letter);
}

static void test_no_letter_overtakes_another(void **state)
{
    world.loop = ev_loop_new(EVFLAG_AUTO);
    mailbox_init(&world.mailbox, world.loop, on_letter, NULL);
    post(1);
    post(2);
    post(3);
    while (world.n_seen < 4)
        ev_run(world.loop, EVRUN_ONCE);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(world.seen[i], i + 1);
    mailbox_deinit(&world.mailbox);
    ev_loop_destroy(world.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_letter_overtakes_another)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
