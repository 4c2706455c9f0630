/* SPDX-License-Identifier: ISC */
/*
 * One netlink request for each lookup, or two if it fails. A closed socket has no owner, and the
 * kernel may describe it as one of uid 0: it must never count as root's.
 */
#include "gotthard/net/peer-uid.h"

#include <linux/netlink.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/fsuid.h>

#include "gotthard/net/fin-hold.h"
#include "gotthard/net/inet-diag.h"

#define ANSWER_MAX   1024  /* bytes; the kernel's attributes need less */
#define OVERFLOW_UID 65534 /* of users without an id in this user namespace; sysctl's default */
#define TRIAL_UID    1     /* of root's trial: any other than 0 */

/* --- TCP -------------------------------------------------------------------------------------- */

void gt_peer_uids_init(struct gt_peer_uids *uids)
{
    *uids = (struct gt_peer_uids){.netlink = -1};
}

void gt_peer_uids_deinit(struct gt_peer_uids *uids)
{
    gt_close(&uids->netlink);
}

static int netlink_open(struct gt_peer_uids *uids)
{
    if (uids->netlink < 0)
        uids->netlink =
            socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    return uids->netlink;
}

/* Returns the size of the answer in @ret, or a negative errno. */
static ssize_t exchange(int fd, const uint8_t *request, uint8_t ret[static ANSWER_MAX])
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK}, from = {0};
    socklen_t n_from = sizeof(from);

    if (fd < 0 || sendto(fd, request, GT_INET_DIAG_REQUEST_SIZE, 0, (struct sockaddr *)&kernel,
                         sizeof(kernel)) < 0)
        return -errno;
    ssize_t n = recvfrom(fd, ret, ANSWER_MAX, 0, (struct sockaddr *)&from, &n_from);
    if (n < 0)
        return -errno;
    return from.nl_family == AF_NETLINK && from.nl_pid == 0 ? n : -EPROTO;
}

/* The netlink socket is closed after a failure, so that no answer is left for another request. */
static int look_up(struct gt_peer_uids *uids, const struct gt_addr *own, const struct gt_addr *peer,
                   struct gt_inet_diag_owner *ret)
{
    uint8_t request[GT_INET_DIAG_REQUEST_SIZE], answer[ANSWER_MAX];

    gt_inet_diag_request(own, peer, ++uids->seq, request);
    ssize_t n = exchange(netlink_open(uids), request, answer);
    int r = n < 0 ? GT_INET_DIAG_E_NONE
                  : gt_inet_diag_parse(gt_span(answer, (size_t)n), own, peer, uids->seq, ret);
    if (n < 0 || r == GT_INET_DIAG_E_BAD)
        gt_close(&uids->netlink);
    return r;
}

static bool is_established(int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 &&
           info.tcpi_state == TCP_ESTABLISHED;
}

static bool has_peer(int fd)
{
    struct gt_addr ignored;

    return gt_sock_peer(fd, &ignored) == 0;
}

/* ENOENT is also the answer of a kernel without the module. It is asked about @fd itself, which
 * exists. */
static int reason_of_failure(struct gt_peer_uids *uids, int fd, const struct gt_addr *here,
                             const struct gt_addr *there)
{
    struct gt_inet_diag_owner ignored;

    if (!has_peer(fd) || (look_up(uids, here, there, &ignored) == 0 && !is_established(fd)))
        return GT_PEER_UID_E_CLOSED;
    return GT_PEER_UID_E_UNKNOWN;
}

/* A new socket belongs to the file system's user id, which only root may change. */
static int socket_of(uid_t uid)
{
    setfsuid(uid);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setfsuid(geteuid());
    return fd;
}

