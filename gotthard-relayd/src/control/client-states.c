/* SPDX-License-Identifier: ISC */
/*
 * The states of a client: one table with the deadline, the watched events, and the effect of both.
 * The deadline of READY is the earliest of three times. It is evaluated when the timer fires and
 * not for each frame, so that traffic costs no timer. Idle clients wake the relay once per
 * heartbeat, many of them in the same turn.
 */
#include "control/client-internal.h"
#include "gotthard/base/log.h"

#define CLIENT_LINGER_MS 1000 /* time for the last frames */
#define CLIENT_PAUSE_MS  250

/* --- deadlines -------------------------------------------------------------------------------- */

/*
 * A healthy client sends a PING every heartbeat interval +- 20 %. The relay sends one after 4/3 to
 * 5/3 of the interval, on a grid, so that one turn of the loop handles many clients.
 */
uint64_t client_probe_at(const struct client *client)
{
    uint64_t heartbeat = client->host->limits.heartbeat_ms, step = GT_MAX(heartbeat / 3, 1u);
    uint64_t at = GT_MAX(client->received_at, client->pinged_at) + heartbeat + 2 * step;

    return at / step * step;
}

static uint64_t lost_at(const struct client *client)
{
    return client->received_at + client->host->limits.heartbeat_timeout_ms;
}

static uint64_t without_session_until(const struct client *client)
{
    return client_has_slot(client)
               ? GT_CLOCK_NEVER
               : client->without_session_since + client->host->limits.without_session_ms;
}

static uint64_t handshake_deadline(const struct client *client)
{
    return client->entered_at + client->host->limits.handshake_ms;
}

static uint64_t hello_deadline(const struct client *client)
{
    return client->entered_at + client->host->limits.hello_ms;
}

static uint64_t ready_deadline(const struct client *client)
{
    return GT_MIN(lost_at(client), GT_MIN(client_probe_at(client), without_session_until(client)));
}

static uint64_t pause_deadline(const struct client *client)
{
    return client->entered_at + CLIENT_PAUSE_MS;
}

static uint64_t send_queue_full_deadline(const struct client *client)
{
    return client->entered_at;
}

static uint64_t closing_deadline(const struct client *client)
{
    return client->entered_at + CLIENT_LINGER_MS;
}

static uint64_t no_deadline(const struct client *client)
{
    return GT_CLOCK_NEVER;
}

/* --- effects ---------------------------------------------------------------------------------- */

static void handshake_on_deadline(struct client *client)
{
    client_drop(client, "handshake timeout");
}

static void hello_on_deadline(struct client *client)
{
    client_drop(client, "HELLO timeout");
}

bool client_expire_without_session(struct client *client, uint64_t now)
{
    if (now < without_session_until(client))
        return false;
    client_send_code(client, GT_CONTROL_BYE, NULL, GT_CODE_PAIRING);
    client_close(client, "no session");
    return true;
}

static void ready_on_deadline(struct client *client)
{
    uint64_t now = gt_clock_ms();

    if (now >= lost_at(client)) {
        client_drop(client, "heartbeat timeout");
        return;
    }
    if (client_expire_without_session(client, now))
        return;
    if (now >= client_probe_at(client)) {
        client->pinged_at = now;
        client_send(client, &(struct gt_control_frame){.type = GT_CONTROL_PING, .ping = now});
    }
    if (client->state == CLIENT_READY)
        client_arm(client);
}

/* A client that always exceeds the limit of frames would otherwise stay without a session. */
static void pause_on_deadline(struct client *client)
{
    client_enter(client, CLIENT_READY);
    if (!client_expire_without_session(client, gt_clock_ms()))
        client_read(client);
}

static void closing_on_deadline(struct client *client)
{
    client_drop(client, "close timeout");
}

static void closing_on_ready(struct client *client)
{
    if (gt_framed_connection_linger(&client->framed) == GT_FRAMED_CONNECTION_E_CLOSED)
        client_drop(client, "closed by peer");
    else if (gt_framed_connection_has_unsent(&client->framed))
        client_flush(client);
}

static void no_effect(struct client *client)
{
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct client_rules rules[] = {
    [CLIENT_HANDSHAKE] = {.name = "handshake",
                          .deadline = handshake_deadline,
                          .on_deadline = handshake_on_deadline,
                          .on_ready = client_handshake,
                          .is_read = true,
                          .can_send = true},
    [CLIENT_HELLO] = {.name = "hello",
                      .deadline = hello_deadline,
                      .on_deadline = hello_on_deadline,
                      .on_ready = client_read,
                      .is_read = true,
                      .can_send = true,
                      .can_decode = true},
    [CLIENT_READY] = {.name = "ready",
                      .deadline = ready_deadline,
                      .on_deadline = ready_on_deadline,
                      .on_ready = client_read,
                      .is_read = true,
                      .can_send = true,
                      .can_decode = true,
                      .is_up = true},
    [CLIENT_PAUSED] = {.name = "paused",
                       .deadline = pause_deadline,
                       .on_deadline = pause_on_deadline,
                       .on_ready = client_flush,
                       .can_send = true,
                       .is_up = true},
    [CLIENT_SEND_QUEUE_FULL] = {.name = "send-queue-full",
                                .deadline = send_queue_full_deadline,
                                .on_deadline = client_flush,
                                .on_ready = client_flush,
                                .is_up = true},
    [CLIENT_CLOSING] = {.name = "closing",
                        .deadline = closing_deadline,
                        .on_deadline = closing_on_deadline,
                        .on_ready = closing_on_ready,
                        .is_read = true},
    [CLIENT_CLOSED] = {.name = "closed",
                       .deadline = no_deadline,
                       .on_deadline = no_effect,
                       .on_ready = no_effect},
};

const struct client_rules *client_rules(const struct client *client)
{
    return &rules[client->state];
}

/* --- watchers --------------------------------------------------------------------------------- */

/* A READY client is read only while there is room for its answers. */
static int client_events(const struct client *client)
{
    const struct gt_framed_connection *framed = &client->framed;

    if (client->state == CLIENT_CLOSED) /* whatever TLS has not sent */
        return 0;
    bool is_read = client_rules(client)->is_read &&
                   (client->state != CLIENT_READY || gt_framed_connection_has_room(framed));

    return (is_read ? EV_READ : 0) | (gt_framed_connection_wants_write(framed) ? EV_WRITE : 0);
}

void client_watch(struct client *client)
{
    struct ev_loop *loop = client->host->loop;
    int events = client_events(client);

    if (ev_is_active(&client->io) && (client->io.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(loop, &client->io);
    ev_io_set(&client->io, client->framed.fd, events);
    if (events)
        ev_io_start(loop, &client->io);
}

void client_arm(struct client *client)
{
    struct ev_loop *loop = client->host->loop;
    uint64_t deadline = client_rules(client)->deadline(client);

    ev_timer_stop(loop, &client->timer);
    if (deadline == GT_CLOCK_NEVER)
        return;
    double seconds = gt_clock_seconds_until(gt_clock_ms(), deadline);
    ev_now_update(loop); /* relative to the start of the turn, timers would miss their grid */
    ev_timer_set(&client->timer, seconds, 0);
    ev_timer_start(loop, &client->timer);
}

void client_enter(struct client *client, enum client_state state)
{
    gt_debug("client=%s %s -> %s", client->identity, client_rules(client)->name, rules[state].name);
    client->state = state;
    client->entered_at = gt_clock_ms();
    client_watch(client);
    client_arm(client);
}
