/* SPDX-License-Identifier: ISC */
/*
 * Both ends of a session in one loop, with a fake relay between them that joins and forwards data
 * connections as the real one does, and fails where the real one might.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

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
    unsigned n_stream_ends, n_joins;
    uint32_t generation[2]; /* of the last RENDEZVOUS, by role */
    bool is_ticketless;     /* answers OPEN with STREAM_END */
    enum gt_code end_code;  /* and this; LIMIT unless set */
    bool is_frozen;         /* forwards no more data */
    enum gt_code goodbye;   /* the answer to RENDEZVOUS: the session is over */
};

static void data_close(struct data *data)
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

static void data_watch(struct data *data)
{
    int events = (data->n < BUFFER_MAX ? EV_READ : 0);
    if (data->other && data->other->n > 0)
        events |= EV_WRITE;
    ev_io_stop(data->board->loop, &data->io);
    ev_io_set(&data->io, data->fd, events);
    if (events && !data->board->is_frozen)
        ev_io_start(data->board->loop, &data->io);
}

static void data_on_join(struct data *data)
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

static void data_accept(struct switchboard *board, int fd)
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

static void board_on_acceptable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct switchboard *board = w->data;
    struct gt_addr addr;
    int fd = gt_sock_accept(board->listener, &addr);
    if (fd >= 0)
        data_accept(board, fd);
}

/* --- the relay's control side ----------------------------------------------------------------- */

static void board_open(struct switchboard *board, struct fake_member *member,
                       const struct gt_control_frame *frame)
{
    struct fake_member *device = fake_relay_member(&board->relay, GT_ROLE_DEVICE);
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);
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

static void board_on_frame(struct fake_member *member, const struct gt_control_frame *frame)
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
    if (frame->type == GT_CONTROL_STREAM_END) {
        board->n_stream_ends++;
        if (other)
            fake_member_say(other, frame);
    }
    if (frame->type == GT_CONTROL_BYE) {
        fake_member_close(member);
        if (other)
            fake_member_peer(other, false, GT_CODE_BYE);
    }
}

static void board_init(struct switchboard *board, struct ev_loop *loop)
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

static void board_deinit(struct switchboard *board)
{
    for (size_t i = 0; i < DATA_MAX; i++)
        data_close(&board->data[i]);
    ev_io_stop(board->loop, &board->acceptable);
    gt_close(&board->listener);
    fake_relay_deinit(&board->relay);
}

/* --- two ends --------------------------------------------------------------------------------- */

#define STREAMS_MAX 32

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
    enum gt_rst refusal;         /* what the device answers; GT_RST_NONE: serves */
    bool is_undecided;           /* it does not answer */
    int target[STREAMS_MAX + 1]; /* by stream: the far end of what the device serves */
    unsigned n_asked;
};

static void end_on_up(void *userdata, uint16_t port)
{
    struct end *end = userdata;
    end->n_up++;
    end->port = port;
}

static void end_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct end *end = userdata;
    end->n_peer++;
    end->is_peer_up = is_up;
    assert_int_equal(end->n_up, 1);
}

static void end_on_link(void *userdata, bool is_up, const char *why)
{
    struct end *end = userdata;
    end->n_link++;
    end->is_link_up = is_up;
    assert_int_equal(end->n_up, 1);
    assert_int_equal(end->n_link % 2, !is_up); /* in turns */
}

static void end_on_service(void *userdata, struct gt_conduit *conduit, const char *service)
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
    f->target[gt_conduit_number(conduit)] = fds[0];
    gt_conduit_serve(conduit, fds[1]);
}