/* Closes a connection of its own whose end is held, and looks for its user. */
static bool try_keeping(void)
{
    uid_t uid = geteuid() == 0 ? TRIAL_UID : geteuid();
    struct gt_peer_uids uids;
    struct gt_addr here, there;
    struct gt_inet_diag_owner owner;

    if (gt_addr_parse("127.0.0.1", 0, &here) != 0)
        return false;
    gt_cleanup(gt_close) int listener = gt_sock_listen(&here, 1);
    gt_cleanup(gt_close) int client = socket_of(uid);
    if (listener < 0 || client < 0 || gt_sock_local(listener, &here) != 0)
        return false;
    gt_fin_hold(listener);
    if (connect(client, &here.any, here.n) < 0 || gt_sock_local(client, &there) != 0)
        return false;
    gt_close(&client);
    gt_peer_uids_init(&uids);
    int r = look_up(&uids, &there, &here, &owner);
    gt_peer_uids_deinit(&uids);
    return r == 0 && owner.uid == uid && owner.state == TCP_FIN_WAIT1;
}

bool gt_peer_uid_is_kept(void)
{
    static bool is_tried, is_kept;

    if (!is_tried)
        is_kept = try_keeping();
    is_tried = true;
    return is_kept;
}

/* Only a socket whose end is not acknowledged is a whole one, with its user. */
static bool is_forgotten(const struct gt_inet_diag_owner *owner)
{
    return !owner->is_open && owner->uid == 0 &&
           (owner->state != TCP_FIN_WAIT1 || !gt_peer_uid_is_kept());
}

/* The socket of the program has the two addresses of @fd, the other way round. */
static int look_up_user(struct gt_peer_uids *uids, int fd, const struct gt_addr *own,
                        const struct gt_addr *peer, uid_t *ret)
{
    struct gt_inet_diag_owner owner;

    if (look_up(uids, peer, own, &owner) != 0)
        return reason_of_failure(uids, fd, own, peer);
    if (is_forgotten(&owner) || !has_peer(fd))
        return GT_PEER_UID_E_CLOSED; /* without its peer: a later socket may have the addresses */
    *ret = owner.uid;
    return 0;
}

static int uid_of_tcp(int fd, uid_t *ret)
{
    struct gt_peer_uids uids;
    struct gt_addr own, peer;

    if (gt_sock_local(fd, &own) != 0 || gt_sock_peer(fd, &peer) != 0)
        return GT_PEER_UID_E_CLOSED;
    gt_peer_uids_init(&uids);
    int r = look_up_user(&uids, fd, &own, &peer, ret);
    gt_peer_uids_deinit(&uids);
    return r;
}

/* --- Unix sockets ----------------------------------------------------------------------------- */

static int uid_of_unix(int fd, uid_t *ret)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid == (uid_t)-1)
        return GT_PEER_UID_E_UNKNOWN;
    *ret = peer.uid;
    return 0;
}

/* --- both ------------------------------------------------------------------------------------- */

/* Returns true outside of user namespaces. Without /proc it is unknown: false. */
static bool is_every_uid_mapped(void)
{
    unsigned inside = 1, outside = 1, n = 0;
    FILE *file = fopen("/proc/self/uid_map", "re");

    if (!file)
        return false;
    int n_read = fscanf(file, "%u %u %u", &inside, &outside, &n);
    fclose(file);
    return n_read == 3 && inside == 0 && outside == 0 && n == UINT32_MAX;
}

/* @r: of the lookup of @uid. */
static int report_uid(int r, uid_t uid, uid_t *ret)
{
    if (r != 0)
        return r;
    if (uid == OVERFLOW_UID && !is_every_uid_mapped())
        return GT_PEER_UID_E_UNKNOWN;
    *ret = uid;
    return 0;
}

int gt_peer_uids_find(struct gt_peer_uids *uids, int fd, const struct gt_addr *own,
                      const struct gt_addr *peer, uid_t *ret)
{
    uid_t uid = 0;
    int r = look_up_user(uids, fd, own, peer, &uid);

    return report_uid(r, uid, ret);
}

int gt_peer_uid(int fd, uid_t *ret)
{
    int family = 0;
    socklen_t n = sizeof(family);
    uid_t uid = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0)
        return GT_PEER_UID_E_UNKNOWN;
    int r = family == AF_UNIX ? uid_of_unix(fd, &uid) : uid_of_tcp(fd, &uid);
    return report_uid(r, uid, ret);
}
