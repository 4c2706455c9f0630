/* SPDX-License-Identifier: ISC */
/*
 * Resolving: results, cancellation at each moment, and a resolver that blocks. getaddrinfo() is
 * replaced by one that waits for a semaphore if the name begins with "slow", and that knows
 * "found.example" and no "none.example".
 */
#include "gotthard/net/resolve.h"

#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gotthard/base/text.h"
#include "gotthard/net/resolver.h"

static sem_t gate, passed; /* the slow resolver waits for one, and posts the other */

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    bool is_slow = host && strncmp(host, "slow", 4) == 0;
    bool is_found = host && strcmp(host, "found.example") == 0;
    if (host && strcmp(host, "none.example") == 0)
        return EAI_NONAME;
    if (is_slow)
        sem_wait(&gate);
    int err = real(is_slow || is_found ? "127.0.0.9" : host, service, hints, ret);
    if (is_slow)
        sem_post(&passed);
    return err;
}

static struct ev_loop *loop;

struct query {
    struct gt_resolve *resolve;
    unsigned n_results;
    int err;
    size_t n_addrs;
    char first[GT_ADDR_TEXT];
    bool is_kept; /* freed after the callback, not inside */
};

static void query_on_done(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct query *query = userdata;

    query->n_results++;
    query->err = err;
    query->n_addrs = n_addrs;
    if (n_addrs)
        gt_addr_text(&addrs[0], query->first);
    if (!query->is_kept)
        query->resolve = gt_resolve_free(query->resolve);
}

static void query_start(struct query *query, const char *host, uint16_t port)
{
    *query = (struct query){0};
    assert_int_equal(gt_resolve_new(loop, host, port, query_on_done, query, &query->resolve), 0);
    assert_int_equal(query->n_results, 0);
}

/* A query in progress keeps the loop running: this returns when all are done or cancelled. */
static void run(void)
{
    ev_run(loop, 0);
}

static void test_resolve_numeric_host_completes_from_the_loop(void **state)
{
    struct query query;

    query_start(&query, "127.0.0.1", 7000);
    run();
    assert_int_equal(query.n_results, 1);
    assert_int_equal(query.err, 0);
    assert_int_equal(query.n_addrs, 1);
    assert_string_equal(query.first, "127.0.0.1:7000");
    query_start(&query, "::1", 65535);
    run();
    assert_string_equal(query.first, "[::1]:65535");
}

static void test_resolve_name(void **state)
{
    struct query query;

    query_start(&query, "found.example", 7000);
    run();
    assert_int_equal(query.err, 0);
    assert_int_equal(query.n_addrs, 1);
    assert_string_equal(query.first, "127.0.0.9:7000");
}

/* A name that needs a lookup is not reported before it, and no answer is reported twice. */
static void test_resolve_reports_a_known_answer_on_request(void **state)
{
    struct query query;

    query_start(&query, "::1", 7000);
    gt_resolve_report_known(query.resolve);
    assert_int_equal(query.n_results, 1);
    assert_string_equal(query.first, "[::1]:7000");
    run();
    assert_int_equal(query.n_results, 1);
    query_start(&query, "found.example", 7000);
    gt_resolve_report_known(query.resolve);
    assert_int_equal(query.n_results, 0);
    run();
    assert_int_equal(query.n_results, 1);
}

static void test_resolve_invalid_name_is_an_error(void **state)
{
    char host[GT_HOST_MAX + 2];
    struct query query;

    memset(host, 'a', sizeof(host));
    host[sizeof(host) - 1] = 0;
    query_start(&query, host, 7000);
    run();
    assert_int_equal(query.n_results, 1);
    assert_int_equal(query.err, EAI_NONAME);
    assert_int_equal(query.n_addrs, 0);
    query_start(&query, "a b", 7000);
    run();
    assert_int_not_equal(query.err, 0);
}

static void test_resolve_slow_name_does_not_block_the_loop(void **state)
{
    struct query slow, quick;

    query_start(&slow, "slow.example", 7000);
    query_start(&quick, "127.0.0.1", 7000);
    while (!quick.n_results)
        ev_run(loop, EVRUN_ONCE);
    assert_int_equal(slow.n_results, 0);
    sem_post(&gate);
    run();
    assert_int_equal(slow.n_results, 1);
    assert_string_equal(slow.first, "127.0.0.9:7000");
    sem_wait(&passed);
}

/* Freed before, while and after the thread has the result: the callback is never called. */
static void test_resolve_query_freed_early_calls_nothing(void **state)
{
    struct query query;

    query_start(&query, "127.0.0.1", 7000);
    gt_resolve_free(query.resolve);
    run();
    assert_int_equal(query.n_results, 0);

    query_start(&query, "slow.example", 7000);
    gt_resolve_free(query.resolve); /* its thread still waits */
    run();
    sem_post(&gate);
    sem_wait(&passed);
    run();
    assert_int_equal(query.n_results, 0);

    for (unsigned i = 0; i < 200; i++) { /* a race of cancel and thread */
        sem_post(&gate);
        query_start(&query, "slow.example", 7000);
        if (i % 2)
            sem_wait(&passed);
        gt_resolve_free(query.resolve);
        if (i % 2 == 0)
            sem_wait(&passed);
        ev_run(loop, EVRUN_NOWAIT);
        assert_int_equal(query.n_results, 0);
    }
    assert_null(gt_resolve_free(NULL));
}

/* --- the lookups of another process */

