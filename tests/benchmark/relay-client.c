/* SPDX-License-Identifier: ISC */
#include "relaying.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#define BATCH 64
/* A source has 28,000 ports for one port of the relay: connections come from several addresses. */
#define PER_SOURCE 10000

enum { OPERATOR, DEVICE, SIDES };

struct link {
    struct relaying_session *session;
    int fd;
    struct gt_tls *tls;
    bool is_up;      /* SESSION came */
    bool has_ticket; /* of ->session->stream, not yet spent */
    struct gt_ticket ticket;
    size_t n_in;
    uint8_t in[2 * GT_CONTROL_FRAME_MAX];
};

struct relaying_session {
    struct relaying *relaying;
    uint8_t rid[GT_RID_SIZE];
    uint16_t port;
    uint32_t stream; /* the last one asked for */
    struct link links[SIDES];
};

struct relaying {
    struct gt_key key;
    struct gt_tls_context *context;
    struct in_addr host;
    uint16_t port;
    int world; /* the epoll of all links */
    unsigned n_sessions, n_dialled;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "relaying: %s: %s\n", what, why);
    exit(1);
}

static int dial(struct relaying *relaying, uint16_t port)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (relaying->n_dialled++ / PER_SOURCE << 8));
    to.sin_addr = relaying->host;
    to.sin_port = htons(port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)))
        fail("connect", strerror(errno));
    return fd;
}

/* --- links --- */

static void link_send(struct link *link, const struct gt_control_frame *frame)
{
    uint8_t bytes[GT_CONTROL_FRAME_MAX];
    size_t n = gt_control_encode(frame, bytes);
    struct pollfd pollfd = {link->fd, POLLOUT, 0};
    int r;

    while ((r = gt_tls_write(link->tls, bytes, n)) == GT_TLS_E_AGAIN)
        poll(&pollfd, 1, -1);
    while (!r && (r = gt_tls_flush(link->tls)) == GT_TLS_E_AGAIN)
        poll(&pollfd, 1, -1);
    if (r)
        fail("write", gt_tls_why(link->tls));
}

static void link_on_frame(struct link *link, struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_PING:
        frame->type = GT_CONTROL_PONG;
        link_send(link, frame);
        break;
    case GT_CONTROL_SESSION:
        link->is_up = true;
        link->session->port = frame->session.port;
        break;
    case GT_CONTROL_TICKET:
        link->has_ticket = frame->ticket.stream == link->session->stream;
        link->ticket = frame->ticket;
        break;
    case GT_CONTROL_STREAM_END: fail("a stream ended", gt_code_text(frame->stream_end.code)); break;
    case GT_CONTROL_BYE: fail("the relay said goodbye", gt_code_text(frame->code)); break;
    case GT_CONTROL_ERROR: fail("the relay refused", gt_code_text(frame->code)); break;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_WELCOME:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_PEER:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_SPARE: break;
    }
}

static void link_decode(struct link *link)
{
    struct gt_control_frame frame;
    size_t used;
    int r;

    while ((r = gt_control_decode(link->in, link->n_in, &frame, &used)) == 0) {
        link->n_in -= used;
        memmove(link->in, link->in + used, link->n_in);
        link_on_frame(link, &frame);
    }
    if (r != GT_CONTROL_E_SHORT)
        fail("a frame", "ill-formed");
}

static void link_read(struct link *link)
{
    size_t n;
    int r;

    while (
        !(r = gt_tls_read(link->tls, link->in + link->n_in, sizeof(link->in) - link->n_in, &n))) {
        link->n_in += n;
        link_decode(link);
    }
    if (r != GT_TLS_E_AGAIN)
        fail("a control connection ended", gt_tls_why(link->tls));
}

static void link_handshake(struct link *link, enum gt_role role, const char *name)
{
    struct relaying *relaying = link->session->relaying;
    struct pollfd pollfd = {link->fd, POLLIN, 0};
    char identity[GT_IDENTITY_MAX + 1];
    uint8_t psk[GT_KEY_SIZE];
    int r;

    gt_key_identity(role, name, identity);
    if (gt_key_client(&relaying->key, role, name, psk) ||
        gt_tls_new_client(relaying->context, link->fd, gt_span_text(identity), psk, &link->tls))
        fail("a control connection", "no key");
    while ((r = gt_tls_handshake(link->tls)) == GT_TLS_E_AGAIN)
        poll(&pollfd, 1, -1);
    if (r)
        fail("handshake", gt_tls_why(link->tls));
}