static void end_on_stream_end(void *userdata, const char *service, uint32_t stream,
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

static void end_on_down(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
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

static void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->loop = ev_loop_new(0);
    board_init(&f->board, f->loop);
    for (size_t i = 0; i <= STREAMS_MAX; i++)
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

static void fixture_start(struct fixture *f, int i)
{
    assert_int_equal(
        gt_tunnel_new(f->loop, &f->settings[i], &events, &f->end[i], &f->end[i].tunnel), 0);
}

static void fixture_deinit(struct fixture *f)
{
    for (int i = 0; i < 2; i++)
        f->end[i].tunnel = gt_tunnel_free(f->end[i].tunnel);
    for (size_t i = 0; i <= STREAMS_MAX; i++)
        gt_close(&f->target[i]);
    board_deinit(&f->board);
    ev_loop_destroy(f->loop);
    assert_int_equal(gt_batch_n_held(), 0);
    gt_batch_trim();
}

static bool are_both_up(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_up == 1 && f->end[1].n_up == 1;
}

static void fixture_up(struct fixture *f)
{
    fixture_init(f);
    fixture_start(f, 0);
    fixture_start(f, 1);
    assert_true(fake_run(f->loop, are_both_up, f, 5));
    assert_int_equal(f->end[0].port, f->board.port);
    assert_true(gt_tunnel_is_up(f->end[0].tunnel) && gt_tunnel_is_up(f->end[1].tunnel));
}

/* The test's own end of a new stream. */
static int open_stream(struct fixture *f)
{
    int fds[2];
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(f->end[0].tunnel, fds[1], "echo"), 0);
    return fds[0];
}

static bool is_operator_down(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_down > 0;
}

static bool are_both_down(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_down > 0 && f->end[1].n_down > 0;
}

static void expect_end(const struct end *end, enum gt_down cause, enum gt_code code,
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

static uint8_t pattern(const struct flow *flow, uint64_t at)
{
    return (uint8_t)((at * 2654435761u + flow->seed * 40503u) >> 13);
}

static void flow_step(struct flow *flow)
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
    size_t n_streams;
    uint64_t n; /* bytes, each way */
    struct flow up[STREAMS_MAX], down[STREAMS_MAX];
};

static bool are_flows_done(void *userdata)
{
    struct flows *flows = userdata;
    bool is_done = true;
    for (size_t i = 0; i < flows->n_streams; i++) {
        int target = flows->f->target[i + 1];
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

static void tick(struct ev_loop *loop, ev_timer *w, int revents)
{
}

static void flows_go_on(struct flows *flows)
{
    ev_timer timer;
    ev_timer_init(&timer, tick, .0005, .0005);
    ev_timer_start(flows->f->loop, &timer);
    for (size_t i = 0; i < flows->n_streams; i++)
        flows->up[i].n = flows->down[i].n = flows->n;
    assert_true(fake_run(flows->f->loop, are_flows_done, flows, 60));
    ev_timer_stop(flows->f->loop, &timer);
}

static void flows_run(struct flows *flows)
{
    for (size_t i = 0; i < flows->n_streams; i++) {
        flows->up[i] = (struct flow){.seed = (uint32_t)i * 2};
        flows->down[i] = (struct flow){.seed = (uint32_t)i * 2 + 1};
    }
    flows_go_on(flows);
}

static bool are_all_ended(void *userdata)
{
    const struct flows *flows = userdata;
    const struct fixture *f = flows->f;
    return f->end[0].n_ends == flows->n_streams && f->end[1].n_ends == flows->n_streams;
}

static void flows_finish(struct flows *flows)
{
    struct fixture *f = flows->f;
    for (size_t i = 0; i < flows->n_streams; i++) {
        assert_int_equal(shutdown(flows->fds[i], SHUT_WR), 0);
        assert_int_equal(shutdown(f->target[i + 1], SHUT_WR), 0);
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

static void one_stream_carries_and_ends_well(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_up(&f);
    flows = (struct flows){.f = &f, .n_streams = 1, .n = 8 << 20};
    flows.fds[0] = open_stream(&f);
    flows_run(&flows);
    flows_finish(&flows);
    assert_int_equal(f.board.n_joins, 2);
    fixture_deinit(&f);
}

static void many_streams_do_not_mix(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_up(&f);
    flows = (struct flows){.f = &f, .n_streams = STREAMS_MAX, .n = 300000};
    for (size_t i = 0; i < flows.n_streams; i++)
        flows.fds[i] = open_stream(&f);
    int fds[2];
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(f.end[0].tunnel, fds[1], "echo"), GT_TUNNEL_E_FULL);
    close(fds[0]);
    flows_run(&flows);
    flows_finish(&flows);
    flows.fds[0] = open_stream(&f); /* there is room again */
    gt_close(&flows.fds[0]);
    fixture_deinit(&f);
}

static void streams_may_be_opened_at_once(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_init(&f);
    fixture_start(&f, 0);
    flows = (struct flows){.f = &f, .n_streams = 3, .n = 1000};
    for (size_t i = 0; i < flows.n_streams; i++)
        flows.fds[i] = open_stream(&f);
    for (int i = 0; i < 50 && f.board.n_tickets < 3; i++)
        ev_run(f.loop, EVRUN_ONCE);
    fixture_start(&f, 1); /* the device comes late, and finds its tickets */
    flows_run(&flows);
    flows_finish(&flows);
    fixture_deinit(&f);
}

static void data_may_go_to_the_main_port(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].is_single_port = true;
    fixture_start(&f, 0);
    fixture_start(&f, 1);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    assert_int_equal(f.end[0].port, f.board.relay.port);
    assert_int_equal(f.end[1].port, f.board.port);
    fixture_deinit(&f);
}

/* --- streams that do not work ----------------------------------------------------------------- */

static bool has_one_ended(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_ends == 1;
}

static void a_refusal_is_told_with_its_reason(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.refusal = GT_RST_DENIED;
    fixture_start(&f, 0);
    fixture_start(&f, 1);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_DENIED);
    assert_int_equal(f.end[0].n_down, 0);
    close(fd);
    fixture_deinit(&f);
}

static void a_full_device_says_so(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[1].max_streams = 1;
    fixture_start(&f, 0);
    fixture_start(&f, 1);
    int first = open_stream(&f), second = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_DENIED);
    assert_int_equal(gt_tunnel_n_streams(f.end[0].tunnel), 1);
    close(first);
    close(second);
    fixture_deinit(&f);
}

static void no_ticket_is_told_by_stream_end(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    f.board.is_ticketless = true;
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_int_equal(f.end[0].last_rst, GT_RST_DENIED);
    close(fd);
    fixture_deinit(&f);
}

static bool are_both_counted(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_ends == 1 && f->end[1].n_ends == 1;
}

static void a_ticket_of_an_ended_stream_makes_nothing(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    f.refusal = GT_RST_REFUSED;
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, are_both_counted, &f, 5));
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);
    ticket.ticket.attempt = 2;
    fake_member_say(fake_relay_member(&f.board.relay, GT_ROLE_DEVICE), &ticket);
    fake_member_say(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), &ticket);
    for (int i = 0; i < 20; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
    assert_int_equal(gt_tunnel_n_streams(f.end[1].tunnel), 0);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    close(fd);
    fixture_deinit(&f);
}

