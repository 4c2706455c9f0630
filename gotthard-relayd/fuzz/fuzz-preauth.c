/* SPDX-License-Identifier: ISC */
/*
 * An unauthenticated connection with hostile bytes, in any cut. Whatever arrives: the peer never
 * gets a byte, except for the alert after a refused ClientHello. A JOIN is passed on once and
 * unchanged, a ClientHello is passed on unread, and nothing remains after the connection.
 *
 * Input: byte 0 selects the port (bit 0: main port) and the verdict about a JOIN (bits 1-2), byte 1
 * is the size of the pieces (0: all at once), the others are sent.
 */
#include "data/preauth.h"

#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 47};

enum verdict { RELEASE, REJECT, CLOSE, REFUSE };

static struct {
    struct ev_loop *loop;
    struct quota quota;
    struct gt_span sent;
    enum verdict verdict;
    unsigned n_passed_on;
    bool is_refused;
} env;

#define check(condition) check_at(condition, #condition, __LINE__)
static void check_at(bool is_true, const char *condition, int line)
{
    if (is_true)
        return;
    fprintf(stderr, "line %d: %s\n", line, condition);
    abort();
}

static void release(struct preauth *preauth, struct gt_span unread)
{
    struct quota_charge charge;
    uint8_t bytes[4096];
    int fd = preauth_release(preauth, &charge);
    ssize_t n = recv(fd, bytes, GT_MIN(unread.n, sizeof(bytes)), MSG_DONTWAIT);

    check(n < 0 || memcmp(bytes, unread.data, (size_t)n) == 0);
    gt_close(&fd);
    quota_release(&charge);
    env.n_passed_on++;
}

static bool on_join(void *userdata, struct preauth *preauth)
{
    check(env.sent.n >= GT_JOIN_SIZE);
    check(memcmp(preauth->bytes, env.sent.data, GT_JOIN_SIZE) == 0);
    switch (env.verdict) {
    case RELEASE:
    case REFUSE:
        release(preauth, gt_span(env.sent.data + GT_JOIN_SIZE, env.sent.n - GT_JOIN_SIZE));
        break;
    case REJECT: preauth_reject(preauth); break;
    case CLOSE: preauth_close(preauth); break;
    }
    return false;
}

static void on_hello(void *userdata, struct preauth *preauth, const struct gt_client_hello *hello)
{
    check(env.sent.n >= 5 + hello->message.n && env.sent.data[0] == 0x16);
    check(memcmp(hello->message.data, env.sent.data + 5, hello->message.n) == 0);
    switch (env.verdict) {
    case RELEASE:
        check(preauth_prove(preauth, "g1:o:alice"));
        release(preauth, env.sent);
        break;
    case REFUSE:
        preauth_refuse(preauth, gt_span(alert, sizeof(alert)));
        env.is_refused = true;
        break;
    case REJECT: preauth_reject(preauth); break;
    case CLOSE: preauth_close(preauth); break;
    }
}

static void turn(struct preauth_host *host)
{
    ev_run(env.loop, EVRUN_NOWAIT);
    preauth_host_reap(host);
}

/* Sends all bytes and then a FIN, with a turn of the loop after each piece. */
static void run(struct preauth_host *host, int fd, struct gt_span bytes, size_t n_piece)
{
    for (size_t at = 0; at < bytes.n; at += n_piece) {
        size_t n = GT_MIN(n_piece, bytes.n - at);

        if (send(fd, bytes.data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        turn(host);
    }
    shutdown(fd, SHUT_WR);
    for (unsigned i = 0; i < 3; i++)
        turn(host);
}

static void set_up(struct preauth_host *host, uint8_t options)
{
    if (!env.loop) {
        gt_log_open("fuzz", GT_LOG_ERROR);
        env.loop = ev_loop_new(EVFLAG_AUTO);
        quota_init(&env.quota,
                   &(struct quota_limits){
                       .n_preauths = 9, .n_handshakes = 9, .n_of_identity = 9, .n_per_source = 9},
                   9);
    }
    check(!preauth_host_init(host, env.loop, &env.quota));
    host->first_ms = host->join_ms = 60000;
    host->on_join = on_join;
    host->on_hello = options & 1 ? on_hello : NULL;
    env.verdict = (enum verdict)(options >> 1 & 3);
    env.n_passed_on = 0;
    env.is_refused = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct preauth_host host;
    struct quota_counts counts;
    struct gt_addr addr;
    uint8_t bytes[16];
    int fds[2];

    if (n < 2 || n > 8192)
        return 0;
    env.sent = gt_span(data + 2, n - 2);
    set_up(&host, data[0]);
    check(!gt_sock_pair(fds) && !gt_addr_parse("192.0.2.1", 1, &addr));
    preauth_accept(&host, fds[0], &addr, NULL);
    run(&host, fds[1], env.sent, data[1] ? data[1] : env.sent.n + 1);
    ssize_t n_received = recv(fds[1], bytes, sizeof(bytes), MSG_DONTWAIT);
    check(env.is_refused ? n_received == sizeof(alert) : n_received <= 0);
    check(env.n_passed_on <= 1 && gt_list_is_empty(&host.open));
    gt_close(&fds[1]);
    preauth_host_deinit(&host);
    quota_count(&env.quota, &counts);
    check(counts.n_fds == 0 && counts.n_preauths == 0);
    return 0;
}
