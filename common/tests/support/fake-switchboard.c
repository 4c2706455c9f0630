/* SPDX-License-Identifier: ISC */
/*
 * One buffer per data connection and no flow control beyond it. Must never forward a byte before
 * the JOIN of both sides.
 */
#include "support/fake-switchboard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include <sys/socket.h>

#include "gotthard/proto/join.h"

void data_close(struct data *data)
{
    if (data->fd < 0)
        return;
    ev_io_stop(data->board->loop, &data->io);
    free(data->buffer);
    data->buffer = NULL;
    gt_close(&data->fd);
    if (data->other) {
        data->other->other = NULL;
        data_close(data->other);
    }
}

/* Not if a failed write to its other end has closed it. */
void data_watch(struct data *data)
{
    int events = (data->n < BUFFER_MAX ? EV_READ : 0);

    if (data->fd < 0)
        return;
    if (data->other && data->other->n > 0)
        events |= EV_WRITE;
    ev_io_stop(data->board->loop, &data->io);
    ev_io_set(&data->io, data->fd, events);
    if (events && !data->board->is_frozen)
        ev_io_start(data->board->loop, &data->io);
}

/* The client may have closed the connection meanwhile. */
static void data_reply(struct data *data, const uint8_t *reply)
{
    (void)!send(data->fd, reply, GT_JOIN_REPLY_SIZE, MSG_NOSIGNAL);
}

static void data_on_join(struct data *data)
{
    struct switchboard *board = data->board;

    if (data->n < GT_JOIN_SIZE)
        return;
    assert_int_equal(data->n, GT_JOIN_SIZE); /* nothing before the reply */
    data->n = 0;
    if (data->is_at_main_port ? board->ignores_main_joins : board->ignores_joins)
        return;
    assert_int_equal(gt_join_decode(data->buffer, &data->join), 0);
    board->n_joins++;
    board->n_main_joins += data->is_at_main_port;
    data_reply(data, gt_join_receipt);
    for (size_t i = 0; i < DATA_MAX; i++) {
        struct data *other = &board->data[i];

        if (other->fd < 0 || other == data || other->join.role + data->join.role != 3 ||
            other->join.stream != data->join.stream || other->join.attempt != data->join.attempt)
            continue;
        data->other = other;
        other->other = data;
        data_reply(data, gt_join_reply);
        data_reply(other, gt_join_reply);
    }
}

static void data_on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    struct data *data = w->data;

    if (revents & EV_WRITE && data->other && data->other->n > 0) {
        struct data *from = data->other;
        ssize_t n = send(data->fd, from->buffer, from->n, MSG_NOSIGNAL);

        if (n > 0) {
            from->n -= (size_t)n;
            memmove(from->buffer, from->buffer + n, from->n);
            data_watch(from);
        }
    }
    if (revents & EV_READ) {
        size_t room = data->other ? BUFFER_MAX - data->n : GT_JOIN_SIZE - data->n;
        ssize_t n = recv(data->fd, data->buffer + data->n, room, 0);

        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            if (data->other && data->n > 0) /* forward its last bytes */
                (void)!send(data->other->fd, data->buffer, data->n, MSG_NOSIGNAL);
            data_close(data);
            return;
        }
        data->n += n > 0 ? (size_t)n : 0;
        if (!data->other)
            data_on_join(data);
    }
    if (data->other)
        data_watch(data->other);
    data_watch(data);
}

static void data_accept(struct switchboard *board, int fd, bool is_at_main_port)
{
    for (size_t i = 0; i < DATA_MAX; i++) {
        struct data *data = &board->data[i];

        if (data->fd >= 0)
            continue;
        *data = (struct data){.board = board,
                              .fd = fd,
                              .buffer = malloc(BUFFER_MAX),
                              .is_at_main_port = is_at_main_port};
        ev_init(&data->io, data_on_io);
        data->io.data = data;
        data_watch(data);
        return;
    }
    fail_msg("too many data connections");
}

