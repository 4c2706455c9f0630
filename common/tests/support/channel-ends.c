/* SPDX-License-Identifier: ISC */
/*
 * Applications and callbacks of the two channels. Their own calls are never shortened.
 */
#include "support/channel-ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "gotthard/base/clock.h"

#define PERIOD 65521 /* bytes of the pattern; not near a power of two */

/* --- an application --------------------------------------------------------------------------- */

static uint8_t tile[2 * PERIOD + 131072];

const uint8_t *pattern(uint32_t seed, size_t offset)
{
    if (!tile[0])
        for (size_t i = 0; i < sizeof(tile); i++)
            tile[i] = (uint8_t)((i % PERIOD * 2654435761u) >> 11 | 1);
    return tile + (offset + seed * 1009u) % PERIOD;
}

static void app_on_readable(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct app *app = watcher->data;
    static uint8_t buf[65536];
    ssize_t n = __real_recv(app->fd, buf, sizeof(buf), 0);

    if (n > 0) {
        assert_memory_equal(buf, pattern(app->in_seed, app->n_in), (size_t)n);
        app->n_in += (size_t)n;
        return;
    }
    if (n < 0 && errno == EAGAIN)
        return;
    app->is_reset |= n < 0; /* the error may have been reported to a write before */
    app->is_eof = !app->is_reset;
    ev_io_stop(loop, &app->reader);
}

static void app_on_writable(struct ev_loop *l, ev_io *watcher, int revents)
{
    struct app *app = watcher->data;
    size_t n = GT_MIN(app->to_send - app->n_out, (size_t)65536);
    ssize_t sent =
        n ? __real_send(app->fd, pattern(app->out_seed, app->n_out), n, MSG_NOSIGNAL) : 0;

    if (sent < 0 && errno == EAGAIN)
        return;
    app->is_reset |= sent < 0;
    app->n_out += sent > 0 ? (size_t)sent : 0;
    if (sent >= 0 && app->n_out < app->to_send)
        return;
    if (sent >= 0 && app->is_finishing)
        shutdown(app->fd, SHUT_WR);
    ev_io_stop(loop, &app->writer);
}

static void app_init(struct app *app, int fd, uint32_t stream, bool is_operator)
{
    memset(app, 0, sizeof(*app));
    app->fd = fd;
    app->out_seed = 2 * stream + is_operator;
    app->in_seed = 2 * stream + !is_operator;
    ev_io_init(&app->reader, app_on_readable, fd, EV_READ);
    ev_io_init(&app->writer, app_on_writable, fd, EV_WRITE);
    app->reader.data = app->writer.data = app;
    ev_io_start(loop, &app->reader);
}

void app_send(struct app *app, size_t n, bool is_finishing)
{
    app->to_send += n;
    app->is_finishing = is_finishing;
    ev_io_start(loop, &app->writer);
}

void app_close(struct app *app)
{
    ev_io_stop(loop, &app->reader);
    ev_io_stop(loop, &app->writer);
    gt_close(&app->fd);
}

/* --- both ends of one stream ------------------------------------------------------------------ */

static const struct gt_channel_events channel_events; /* defined below its handlers */

static struct gt_ticket ticket_of(const struct ends *ends, uint32_t stream, uint32_t attempt)
{
    struct gt_ticket ticket = {.stream = stream, .attempt = attempt, .ttl_s = 30};

    ticket.id[0] = 0x1d;
    ticket.id[1] = (uint8_t)ends->number;
    ticket.secret[31] = 0x5e;
    return ticket;
}

static void connect_shared(struct ends *ends, uint32_t attempt)
{
    struct gt_ticket ticket = ticket_of(ends, 0, attempt);

    for (int i = 0; i < 2; i++)
        assert_int_equal(
            gt_shared_connection_connect(ends->side[i].shared, &ends->relay->addr, &ticket), 0);
}

void ends_connect(struct ends *ends)
{
    for (int i = 0; i < 2; i++)
        gt_shared_connection_resume(ends->side[i].shared);
}

static void connect_own(struct ends *ends, uint32_t attempt)
{
    struct gt_ticket ticket = ticket_of(ends, ends->number, attempt);

    if (ends->o)
        assert_true(gt_channel_connect(ends->o, &ends->relay->addr, &ticket) >= 0);
    if (ends->d)
        assert_true(gt_channel_connect(ends->d, &ends->relay->addr, &ticket) >= 0);
}

