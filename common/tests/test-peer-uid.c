/* SPDX-License-Identifier: ISC */
/* peer-uid.c with real sockets, of this user and, as root, of another one. */
#include "gotthard/net/peer-uid.h"

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gotthard/net/fin-hold.h"
#include "gotthard/net/sock.h"

#define OTHER_UID 1001

static bool is_holding; /* in connect_pair() */

/* Connects to a new listener at @host. Returns both ends, or false if @host does not exist here. */
static bool connect_pair(const char *host, const char *target, int *ret_client, int *ret_server)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse(host, 0, &addr), 0);
    gt_cleanup(gt_close) int listener = gt_sock_listen(&addr, 8);
    if (listener < 0)
        return false;
    assert_int_equal(gt_sock_local(listener, &addr), 0);
    if (is_holding)
        gt_fin_hold(listener);
    uint16_t port = gt_addr_port(&addr);
    assert_int_equal(gt_addr_parse(target, port, &addr), 0);
    *ret_client = socket(addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*ret_client, &addr.any, addr.n), 0);
    *ret_server = gt_sock_accept(listener, &addr);
    assert_true(*ret_server >= 0);
    return true;
}

static void check_own(const char *host, const char *target)
{
    int client, server;
    uid_t uid = (uid_t)-1;

    if (!connect_pair(host, target, &client, &server))
        return;
    assert_int_equal(gt_peer_uid(server, &uid), 0);
    assert_int_equal(uid, geteuid());
    uid = (uid_t)-1;
    assert_int_equal(gt_peer_uid(client, &uid), 0);
    assert_int_equal(uid, geteuid());
    shutdown(client, SHUT_WR); /* a half-closed socket still has its user */
    assert_int_equal(gt_peer_uid(server, &uid), 0);
    close(client);
    close(server);
}

static void test_own_connection(void **state)
{
    check_own("127.0.0.1", "127.0.0.1");
    check_own("127.0.0.2", "127.0.0.2");
    check_own("::1", "::1");
    check_own("127.0.0.1", "::ffff:127.0.0.1");
    check_own("::", "127.0.0.1");
    check_own("::", "::1");
}

/* Most kernels give a closed socket uid 0. It must not count as root's there. */
static void test_closed_connection_has_no_user(void **state)
{
    int client, server;
    uid_t uid = 4711;

    assert_true(connect_pair("127.0.0.1", "127.0.0.1", &client, &server));
    assert_int_equal(send(client, "x", 1, 0), 1);
    close(client);
    int r = gt_peer_uid(server, &uid);
    bool is_certain = geteuid() != 0 || gt_peer_uid_is_kept();
    assert_true(r == GT_PEER_UID_E_CLOSED || (r == 0 && uid == geteuid() && is_certain));
    close(server);
    assert_true(connect_pair("127.0.0.1", "127.0.0.1", &client, &server));
    gt_sock_reset(client);
    assert_int_equal(gt_peer_uid(server, &uid), GT_PEER_UID_E_CLOSED);
    close(server);
}

/* Its bytes and its end arrive as well. */
static void test_closed_connection_keeps_its_user_while_its_end_is_held(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    int client, server;
    char byte;

    if (!gt_peer_uid_is_kept())
        skip(); /* Linux before 6.17, or filters are denied */
    is_holding = true;
    for (size_t i = 0; i < GT_ARRAY_SIZE(hosts); i++) {
        uid_t uid = 4711;

        if (!connect_pair(hosts[i], hosts[i], &client, &server))
            continue;
        assert_int_equal(send(client, "x", 1, 0), 1);
        close(client);
        assert_int_equal(gt_peer_uid(server, &uid), 0);
        assert_int_equal(uid, geteuid());
        gt_fin_release(server);
        fcntl(server, F_SETFL, 0);
        assert_int_equal(recv(server, &byte, 1, 0), 1);
        assert_int_equal(recv(server, &byte, 1, 0), 0);
        uid = 4711;
        int r = gt_peer_uid(server, &uid); /* it was acknowledged now */
        assert_true(r == GT_PEER_UID_E_CLOSED || uid == geteuid());
        close(server);
    }
    is_holding = false;
}

/* Over one netlink socket, which is opened once; also after a connection that is gone. */
static void test_lookups_of_many_connections(void **state)
{
    struct gt_peer_uids uids;

    gt_peer_uids_init(&uids);
    for (int i = 0; i < 20; i++) {
        struct gt_addr own, peer;
        int client, server, netlink = uids.netlink;
        uid_t uid = (uid_t)-1;

        assert_true(connect_pair("127.0.0.1", "127.0.0.1", &client, &server));
        assert_int_equal(gt_sock_local(server, &own), 0);
        assert_int_equal(gt_sock_peer(server, &peer), 0);
        if (i % 4 == 3) {
            gt_sock_reset(client);
            assert_int_equal(gt_peer_uids_find(&uids, server, &own, &peer, &uid),
                             GT_PEER_UID_E_CLOSED);
        } else {
            assert_int_equal(gt_peer_uids_find(&uids, server, &own, &peer, &uid), 0);
            assert_int_equal(uid, geteuid());
            close(client);
        }
        assert_true(i == 0 ? netlink < 0 && uids.netlink >= 0 : uids.netlink == netlink);
        close(server);
    }
    gt_peer_uids_deinit(&uids);
    assert_int_equal(uids.netlink, -1);
}

