/* SPDX-License-Identifier: ISC */
/* local-listener.c: free and busy ports, both loopback addresses, and waiting connections. */
#include "local-listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/net/peer-uid.h"

static struct {
    bool is_set;
    int r;
    uid_t uid;
} fake; /* the result of gt_peer_uids_find */

int __real_gt_peer_uids_find(struct gt_peer_uids *uids, int fd, const struct gt_addr *own,
                             const struct gt_addr *peer, uid_t *ret);
int __wrap_gt_peer_uids_find(struct gt_peer_uids *uids, int fd, const struct gt_addr *own,
                             const struct gt_addr *peer, uid_t *ret);

int __wrap_gt_peer_uids_find(struct gt_peer_uids *uids, int fd, const struct gt_addr *own,
                             const struct gt_addr *peer, uid_t *ret)
{
    if (!fake.is_set)
        return __real_gt_peer_uids_find(uids, fd, own, peer, ret);
    if (fake.r == 0)
        *ret = fake.uid;
    return fake.r;
}

struct accepted {
    unsigned n, n_refused;
    enum local_refusal why; /* of the last refused one */
    uid_t uid;              /* of the last one */
    struct local_listener *local_listener;
    bool is_stopping;
    bool is_reading; /* the bytes of each connection, without waiting */
    char bytes[16];
};

static void on_accept(void *userdata, int fd, const struct local_peer *peer)
{
    struct accepted *accepted = userdata;

    assert_true(gt_addr_is_loopback(&peer->addr));
    accepted->n++;
    if (peer->is_uid_known)
        accepted->uid = peer->uid;
    if (accepted->is_reading)
        assert_true(read(fd, accepted->bytes, sizeof(accepted->bytes) - 1) >= 0);
    close(fd);
    if (accepted->is_stopping)
        local_listener_stop(accepted->local_listener);
}

static void on_refused(void *userdata, const struct local_peer *peer, enum local_refusal why)
{
    struct accepted *accepted = userdata;

    accepted->n_refused++;
    accepted->why = why;
    accepted->uid = peer->is_uid_known ? peer->uid : (uid_t)-1;
}

static const struct local_listener_events events = {
    .on_accept = on_accept,
    .on_refused = on_refused,
};

static struct local_listener *local_listener_on(const char *bind, uint16_t port,
                                                struct accepted *accepted)
{
    struct local_listener_settings settings = {
        .loop = ev_default_loop(0), .bind = bind, .port = port};
    struct local_listener *local_listener = NULL;

    assert_int_equal(local_listener_new(&settings, &events, accepted, &local_listener), 0);
    accepted->local_listener = local_listener;
    return local_listener;
}

static int condition_on(const char *bind, uint16_t port)
{
    struct local_listener_settings settings = {
        .loop = ev_default_loop(0), .bind = bind, .port = port};
    struct local_listener *local_listener = NULL;
    int r = local_listener_new(&settings, &events, NULL, &local_listener);

    local_listener_free(local_listener);
    return r;
}

static int dial(const char *host, uint16_t port)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse(host, port, &addr), 0);
    return gt_sock_connect(&addr);
}