static void on_due(struct ev_loop *l, ev_timer *timer, int revents)
{
    struct ends *ends = timer->data;
    uint32_t own = ends->due_own, shared = ends->due_shared;

    ends->due_own = ends->due_shared = 0;
    if (shared)
        connect_shared(ends, shared);
    if (own)
        connect_own(ends, own);
}

static bool on_ticket_needed(struct gt_channel *channel, void *userdata, uint32_t attempt)
{
    struct ends *ends = userdata;

    assert_ptr_equal(channel, ends->o);
    ends->n_requested++;
    if (ends->has_no_tickets)
        return true; /* and none arrives */
    ends->due_own = attempt;
    ev_timer_start(loop, &ends->due);
    return true;
}

static void shared_on_ticket_needed(void *userdata, uint32_t attempt)
{
    struct side *side = userdata;

    assert_false(side->is_device);
    side->ends->due_shared = attempt;
    ev_timer_start(loop, &side->ends->due);
}

static void shared_on_connection_lost(void *userdata, uint32_t attempt, bool is_black_hole)
{
    struct side *side = userdata;

    assert_true(side->is_device);
}

static struct gt_channel *channel_of(const struct side *side, uint32_t number)
{
    if (number != side->ends->number)
        return NULL;
    return side->is_device ? side->ends->d : side->ends->o;
}

static void shared_on_up(void *userdata)
{
    struct side *side = userdata;

    side->n_shared_up++;
    if (channel_of(side, side->ends->number))
        gt_channel_attach(channel_of(side, side->ends->number));
}

static void shared_on_down(void *userdata)
{
}

static struct gt_shared_member *shared_find(void *userdata, uint32_t number)
{
    struct gt_channel *channel = channel_of(userdata, number);

    return channel ? gt_channel_member(channel) : NULL;
}

static struct gt_shared_member *shared_on_begin(void *userdata, uint32_t number,
                                                const struct gt_frame *hello, enum gt_rst *ret_code)
{
    struct side *side = userdata;
    struct ends *ends = side->ends;

    *ret_code = GT_RST_LOST;
    assert_int_equal(number, ends->number);
    assert_true(side->is_device);
    if (ends->d_code >= 0)
        return NULL;
    if (!ends->d)
        assert_int_equal(gt_channel_new(&ends->d_settings, ends->number, gt_endpoint_fds(-1), NULL,
                                        &channel_events, ends, &ends->d),
                         0);
    return gt_channel_begin(ends->d, hello->attempt);
}

static const struct gt_shared_connection_events shared_events = {
    .on_ticket_needed = shared_on_ticket_needed,
    .on_connection_lost = shared_on_connection_lost,
    .on_up = shared_on_up,
    .on_down = shared_on_down,
    .find = shared_find,
    .on_begin = shared_on_begin,
};

static void on_service(struct gt_channel *channel, void *userdata, const char *service)
{
    struct ends *ends = userdata;

    assert_string_equal(ends->service, ""); /* once */
    strcpy(ends->service, service);
    if (ends->refusal)
        gt_channel_reject(channel, ends->refusal);
    else if (!ends->is_target_late)
        gt_channel_serve(channel, ends->server_fd);
}

static void on_up(struct gt_channel *channel, void *userdata)
{
    struct ends *ends = userdata;

    if (channel == ends->o)
        ends->n_up_o++;
    else
        ends->n_up_d++;
}

static void on_end(struct gt_channel *channel, void *userdata, enum gt_rst code)
{
    struct ends *ends = userdata;
    bool is_operator = channel == ends->o;
    int *ret_code = is_operator ? &ends->o_code : &ends->d_code;
    uint64_t *counts = is_operator ? ends->o_counts : ends->d_counts;

    assert_int_equal(*ret_code, -1); /* once */
    *ret_code = (int)code;
    gt_channel_byte_counts(channel, &counts[0], &counts[1]);
    *(is_operator ? &ends->o : &ends->d) = gt_channel_free(channel);
}

static void on_ask(struct gt_channel *channel, void *userdata)
{
    struct ends *ends = userdata;

    ends->relay_at = gt_clock();
}

static double relay_at(struct gt_channel *channel, void *userdata)
{
    return ((const struct ends *)userdata)->relay_at;
}

static void on_connection_lost(struct gt_channel *channel, void *userdata, uint32_t attempt,
                               bool is_black_hole)
{
    struct ends *ends = userdata;

    assert_ptr_equal(channel, ends->d);
    ends->n_lost++;
}

