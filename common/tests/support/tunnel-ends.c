/* SPDX-License-Identifier: ISC */
/*
 * Tunnels, byte flows and storms of the tests. Flows are driven by polling, not by watchers.
 */
#include "support/tunnel-ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include <sys/socket.h>

static const uint8_t session_key[GT_KEY_SIZE] = "the key of both ends' session...";

/* --- two ends --------------------------------------------------------------------------------- */

static void end_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code,
                         const char *why)
{
    struct end *end = userdata;

    end->n_retries++;
    end->cause = cause;
    end->code = code;
    snprintf(end->why, sizeof(end->why), "%s", why);
    assert_int_equal(end->n_up, 0);
}

static void end_on_waiting(void *userdata)
{
    struct end *end = userdata;

    end->n_waiting++;
    assert_int_equal(end->n_up, 0);
}

static void end_on_up(void *userdata, uint16_t port)
{
    struct end *end = userdata;

    end->n_up++;
    end->port = port;
}

static void end_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct end *end = userdata;

    end->notices |= 1u << notice;
    snprintf(end->notice, sizeof(end->notice), "%s", text);
}

static void end_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct end *end = userdata;

    end->n_peer++;
    end->is_peer_up = is_up;
    assert_int_equal(end->n_up, 1);
}

static void end_on_control(void *userdata, enum gt_relay_change change, const char *why)
{
    bool is_up = change == GT_RELAY_BACK;
    struct end *end = userdata;

    end->n_control++;
    end->is_control_up = is_up;
    assert_int_equal(end->n_up, 1);
    assert_int_equal(end->n_control % 2, !is_up); /* alternates */
}

static void end_on_service(void *userdata, struct gt_channel *channel, const char *service)
{
    struct end *end = userdata;
    struct fixture *f = end->fixture;
    int fds[2];

    f->n_requested++;
    assert_string_equal(service, f->service ? f->service : "echo");
    if (f->refusal)
        gt_channel_reject(channel, f->refusal);
    if (f->refusal || f->is_undecided)
        return;
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(f->target[gt_channel_number(channel)], -1); /* once */
    f->target[gt_channel_number(channel)] = fds[0];
    gt_channel_serve(channel, fds[1]);
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

static void end_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                        const char *why)
{
    struct end *end = userdata;

    end->n_down++;
    end->cause = cause;
    end->code = code;
    snprintf(end->why, sizeof(end->why), "%s", why);
    assert_int_equal(gt_tunnel_n_streams(end->tunnel), 0);
}

const struct gt_tunnel_events events = {
    .on_retry = end_on_retry,
    .on_waiting = end_on_waiting,
    .on_up = end_on_up,
    .on_notice = end_on_notice,
    .on_peer = end_on_peer,
    .on_relay_connection = end_on_control,
    .on_service = end_on_service,
    .on_stream_end = end_on_stream_end,
    .on_down = end_on_down,
};