static void link_greet(struct link *link)
{
    struct gt_control_frame hello = {
        .type = GT_CONTROL_HELLO,
        .hello = {GT_CONTROL_VERSION, GT_CONTROL_VERSION, "bench"},
    };
    struct gt_control_frame rendezvous = {
        .type = GT_CONTROL_RENDEZVOUS,
        .rendezvous = {.generation = 1, .ttl_s = 3600},
    };

    memcpy(rendezvous.rid, link->session->rid, GT_RID_SIZE);
    link_send(link, &hello);
    link_send(link, &rendezvous);
}

/* @role's side of a session, under a name of its own: what one identity may have is limited. */
static void link_open(struct link *link, struct relaying_session *session, enum gt_role role)
{
    struct relaying *relaying = session->relaying;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
    char name[GT_NAME_MAX + 1];

    snprintf(name, sizeof(name), "bench-%u", relaying->n_sessions);
    link->session = session;
    link->fd = dial(relaying, relaying->port);
    fcntl(link->fd, F_SETFL, O_NONBLOCK);
    link_handshake(link, role, name);
    epoll_ctl(relaying->world, EPOLL_CTL_ADD, link->fd, &event);
    link_greet(link);
}

/* --- the loop --- */

static void relaying_turn(struct relaying *relaying, int timeout)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(relaying->world, events, BATCH, timeout);

    for (int i = 0; i < n; i++)
        if (events[i].data.ptr)
            link_read(events[i].data.ptr);
}

void relaying_wait(struct relaying *relaying, int fd)
{
    struct pollfd fds[] = {{relaying->world, POLLIN, 0}, {fd, POLLIN, 0}};

    while (poll(fds, 2, fd < 0 ? 0 : -1) > 0 && !fds[1].revents)
        relaying_turn(relaying, 0);
}

/* --- what there is to have --- */

struct relaying *relaying_new(const char *host, uint16_t port)
{
    struct relaying *relaying = calloc(1, sizeof(*relaying));

    if (!relaying ||
        gt_key_parse(getenv("GOTTHARD_CRYPT_KEY"), getenv("GOTTHARD_CRYPT_IV"), &relaying->key) ||
        gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &relaying->context))
        fail("start", "no key in the environment");
    relaying->host.s_addr = inet_addr(host);
    relaying->port = port;
    relaying->world = epoll_create1(EPOLL_CLOEXEC);
    return relaying;
}

struct relaying_session *relaying_session_new(struct relaying *relaying)
{
    struct relaying_session *session = calloc(1, sizeof(*session));
    struct link *links;

    if (!session || getrandom(session->rid, GT_RID_SIZE, 0) != GT_RID_SIZE)
        fail("a session", "no memory");
    session->relaying = relaying;
    relaying->n_sessions++;
    links = session->links;
    link_open(&links[OPERATOR], session, GT_ROLE_OPERATOR);
    link_open(&links[DEVICE], session, GT_ROLE_DEVICE);
    while (!links[OPERATOR].is_up || !links[DEVICE].is_up)
        relaying_turn(relaying, -1);
    return session;
}

static int join(struct link *link, enum gt_role role)
{
    struct gt_join join = {
        .role = role, .stream = link->ticket.stream, .attempt = link->ticket.attempt};
    uint8_t bytes[GT_JOIN_SIZE];
    int fd = dial(link->session->relaying, link->session->port);

    memcpy(join.id, link->ticket.id, sizeof(join.id));
    memcpy(join.secret, link->ticket.secret, sizeof(join.secret));
    gt_join_encode(&join, bytes);
    if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
        fail("join", strerror(errno));
    link->has_ticket = false;
    return fd;
}

void relaying_open(struct relaying_session *session, int ret_fds[2])
{
    struct link *links = session->links;
    struct gt_control_frame open = {.type = GT_CONTROL_OPEN, .open = {++session->stream, 1}};
    uint8_t reply[GT_JOIN_REPLY_SIZE];

    memcpy(open.rid, session->rid, GT_RID_SIZE);
    link_send(&links[OPERATOR], &open);
    while (!links[OPERATOR].has_ticket || !links[DEVICE].has_ticket)
        relaying_turn(session->relaying, -1);
    ret_fds[OPERATOR] = join(&links[OPERATOR], GT_ROLE_OPERATOR);
    ret_fds[DEVICE] = join(&links[DEVICE], GT_ROLE_DEVICE);
    for (int side = 0; side < SIDES; side++)
        if (recv(ret_fds[side], reply, sizeof(reply), MSG_WAITALL) != sizeof(reply))
            fail("join", "not let in");
}
