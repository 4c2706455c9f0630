/* SPDX-License-Identifier: ISC */
/*
 * Both ends of a session in one loop, with a fake relay between them that joins and forwards data
 * connections as the real one does, and fails where the real one might; applications that send a
 * pattern of their own stream, and a storm that cuts what it likes. Include after cmocka.h.
 */
#pragma once

#include <sys/ioctl.h>
#include <time.h>

#include "fake-relay.h"
#include "gotthard/tunnel.h"

static const uint8_t session_key[GT_KEY_SIZE] = "the key of both ends' session...";

/* --- the relay's data side: JOIN, then bytes both ways ---------------------------------------- */

#define DATA_MAX   128
#define BUFFER_MAX (256 * 1024)

struct data {
    struct switchboard *board;
    int fd; /* -1: free */
    ev_io io;
    struct data *other; /* from the second JOIN on */
    struct gt_join join;
    uint8_t *buffer; /* read here, not yet written there */
    size_t n;
};

struct switchboard {
    struct ev_loop *loop;
    struct fake_relay relay;
    int listener;
    uint16_t port;
    ev_io acceptable;
    struct data data[DATA_MAX];
    struct gt_control_frame tickets[64]; /* the device is not here yet */
    size_t n_tickets;
    unsigned n_stream_ends, n_joins, n_opens;
    int n_spares;           /* said to be, less those said not to be any more */
    uint32_t generation[2]; /* of the last RENDEZVOUS, by role */
    bool is_ticketless;     /* answers OPEN with STREAM_END */
    enum gt_code end_code;  /* and this; LIMIT unless set */
    bool is_frozen;         /* forwards no more data */
    bool is_forgetful;      /* passes no end of a stream on */
    unsigned n_broken;      /* streams that broke at the device, by what it says */
    enum gt_code goodbye;   /* the answer to RENDEZVOUS: the session is over */
};

static inline void data_close(struct data *data)
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

static inline void data_watch(struct data *data)
{
    int events = (data->n < BUFFER_MAX ? EV_READ : 0);
    if (data->other && data->other->n > 0)
        events |= EV_WRITE;
    ev_io_stop(data->board->loop, &data->io);
    ev_io_set(&data->io, data->fd, events);
    if (events && !data->board->is_frozen)
        ev_io_start(data->board->loop, &data->io);
}

static inline void data_on_join(struct data *data)
{
    struct switchboard *board = data->board;
    if (data->n < GT_JOIN_SIZE)
        return;
    assert_int_equal(data->n, GT_JOIN_SIZE); /* nothing before the reply */
    assert_int_equal(gt_join_decode(data->buffer, &data->join), 0);
    data->n = 0;
    board->n_joins++;
    for (size_t i = 0; i < DATA_MAX; i++) {
        struct data *other = &board->data[i];
        if (other->fd < 0 || other == data || other->join.role + data->join.role != 3 ||
            other->join.stream != data->join.stream || other->join.attempt != data->join.attempt)
            continue;
        data->other = other;
        other->other = data;
        assert_int_equal(send(data->fd, gt_join_reply, GT_JOIN_REPLY_SIZE, MSG_NOSIGNAL), 8);
        assert_int_equal(send(other->fd, gt_join_reply, GT_JOIN_REPLY_SIZE, MSG_NOSIGNAL), 8);
    }
}

static inline void data_on_io(struct ev_loop *loop, ev_io *w, int revents)
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
            if (data->other && data->n > 0) /* what it said before goes on */
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

static inline void data_accept(struct switchboard *board, int fd)
{
    for (size_t i = 0; i < DATA_MAX; i++) {
        struct data *data = &board->data[i];
        if (data->fd >= 0)
            continue;
        *data = (struct data){.board = board, .fd = fd, .buffer = malloc(BUFFER_MAX)};
        ev_init(&data->io, data_on_io);
        data->io.data = data;
        data_watch(data);
        return;
    }
    fail_msg("too many data connections");
}

static inline void board_on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct switchboard *board = w->data;
    struct gt_addr addr;
    int fd = gt_sock_accept(board->listener, &addr);
    if (fd >= 0)
        data_accept(board, fd);
}

/* --- the relay's control side ----------------------------------------------------------------- */

static inline void board_open(struct switchboard *board, struct fake_member *member,
                              const struct gt_control_frame *frame)
{
    struct fake_member *device = fake_relay_member(&board->relay, GT_ROLE_DEVICE);
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);
    board->n_opens++;
    if (board->is_ticketless) {
        struct gt_control_frame end = fake_frame(GT_CONTROL_STREAM_END);
        end.stream_end.stream = frame->open.stream;
        end.stream_end.attempt = frame->open.attempt;
        end.stream_end.code = board->end_code ? (uint16_t)board->end_code : GT_CODE_LIMIT;
        fake_member_say(member, &end);
        return;
    }
    ticket.ticket = (struct gt_ticket){frame->open.stream, frame->open.attempt, .ttl_s = 30};
    fake_member_say(member, &ticket);
    if (device)
        fake_member_say(device, &ticket);
    else
        board->tickets[board->n_tickets++] = ticket;
}

