/* SPDX-License-Identifier: ISC */
/*
 * An exact lookup, not a dump: the kernel searches its hash table. Without a connected socket it
 * falls back to a listening one, so the answer's addresses are compared. IPv4 addresses are
 * compared in their mapped form (RFC 4291, section 2.5.5.2): an IPv6 socket that is connected over
 * IPv4 is found by its IPv4 addresses, and is described as an IPv6 socket.
 */
#include "gotthard/net/inet-diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <string.h>

struct request {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

_Static_assert(sizeof(struct request) == GT_INET_DIAG_REQUEST_SIZE, "without padding");

struct end { /* of a connection */
    uint8_t addr[16];
    uint16_t port; /* network byte order, as in the messages */
};

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v4(const struct end *end)
{
    return memcmp(end->addr, v4_mapped, sizeof(v4_mapped)) == 0;
}

static struct end end_of(int family, const void *addr, uint16_t port)
{
    struct end end = {.port = port};

    if (family == AF_INET) {
        memcpy(end.addr, v4_mapped, sizeof(v4_mapped));
        memcpy(end.addr + sizeof(v4_mapped), addr, 4);
    } else {
        memcpy(end.addr, addr, sizeof(end.addr));
    }
    return end;
}

static struct end end_of_addr(const struct gt_addr *addr)
{
    if (addr->any.sa_family == AF_INET)
        return end_of(AF_INET, &addr->v4.sin_addr, addr->v4.sin_port);
    return end_of(AF_INET6, &addr->v6.sin6_addr, addr->v6.sin6_port);
}

static bool is_same(const struct end *a, const struct end *b)
{
    return a->port == b->port && memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

void gt_inet_diag_request(const struct gt_addr *own, const struct gt_addr *peer, uint32_t seq,
                          uint8_t ret[static GT_INET_DIAG_REQUEST_SIZE])
{
    struct end src = end_of_addr(own), dst = end_of_addr(peer);
    size_t skip = is_v4(&src) && is_v4(&dst) ? sizeof(v4_mapped) : 0;
    struct request request;

    memset(&request, 0, sizeof(request));
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.header.nlmsg_seq = seq;
    request.body.sdiag_family = skip > 0 ? AF_INET : AF_INET6;
    request.body.sdiag_protocol = IPPROTO_TCP;
    request.body.idiag_states = UINT32_MAX;
    request.body.id.idiag_sport = src.port;
    request.body.id.idiag_dport = dst.port;
    memcpy(request.body.id.idiag_src, src.addr + skip, sizeof(src.addr) - skip);
    memcpy(request.body.id.idiag_dst, dst.addr + skip, sizeof(dst.addr) - skip);
    request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    memcpy(ret, &request, sizeof(request));
}

/* Any error: the reasons of a kernel that cannot look up differ (ENOENT also without the module).
 */
static int parse_error(const struct nlmsghdr *header)
{
    return header->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? GT_INET_DIAG_E_NONE
                                                          : GT_INET_DIAG_E_BAD;
}

/* A socket that still connects is a later one with the same port: it has sent nothing yet. */
static bool is_connected(const struct inet_diag_msg *body)
{
    return body->idiag_state != TCP_SYN_SENT && body->idiag_state != TCP_SYN_RECV;
}

int gt_inet_diag_parse(struct gt_span answer, const struct gt_addr *own, const struct gt_addr *peer,
                       uint32_t seq, struct gt_inet_diag_owner *ret)
{
    struct nlmsghdr header;
    struct inet_diag_msg body;

    if (answer.n < sizeof(header))
        return GT_INET_DIAG_E_BAD;
    memcpy(&header, answer.data, sizeof(header));
    if (header.nlmsg_len > answer.n || header.nlmsg_seq != seq)
        return GT_INET_DIAG_E_BAD;
    if (header.nlmsg_type == NLMSG_ERROR)
        return parse_error(&header);
    if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || header.nlmsg_len < NLMSG_LENGTH(sizeof(body)))
        return GT_INET_DIAG_E_BAD;
    memcpy(&body, answer.data + NLMSG_HDRLEN, sizeof(body));
    struct end src = end_of(body.idiag_family, body.id.idiag_src, body.id.idiag_sport);
    struct end dst = end_of(body.idiag_family, body.id.idiag_dst, body.id.idiag_dport);
    struct end wanted_src = end_of_addr(own), wanted_dst = end_of_addr(peer);
    if (!is_same(&src, &wanted_src) || !is_same(&dst, &wanted_dst) || !is_connected(&body))
        return GT_INET_DIAG_E_NONE;
    *ret = (struct gt_inet_diag_owner){
        .uid = body.idiag_uid, .is_open = body.idiag_inode != 0, .state = body.idiag_state};
    return 0;
}
