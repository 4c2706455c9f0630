/* SPDX-License-Identifier: ISC */
/*
 * The process of a holder: its clients, its output and its end. The session is in holder-session.c.
 */
#include "holder.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/clock.h"
#include "holder-internal.h"
#include "holder-status.h"

#define LOG_LINE_MAX 1024

/* --- the end ------------------------------------------------------------------------------------
 */

/* Takes no more clients, and leaves the loop when the device is notified. */
void holder_close(struct holder *holder)
{
    enum session_state state = holder->session ? session_state(holder->session) : SESSION_NEW;

    holder->is_closing = true;
    holder_server_close(&holder->server);
    if (state >= SESSION_JOINING && state < SESSION_CLOSING)
        session_close(holder->session);
    else if (state != SESSION_CLOSING)
        ev_break(holder->loop, EVBREAK_ALL);
}

static void holder_on_idle(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct holder *holder = timer->data;

    if (!holder->is_closing && holder_server_n_open(&holder->server) == 0)
        holder_close(holder);
}

/* Without a client the session is kept for a while, if it is up and may be used again. The last
 * bytes of clients that are gone may still be on their way. */
static double holder_idle_s(const struct holder *holder)
{
    bool is_kept = holder->session && session_was_up(holder->session) && !holder->is_stale;
    bool is_in_use = holder->session && session_n_streams(holder->session) > 0;
    uint64_t kept_ms = is_kept ? holder->values->hold_ms : 0;
    uint64_t used_ms = is_in_use ? holder->values->linger_ms : 0;

    return (double)GT_MAX(kept_ms, used_ms) / 1000.;
}

void holder_check_idle(struct holder *holder)
{
    double seconds = holder_idle_s(holder);

    ev_timer_stop(holder->loop, &holder->hold);
    if (holder->is_closing || holder_server_n_open(&holder->server) > 0)
        return;
    ev_now_update(holder->loop);
    ev_timer_set(&holder->hold, GT_MAX(seconds, 0.001), 0);
    ev_timer_start(holder->loop, &holder->hold);
}

static void holder_on_signal(void *userdata, int number)
{
    struct holder *holder = userdata;

    if (holder->is_closing)
        ev_break(holder->loop, EVBREAK_ALL);
    else
        holder_close(holder);
}

/* --- the server's events ------------------------------------------------------------------------
 */

/* Returns true if another session serves a new client better. A lost device may have lost the
 * session too, by a power cut; without a connection to the relay here, another session would have
 * none either. */
static bool is_unfit(struct holder *holder)
{
    unsigned granted = session_max_streams(holder->session); /* 0: not known yet */
    unsigned max = granted > 0 ? GT_MIN(granted, HOLDER_OPEN_MAX) : HOLDER_OPEN_MAX;
    struct gt_tunnel_wait wait;

    if (session_is_aging(holder->session))
        return true;
    if (holder_server_n_taken(&holder->server) >= max)
        return true;
    return session_state(holder->session) == SESSION_AWAY &&
           session_waits(holder->session, &wait) && !wait.is_relay_lost;
}

static bool server_is_current(void *userdata, const uint8_t check[static GT_KEY_SIZE])
{
    struct holder *holder = userdata;
    bool is_equal = gt_is_equal(check, holder->settings->check, GT_KEY_SIZE);

    if (is_equal && !(holder->session && is_unfit(holder)))
        return true;
    holder->is_stale = true;
    holder_check_idle(holder);
    return false;
}

static void server_on_open(void *userdata, struct holder_client *client)
{
    struct holder *holder = userdata;

    ev_timer_stop(holder->loop, &holder->hold);
    if (!holder->session)
        holder_start_session(holder, client->service);
    else
        holder_open_waiting(holder);
}

static void server_on_gone(void *userdata, struct holder_client *client)
{
    struct holder *holder = userdata;

    if (client->stream > 0)
        session_leave_stream(holder->session, client->stream);
    holder_check_idle(holder);
}

static void server_get_status(void *userdata, struct holder_status *ret)
{
    const struct holder *holder = userdata;

    holder_status_fill(holder->session, holder->settings->device, holder->values->client_name,
                       holder->started_ms, ret);
    ret->kind = HOLDER_KIND_SHARED;
}

static const char *server_host_keys(void *userdata)
{
    const struct holder *holder = userdata;

    return holder->is_agreed ? holder->host_keys : NULL;
}

static const struct holder_server_events server_events = {
    .is_current = server_is_current,
    .on_open = server_on_open,
    .on_gone = server_on_gone,
    .get_status = server_get_status,
    .host_keys = server_host_keys,
};

/* --- output -------------------------------------------------------------------------------------
 */

static void print_on_warning(void *userdata, const char *text)
{
    struct holder *holder = userdata;

    holder_server_notice(&holder->server, HOLDER_NOTICE_WARNING, text);
}

/* Lines of this process, also of the library and of other threads. */
static void log_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct holder *holder = io->data;
    char line[LOG_LINE_MAX + 1];
    ssize_t n = recv(io->fd, line, LOG_LINE_MAX, MSG_DONTWAIT);

    if (n <= 0)
        return;
    line[n] = 0;
    line[strcspn(line, "\n")] = 0;
    holder_server_notice(&holder->server, HOLDER_NOTICE_LOG, line);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void holder_init(struct holder *holder, const struct holder_settings *settings)
{
    *holder = (struct holder){
        .settings = settings,
        .values = gt_config_settings(settings->config),
        .loop = ev_loop_new(EVFLAG_AUTO),
        .started_ms = gt_clock_ms(),
        .print = {.style = PRINT_LINES, .is_terse = true, .on_warning = print_on_warning},
    };
    holder->print.userdata = holder;
    connect_output_init(&holder->output, holder->loop, &holder->print, settings->device, NULL,
                        false);
    ev_timer_init(&holder->hold, holder_on_idle, 0, 0);
    ev_timer_init(&holder->restart, holder_on_restart, 0, 0);
    holder->hold.data = holder->restart.data = holder->log.data = holder;
    holder_server_init(&holder->server, holder->loop, &server_events, holder);
}

void holder_run(const struct holder_settings *settings, struct holder_sockets *sockets)
{
    struct holder holder;

    holder_init(&holder, settings);
    command_signals_start(&holder.signals, holder.loop, holder_on_signal, &holder);
    ev_io_init(&holder.log, log_on_readable, sockets->log, EV_READ);
    holder.log.data = &holder;
    ev_io_start(holder.loop, &holder.log);
    if (sockets->listener >= 0)
        holder_server_listen(&holder.server, gt_steal_fd(&sockets->listener), &sockets->file);
    holder_server_add(&holder.server, gt_steal_fd(&sockets->client));
    ev_timer_set(&holder.hold, 2 * HOLDER_CLIENT_S, 0); /* for the first request */
    ev_timer_start(holder.loop, &holder.hold);
    ev_run(holder.loop, 0);
    ev_timer_stop(holder.loop, &holder.hold);
    ev_timer_stop(holder.loop, &holder.restart);
    ev_io_stop(holder.loop, &holder.log);
    gt_close(&sockets->log);
    connect_output_deinit(&holder.output);
    session_free(holder.session);
    holder_server_deinit(&holder.server);
    command_signals_stop(&holder.signals);
    ev_loop_destroy(holder.loop);
}
