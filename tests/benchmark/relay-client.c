/* SPDX-License-Identifier: ISC */
#include "relay-client.h"

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

struct control {
    struct relay_client_session *session;
    int fd;
    struct gt_tls *tls;
    bool is_up;      /* SESSION was received */
    bool has_ticket; /* of ->session->stream, unused */
    struct gt_ticket ticket;
    size_t n_in;
    uint8_t in[2 * GT_CONTROL_FRAME_MAX];
};

struct relay_client_session {
    struct relay_client *relay_client;
    uint8_t rid[GT_RID_SIZE];
    uint16_t port;
    uint32_t stream; /* the last one requested */
    struct control controls[SIDES];
};

struct relay_client {
    struct gt_key key;
    struct gt_tls_context *context;
    struct in_addr host;
    uint16_t port;
    int epoll_fd; /* of all control connections */
    unsigned n_sessions, n_dialed;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "relay-client: %s: %s\n", what, why);
    exit(1);
}

static int dial(struct relay_client *relay_client, uint16_t port)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (relay_client->n_dialed++ / PER_SOURCE << 8));
    to.sin_addr = relay_client->host;
    to.sin_port = htons(port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)))
        fail("connect", strerror(errno));
    return fd;
}

/* --- control connections --- */

static void control_send(struct control *control, const struct gt_control_frame *frame)
{
    uint8_t bytes[GT_CONTROL_FRAME_MAX];
    size_t n = gt_control_encode(frame, bytes);
    struct pollfd pollfd = {control->fd, POLLOUT, 0};
    int r;

    while ((r = gt_tls_write(control->tls, bytes, n)) == GT_TLS_E_AGAIN)
        poll(&pollfd, 1, -1);
    while (!r && (r = gt_tls_flush(control->tls)) == GT_TLS_E_AGAIN)
        poll(&pollfd, 1, -1);
    if (r)
        fail("write", gt_tls_why(control->tls));
}

static void control_on_frame(struct control *control, struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_PING:
        frame->type = GT_CONTROL_PONG;
        control_send(control, frame);
        break;
    case GT_CONTROL_SESSION:
        control->is_up = true;
        control->session->port = frame->session.port;
        break;
    case GT_CONTROL_TICKET:
        control->has_ticket = frame->ticket.stream == control->session->stream;
        control->ticket = frame->ticket;
        break;
    case GT_CONTROL_STREAM_END: fail("a stream ended", gt_code_text(frame->stream_end.code)); break;
    case GT_CONTROL_BYE: fail("BYE from the relay", gt_code_text(frame->code)); break;
    case GT_CONTROL_ERROR: fail("ERROR from the relay", gt_code_text(frame->code)); break;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_WELCOME:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_PEER:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_ACCESS:
    case GT_CONTROL_EFFECT:
    case GT_CONTROL_LOAD:
    case GT_CONTROL_LIMIT: break;
    }
}

static void control_decode(struct control *control)
{
    struct gt_control_frame frame;
    size_t used;
    int r;

    while ((r = gt_control_decode(control->in, control->n_in, &frame, &used)) == 0) {
        control->n_in -= used;
        memmove(control->in, control->in + used, control->n_in);
        control_on_frame(control, &frame);
    }
    if (r != GT_CONTROL_E_SHORT)
        fail("a frame", "ill-formed");
}

static void control_read(struct control *control)
{
    size_t n;
    int r;

    while (!(r = gt_tls_read(control->tls, control->in + control->n_in,
                             sizeof(control->in) - control->n_in, &n))) {
        control->n_in += n;
        control_decode(control);
    }
    if (r != GT_TLS_E_AGAIN)
        fail("a control connection ended", gt_tls_why(control->tls));
}

static void control_handshake(struct control *control, enum gt_role role, const char *name)
{
    struct relay_client *relay_client = control->session->relay_client;
    struct pollfd pollfd = {control->fd, POLLIN, 0};
    char identity[GT_IDENTITY_MAX + 1];
    uint8_t psk[GT_KEY_SIZE];
    int r;

    gt_key_identity(role, name, identity);
    if (gt_key_client(&relay_client->key, role, name, psk) ||
        gt_tls_new_client(relay_client->context, control->fd, gt_span_text(identity), psk,
                          &control->tls))
        fail("a control connection", "no key");
    while ((r = gt_tls_handshake(control->tls)) == GT_TLS_E_AGAIN)
        poll(&pollfd, 1, -1);
    if (r)
        fail("handshake", gt_tls_why(control->tls));
}

