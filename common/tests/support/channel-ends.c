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

struct gt_ticket ticket_of(const struct ends *ends, uint32_t attempt)
{
    struct gt_ticket ticket = {.stream = ends->number, .attempt = attempt, .ttl_s = 30};

    ticket.id[0] = 0x1d;
    ticket.secret[31] = 0x5e;
    return ticket;
}

void connect_both(struct ends *ends, uint32_t attempt)
{
    struct gt_ticket ticket = ticket_of(ends, attempt);

    assert_int_equal(gt_channel_connect(ends->o, &ends->relay->addr, &ticket), 0);
    assert_int_equal(gt_channel_connect(ends->d, &ends->relay->addr, &ticket), 0);
}

static void on_ticket_needed(struct gt_channel *channel, void *userdata, uint32_t attempt)
{
    struct ends *ends = userdata;

    assert_ptr_equal(channel, ends->o);
    assert_int_equal(attempt, 1);
}

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

void on_up(struct gt_channel *channel, void *userdata)
{
    struct ends *ends = userdata;

    if (channel == ends->o)
        ends->n_up_o++;
    else
        ends->n_up_d++;
}

void on_end(struct gt_channel *channel, void *userdata, enum gt_rst code)
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

const struct gt_channel_events events = {
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
    ends->o_settings = (struct gt_channel_settings){
        .loop = loop,
        .role = GT_ROLE_OPERATOR,
        .session_key = session_key,
        .tls = client_context,
        .path = &ends->path,
        .ring_size = MIB,
    };
    ends->d_settings = ends->o_settings;
    ends->d_settings.role = GT_ROLE_DEVICE;
    ends->d_settings.tls = server_context;
    tcp_pair(pair);
    app_init(&ends->client, pair[0], number, true);
    ends->client_fd = pair[1];
    tcp_pair(pair);
    app_init(&ends->server, pair[0], number, false);
    ends->server_fd = pair[1];
}

void ends_open(struct ends *ends, bool is_spare)
{
    assert_int_equal(gt_channel_new(&ends->o_settings, ends->number,
                                    gt_endpoint_fds(is_spare ? -1 : ends->client_fd),
                                    is_spare ? "" : "ssh", &events, ends, &ends->o),
                     0);
    assert_int_equal(gt_channel_new(&ends->d_settings, ends->number, gt_endpoint_fds(-1), NULL,
                                    &events, ends, &ends->d),
                     0);
    gt_channel_resume(ends->o);
    assert_int_equal(gt_channel_number(ends->o), ends->number);
}

bool ends_are_over(const struct ends *ends)
{
    return ends->o_code >= 0 && ends->d_code >= 0;
}

void ends_deinit(struct ends *ends)
{
    gt_channel_free(ends->o);
    gt_channel_free(ends->d);
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
