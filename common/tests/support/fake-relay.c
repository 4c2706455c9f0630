/* SPDX-License-Identifier: ISC */
/*
 * TLS server, frame parser and encoder of the fake relay. Must never answer by itself: the test
 * decides.
 */
#include "support/fake-relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

const uint8_t fake_key[GT_KEY_SIZE] = "the relay's key of every client!";

uint8_t fake_rid[GT_RID_SIZE] = "rendezvous here";

static bool fake_relay_find(void *userdata, struct gt_span identity,
                            uint8_t ret[static GT_KEY_SIZE])
{
    struct fake_client *client = userdata;
    char name[GT_NAME_MAX + 1];

    if (!gt_key_parse_identity(identity, &client->role, name))
        return false;
    memcpy(ret, fake_key, GT_KEY_SIZE);
    ret[0] ^= client->relay->has_wrong_key;
    return true;
}

void fake_client_close(struct fake_client *client)
{
    if (client->fd < 0)
        return;
    ev_io_stop(client->relay->loop, &client->io);
    client->tls = gt_tls_free(client->tls);
    gt_close(&client->fd);
}

static void fake_client_watch(struct fake_client *client)
{
    if (client->fd < 0)
        return;
    ev_io_stop(client->relay->loop, &client->io);
    ev_io_set(&client->io, client->fd,
              EV_READ | (client->tls && gt_tls_wants_write(client->tls) ? EV_WRITE : 0));
    ev_io_start(client->relay->loop, &client->io);
}

void fake_client_send_bytes(struct fake_client *client, const void *data, size_t n)
{
    if (client->fd < 0)
        return; /* an earlier write found the connection broken */
    assert_int_equal(gt_tls_write(client->tls, data, n), 0);
    if (gt_tls_flush(client->tls) == GT_TLS_E_BROKEN)
        fake_client_close(client);
    fake_client_watch(client);
}

void fake_client_send(struct fake_client *client, const struct gt_control_frame *frame)
{
    uint8_t data[GT_CONTROL_FRAME_MAX];

    fake_client_send_bytes(client, data, gt_control_encode(frame, data));
}

struct gt_control_frame fake_frame(enum gt_control_type type)
{
    struct gt_control_frame frame = {.type = type};

    memcpy(frame.rid, fake_rid, sizeof(frame.rid));
    if (type == GT_CONTROL_STREAM_END)
        frame.stream_end.stream = frame.stream_end.attempt = 1;
    if (type == GT_CONTROL_TICKET)
        frame.ticket.stream = frame.ticket.attempt = 1;
    return frame;
}

void fake_client_welcome(struct fake_client *client)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_WELCOME};

    frame.welcome.version = client->relay->version;
    frame.welcome.heartbeat_ms = client->relay->heartbeat_ms;
    frame.welcome.max_streams = 64;
    fake_client_send(client, &frame);
}

void fake_client_session(struct fake_client *client, uint16_t port, bool is_peer_up)
{
    struct gt_control_frame frame = fake_frame(GT_CONTROL_SESSION);

    frame.session.port = port;
    frame.session.ttl_left_s = 3600;
    frame.session.is_peer_up = is_peer_up;
    fake_client_send(client, &frame);
}

void fake_client_peer(struct fake_client *client, bool is_up, enum gt_code reason)
{
    struct gt_control_frame frame = fake_frame(GT_CONTROL_PEER);

    frame.peer.is_up = is_up;
    frame.peer.reason = (uint8_t)reason;
    fake_client_send(client, &frame);
}

void fake_client_code(struct fake_client *client, enum gt_control_type type, enum gt_code code)
{
    struct gt_control_frame frame = fake_frame(type);

    frame.code = (uint16_t)code;
    fake_client_send(client, &frame);
}

static void fake_client_handle_frames(struct fake_client *client)
{
    struct gt_control_frame frame;
    size_t used;

    while (client->fd >= 0 && gt_control_decode(client->in, client->n_in, &frame, &used) == 0) {
        client->n_frames[frame.type]++;
        client->relay->on_frame(client, &frame); /* a part is still in the buffer */
        client->n_in -= used;
        memmove(client->in, client->in + used, client->n_in);
    }
}

