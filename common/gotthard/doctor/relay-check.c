/* SPDX-License-Identifier: ISC */
/* One control connection, and a connection to its session's port; see the header. */
#include "gotthard/doctor/relay-check.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/crypto/crypto.h"
#include "gotthard/doctor/network-check.h"
#include "gotthard/doctor/wait.h"
#include "gotthard/relay/control-connection.h"

#define CONNECT_S      15.
#define SESSION_PORT_S 4.
#define PROBE_S        5. /* TCP repeats a lost packet three times in this time */
#define POLL_S         0.05
#define TTL_S          60

struct run {
    struct ev_loop *loop;
    struct gt_relay_facts *facts;
    struct gt_control_connection *control;
    bool is_over;
};

static void on_session(void *userdata, const struct gt_addr *addr, uint16_t port, bool is_peer_up)
{
    struct run *run = userdata;

    run->facts->is_registered = true;
    run->facts->addr = *addr;
    run->facts->session_port = port;
    gt_check_wake(run->loop);
}

static void on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void on_ticket(void *userdata, const struct gt_ticket *ticket)
{
}

static void on_stream_end(void *userdata, uint32_t stream, uint32_t attempt, unsigned code)
{
}

static void on_restart_notice(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
}

static void on_down(void *userdata, enum gt_end_reason reason, enum gt_code code, const char *why)
{
    struct run *run = userdata;

    run->is_over = true;
    if (!run->facts->is_registered) {
        run->facts->reason = reason;
        run->facts->code = code;
        snprintf(run->facts->why, sizeof(run->facts->why), "%s", why);
    }
    gt_check_wake(run->loop);
}

static const struct gt_control_connection_events events = {
    .on_session = on_session,
    .on_peer = on_peer,
    .on_ticket = on_ticket,
    .on_stream_end = on_stream_end,
    .on_restart_notice = on_restart_notice,
    .on_down = on_down,
};

static void run_probe(struct run *run)
{
    double end = gt_clock() + PROBE_S;

    if (run->is_over || !gt_control_connection_probe(run->control))
        return;
    do
        gt_check_wait(run->loop, POLL_S);
    while (!run->is_over && gt_control_connection_is_in_flight(run->control) && gt_clock() < end);
    if (!run->is_over)
        run->facts->large = gt_control_connection_is_in_flight(run->control) ? GT_RELAY_LARGE_LOST
                                                                             : GT_RELAY_LARGE_OK;
}

static void run_check_session_port(struct run *run)
{
    struct gt_addr addr = run->facts->addr;

    gt_addr_set_port(&addr, run->facts->session_port);
    run->facts->session_err = gt_network_check_address(run->loop, &addr, SESSION_PORT_S);
}

static int run_connect(struct run *run, const struct gt_relay_check *check)
{
    uint8_t rid[GT_RID_SIZE];
    struct gt_control_connection_settings settings = {
        .relay = check->relay,
        .proxy = check->proxy,
        .role = check->role,
        .name = check->name,
        .client_key = check->client_key,
        .rid = rid,
        .generation = 1,
        .ttl_s = TTL_S,
        .connect_timeout_ms = (unsigned)(CONNECT_S * 1000),
        .has_large_segments = true,
    };

    int r = gt_random(rid, sizeof(rid));
    return r ? r : gt_control_connection_new(run->loop, &settings, &events, run, &run->control);
}

void gt_relay_check(struct ev_loop *loop, const struct gt_relay_check *check,
                    struct gt_relay_facts *ret)
{
    struct run run = {.loop = loop, .facts = ret};
    double began = gt_clock();

    *ret = (struct gt_relay_facts){.reason = GT_END_INTERNAL, .large = GT_RELAY_LARGE_UNKNOWN};
    ret->has_proxy = check->proxy != NULL;
    snprintf(ret->why, sizeof(ret->why), "no answer in time");
    int r = run_connect(&run, check);
    if (r != 0) {
        snprintf(ret->why, sizeof(ret->why), "%s", strerror(r < 0 ? -r : r));
        return;
    }
    gt_check_wait(loop, CONNECT_S + 1);
    ret->took_s = gt_clock() - began;
    if (ret->is_registered) {
        if (!check->proxy)
            run_check_session_port(&run);
        run_probe(&run);
    }
    gt_control_connection_free(run.control);
}