/* --- ends ------------------------------------------------------------------------------------- */

static bool is_served(void *userdata)
{
    const struct fixture *f = userdata;
    return f->n_asked == 1;
}

static void either_side_may_close(void **state)
{
    static const char *const whys[] = {"closed by the operator", "closed by the device"};
    for (int closer = 0; closer < 2; closer++) {
        static struct fixture f;
        fixture_up(&f);
        int fd = open_stream(&f);
        assert_true(fake_run(f.loop, is_served, &f, 5));
        ev_tstamp begun = ev_time();
        gt_tunnel_close(f.end[closer].tunnel);
        assert_int_equal(f.end[closer].n_down, 0);
        assert_true(fake_run(f.loop, are_both_down, &f, 5));
        assert_true(ev_time() - begun < 2);
        expect_end(&f.end[closer], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        expect_end(&f.end[1 - closer], GT_DOWN_CLOSED, GT_CODE_BYE, whys[closer]);
        assert_int_equal(f.end[0].n_ends, 1);
        assert_int_equal(f.end[1].n_ends, 1);
        assert_int_equal(f.end[closer].last_rst, GT_RST_CLOSED);
        int fds[2];
        assert_int_equal(gt_sock_pair(fds), 0);
        assert_int_equal(gt_tunnel_open(f.end[0].tunnel, fds[1], "echo"), GT_TUNNEL_E_OVER);
        close(fds[0]);
        close(fd);
        fixture_deinit(&f);
    }
}

static void closing_does_not_wait_for_a_stalled_carrier(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_served, &f, 5));
    f.board.is_frozen = true;
    for (size_t i = 0; i < DATA_MAX; i++)
        if (f.board.data[i].fd >= 0)
            data_watch(&f.board.data[i]);
    ev_tstamp begun = ev_time();
    gt_tunnel_close(f.end[0].tunnel);
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(ev_time() - begun < 4); /* one after the other, each within 2 s */
    assert_int_equal(f.end[0].n_ends, 1);
    assert_int_equal(f.end[0].last_rst, GT_RST_CLOSED);
    assert_int_equal(f.end[1].n_ends, 1);
    close(fd);
    fixture_deinit(&f);
}