static const struct gt_channel_events channel_events = {
    .on_ticket_needed = on_ticket_needed,
    .on_connection_lost = on_connection_lost,
    .on_ask = on_ask,
    .relay_at = relay_at,
    .on_service = on_service,
    .on_up = on_up,
    .on_end = on_end,
};

void ends_init(struct ends *ends, struct relay *relay, uint32_t number)
{
    int pair[2];

    memset(ends, 0, sizeof(*ends));
    ends->relay = relay;
    ends->number = number;
    ends->o_code = ends->d_code = -1;
    for (int i = 0; i < 2; i++) {
        ends->side[i].ends = ends;
        ends->side[i].is_device = i == 1;
        gt_sweep_init(&ends->side[i].sweep, loop);
    }
    ends->o_settings = (struct gt_channel_settings){
        .loop = loop,
        .role = GT_ROLE_OPERATOR,
        .session_key = session_key,
        .tls = client_context,
        .path = &ends->path,
        .sweep = &ends->side[0].sweep,
        .ring_size = MIB,
    };
    ends->d_settings = ends->o_settings;
    ends->d_settings.role = GT_ROLE_DEVICE;
    ends->d_settings.tls = server_context;
    ends->d_settings.sweep = &ends->side[1].sweep;
    ev_timer_init(&ends->due, on_due, 0, 0);
    ends->due.data = ends;
    tcp_pair(pair);
    app_init(&ends->client, pair[0], number, true);
    ends->client_fd = pair[1];
    tcp_pair(pair);
    app_init(&ends->server, pair[0], number, false);
    ends->server_fd = pair[1];
}

static void open_shared(struct side *side, struct gt_channel_settings *settings)
{
    const struct gt_shared_connection_settings shared = {
        .loop = loop,
        .role = settings->role,
        .session_key = settings->session_key,
        .tls = settings->tls,
        .path = settings->path,
        .heartbeat_s = settings->heartbeat_s,
        .timeout_s = settings->timeout_s,
        .resume_s = settings->resume_s,
    };

    assert_int_equal(gt_shared_connection_new(&shared, &shared_events, side, &side->shared), 0);
    settings->shared = side->shared;
}

void ends_open(struct ends *ends)
{
    open_shared(&ends->side[0], &ends->o_settings);
    open_shared(&ends->side[1], &ends->d_settings);
    assert_int_equal(gt_channel_new(&ends->o_settings, ends->number,
                                    gt_endpoint_fds(ends->client_fd), "ssh", &channel_events, ends,
                                    &ends->o),
                     0);
    assert_int_equal(gt_channel_number(ends->o), ends->number);
}

bool ends_are_on_their_own(const struct ends *ends)
{
    return ends->o && ends->d && gt_channel_is_on_its_own(ends->o) &&
           gt_channel_is_on_its_own(ends->d);
}

bool ends_are_over(const struct ends *ends)
{
    return ends->o_code >= 0 && ends->d_code >= 0;
}

void ends_deinit(struct ends *ends)
{
    gt_channel_free(ends->o);
    gt_channel_free(ends->d);
    ev_timer_stop(loop, &ends->due);
    for (int i = 0; i < 2; i++) {
        gt_shared_connection_free(ends->side[i].shared);
        gt_sweep_deinit(&ends->side[i].sweep);
    }
    app_close(&ends->client);
    app_close(&ends->server);
    if (!ends->service[0] || ends->refusal || ends->is_target_late)
        gt_close(&ends->server_fd);
}

void assert_ended_well(struct ends *ends)
{
    assert_int_equal(ends->o_code, GT_RST_NONE);
    assert_int_equal(ends->d_code, GT_RST_NONE);
    run_until(ends->client.is_eof && ends->server.is_eof);
    assert_int_equal(ends->client.n_in, ends->server.to_send);
    assert_int_equal(ends->server.n_in, ends->client.to_send);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ends->o_counts[i], ends->d_counts[i]);
        assert_int_equal(ends->o_counts[i], i ? ends->server.to_send : ends->client.to_send);
    }
}

void assert_codes(struct ends *ends, enum gt_rst o_code, enum gt_rst d_code)
{
    run_until(ends_are_over(ends));
    assert_int_equal(ends->o_code, o_code);
    assert_int_equal(ends->d_code, d_code);
}

void assert_broken(struct ends *ends, enum gt_rst o_code, enum gt_rst d_code)
{
    assert_codes(ends, o_code, d_code);
    assert_false(ends->client.is_eof);
    assert_false(ends->server.is_eof);
}