/* Returns the process, which has *ret as its only peer. */
static pid_t resolver_start(int *ret)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        gt_resolver_serve(ends[1]);
        _exit(7);
    }
    close(ends[1]);
    *ret = ends[0];
    return pid;
}

static void test_resolve_by_another_process(void **state)
{
    struct query slow, names[3 * 64], numeric, freed;
    int status, fd;

    pid_t pid = resolver_start(&fd);
    gt_resolve_use_process(fd);
    query_start(&slow, "slow.example", 1); /* its semaphore is private to the process: no answer */
    query_start(&freed, "found.example", 2);
    freed.resolve = gt_resolve_free(freed.resolve);
    query_start(&numeric, "::1", 3);
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++)
        query_start(&names[i], i % 2 ? "found.example" : "none.example", (uint16_t)(1000 + i));
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++)
        while (!names[i].n_results)
            ev_run(loop, EVRUN_ONCE);
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        char port[16];

        snprintf(port, sizeof(port), ":%zu", 1000 + i);
        assert_true((names[i].err == 0) == (i % 2 == 1));
        assert_true(i % 2 == 0 || strstr(names[i].first, port));
    }
    assert_string_equal(numeric.first, "[::1]:3");
    assert_int_equal(slow.n_results + freed.n_results, 0);

    /* The process ends: waiting queries get an error, and so do later ones. Only the first name
     * that was found keeps its answer. */
    kill(pid, SIGKILL);
    run();
    assert_int_equal(slow.err, EAI_AGAIN);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    query_start(&slow, "other.example", 1);
    query_start(&names[0], "found.example", 7001);
    run();
    assert_int_equal(slow.err, EAI_AGAIN);
    assert_int_equal(names[0].err, 0);
    assert_non_null(strstr(names[0].first, ":7001"));
    gt_resolve_use_process(-1);
}

static void test_resolver_ends_with_its_peer(void **state)
{
    int status, fd;

    pid_t pid = resolver_start(&fd);
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* A peer that sends anything else gets no answer, and the next query is served. */
static void test_resolver_rejects_malformed_queries(void **state)
{
    char long_name[GT_HOST_MAX + 2];
    struct gt_lookup_answer answer;
    int ends[2], status, fd;

    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = 0;
    pid_t pid = resolver_start(&fd);
    assert_int_equal(send(fd, "localhost", 9, 0), 9); /* no descriptor */
    for (unsigned i = 0; i < 100; i++)                /* more than there are places */
        assert_int_equal(send(fd, "local\0host", 10, 0), 10);
    for (unsigned i = 0; i < 2; i++) {
        struct pollfd done;

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        assert_int_equal(gt_resolver_ask(fd, i ? "localhost" : long_name, ends[1]), 0);
        close(ends[1]);
        done = (struct pollfd){.fd = ends[0], .events = POLLIN};
        assert_int_equal(poll(&done, 1, 60000), 1);
        gt_lookup_receive(ends[0], &answer);
        assert_int_equal(answer.err, i ? 0 : EAI_AGAIN);
        close(ends[0]);
    }
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* The process is trusted less than this one. */
static void test_lookup_rejects_malformed_answers(void **state)
{
    struct gt_lookup_answer good, sent, got;
    int fds[2];

    memset(&good, 0, sizeof(good));
    good.n_addrs = 1;
    assert_int_equal(gt_addr_parse("::1", 0, &good.addrs[0]), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    for (unsigned i = 0; i < 7; i++) {
        size_t n = sizeof(sent);

        sent = good;
        switch (i) {
        case 1: sent.n_addrs = GT_LOOKUP_MAX + 1; break;
        case 2: sent.n_addrs = 0; break;
        case 3: sent.addrs[0].any.sa_family = AF_UNIX; break;
        case 4: sent.addrs[0].n = sizeof(struct sockaddr_in); break;
        case 5: n--; break;
        case 6: sent.n_addrs = 2; break;
        }
        assert_int_equal(send(fds[1], &sent, n, 0), n);
        gt_lookup_receive(fds[0], &got);
        assert_int_equal(got.err, i == 0 ? 0 : EAI_AGAIN);
        assert_int_equal(got.n_addrs, i == 0);
    }
    close(fds[0]);
    close(fds[1]);
}

static void test_resolve_can_be_freed_after_the_callback(void **state)
{
    struct query query;

    query_start(&query, "127.0.0.1", 7000);
    query.is_kept = true;
    run();
    assert_int_equal(query.n_results, 1);
    assert_null(gt_resolve_free(query.resolve));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first: the thread sanitizer forks only a process that has one thread */
        cmocka_unit_test(test_resolve_by_another_process),
        cmocka_unit_test(test_resolver_ends_with_its_peer),
        cmocka_unit_test(test_resolver_rejects_malformed_queries),
        cmocka_unit_test(test_lookup_rejects_malformed_answers),
        cmocka_unit_test(test_resolve_numeric_host_completes_from_the_loop),
        cmocka_unit_test(test_resolve_name),
        cmocka_unit_test(test_resolve_reports_a_known_answer_on_request),
        cmocka_unit_test(test_resolve_invalid_name_is_an_error),
        cmocka_unit_test(test_resolve_slow_name_does_not_block_the_loop),
        cmocka_unit_test(test_resolve_query_freed_early_calls_nothing),
        cmocka_unit_test(test_resolve_can_be_freed_after_the_callback),
    };

    sem_init(&gate, 0, 0);
    sem_init(&passed, 0, 0);
    loop = ev_loop_new(0); /* the default loop would reap the children */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