static void closing_before_it_is_up(void **state)
{
    for (int n_turns = 0; n_turns < 10; n_turns++) {
        static struct fixture f;
        fixture_init(&f);
        fixture_start(&f, 0);
        for (int i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        gt_tunnel_close(f.end[0].tunnel);
        assert_int_equal(f.end[0].n_down, 0);
        assert_true(fake_run(f.loop, is_operator_down, &f, 3));
        expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        fixture_deinit(&f);
    }
}

static void freed_in_every_state(void **state)
{
    for (int n_turns = 0; n_turns < 60; n_turns += 3) {
        static struct fixture f;
        fixture_init(&f);
        fixture_start(&f, 0);
        fixture_start(&f, 1);
        int fd = open_stream(&f);
        for (int i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        f.end[n_turns % 2].tunnel = gt_tunnel_free(f.end[n_turns % 2].tunnel);
        for (int i = 0; i < 10; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        close(fd);
        fixture_deinit(&f);
    }
}

static void a_device_that_does_not_come(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].peer_timeout_ms = 200;
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_PEER, GT_CODE_NONE, "did not come");
    assert_int_equal(f.end[0].n_up, 0);
    fixture_deinit(&f);
}

static bool is_peer_away(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_peer == 1;
}

static bool is_peer_back(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_peer == 2;
}

static void a_peer_that_is_lost_may_come_back(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].resume_window_ms = 300;
    fixture_start(&f, 0);
    fixture_start(&f, 1);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    struct fake_member *operator_ = fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR);
    fake_member_peer(operator_, false, GT_CODE_LOST);
    assert_true(fake_run(f.loop, is_peer_away, &f, 5));
    assert_false(f.end[0].is_peer_up);
    fake_member_peer(operator_, true, GT_CODE_NONE);
    assert_true(fake_run(f.loop, is_peer_back, &f, 5));
    assert_true(f.end[0].is_peer_up && gt_tunnel_is_up(f.end[0].tunnel));
    fake_member_peer(operator_, false, GT_CODE_LOST);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_PEER, GT_CODE_LOST, "did not come back");
    fixture_deinit(&f);
}

static void a_new_process_ends_it_at_once(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_served, &f, 5));
    fake_member_peer(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), true,
                     GT_CODE_NEW_PROCESS);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_PEER, GT_CODE_NEW_PROCESS, "restarted");
    assert_int_equal(f.end[0].last_rst, GT_RST_LOST);
    close(fd);
    fixture_deinit(&f);
}

/* --- what outlives the network ---------------------------------------------------------------- */

static bool is_link_back(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_link == 2;
}

static void a_lost_link_is_dialled_again(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_served, &f, 5));
    fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
    ev_tstamp begun = ev_time();
    assert_true(fake_run(f.loop, is_link_back, &f, 5));
    assert_true(ev_time() - begun < 2);
    assert_true(gt_tunnel_is_up(f.end[0].tunnel));
    assert_int_equal(f.board.generation[0], 2);
    assert_int_equal(f.end[0].n_ends + f.end[1].n_ends, 0);
    assert_int_equal(f.board.n_joins, 2); /* its carrier was not touched */
    close(fd);
    fixture_deinit(&f);
}

static void board_cut_data(struct switchboard *board)
{
    for (size_t i = 0; i < DATA_MAX; i++)
        data_close(&board->data[i]);
}

static void board_cut_links(struct switchboard *board)
{
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        fake_member_close(&board->relay.members[i]);
}

/* One side's connections end; the other side's stay open, with nothing behind them. */
static void board_cut_data_of(struct switchboard *board, enum gt_role role)
{
    for (size_t i = 0; i < DATA_MAX; i++) {
        struct data *data = &board->data[i];
        if (data->fd < 0 || !data->other || data->join.role != role)
            continue;
        ev_io_stop(board->loop, &data->other->io);
        data->other->other = NULL;
        data->other = NULL;
        data_close(data);
    }
}

