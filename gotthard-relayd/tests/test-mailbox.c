/* SPDX-License-Identifier: ISC */
/* mailbox.c: the order of messages, with a delivery within a delivery. */
#include "data/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct {
    struct ev_loop *loop;
    struct mailbox mailbox;
    uint64_t seen[16];
    size_t n_seen;
} env;

static void post(uint64_t serial)
{
    struct message *message = message_new(MESSAGE_ENDED, NULL);

    assert_non_null(message);
    message->serial = serial;
    mailbox_post(&env.mailbox, message);
}

/* The delivery of 1 posts 4 and drains the mailbox once more. */
static void on_message(void *userdata, struct message *message)
{
    env.seen[env.n_seen++] = message->serial;
    if (message->serial == 1) {
        post(4);
        mailbox_drain(&env.mailbox);
    }
    message_free(message);
}

static void test_mailbox_keeps_the_order_of_messages(void **state)
{
    env.loop = ev_loop_new(EVFLAG_AUTO);
    mailbox_init(&env.mailbox, env.loop, on_message, NULL);
    post(1);
    post(2);
    post(3);
    while (env.n_seen < 4)
        ev_run(env.loop, EVRUN_ONCE);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(env.seen[i], i + 1);
    mailbox_deinit(&env.mailbox);
    ev_loop_destroy(env.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mailbox_keeps_the_order_of_messages)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