/* Passes on a connection that begins with a JOIN. */
static bool fake_client_is_join(struct fake_client *client)
{
    struct fake_relay *relay = client->relay;
    uint8_t first = 0;

    if (!relay->on_join || client->is_handshake_done ||
        recv(client->fd, &first, 1, MSG_PEEK) != 1 || first != 'G')
        return false;
    ev_io_stop(relay->loop, &client->io);
    client->tls = gt_tls_free(client->tls);
    relay->on_join(relay, gt_steal_fd(&client->fd));
    return true;
}

static void fake_client_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct fake_client *client = w->data;
    size_t n;
    int r = 0;

    if (fake_client_is_join(client))
        return;
    if (!client->is_handshake_done) {
        r = gt_tls_handshake(client->tls);
        client->is_handshake_done = r == 0;
    }
    while (r == 0 && client->fd >= 0 &&
           (r = gt_tls_read(client->tls, client->in + client->n_in,
                            sizeof(client->in) - client->n_in, &n)) == 0) {
        client->n_in += n;
        fake_client_handle_frames(client);
    }
    if (r == GT_TLS_E_CLOSED) {
        uint8_t byte;
        ssize_t after = recv(client->fd, &byte, 1, 0);

        client->relay->n_resets += after < 0 && errno == ECONNRESET;
        client->relay->n_close_notifies++;
    }
    if (r == GT_TLS_E_CLOSED || r == GT_TLS_E_BROKEN)
        fake_client_close(client);
    else if (client->fd >= 0 && gt_tls_flush(client->tls) == GT_TLS_E_BROKEN)
        fake_client_close(client);
    fake_client_watch(client);
}

static struct fake_client *fake_relay_add(struct fake_relay *relay, int fd)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct fake_client *client = &relay->clients[i];

        if (client->fd >= 0)
            continue;
        *client = (struct fake_client){.relay = relay, .fd = fd};
        ev_init(&client->io, fake_client_on_io);
        client->io.data = client;
        return client;
    }
    fail_msg("the fake relay is full");
    return NULL;
}

static void fake_relay_on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct fake_relay *relay = w->data;
    struct gt_addr addr;
    int fd = gt_sock_accept(relay->listener, &addr);

    if (fd < 0)
        return;
    relay->n_accepted++;
    if (relay->closes_at_once) {
        close(fd);
        return;
    }
    struct fake_client *client = fake_relay_add(relay, fd);
    if (relay->is_silent)
        return;
    assert_int_equal(gt_tls_new_server(relay->context, fd, fake_relay_find, client, &client->tls),
                     0);
    fake_client_watch(client);
}

int fake_listen(uint16_t *ret_port)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 128);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    *ret_port = gt_addr_port(&addr);
    return fd;
}

void fake_relay_init(struct fake_relay *relay, struct ev_loop *loop)
{
    *relay = (struct fake_relay){.loop = loop, .version = GT_CONTROL_VERSION};
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        relay->clients[i].fd = -1;
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &relay->context), 0);
    relay->listener = fake_listen(&relay->port);
    relay->address = (struct gt_host_port){"127.0.0.1", relay->port};
    ev_io_init(&relay->acceptable, fake_relay_on_acceptable, relay->listener, EV_READ);
    relay->acceptable.data = relay;
    ev_io_start(loop, &relay->acceptable);
}

void fake_relay_deinit(struct fake_relay *relay)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        fake_client_close(&relay->clients[i]);
    ev_io_stop(relay->loop, &relay->acceptable);
    gt_close(&relay->listener);
    gt_tls_context_free(relay->context);
}

struct fake_client *fake_relay_client(struct fake_relay *relay, enum gt_role role)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (relay->clients[i].fd >= 0 && relay->clients[i].role == role &&
            relay->clients[i].n_frames[GT_CONTROL_RENDEZVOUS] > 0)
            return &relay->clients[i];
    return NULL;
}

/* --- running ---------------------------------------------------------------------------------- */

static void fake_on_guard(struct ev_loop *loop, ev_timer *w, int revents)
{
    *(bool *)w->data = true;
}

bool fake_run(struct ev_loop *loop, bool (*is_done)(void *userdata), void *userdata, double seconds)
{
    bool is_late = false;
    ev_timer guard;

    ev_now_update(loop);
    ev_timer_init(&guard, fake_on_guard, seconds, 0);
    guard.data = &is_late;
    ev_timer_start(loop, &guard);
    while (!is_late && !is_done(userdata))
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &guard);
    return is_done(userdata);
}