/* A half-open carrier is replaced: whichever side has lost it, the other learns that without
 * waiting for a heartbeat. */
static void a_half_open_carrier_is_replaced(void **state)
{
    for (enum gt_role role = GT_ROLE_OPERATOR; role <= GT_ROLE_DEVICE; role++) {
        static struct fixture f;
        static struct flows flows;
        fixture_up(&f);
        flows = (struct flows){.f = &f, .n_streams = 4, .n = 100000};
        for (size_t i = 0; i < flows.n_streams; i++)
            flows.fds[i] = open_stream(&f);
        flows_run(&flows);
        board_cut_data_of(&f.board, role);
        ev_tstamp begun = ev_time();
        flows.n *= 2;
        flows_go_on(&flows);
        assert_true(ev_time() - begun < 2);
        assert_int_equal(f.board.n_joins, 16); /* two attempts, two sides */
        assert_int_equal(f.end[0].n_link + f.end[1].n_link, 0);
        flows_finish(&flows);
        fixture_deinit(&f);
    }
}

struct storm {
    struct flows *flows;
    unsigned n_cuts, n_cuts_max;
    uint32_t random;
};

static void storm_blow(struct ev_loop *loop, ev_timer *w, int revents)
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

/* Links, carriers, both, at any moment: not one byte is amiss. */
static void streams_outlive_any_cut(void **state)
{
    static struct fixture f;
    static struct flows flows;
    ev_timer wind;
    const char *seed = getenv("GOTTHARD_SEED");
    struct storm storm = {&flows, 0, 12, seed ? (uint32_t)atoi(seed) : (uint32_t)time(NULL)};
    print_message("GOTTHARD_SEED=%u\n", storm.random);
    fixture_up(&f);
    flows = (struct flows){.f = &f, .n_streams = 8, .n = 24 << 20};
    for (size_t i = 0; i < flows.n_streams; i++)
        flows.fds[i] = open_stream(&f);
    ev_timer_init(&wind, storm_blow, .1, .35);
    wind.data = &storm;
    ev_timer_start(f.loop, &wind);
    flows_run(&flows);
    flows_finish(&flows); /* under the last of the storm */
    ev_timer_stop(f.loop, &wind);
    assert_true(storm.n_cuts > 1 && f.board.n_joins > 16);
    assert_int_equal(f.end[0].n_down + f.end[1].n_down, 0);
    fixture_deinit(&f);
}