void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->loop = ev_loop_new(0);
    fake_clock_start(); /* both ends and the relay run in this loop */
    board_init(&f->board, f->loop);
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        f->target[i] = -1;
    for (int i = 0; i < 2; i++) {
        f->end[i].fixture = f;
        f->settings[i] = (struct gt_tunnel_settings){
            .role = i == 0 ? GT_ROLE_OPERATOR : GT_ROLE_DEVICE,
            .relays = &f->board.relay.address,
            .n_relays = 1,
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

void fixture_start(struct fixture *f, int i)
{
    assert_int_equal(
        gt_tunnel_new(f->loop, &f->settings[i], &events, &f->end[i], &f->end[i].tunnel), 0);
}

void fixture_start_both(struct fixture *f)
{
    fixture_start(f, 0);
    fixture_start(f, 1);
}

void fixture_deinit(struct fixture *f)
{
    for (int i = 0; i < 2; i++)
        f->end[i].tunnel = gt_tunnel_free(f->end[i].tunnel);
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        gt_close(&f->target[i]);
    board_deinit(&f->board);
    ev_loop_destroy(f->loop);
    assert_int_equal(gt_iobuf_n_held(), 0);
    gt_iobuf_trim();
}

bool are_both_up(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_up == 1 && f->end[1].n_up == 1;
}

void fixture_settle(struct fixture *f)
{
    f->board.n_opens = f->board.n_joins = f->board.n_stream_ends = f->board.n_reset = 0;
}

void fixture_up(struct fixture *f)
{
    fixture_init(f);
    fixture_start_both(f);
    assert_true(fake_run(f->loop, are_both_up, f, 5));
    fixture_settle(f);
    assert_int_equal(f->end[0].port, f->board.port);
    assert_true(gt_tunnel_is_up(f->end[0].tunnel) && gt_tunnel_is_up(f->end[1].tunnel));
}

int open_stream(struct fixture *f)
{
    int fds[2];

    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(f->end[0].tunnel, gt_endpoint_fds(fds[1]), "echo"), 0);
    return fds[0];
}

bool is_operator_down(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_down > 0;
}

bool are_both_down(void *userdata)
{
    const struct fixture *f = userdata;

    return f->end[0].n_down > 0 && f->end[1].n_down > 0;
}

void expect_end(const struct end *end, enum gt_end_reason cause, enum gt_code code, const char *why)
{
    if (end->cause != cause || end->code != code || !strstr(end->why, why))
        fail_msg("%s, code %d, \"%s\"", gt_end_reason_text(end->cause), end->code, end->why);
    assert_int_equal(end->n_down, 1);
}

/* --- bytes ------------------------------------------------------------------------------------ */

uint8_t pattern(const struct flow *flow, uint64_t at)
{
    return (uint8_t)((at * 2654435761u + flow->seed * 40503u) >> 13);
}

static void flow_step(struct flow *flow)
{
    static uint8_t data[65536];
    size_t n = (size_t)GT_MIN(sizeof(data), flow->n - flow->n_written);

    for (size_t i = 0; i < n; i++)
        data[i] = pattern(flow, flow->n_written + i);
    ssize_t done = n ? send(flow->from, data, n, MSG_NOSIGNAL) : 0;
    flow->n_written += done > 0 ? (size_t)done : 0;
    done = recv(flow->to, data, sizeof(data), 0);
    for (ssize_t i = 0; i < done; i++)
        if (data[i] != pattern(flow, flow->n_read + (uint64_t)i))
            fail_msg("seed %u: wrong byte at %llu", flow->seed,
                     (unsigned long long)flow->n_read + (unsigned long long)i);
    flow->n_read += done > 0 ? (size_t)done : 0;
}

static bool are_flows_done(void *userdata)
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

void tick(struct ev_loop *loop, ev_timer *w, int revents)
{
}

void flows_open(struct flows *flows)
{
    for (size_t i = 0; i < flows->n_streams; i++) {
        flows->fds[i] = open_stream(flows->f);
        flows->numbers[i] = gt_tunnel_last_stream(flows->f->end[0].tunnel);
    }
}

void flows_continue(struct flows *flows)
{
    ev_timer timer;

    ev_timer_init(&timer, tick, .0005, .0005);
    ev_timer_start(flows->f->loop, &timer);
    for (size_t i = 0; i < flows->n_streams; i++)
        flows->up[i].n = flows->down[i].n = flows->n;
    assert_true(fake_run(flows->f->loop, are_flows_done, flows, 180));
    ev_timer_stop(flows->f->loop, &timer);
}

void flows_run(struct flows *flows)
{
    for (size_t i = 0; i < flows->n_streams; i++) {
        flows->up[i] = (struct flow){.seed = (uint32_t)i * 2};
        flows->down[i] = (struct flow){.seed = (uint32_t)i * 2 + 1};
    }
    flows_continue(flows);
}

void flows_begin(struct flows *flows, struct fixture *f, size_t n_streams, uint64_t n)
{
    *flows = (struct flows){.f = f, .n_streams = n_streams, .n = n};
    flows_open(flows);
    flows_run(flows);
}

bool are_all_ended(void *userdata)
{
    const struct flows *flows = userdata;
    const struct fixture *f = flows->f;

    return f->end[0].n_ends == flows->n_streams && f->end[1].n_ends == flows->n_streams;
}

void flows_finish(struct flows *flows)
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

/* --- cuts ------------------------------------------------------------------------------------- */

void storm_on_timer(struct ev_loop *loop, ev_timer *w, int revents)
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
    case 1: board_cut_control(board); break;
    case 2: fake_client_close(&board->relay.clients[storm->random >> 8 & 1]); break;
    case 3:
    case 4: board_cut_data(board); break;
    default:
        board_cut_data(board);
        board_cut_control(board);
        break;
    }
}
