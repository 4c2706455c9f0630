/* SPDX-License-Identifier: ISC */
/*
 * resolve.c: answers, cancellations at each moment, and a resolver that hangs: getaddrinfo() is
 * replaced here by one that waits at a gate for names that begin with "slow".
 */
#include "gotthard/resolve.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/text.h"

static sem_t gate, passed;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    bool is_slow = host && strncmp(host, "slow", 4) == 0;
    if (is_slow)
        sem_wait(&gate);
    int err = real(is_slow ? "127.0.0.9" : host, service, hints, ret);
    if (is_slow)
        sem_post(&passed);
    return err;
}

static struct ev_loop *loop;

struct asker {
    struct gt_resolve *resolve;
    unsigned n_answers;
    int err;
    size_t n_addrs;
    char first[GT_ADDR_TEXT];
    bool must_cancel;
};

static void asker_on_answer(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct asker *asker = userdata;
    asker->n_answers++;
    asker->err = err;
    asker->n_addrs = n_addrs;
    if (n_addrs)
        gt_addr_text(&addrs[0], asker->first);
    if (asker->must_cancel)
        gt_resolve_cancel(asker->resolve);
    asker->resolve = NULL;
}

static void ask(struct asker *asker, const char *host, uint16_t port)
{
    *asker = (struct asker){0};
    assert_int_equal(gt_resolve_new(loop, host, port, asker_on_answer, asker, &asker->resolve), 0);
    assert_int_equal(asker->n_answers, 0);
}

/* A query in flight keeps the loop running, so this ends when all are answered or cancelled. */
static void run(void)
{
    ev_run(loop, 0);
}

static void numbers_are_answered_from_the_loop(void **state)
{
    struct asker asker;
    ask(&asker, "127.0.0.1", 7000);
    run();
    assert_int_equal(asker.n_answers, 1);
    assert_int_equal(asker.err, 0);
    assert_int_equal(asker.n_addrs, 1);
    assert_string_equal(asker.first, "127.0.0.1:7000");
    ask(&asker, "::1", 65535);
    run();
    assert_string_equal(asker.first, "[::1]:65535");
}

static void names_are_answered(void **state)
{
    struct asker asker;
    ask(&asker, "localhost", 7000);
    run();
    assert_int_equal(asker.err, 0);
    assert_in_range(asker.n_addrs, 1, GT_RESOLVE_MAX);
    assert_non_null(strstr(asker.first, ":7000"));
}

static void no_names_are_errors(void **state)
{
    char host[GT_HOST_MAX + 2];
    struct asker asker;
    memset(host, 'a', sizeof(host));
    host[sizeof(host) - 1] = 0;
    ask(&asker, host, 7000);
    run();
    assert_int_equal(asker.n_answers, 1);
    assert_int_equal(asker.err, EAI_NONAME);
    assert_int_equal(asker.n_addrs, 0);
    ask(&asker, "a b", 7000);
    run();
    assert_int_not_equal(asker.err, 0);
}

static void slow_ones_do_not_stop_the_loop(void **state)
{
    struct asker slow, quick;
    ask(&slow, "slow.example", 7000);
    ask(&quick, "127.0.0.1", 7000);
    while (!quick.n_answers)
        ev_run(loop, EVRUN_ONCE);
    assert_int_equal(slow.n_answers, 0);
    sem_post(&gate);
    run();
    assert_int_equal(slow.n_answers, 1);
    assert_string_equal(slow.first, "127.0.0.9:7000");
    sem_wait(&passed);
}

/* Whatever is cancelled is never answered: before, while and after its thread has the answer. */
static void cancelled_are_silent(void **state)
{
    struct asker asker;
    ask(&asker, "127.0.0.1", 7000);
    gt_resolve_cancel(asker.resolve);
    run();
    assert_int_equal(asker.n_answers, 0);

    ask(&asker, "slow.example", 7000);
    gt_resolve_cancel(asker.resolve); /* its thread is still at the gate */
    run();
    sem_post(&gate);
    sem_wait(&passed);
    run();
    assert_int_equal(asker.n_answers, 0);

    for (unsigned i = 0; i < 200; i++) { /* a race, either way it ends */
        sem_post(&gate);
        ask(&asker, "slow.example", 7000);
        if (i % 2)
            sem_wait(&passed);
        gt_resolve_cancel(asker.resolve);
        if (i % 2 == 0)
            sem_wait(&passed);
        ev_run(loop, EVRUN_NOWAIT);
        assert_int_equal(asker.n_answers, 0);
    }
    assert_null(gt_resolve_cancel(NULL));
}

static void cancelled_inside_is_harmless(void **state)
{
    struct asker asker;
    ask(&asker, "127.0.0.1", 7000);
    asker.must_cancel = true;
    run();
    assert_int_equal(asker.n_answers, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_answered_from_the_loop),
        cmocka_unit_test(names_are_answered),
        cmocka_unit_test(no_names_are_errors),
        cmocka_unit_test(slow_ones_do_not_stop_the_loop),
        cmocka_unit_test(cancelled_are_silent),
        cmocka_unit_test(cancelled_inside_is_harmless),
    };
    sem_init(&gate, 0, 0);
    sem_init(&passed, 0, 0);
    loop = ev_default_loop(0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