/* The two words that end it are lost: each end learns it all the same, over another carrier. */
static void an_end_is_told_again(void **state)
{
    for (int delay = 0; delay < 24; delay += 3) {
        static struct fixture f;
        static struct flows flows;
        fixture_up(&f);
        flows = (struct flows){.f = &f, .n_streams = 1, .n = 1000};
        flows.fds[0] = open_stream(&f);
        flows_run(&flows);
        assert_int_equal(shutdown(flows.fds[0], SHUT_WR), 0);
        assert_int_equal(shutdown(f.target[1], SHUT_WR), 0);
        for (int i = 0; i < delay; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        board_cut_data(&f.board);
        assert_true(fake_run(f.loop, are_all_ended, &flows, 10));
        assert_int_equal(f.end[0].n_well + f.end[1].n_well, 2);
        gt_close(&flows.fds[0]);
        fixture_deinit(&f);
    }
}

static bool is_unread(void *userdata)
{
    int n = 0;
    return ioctl(*(int *)userdata, FIONREAD, &n) == 0 && n > 0;
}

/* Closed with something unread, which makes it a reset. */
static void a_reset_is_told_again(void **state)
{
    for (int who = 0; who < 2; who++) {
        static struct fixture f;
        static struct flows flows;
        fixture_up(&f);
        flows = (struct flows){.f = &f, .n_streams = 1, .n = 1000};
        flows.fds[0] = open_stream(&f);
        flows_run(&flows);
        int *closer = who ? &f.target[1] : &flows.fds[0];
        assert_int_equal(send(who ? flows.fds[0] : f.target[1], "x", 1, 0), 1);
        assert_true(fake_run(f.loop, is_unread, closer, 5));
        board_cut_data(&f.board);
        gt_close(closer);
        assert_true(fake_run(f.loop, are_all_ended, &flows, 5));
        assert_int_equal(f.end[0].n_well + f.end[1].n_well, 0);
        gt_close(&flows.fds[0]);
        fixture_deinit(&f);
    }
}

/* A device that does not know a stream says so, and nobody waits for the window to pass. */
static void a_forgotten_stream_fails_fast(void **state)
{
    static struct fixture f;
    static struct flows flows;
    fixture_up(&f);
    int fd = open_stream(&f);
    flows = (struct flows){.f = &f, .n_streams = 1, .n = 1000, .fds = {fd}};
    flows_run(&flows);
    f.board.is_ticketless = true; /* answers with a STREAM_END */
    f.board.end_code = GT_CODE_NO_SESSION;
    board_cut_data(&f.board);
    ev_tstamp begun = ev_time();
    assert_true(fake_run(f.loop, has_one_ended, &f, 5));
    assert_true(ev_time() - begun < 2);
    assert_int_equal(f.end[0].last_rst, GT_RST_RESYNC);
    close(fd);
    fixture_deinit(&f);
}

static void board_go_away(struct switchboard *board)
{
    ev_io_stop(board->loop, &board->relay.acceptable);
    gt_close(&board->relay.listener);
    board_cut_data(board);
    board_cut_links(board);
}

static void after_the_window_both_ends_break(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].resume_window_ms = f.settings[1].resume_window_ms = 700;
    fixture_start(&f, 0);
    fixture_start(&f, 1);
    assert_true(fake_run(f.loop, are_both_up, &f, 5));
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_served, &f, 5));
    board_go_away(&f.board);
    ev_tstamp begun = ev_time();
    assert_true(fake_run(f.loop, are_both_down, &f, 5));
    assert_true(ev_time() - begun > .6 && ev_time() - begun < 2);
    for (int i = 0; i < 2; i++) {
        expect_end(&f.end[i], GT_DOWN_LOST, GT_CODE_NONE, "");
        assert_int_equal(f.end[i].n_ends, 1);
        assert_int_equal(f.end[i].n_well, 0);
        assert_int_equal(f.end[i].n_link, 1);
    }
    char byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    fixture_deinit(&f);
}

static void closing_while_parked_is_quick(void **state)
{
    for (int n_turns = 0; n_turns < 40; n_turns += 10) {
        static struct fixture f;
        fixture_up(&f);
        int fd = open_stream(&f);
        assert_true(fake_run(f.loop, is_served, &f, 5));
        board_go_away(&f.board);
        assert_false(fake_run(f.loop, is_link_back, &f, .1 + n_turns * .02));
        ev_tstamp begun = ev_time();
        gt_tunnel_close(f.end[0].tunnel);
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        assert_true(ev_time() - begun < 2);
        expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_LOST, "closed");
        close(fd);
        fixture_deinit(&f);
    }
}

static bool is_link_lost(void *userdata)
{
    const struct fixture *f = userdata;
    return f->end[0].n_link == 1;
}

/* In the pause before the next try, and with that try on its way. */
static void a_goodbye_is_said_over_another_link(void **state)
{
    static const double waits[] = {0, .2, .4, .5, .6};
    for (size_t i = 0; i < GT_ARRAY_SIZE(waits); i++) {
        static struct fixture f;
        fixture_up(&f);
        int fd = open_stream(&f);
        assert_true(fake_run(f.loop, is_served, &f, 5));
        fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
        if (i % 2)
            board_cut_data(&f.board);
        assert_true(fake_run(f.loop, is_link_lost, &f, 5));
        fake_run(f.loop, is_link_back, &f, waits[i]);
        ev_tstamp begun = ev_time();
        gt_tunnel_close(f.end[0].tunnel);
        assert_true(fake_run(f.loop, are_both_down, &f, 5));
        assert_true(ev_time() - begun < 2);
        expect_end(&f.end[0], GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
        expect_end(&f.end[1], GT_DOWN_CLOSED, GT_CODE_BYE, "closed by the operator");
        assert_int_equal(f.board.generation[0], 2);
        close(fd);
        fixture_deinit(&f);
    }
}

static void a_goodbye_that_was_missed_is_told_by_the_relay(void **state)
{
    static const struct {
        enum gt_code code;
        enum gt_down cause;
        const char *why;
    } ends[] = {{GT_CODE_BYE, GT_DOWN_CLOSED, "closed by the device"},
                {GT_CODE_NEW_PROCESS, GT_DOWN_PEER, "restarted"}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(ends); i++) {
        static struct fixture f;
        fixture_up(&f);
        f.board.goodbye = ends[i].code;
        fake_member_close(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR));
        assert_true(fake_run(f.loop, is_operator_down, &f, 5));
        expect_end(&f.end[0], ends[i].cause, ends[i].code, ends[i].why);
        fixture_deinit(&f);
    }
}