static inline void board_on_frame(struct fake_member *member, const struct gt_control_frame *frame)
{
    struct switchboard *board = member->relay->userdata;
    struct fake_member *other = fake_relay_member(
        member->relay, member->role == GT_ROLE_DEVICE ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE);
    if (frame->type == GT_CONTROL_HELLO)
        fake_member_welcome(member);
    if (frame->type == GT_CONTROL_RENDEZVOUS && board->goodbye) {
        fake_member_code(member, GT_CONTROL_BYE, board->goodbye);
    } else if (frame->type == GT_CONTROL_RENDEZVOUS) {
        board->generation[member->role - 1] = frame->rendezvous.generation;
        fake_member_session(member, board->port, other != NULL);
        if (other)
            fake_member_peer(other, true, GT_CODE_NONE);
        for (size_t i = 0; member->role == GT_ROLE_DEVICE && i < board->n_tickets; i++)
            fake_member_say(member, &board->tickets[i]);
    }
    if (frame->type == GT_CONTROL_OPEN)
        board_open(board, member, frame);
    if (frame->type == GT_CONTROL_SPARE)
        board->n_spares += frame->spare.is_spare ? 1 : -1;
    if (frame->type == GT_CONTROL_STREAM_END) {
        board->n_stream_ends++;
        board->n_broken += member->role == GT_ROLE_DEVICE && frame->stream_end.code == GT_CODE_BYE;
        if (other && !board->is_forgetful)
            fake_member_say(other, frame);
    }
    if (frame->type == GT_CONTROL_BYE) {
        fake_member_close(member);
        if (other)
            fake_member_peer(other, false, GT_CODE_BYE);
    }
}

static inline void board_init(struct switchboard *board, struct ev_loop *loop)
{
    *board = (struct switchboard){.loop = loop};
    for (size_t i = 0; i < DATA_MAX; i++)
        board->data[i].fd = -1;
    fake_relay_init(&board->relay, loop);
    board->relay.on_frame = board_on_frame;
    board->relay.userdata = board;
    board->listener = fake_listen(&board->port);
    ev_io_init(&board->acceptable, board_on_acceptable, board->listener, EV_READ);
    board->acceptable.data = board;
    ev_io_start(loop, &board->acceptable);
}

static inline void board_deinit(struct switchboard *board)
{
    for (size_t i = 0; i < DATA_MAX; i++)
        data_close(&board->data[i]);
    ev_io_stop(board->loop, &board->acceptable);
    gt_close(&board->listener);
    fake_relay_deinit(&board->relay);
}

/* --- two ends --------------------------------------------------------------------------------- */

#define STREAMS_MAX 32
#define NUMBERS_MAX 4096

struct end {
    struct gt_tunnel *tunnel;
    struct fixture *fixture;
    unsigned n_up, n_peer, n_link, n_down, n_ends, n_well;
    bool is_peer_up, is_link_up;
    uint16_t port;
    enum gt_rst last_rst;
    uint64_t total_up, total_down;
    enum gt_down cause;
    enum gt_code code;
    char why[200];
};

struct fixture {
    struct ev_loop *loop;
    struct switchboard board;
    struct gt_tunnel_settings settings[2]; /* operator, device */
    struct end end[2];
    enum gt_rst refusal;     /* what the device answers; GT_RST_NONE: serves */
    bool is_undecided;       /* it does not answer */
    int target[NUMBERS_MAX]; /* by stream: the far end of what the device serves */
    unsigned n_asked;
};

static inline void end_on_up(void *userdata, uint16_t port)
{
    struct end *end = userdata;
    end->n_up++;
    end->port = port;
}

static inline void end_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct end *end = userdata;
    end->n_peer++;
    end->is_peer_up = is_up;
    assert_int_equal(end->n_up, 1);
}

static inline void end_on_link(void *userdata, bool is_up, const char *why)
{
    struct end *end = userdata;
    end->n_link++;
    end->is_link_up = is_up;
    assert_int_equal(end->n_up, 1);
    assert_int_equal(end->n_link % 2, !is_up); /* in turns */
}

static inline void end_on_service(void *userdata, struct gt_conduit *conduit, const char *service)
{
    struct end *end = userdata;
    struct fixture *f = end->fixture;
    int fds[2];
    f->n_asked++;
    assert_string_equal(service, "echo");
    if (f->refusal)
        gt_conduit_refuse(conduit, f->refusal);
    if (f->refusal || f->is_undecided)
        return;
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(f->target[gt_conduit_number(conduit)], -1); /* once */
    f->target[gt_conduit_number(conduit)] = fds[0];
    gt_conduit_serve(conduit, fds[1]);
}