static void board_on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct switchboard *board = w->data;
    struct gt_addr addr;
    int fd = gt_sock_accept(board->listener, &addr);

    if (fd >= 0)
        data_accept(board, fd, false);
}

static void board_on_main_join(struct fake_relay *relay, int fd)
{
    data_accept(relay->userdata, fd, true);
}

static void board_open(struct switchboard *board, struct fake_client *client,
                       const struct gt_control_frame *frame)
{
    struct fake_client *device = fake_relay_client(&board->relay, GT_ROLE_DEVICE);
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);

    board->n_opens++;
    if (board->has_no_tickets) {
        struct gt_control_frame end = fake_frame(GT_CONTROL_STREAM_END);

        end.stream_end.stream = frame->open.stream;
        end.stream_end.attempt = frame->open.attempt;
        end.stream_end.code = board->end_code ? (uint16_t)board->end_code : GT_CODE_LIMIT;
        fake_client_send(client, &end);
        return;
    }
    ticket.ticket = (struct gt_ticket){frame->open.stream, frame->open.attempt, .ttl_s = 30};
    fake_client_send(client, &ticket);
    if (device)
        fake_client_send(device, &ticket);
    else
        board->tickets[board->n_tickets++] = ticket;
}

static void board_on_frame(struct fake_client *client, const struct gt_control_frame *frame)
{
    struct switchboard *board = client->relay->userdata;
    struct fake_client *other = fake_relay_client(
        client->relay, client->role == GT_ROLE_DEVICE ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE);

    if (frame->type == GT_CONTROL_HELLO)
        fake_client_welcome(client);
    if (frame->type == GT_CONTROL_RENDEZVOUS && board->bye_code) {
        fake_client_code(client, GT_CONTROL_BYE, board->bye_code);
    } else if (frame->type == GT_CONTROL_RENDEZVOUS) {
        board->generation[client->role - 1] = frame->rendezvous.generation;
        fake_client_session(client, board->port, other != NULL);
        if (other)
            fake_client_peer(other, true, GT_CODE_NONE);
        for (size_t i = 0; client->role == GT_ROLE_DEVICE && i < board->n_tickets; i++)
            fake_client_send(client, &board->tickets[i]);
    }
    if (frame->type == GT_CONTROL_OPEN)
        board_open(board, client, frame);
    if (frame->type == GT_CONTROL_LOAD)
        board->load = frame->load;
    if (frame->type == GT_CONTROL_STREAM_END) {
        board->n_stream_ends++;
        board->n_reset += client->role == GT_ROLE_DEVICE && frame->stream_end.code == GT_CODE_BYE;
        if (other && !board->drops_stream_ends)
            fake_client_send(other, frame);
    }
    if (frame->type == GT_CONTROL_BYE) {
        fake_client_close(client);
        if (other)
            fake_client_peer(other, false, frame->code);
    }
}

void board_init(struct switchboard *board, struct ev_loop *loop)
{
    *board = (struct switchboard){.loop = loop};
    for (size_t i = 0; i < DATA_MAX; i++)
        board->data[i].fd = -1;
    fake_relay_init(&board->relay, loop);
    board->relay.on_frame = board_on_frame;
    board->relay.on_join = board_on_main_join;
    board->relay.userdata = board;
    board->listener = fake_listen(&board->port);
    ev_io_init(&board->acceptable, board_on_acceptable, board->listener, EV_READ);
    board->acceptable.data = board;
    ev_io_start(loop, &board->acceptable);
}

void board_deinit(struct switchboard *board)
{
    for (size_t i = 0; i < DATA_MAX; i++)
        data_close(&board->data[i]);
    ev_io_stop(board->loop, &board->acceptable);
    gt_close(&board->listener);
    fake_relay_deinit(&board->relay);
}

void board_cut_data(struct switchboard *board)
{
    for (size_t i = 0; i < DATA_MAX; i++)
        data_close(&board->data[i]);
}

void board_cut_control(struct switchboard *board)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        fake_client_close(&board->relay.clients[i]);
}