/* What the relay says as it stops is no goodbye of the other side's; being replaced is the end. */
static void a_relay_that_stops_is_waited_for(void **state)
{
    static struct fixture f;
    fixture_up(&f);
    fake_member_code(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), GT_CONTROL_BYE,
                     GT_CODE_SHUTDOWN);
    assert_true(fake_run(f.loop, is_link_back, &f, 5));
    fake_member_code(fake_relay_member(&f.board.relay, GT_ROLE_OPERATOR), GT_CONTROL_BYE,
                     GT_CODE_REPLACED);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_RELAY, GT_CODE_REPLACED, "");
    fixture_deinit(&f);
}

static void its_lifetime_passes(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.settings[0].lifetime_s = 1;
    fixture_start(&f, 0);
    fixture_start(&f, 1);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_EXPIRED, GT_CODE_EXPIRED, "lifetime");
    assert_int_equal(f.end[0].last_rst, GT_RST_EXPIRED);
    close(fd);
    fixture_deinit(&f);
}

static void why_it_never_came_up_is_told(void **state)
{
    static struct fixture f;
    fixture_init(&f);
    f.board.relay.is_unsure = true;
    fixture_start(&f, 0);
    int fd = open_stream(&f);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_REFUSED, GT_CODE_NONE, "wrong key?");
    assert_int_equal(f.end[0].n_ends, 1);
    close(fd);
    fixture_deinit(&f);

    fixture_init(&f);
    ev_io_stop(f.loop, &f.board.relay.acceptable);
    gt_close(&f.board.relay.listener);
    fixture_start(&f, 0);
    assert_true(fake_run(f.loop, is_operator_down, &f, 5));
    expect_end(&f.end[0], GT_DOWN_UNREACHABLE, GT_CODE_NONE, "refused");
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_stream_carries_and_ends_well),
        cmocka_unit_test(many_streams_do_not_mix),
        cmocka_unit_test(streams_may_be_opened_at_once),
        cmocka_unit_test(data_may_go_to_the_main_port),
        cmocka_unit_test(a_refusal_is_told_with_its_reason),
        cmocka_unit_test(a_full_device_says_so),
        cmocka_unit_test(no_ticket_is_told_by_stream_end),
        cmocka_unit_test(a_ticket_of_an_ended_stream_makes_nothing),
        cmocka_unit_test(either_side_may_close),
        cmocka_unit_test(closing_does_not_wait_for_a_stalled_carrier),
        cmocka_unit_test(closing_before_it_is_up),
        cmocka_unit_test(freed_in_every_state),
        cmocka_unit_test(a_device_that_does_not_come),
        cmocka_unit_test(a_peer_that_is_lost_may_come_back),
        cmocka_unit_test(a_new_process_ends_it_at_once),
        cmocka_unit_test(a_lost_link_is_dialled_again),
        cmocka_unit_test(streams_outlive_any_cut),
        cmocka_unit_test(a_half_open_carrier_is_replaced),
        cmocka_unit_test(an_end_is_told_again),
        cmocka_unit_test(a_reset_is_told_again),
        cmocka_unit_test(a_forgotten_stream_fails_fast),
        cmocka_unit_test(after_the_window_both_ends_break),
        cmocka_unit_test(closing_while_parked_is_quick),
        cmocka_unit_test(a_goodbye_is_said_over_another_link),
        cmocka_unit_test(a_goodbye_that_was_missed_is_told_by_the_relay),
        cmocka_unit_test(a_relay_that_stops_is_waited_for),
        cmocka_unit_test(its_lifetime_passes),
        cmocka_unit_test(why_it_never_came_up_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