static inline void end_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                     enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct end *end = userdata;
    assert_int_equal(end->n_down, 0);
    end->n_ends++;
    end->n_well += code == GT_RST_NONE;
    end->last_rst = code;
    end->total_up += n_up;
    end->total_down += n_down;
}

static inline void end_on_down(void *userdata, enum gt_down cause, enum gt_code code,
                               const char *why)
{
    struct end *end = userdata;
    end->n_down++;
    end->cause = cause;
    end->code = code;
    snprintf(end->why, sizeof end->why, "%s", why);
    assert_int_equal(gt_tunnel_n_streams(end->tunnel), 0);
}

static const struct gt_tunnel_events events = {
    .on_up = end_on_up,
    .on_peer = end_on_peer,
    .on_link = end_on_link,
    .on_service = end_on_service,
    .on_stream_end = end_on_stream_end,
    .on_down = end_on_down,
};

static inline void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->loop = ev_loop_new(0);
    board_init(&f->board, f->loop);
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        f->target[i] = -1;
    for (int i = 0; i < 2; i++) {
        f->end[i].fixture = f;
        f->settings[i] = (struct gt_tunnel_settings){
            .role = i == 0 ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE,
            .relay_host = "127.0.0.1",
            .relay_port = f->board.relay.port,
            .name = i == 0 ? "alice" : "GatewayOli",
            .client_key = fake_key,
            .session_key = session_key,
            .rid = fake_rid,
            .max_streams = STREAMS_MAX,
            .ring_size = 256 * 1024,
            .peer_timeout_ms = 5000,
        };
    }
}

static inline void fixture_start(struct fixture *f, int i)
{
    assert_int_equal(
        gt_tunnel_new(f->loop, &f->settings[i], &events, &f->end[i], &f->end[i].tunnel), 0);
}

static inline void fixture_start_both(struct fixture *f)
{
    fixture_start(f, 0);
    fixture_start(f, 1);
}

static inline void fixture_deinit(struct fixture *f)
{
    for (int i = 0; i < 2; i++)
        f->end[i].tunnel = gt_tunnel_free(f->end[i].tunnel);
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        gt_close(&f->target[i]);
    board_deinit(&f->board);
    ev_loop_destroy(f->loop);
    assert_int_equal(gt_batch_n_held(), 0);
    gt_batch_trim();
}

static inline bool are_both_up(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_up == 1 && f->end[1].n_up == 1;
}

static inline void fixture_up(struct fixture *f)
{
    fixture_init(f);
    fixture_start_both(f);
    assert_true(fake_run(f->loop, are_both_up, f, 5));
    assert_int_equal(f->end[0].port, f->board.port);
    assert_true(gt_tunnel_is_up(f->end[0].tunnel) && gt_tunnel_is_up(f->end[1].tunnel));
}

/* The test's own end of a new stream. */
static inline int open_stream(struct fixture *f)
{
    int fds[2];
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(f->end[0].tunnel, fds[1], "echo"), 0);
    return fds[0];
}

static inline bool is_operator_down(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_down > 0;
}

static inline bool are_both_down(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_down > 0 && f->end[1].n_down > 0;
}

static inline void expect_end(const struct end *end, enum gt_down cause, enum gt_code code,
                              const char *why)
{
    if (end->cause != cause || end->code != code || !strstr(end->why, why))
        fail_msg("%s, code %d, \"%s\"", gt_down_text(end->cause), end->code, end->why);
    assert_int_equal(end->n_down, 1);
}

/* --- bytes ------------------------------------------------------------------------------------ */

struct flow {
    int from, to; /* to: 0 until it is known */
    uint64_t n, n_written, n_read;
    uint32_t seed;
};

static inline uint8_t pattern(const struct flow *flow, uint64_t at)
{
    return (uint8_t)((at * 2654435761u + flow->seed * 40503u) >> 13);
}

static inline void flow_step(struct flow *flow)
{
    static uint8_t data[65536];
    size_t n = GT_MIN(sizeof data, flow->n - flow->n_written);
    for (size_t i = 0; i < n; i++)
        data[i] = pattern(flow, flow->n_written + i);
    ssize_t done = n ? send(flow->from, data, n, MSG_NOSIGNAL) : 0;
    flow->n_written += done > 0 ? (size_t)done : 0;
    done = recv(flow->to, data, sizeof data, 0);
    for (ssize_t i = 0; i < done; i++)
        if (data[i] != pattern(flow, flow->n_read + (uint64_t)i))
            fail_msg("seed %u: wrong byte at %lu", flow->seed, flow->n_read + (uint64_t)i);
    flow->n_read += done > 0 ? (size_t)done : 0;
}