/* An answer to an earlier request is not taken for that of a later one. */
static void test_lookup_rejects_the_answer_to_another_request(void **state)
{
    struct gt_peer_uids uids;
    struct gt_addr own, peer;
    int client, server;
    uid_t uid;

    assert_true(connect_pair("127.0.0.1", "127.0.0.1", &client, &server));
    assert_int_equal(gt_sock_local(server, &own), 0);
    assert_int_equal(gt_sock_peer(server, &peer), 0);
    gt_peer_uids_init(&uids);
    assert_int_equal(gt_peer_uids_find(&uids, server, &own, &peer, &uid), 0);
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } stale = {.header = {.nlmsg_len = sizeof(stale),
                          .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                          .nlmsg_flags = NLM_F_REQUEST,
                          .nlmsg_seq = uids.seq}};
    assert_int_equal(send(uids.netlink, &stale, sizeof(stale), 0), sizeof(stale));
    assert_int_equal(gt_peer_uids_find(&uids, server, &own, &peer, &uid), GT_PEER_UID_E_UNKNOWN);
    assert_int_equal(gt_peer_uids_find(&uids, server, &own, &peer, &uid), 0);
    assert_int_equal(uid, geteuid());
    gt_peer_uids_deinit(&uids);
    close(client);
    close(server);
}

static void test_unix_connection(void **state)
{
    int fds[2];
    uid_t uid = (uid_t)-1;

    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_peer_uid(fds[0], &uid), 0);
    assert_int_equal(uid, geteuid());
    close(fds[0]);
    close(fds[1]);
}

/* Runs the child's part: a socket of the other user that stays open until the parent has closed. */
static void connect_as_other(int listener_port, const char *host, int ready)
{
    struct gt_addr addr;
    char byte;

    if (setgid(OTHER_UID) < 0 || setuid(OTHER_UID) < 0 ||
        gt_addr_parse(host, (uint16_t)listener_port, &addr) != 0)
        _exit(1);
    int fd = socket(addr.any.sa_family, SOCK_STREAM, 0);
    if (connect(fd, &addr.any, addr.n) < 0 || write(ready, "x", 1) != 1)
        _exit(1);
    _exit(read(fd, &byte, 1) > 0);
}

static void check_other(const char *host, const char *target)
{
    struct gt_addr addr;
    int ready[2], status;
    char byte;
    uid_t uid = 0;

    assert_int_equal(gt_addr_parse(host, 0, &addr), 0);
    gt_cleanup(gt_close) int listener = gt_sock_listen(&addr, 8);
    if (listener < 0)
        return;
    assert_int_equal(gt_sock_local(listener, &addr), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0)
        connect_as_other(gt_addr_port(&addr), target, ready[1]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) {
        print_message("this root cannot become another user\n");
        close(ready[0]);
        waitpid(child, &status, 0);
        skip();
    }
    int server = gt_sock_accept(listener, &addr);
    assert_true(server >= 0);
    assert_int_equal(gt_peer_uid(server, &uid), 0);
    assert_int_equal(uid, OTHER_UID);
    close(server);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ready[0]);
}

static void test_connection_of_another_user(void **state)
{
    if (geteuid() != 0) {
        print_message("only root can become another user\n");
        skip();
    }
    check_other("127.0.0.1", "127.0.0.1");
    check_other("::1", "::1");
    check_other("127.0.0.1", "::ffff:127.0.0.1");
}

static void test_descriptor_without_peer(void **state)
{
    gt_cleanup(gt_close) int file = dup(STDIN_FILENO);
    gt_cleanup(gt_close) int lonely = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uid_t uid;

    assert_int_equal(gt_peer_uid(file, &uid), GT_PEER_UID_E_UNKNOWN);
    assert_int_equal(gt_peer_uid(lonely, &uid), GT_PEER_UID_E_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_connection),
        cmocka_unit_test(test_closed_connection_has_no_user),
        cmocka_unit_test(test_closed_connection_keeps_its_user_while_its_end_is_held),
        cmocka_unit_test(test_lookups_of_many_connections),
        cmocka_unit_test(test_lookup_rejects_the_answer_to_another_request),
        cmocka_unit_test(test_unix_connection),
        cmocka_unit_test(test_connection_of_another_user),
        cmocka_unit_test(test_descriptor_without_peer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