static bool has_v6(void)
{
    struct gt_addr addr;

    if (gt_addr_parse("::1", 0, &addr) != 0)
        return false;
    int fd = gt_sock_listen(&addr, 1);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void run_until(unsigned *n, unsigned expected)
{
    for (int i = 0; i < 1000 && *n < expected; i++)
        ev_run(ev_default_loop(0), EVRUN_ONCE);
    assert_int_equal(*n, expected);
}

static void test_listener_free_port_on_both_addresses(void **state)
{
    struct accepted accepted = {0};
    struct local_listener *local_listener = local_listener_on(NULL, 0, &accepted);

    assert_true(local_listener_port(local_listener) > 0);
    assert_true(gt_addr_is_loopback(local_listener_addr(local_listener)));
    local_listener_start(local_listener);
    local_listener_start(local_listener);
    int one = dial("127.0.0.1", local_listener_port(local_listener));
    run_until(&accepted.n, 1);
    close(one);
    if (has_v6()) {
        int two = dial("::1", local_listener_port(local_listener));

        run_until(&accepted.n, 2);
        close(two);
    }
    local_listener_free(local_listener);
}

static void test_listener_busy_port_is_released_by_free(void **state)
{
    struct accepted accepted = {0};
    struct local_listener *local_listener = local_listener_on(NULL, 0, &accepted);

    assert_int_equal(condition_on(NULL, local_listener_port(local_listener)),
                     LOCAL_LISTENER_E_BUSY);
    uint16_t port = local_listener_port(local_listener);
    local_listener_free(local_listener);
    local_listener = local_listener_on(NULL, port, &accepted); /* released at once */
    local_listener_free(local_listener);
}

/* Another program has [::1]:port only: `localhost` would lead there. */
static void test_listener_port_busy_on_ipv6_only(void **state)
{
    struct gt_addr addr;

    if (!has_v6())
        skip();
    assert_int_equal(gt_addr_parse("::1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 1);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    assert_int_equal(condition_on(NULL, gt_addr_port(&addr)), LOCAL_LISTENER_E_BUSY);
    close(fd);
}

static void test_listener_invalid_addresses(void **state)
{
    assert_int_equal(condition_on("nonsense", 0), LOCAL_LISTENER_E_ADDRESS);
    assert_int_equal(condition_on("localhost", 0), LOCAL_LISTENER_E_ADDRESS);
    assert_int_equal(condition_on("192.0.2.1", 0), LOCAL_LISTENER_E_ADDRESS);
    assert_int_equal(condition_on("127.0.0.1", 0), 0);
}

/* The listener is stopped inside its callback: the second connection waits until it is started. */
static void test_listener_stopped_in_callback_keeps_queue(void **state)
{
    struct accepted accepted = {.is_stopping = true};
    struct local_listener *local_listener = local_listener_on("127.0.0.1", 0, &accepted);
    int one = dial("127.0.0.1", local_listener_port(local_listener));
    int two = dial("127.0.0.1", local_listener_port(local_listener));

    ev_run(ev_default_loop(0), EVRUN_NOWAIT);
    assert_int_equal(accepted.n, 0);
    local_listener_start(local_listener);
    run_until(&accepted.n, 1);
    ev_run(ev_default_loop(0), EVRUN_NOWAIT);
    assert_int_equal(accepted.n, 1);
    local_listener_start(local_listener);
    run_until(&accepted.n, 2);
    close(one);
    close(two);
    local_listener_free(local_listener);
    assert_null(local_listener_free(NULL));
}

/* The program is gone before the tunnel has room: its bytes and its user are kept. */
static void test_listener_keeps_bytes_of_closed_connection(void **state)
{
    struct accepted accepted = {.is_reading = true};
    struct local_listener *local_listener = local_listener_on("127.0.0.1", 0, &accepted);
    int fd = dial("127.0.0.1", local_listener_port(local_listener));

    assert_int_equal(write(fd, "hello", 5), 5);
    ev_run(ev_default_loop(0), EVRUN_ONCE);
    gt_sock_reset(fd);
    for (int i = 0; i < 3; i++)
        ev_run(ev_default_loop(0), EVRUN_NOWAIT);
    assert_int_equal(accepted.n, 0);
    local_listener_start(local_listener);
    run_until(&accepted.n, 1);
    assert_int_equal(accepted.uid, geteuid());
    assert_string_equal(accepted.bytes, "hello");
    local_listener_free(local_listener);
}

static void test_listener_many_waiting_connections(void **state)
{
    struct accepted accepted = {0};
    struct local_listener *local_listener = local_listener_on("127.0.0.1", 0, &accepted);
    int fds[LOCAL_QUEUE_MAX + 9];

    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++) {
        fds[i] = dial("127.0.0.1", local_listener_port(local_listener));
        ev_run(ev_default_loop(0), EVRUN_NOWAIT);
    }
    assert_int_equal(accepted.n, 0);
    local_listener_start(local_listener);
    run_until(&accepted.n, GT_ARRAY_SIZE(fds));
    local_listener_stop(local_listener);
    for (size_t i = 0; i < GT_ARRAY_SIZE(fds); i++)
        close(fds[i]);
    local_listener_free(local_listener);
}

static void test_listener_resets_waiting_connections_at_its_end(void **state)
{
    struct accepted accepted = {0};
    struct local_listener *local_listener = local_listener_on("127.0.0.1", 0, &accepted);
    int fd = dial("127.0.0.1", local_listener_port(local_listener));

    ev_run(ev_default_loop(0), EVRUN_ONCE);
    local_listener_free(local_listener);
    assert_int_equal(gt_sock_error(fd), -ECONNRESET);
    assert_int_equal(accepted.n, 0);
    close(fd);
}

/* Connects once, with @r and @uid as the result of the lookup. The listener is on @bind. */
static struct accepted connect_once(const char *bind, bool is_shared, int r, uid_t uid)
{
    struct local_listener_settings settings = {
        .loop = ev_default_loop(0), .bind = bind, .is_shared = is_shared};
    struct local_listener *local_listener = NULL;
    struct accepted accepted = {0};

    fake.is_set = true;
    fake.r = r;
    fake.uid = uid;
    assert_int_equal(local_listener_new(&settings, &events, &accepted, &local_listener), 0);
    local_listener_start(local_listener);
    int fd = dial("127.0.0.1", local_listener_port(local_listener));
    for (int i = 0; i < 1000 && accepted.n + accepted.n_refused == 0; i++)
        ev_run(ev_default_loop(0), EVRUN_ONCE);
    if (accepted.n_refused > 0)
        assert_int_equal(gt_sock_error(fd), -ECONNRESET);
    close(fd);
    local_listener_free(local_listener);
    fake.is_set = false;
    return accepted;
}

static void check_refused(const char *bind, int r, uid_t uid, enum local_refusal why)
{
    struct accepted accepted = connect_once(bind, false, r, uid);

    assert_int_equal(accepted.n, 0);
    assert_int_equal(accepted.n_refused, 1);
    assert_int_equal(accepted.why, why);
    assert_int_equal(accepted.uid, r == 0 ? uid : (uid_t)-1);
}

static void test_listener_refuses_other_users(void **state)
{
    uid_t other = geteuid() + 1;

    check_refused(NULL, 0, other, LOCAL_REFUSED_USER);
    check_refused("127.0.0.1", 0, other, LOCAL_REFUSED_USER);
    check_refused(NULL, GT_PEER_UID_E_UNKNOWN, 0, LOCAL_REFUSED_UID);
    check_refused(NULL, GT_PEER_UID_E_CLOSED, 0, LOCAL_REFUSED_CLOSED);
}

static void test_listener_admits_its_user_and_root(void **state)
{
    struct accepted accepted = connect_once(NULL, false, 0, geteuid());

    assert_true(accepted.n == 1 && accepted.uid == geteuid());
    accepted = connect_once(NULL, false, 0, 0);
    assert_true(accepted.n == 1 && accepted.uid == 0);
}

static void test_listener_admits_all_if_shared(void **state)
{
    uid_t other = geteuid() + 1;

    assert_int_equal(connect_once(NULL, true, 0, other).n, 1);
    assert_int_equal(connect_once(NULL, true, GT_PEER_UID_E_UNKNOWN, 0).n, 1);
    assert_int_equal(connect_once("*", false, 0, other).n, 1); /* other machines reach it as well */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listener_free_port_on_both_addresses),
        cmocka_unit_test(test_listener_busy_port_is_released_by_free),
        cmocka_unit_test(test_listener_port_busy_on_ipv6_only),
        cmocka_unit_test(test_listener_invalid_addresses),
        cmocka_unit_test(test_listener_stopped_in_callback_keeps_queue),
        cmocka_unit_test(test_listener_keeps_bytes_of_closed_connection),
        cmocka_unit_test(test_listener_many_waiting_connections),
        cmocka_unit_test(test_listener_resets_waiting_connections_at_its_end),
        cmocka_unit_test(test_listener_refuses_other_users),
        cmocka_unit_test(test_listener_admits_its_user_and_root),
        cmocka_unit_test(test_listener_admits_all_if_shared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