struct flows {
    struct fixture *f;
    int fds[STREAMS_MAX]; /* the operator's side */
    uint32_t numbers[STREAMS_MAX];
    size_t n_streams;
    uint64_t n; /* bytes, each way */
    struct flow up[STREAMS_MAX], down[STREAMS_MAX];
};

static inline bool are_flows_done(void *userdata)
{
    struct flows *flows = userdata;
    bool is_done = true;
    for (size_t i = 0; i < flows->n_streams; i++) {
        int target = flows->f->target[flows->numbers[i]];
        struct flow *up = &flows->up[i], *down = &flows->down[i];
        if (target >= 0) {
            up->from = down->to = flows->fds[i];
            up->to = down->from = target;
            flow_step(up);
            flow_step(down);
        }
        is_done &= up->n_read == flows->n && down->n_read == flows->n;
    }
    /* The flows are driven from here, not by watchers. */
    return is_done;
}

static inline void tick(struct ev_loop *loop, ev_timer *w, int revents)
{
}

static inline void flows_open(struct flows *flows)
{
    for (size_t i = 0; i < flows->n_streams; i++) {
        flows->fds[i] = open_stream(flows->f);
        flows->numbers[i] = gt_tunnel_last_stream(flows->f->end[0].tunnel);
    }
}

static inline void flows_go_on(struct flows *flows)
{
    ev_timer timer;
    ev_timer_init(&timer, tick, .0005, .0005);
    ev_timer_start(flows->f->loop, &timer);
    for (size_t i = 0; i < flows->n_streams; i++)
        flows->up[i].n = flows->down[i].n = flows->n;
    assert_true(fake_run(flows->f->loop, are_flows_done, flows, 60));
    ev_timer_stop(flows->f->loop, &timer);
}

static inline void flows_run(struct flows *flows)
{
    for (size_t i = 0; i < flows->n_streams; i++) {
        flows->up[i] = (struct flow){.seed = (uint32_t)i * 2};
        flows->down[i] = (struct flow){.seed = (uint32_t)i * 2 + 1};
    }
    flows_go_on(flows);
}

/* So many streams, of which each has carried @n bytes each way. */
static inline void flows_begin(struct flows *flows, struct fixture *f, size_t n_streams, uint64_t n)
{
    *flows = (struct flows){.f = f, .n_streams = n_streams, .n = n};
    flows_open(flows);
    flows_run(flows);
}

static inline bool are_all_ended(void *userdata)
{
    const struct flows *flows = userdata;
    const struct fixture *f = flows->f;
    return f->end[0].n_ends == flows->n_streams && f->end[1].n_ends == flows->n_streams;
}

static inline void flows_finish(struct flows *flows)
{
    struct fixture *f = flows->f;
    for (size_t i = 0; i < flows->n_streams; i++) {
        assert_int_equal(shutdown(flows->fds[i], SHUT_WR), 0);
        assert_int_equal(shutdown(f->target[flows->numbers[i]], SHUT_WR), 0);
    }
    assert_true(fake_run(f->loop, are_all_ended, flows, 10));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f->end[i].n_well, flows->n_streams);
        assert_int_equal(f->end[i].total_up, flows->n * flows->n_streams);
        assert_int_equal(f->end[i].total_down, flows->n * flows->n_streams);
        assert_int_equal(gt_tunnel_n_streams(f->end[i].tunnel), 0);
    }
    for (size_t i = 0; i < flows->n_streams; i++)
        gt_close(&flows->fds[i]);
}

/* --- what breaks ------------------------------------------------------------------------------ */

static inline void board_cut_data(struct switchboard *board)
{
    for (size_t i = 0; i < DATA_MAX; i++)
        data_close(&board->data[i]);
}

static inline void board_cut_links(struct switchboard *board)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        fake_member_close(&board->relay.members[i]);
}

struct storm {
    struct flows *flows;
    unsigned n_cuts, n_cuts_max;
    uint32_t random;
};

static inline void storm_blow(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct storm *storm = w->data;
    struct switchboard *board = &storm->flows->f->board;
    storm->random = storm->random * 1664525u + 1013904223u;
    if (storm->n_cuts++ == storm->n_cuts_max) {
        ev_timer_stop(loop, w);
        return;
    }
    switch (storm->random >> 29) {
    case 0:
    case 1: board_cut_links(board); break;
    case 2: fake_member_close(&board->relay.members[storm->random >> 8 & 1]); break;
    case 3:
    case 4: board_cut_data(board); break;
    default:
        board_cut_data(board);
        board_cut_links(board);
        break;
    }
}