static void control_send_hello(struct control *control)
{
    struct gt_control_frame hello = {
        .type = GT_CONTROL_HELLO,
        .hello = {GT_CONTROL_VERSION, GT_CONTROL_VERSION, "bench"},
    };
    struct gt_control_frame rendezvous = {
        .type = GT_CONTROL_RENDEZVOUS,
        .rendezvous = {.generation = 1, .ttl_s = 3600},
    };

    memcpy(rendezvous.rid, control->session->rid, GT_RID_SIZE);
    control_send(control, &hello);
    control_send(control, &rendezvous);
}

/* Opens the side of @role of a session, under a name of its own: each identity has limits. */
static void control_open(struct control *control, struct relay_client_session *session,
                         enum gt_role role)
{
    struct relay_client *relay_client = session->relay_client;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = control};
    char name[GT_NAME_MAX + 1];

    snprintf(name, sizeof(name), "bench-%u", relay_client->n_sessions);
    control->session = session;
    control->fd = dial(relay_client, relay_client->port);
    fcntl(control->fd, F_SETFL, O_NONBLOCK);
    control_handshake(control, role, name);
    epoll_ctl(relay_client->epoll_fd, EPOLL_CTL_ADD, control->fd, &event);
    control_send_hello(control);
}

/* --- the loop --- */

static void relay_client_run_once(struct relay_client *relay_client, int timeout)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(relay_client->epoll_fd, events, BATCH, timeout);

    for (int i = 0; i < n; i++)
        if (events[i].data.ptr)
            control_read(events[i].data.ptr);
}

void relay_client_wait(struct relay_client *relay_client, int fd)
{
    struct pollfd fds[] = {{relay_client->epoll_fd, POLLIN, 0}, {fd, POLLIN, 0}};

    while (poll(fds, 2, fd < 0 ? 0 : -1) > 0 && !fds[1].revents)
        relay_client_run_once(relay_client, 0);
}

/* --- sessions and pairs --- */

struct relay_client *relay_client_new(const char *host, uint16_t port)
{
    struct relay_client *relay_client = calloc(1, sizeof(*relay_client));

    if (!relay_client ||
        gt_key_parse(getenv("GOTTHARD_CRYPT_KEY"), getenv("GOTTHARD_CRYPT_IV"),
                     &relay_client->key) ||
        gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &relay_client->context))
        fail("start", "no key in the environment");
    relay_client->host.s_addr = inet_addr(host);
    relay_client->port = port;
    relay_client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return relay_client;
}

struct relay_client_session *relay_client_session_new(struct relay_client *relay_client)
{
    struct relay_client_session *session = calloc(1, sizeof(*session));
    struct control *controls;

    if (!session || getrandom(session->rid, GT_RID_SIZE, 0) != GT_RID_SIZE)
        fail("a session", "no memory");
    session->relay_client = relay_client;
    relay_client->n_sessions++;
    controls = session->controls;
    control_open(&controls[OPERATOR], session, GT_ROLE_OPERATOR);
    control_open(&controls[DEVICE], session, GT_ROLE_DEVICE);
    while (!controls[OPERATOR].is_up || !controls[DEVICE].is_up)
        relay_client_run_once(relay_client, -1);
    return session;
}

static int join(struct control *control, enum gt_role role)
{
    struct gt_join join = {
        .role = role, .stream = control->ticket.stream, .attempt = control->ticket.attempt};
    uint8_t bytes[GT_JOIN_SIZE];
    int fd = dial(control->session->relay_client, control->session->port);

    memcpy(join.id, control->ticket.id, sizeof(join.id));
    memcpy(join.secret, control->ticket.secret, sizeof(join.secret));
    gt_join_encode(&join, bytes);
    if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
        fail("join", strerror(errno));
    control->has_ticket = false;
    return fd;
}

void relay_client_open(struct relay_client_session *session, int ret_fds[2])
{
    struct control *controls = session->controls;
    struct gt_control_frame open = {.type = GT_CONTROL_OPEN, .open = {++session->stream, 1, 0}};
    uint8_t reply[GT_JOIN_REPLY_SIZE];

    memcpy(open.rid, session->rid, GT_RID_SIZE);
    control_send(&controls[OPERATOR], &open);
    while (!controls[OPERATOR].has_ticket || !controls[DEVICE].has_ticket)
        relay_client_run_once(session->relay_client, -1);
    ret_fds[OPERATOR] = join(&controls[OPERATOR], GT_ROLE_OPERATOR);
    ret_fds[DEVICE] = join(&controls[DEVICE], GT_ROLE_DEVICE);
    for (int side = 0; side < SIDES; side++)
        do {
            if (recv(ret_fds[side], reply, sizeof(reply), MSG_WAITALL) != sizeof(reply))
                fail("join", "rejected by the relay");
        } while (memcmp(reply, gt_join_receipt, sizeof(reply)) == 0);
}
