/* SPDX-License-Identifier: ISC */
/* The control connection, with a relay that follows the protocol and with relays that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/relay/control-connection.h"
#include "support/fake-clock.h"
#include "support/fake-relay.h"

struct fixture {
    struct ev_loop *loop;
    struct fake_relay relay;
    struct gt_control_connection_settings settings;
    struct gt_control_connection *control;
    unsigned n_sessions, n_peers, n_tickets, n_ends, n_restarts, n_downs;
    struct gt_addr addr;
    uint16_t port;
    bool is_peer_up;
    enum gt_code peer_reason;
    struct gt_ticket ticket;
    enum gt_end_reason cause;
    enum gt_code code;
    char why[200];
    void (*reaction)(struct fixture *f); /* called once, inside the next callback except on_down */
};

static void run_reaction(struct fixture *f)
{
    if (f->reaction)
        f->reaction(f);
    f->reaction = NULL;
}

static void on_session(void *userdata, const struct gt_addr *addr, uint16_t port, bool is_peer_up)
{
    struct fixture *f = userdata;

    f->n_sessions++;
    f->addr = *addr;
    f->port = port;
    f->is_peer_up = is_peer_up;
    run_reaction(f);
}

static void on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct fixture *f = userdata;

    f->n_peers++;
    f->is_peer_up = is_up;
    f->peer_reason = reason;
    run_reaction(f);
}

static void on_ticket(void *userdata, const struct gt_ticket *ticket)
{
    struct fixture *f = userdata;

    f->n_tickets++;
    f->ticket = *ticket;
    run_reaction(f);
}

static void on_stream_end(void *userdata, uint32_t stream, uint32_t attempt, unsigned code)
{
    struct fixture *f = userdata;

    f->n_ends++;
    run_reaction(f);
}

static void on_restart_notice(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
    struct fixture *f = userdata;

    f->n_restarts++;
    run_reaction(f);
}

static void on_down(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why)
{
    struct fixture *f = userdata;

    f->n_downs++;
    f->cause = cause;
    f->code = code;
    snprintf(f->why, sizeof(f->why), "%s", why);
}

static const struct gt_control_connection_events events = {
    .on_session = on_session,
    .on_peer = on_peer,
    .on_ticket = on_ticket,
    .on_stream_end = on_stream_end,
    .on_restart_notice = on_restart_notice,
    .on_down = on_down,
};

/* A relay that follows the protocol. */
static void behave(struct fake_client *client, const struct gt_control_frame *frame)
{
    struct gt_control_frame answer = fake_frame(GT_CONTROL_TICKET);

    if (frame->type == GT_CONTROL_HELLO)
        fake_client_welcome(client);
    else if (frame->type == GT_CONTROL_RENDEZVOUS)
        fake_client_session(client, 7001, true);
    else if (frame->type == GT_CONTROL_OPEN) {
        answer.ticket = (struct gt_ticket){frame->open.stream, frame->open.attempt, .ttl_s = 30};
        memset(answer.ticket.secret, 0x5a, sizeof(answer.ticket.secret));
        fake_client_send(client, &answer);
    } else if (frame->type == GT_CONTROL_PING) {
        answer = *frame;
        answer.type = GT_CONTROL_PONG;
        fake_client_send(client, &answer);
    }
}

static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.loop = ev_loop_new(0)};
    fake_relay_init(&f->relay, f->loop);
    f->relay.on_frame = behave;
    f->relay.userdata = f;
    f->settings = (struct gt_control_connection_settings){
        .relay = &f->relay.address,
        .role = GT_ROLE_OPERATOR,
        .name = "alice",
        .client_key = fake_key,
        .rid = fake_rid,
        .generation = 1,
        .ttl_s = 3600,
        .connect_timeout_ms = 3000,
    };
}

static void fixture_dial(struct fixture *f)
{
    assert_int_equal(gt_control_connection_new(f->loop, &f->settings, &events, f, &f->control), 0);
    assert_int_equal(f->n_downs + f->n_sessions, 0);
}

static void fixture_deinit(struct fixture *f)
{
    fake_clock_stop();
    f->control = gt_control_connection_free(f->control);
    fake_relay_deinit(&f->relay);
    ev_loop_destroy(f->loop);
    assert_int_equal(gt_iobuf_n_held(), 0);
    gt_iobuf_trim();
}

static bool is_registered(void *userdata)
{
    const struct fixture *f = userdata;

    return f->n_sessions > 0;
}

static bool is_down(void *userdata)
{
    const struct fixture *f = userdata;

    return f->n_downs > 0;
}

static void fixture_up(struct fixture *f)
{
    fixture_init(f);
    fixture_dial(f);
    assert_true(fake_run(f->loop, is_registered, f, 5));
}

/* Waits for the end and compares its reason. */
static void expect_down(struct fixture *f, enum gt_end_reason cause, enum gt_code code,
                        const char *why)
{
    assert_true(fake_run(f->loop, is_down, f, 10));
    if (f->cause != cause || f->code != code || !strstr(f->why, why))
        fail_msg("%s, code %d, \"%s\"", gt_end_reason_text(f->cause), f->code, f->why);
    assert_int_equal(f->n_downs, 1);
}

/* --- a relay that follows the protocol -------------------------------------------------------- */

static bool has_ticket(void *userdata)
{
    const struct fixture *f = userdata;

    return f->n_tickets > 0;
}

static bool has_load(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].n_frames[GT_CONTROL_LOAD] == 1;
}

static void test_open_leaves_with_hello(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fixture_dial(&f);
    assert_int_equal(gt_control_connection_request_ticket(f.control, 1, 1, 0), 0);
    assert_int_equal(gt_control_connection_set_load(f.control, 3), 0);
    assert_true(fake_run(f.loop, has_ticket, &f, 5));
    assert_int_equal(f.n_sessions, 1);
    assert_int_equal(f.port, 7001);
    assert_int_equal(gt_addr_port(&f.addr), f.relay.port);
    assert_true(f.is_peer_up);
    assert_int_equal(f.ticket.stream, 1);
    assert_int_equal(f.ticket.secret[31], 0x5a);
    assert_int_equal(f.relay.n_accepted, 1);
    assert_true(fake_run(f.loop, has_load, &f, 5));
    fixture_deinit(&f);
}

static bool has_all_frames(void *userdata)
{
    const struct fixture *f = userdata;

    return f->n_peers == 1 && f->n_ends == 1 && f->n_restarts == 1 && f->n_sessions == 2 &&
           f->relay.clients[0].n_frames[GT_CONTROL_PONG] == 1;
}

static void test_frames_cut_at_any_byte_are_handled(void **state)
{
    struct fixture f;
    uint8_t data[5 * GT_CONTROL_FRAME_MAX];
    struct gt_control_frame frames[] = {
        fake_frame(GT_CONTROL_PEER),    fake_frame(GT_CONTROL_STREAM_END),
        fake_frame(GT_CONTROL_PING),    fake_frame(GT_CONTROL_RESTARTING),
        fake_frame(GT_CONTROL_SESSION),
    };
    static const uint8_t unknown[] = {0x80, 0, 0, 3, 'n', 'e', 'w'};
    size_t n = sizeof(unknown);

    memcpy(data, unknown, n);
    frames[0].peer.reason = GT_CODE_LOST;
    for (size_t i = 0; i < GT_ARRAY_SIZE(frames); i++)
        n += gt_control_encode(&frames[i], data + n);
    for (size_t size = 1; size <= n; size += size < 20 ? 1 : 50) {
        fixture_up(&f);
        for (size_t at = 0; at < n; at += size)
            fake_client_send_bytes(&f.relay.clients[0], data + at, GT_MIN(size, n - at));
        assert_true(fake_run(f.loop, has_all_frames, &f, 5));
        assert_int_equal(f.peer_reason, GT_CODE_LOST);
        assert_false(f.is_peer_up);
        fixture_deinit(&f);
    }
}

static bool has_1000_pongs(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].n_frames[GT_CONTROL_PONG] == 1000;
}

static void test_many_frames_in_few_records_are_answered(void **state)
{
    struct fixture f;
    static uint8_t data[12000];
    struct gt_control_frame ping = {.type = GT_CONTROL_PING, .ping = 7};
    size_t n = 0;

    fixture_up(&f);
    for (int i = 0; i < 1000; i++)
        n += gt_control_encode(&ping, data + n);
    fake_client_send_bytes(&f.relay.clients[0], data, n);
    assert_true(fake_run(f.loop, has_1000_pongs, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static void test_queue_rejects_opens_beyond_its_limit(void **state)
{
    struct fixture f;
    uint32_t n = 0;

    fixture_init(&f);
    fixture_dial(&f);
    while (n < 10000 && gt_control_connection_request_ticket(f.control, n + 1, 1, 0) == 0)
        n++;
    assert_in_range(n, 64, 9999);
    assert_int_equal(gt_control_connection_request_ticket(f.control, n + 1, 1, 0),
                     GT_CONTROL_CONNECTION_E_FULL);
    assert_true(fake_run(f.loop, is_registered, &f, 5));
    fixture_deinit(&f);
}

static bool has_received_queued_opens(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].n_frames[GT_CONTROL_OPEN] >= 64;
}

/* A connection with a full queue is not read; the queue is sent all the same. */
static void test_full_queue_is_sent(void **state)
{
    struct fixture f;
    uint32_t n = 0;

    fixture_up(&f);
    while (gt_control_connection_request_ticket(f.control, n + 1, 1, 0) == 0)
        n++;
    assert_in_range(n, 64, 9999);
    assert_true(fake_run(f.loop, has_received_queued_opens, &f, 2));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static bool has_ping(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].n_frames[GT_CONTROL_PING] >= 2;
}

static void test_heartbeat_is_sent_at_the_least_interval(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fake_clock_start();
    f.relay.heartbeat_ms = 1; /* 500 is the least that is accepted */
    fixture_dial(&f);
    assert_true(fake_run(f.loop, has_ping, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

/* --- ends ------------------------------------------------------------------------------------- */

static bool has_bye(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].n_frames[GT_CONTROL_BYE] == 1;
}

static void test_bye_is_sent_once(void **state)
{
    struct fixture f;

    fixture_up(&f);
    gt_control_connection_bye(f.control, GT_CODE_BYE);
    gt_control_connection_bye(f.control, GT_CODE_BYE);
    assert_int_equal(gt_control_connection_request_ticket(f.control, 1, 1, 0),
                     GT_CONTROL_CONNECTION_E_OVER);
    assert_int_equal(f.n_downs, 0);
    expect_down(&f, GT_END_CLOSED, GT_CODE_NONE, "closed");
    assert_true(fake_run(f.loop, has_bye, &f, 5));
    fixture_deinit(&f);
}

static bool has_shut_down(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.n_close_notifies > 0 && f->n_downs > 0;
}

/* With unread bytes in the socket, close(2) would send a reset, which overtakes BYE. */
static void test_bye_with_unread_frames_does_not_reset(void **state)
{
    struct fixture f;

    fixture_up(&f);
    for (unsigned i = 0; i < 50; i++)
        fake_client_peer(&f.relay.clients[0], i % 2, GT_CODE_LOST);
    gt_control_connection_bye(f.control, GT_CODE_BYE);
    assert_true(fake_run(f.loop, has_shut_down, &f, 5));
    assert_int_equal(f.relay.clients[0].n_frames[GT_CONTROL_BYE], 1);
    assert_int_equal(f.relay.n_resets, 0);
    assert_int_equal(f.cause, GT_END_CLOSED);
    assert_string_equal(f.why, "closed");
    fixture_deinit(&f);
}

static void test_free_sends_bye(void **state)
{
    struct fixture f;

    fixture_up(&f);
    f.control = gt_control_connection_free(f.control);
    assert_true(fake_run(f.loop, has_bye, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static void test_bye_while_dialing_ends_it(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fixture_dial(&f);
    gt_control_connection_bye(f.control, GT_CODE_BYE);
    assert_int_equal(f.n_downs, 0);
    expect_down(&f, GT_END_CLOSED, GT_CODE_NONE, "closed");
    fixture_deinit(&f);
}

static void send_bye(struct fixture *f)
{
    gt_control_connection_bye(f->control, GT_CODE_BYE);
}

static void test_bye_from_a_callback_ends_it(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.reaction = send_bye;
    fixture_dial(&f);
    expect_down(&f, GT_END_CLOSED, GT_CODE_NONE, "closed");
    fixture_deinit(&f);
}

static void test_free_works_in_every_state(void **state)
{
    for (unsigned n_turns = 0; n_turns < 12; n_turns++) {
        struct fixture f;

        fixture_init(&f);
        fixture_dial(&f);
        for (unsigned i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        f.control = gt_control_connection_free(f.control);
        for (unsigned i = 0; i < 5; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        assert_int_equal(f.n_downs, 0);
        fixture_deinit(&f);
    }
    assert_null(gt_control_connection_free(NULL));
}

static void test_last_frame_of_the_relay_gives_the_end_reason(void **state)
{
    static const struct {
        enum gt_control_type type;
        enum gt_code code;
        enum gt_end_reason cause;
    } cases[] = {
        {GT_CONTROL_BYE, GT_CODE_BYE, GT_END_CLOSED},
        {GT_CONTROL_BYE, GT_CODE_LIFETIME, GT_END_EXPIRED},
        {GT_CONTROL_BYE, GT_CODE_IDLE, GT_END_IDLE},
        {GT_CONTROL_BYE, GT_CODE_PAIRING, GT_END_PEER},
        {GT_CONTROL_BYE, GT_CODE_GRACE, GT_END_PEER},
        {GT_CONTROL_ERROR, GT_CODE_SESSIONS, GT_END_LIMIT},
        {GT_CONTROL_ERROR, GT_CODE_IDENTITY, GT_END_LIMIT},
        {GT_CONTROL_BYE, GT_CODE_SHUTDOWN, GT_END_RELAY},
        {GT_CONTROL_BYE, GT_CODE_REPLACED, GT_END_RELAY},
        {GT_CONTROL_ERROR, GT_CODE_NO_PORT, GT_END_RELAY},
        {GT_CONTROL_ERROR, GT_CODE_IN_USE, GT_END_RELAY},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct fixture f;

        fixture_up(&f);
        struct fake_client *client = &f.relay.clients[0];
        fake_client_code(client, cases[i].type, cases[i].code);
        fake_client_close(client); /* at once: EPIPE must not hide the frame */
        assert_int_equal(gt_control_connection_request_ticket(f.control, 1, 1, 0), 0);
        expect_down(&f, cases[i].cause, cases[i].code, gt_code_text(cases[i].code));
        fixture_deinit(&f);
    }
}

static void test_limit_is_reported_with_its_value(void **state)
{
    static const struct {
        enum gt_code limit, error; /* LIMIT concerns the ERROR with the same code only */
        const char *why;
    } cases[] = {
        {GT_CODE_IDENTITY, GT_CODE_IDENTITY,
         "the relay allows 77 sessions per identity: limits.sessions_per_identity"},
        {GT_CODE_SESSIONS, GT_CODE_SESSIONS, "the relay allows 77 sessions: limits.sessions"},
        {GT_CODE_SESSIONS, GT_CODE_IDENTITY, "over limits.sessions_per_identity of the relay"},
        {GT_CODE_NO_PORT, GT_CODE_NO_PORT, "the relay has no free port"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_control_frame limit = {.type = GT_CONTROL_LIMIT};
        struct fixture f;

        fixture_up(&f);
        limit.limit.code = (uint16_t)cases[i].limit;
        limit.limit.value = 77;
        fake_client_send(&f.relay.clients[0], &limit);
        fake_client_code(&f.relay.clients[0], GT_CONTROL_ERROR, cases[i].error);
        assert_true(fake_run(f.loop, is_down, &f, 10));
        assert_string_equal(f.why, cases[i].why);
        fixture_deinit(&f);
    }
}

static void test_error_limit_of_one_stream_is_not_the_end(void **state)
{
    struct fixture f;

    fixture_up(&f);
    fake_client_code(&f.relay.clients[0], GT_CONTROL_ERROR, GT_CODE_LIMIT);
    assert_int_equal(gt_control_connection_request_ticket(f.control, 1, 1, 0), 0);
    assert_true(fake_run(f.loop, has_ticket, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

/* --- relays that do not follow it ------------------------------------------------------------- */

static void test_closed_port_is_unreachable(void **state)
{
    struct fixture f;

    fixture_init(&f);
    ev_io_stop(f.loop, &f.relay.acceptable);
    gt_close(&f.relay.listener);
    fixture_dial(&f);
    expect_down(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "refused");
    fixture_deinit(&f);
}

static void test_unknown_host_is_unreachable(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.settings.relay = &(struct gt_host_port){"no such host", 7000};
    struct gt_control_connection *control = NULL;
    int r = gt_control_connection_new(f.loop, &f.settings, &events, &f, &control);
    if (r == 0) {
        f.control = control;
        expect_down(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "no address for no such host");
    }
    fixture_deinit(&f);
}

static void test_wrong_key_is_refused(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.relay.has_wrong_key = true;
    fixture_dial(&f);
    expect_down(&f, GT_END_REFUSED, GT_CODE_NONE, "wrong key");
    fixture_deinit(&f);
}

static void test_relay_without_handshake_times_out(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fake_clock_start();
    f.relay.is_silent = true;
    f.settings.connect_timeout_ms = 200;
    fixture_dial(&f);
    expect_down(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "no answer to the TLS handshake");
    fixture_deinit(&f);
}

static void test_relay_that_closes_at_once_is_unreachable(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.relay.closes_at_once = true;
    fixture_dial(&f);
    expect_down(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "TLS handshake failed");
    fixture_deinit(&f);
}

static bool is_accepted(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.n_accepted > 0;
}

static void test_server_that_is_not_a_relay_is_unreachable(void **state)
{
    static const char *const greetings[] = {
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        "220 mail.example.org ESMTP\r\n",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(greetings); i++) {
        struct fixture f;

        fixture_init(&f);
        f.relay.is_silent = true;
        fixture_dial(&f);
        assert_true(fake_run(f.loop, is_accepted, &f, 5));
        size_t n = strlen(greetings[i]);
        assert_int_equal(send(f.relay.clients[0].fd, greetings[i], n, MSG_NOSIGNAL), n);
        expect_down(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "the peer does not use TLS");
        fixture_deinit(&f);
    }
}

static void ignore_frame(struct fake_client *client, const struct gt_control_frame *frame)
{
}

static void test_relay_without_welcome_times_out(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fake_clock_start();
    f.relay.on_frame = ignore_frame;
    f.settings.connect_timeout_ms = 300;
    fixture_dial(&f);
    expect_down(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "no WELCOME");
    fixture_deinit(&f);
}

static void test_welcome_of_another_version_ends_it(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.relay.version = 2;
    fixture_dial(&f);
    expect_down(&f, GT_END_RELAY, GT_CODE_VERSION, "version");
    fixture_deinit(&f);
}

static void behave_but_ignore_pings(struct fake_client *client,
                                    const struct gt_control_frame *frame)
{
    if (frame->type != GT_CONTROL_PING)
        behave(client, frame);
}

static void test_silent_relay_is_lost_after_three_intervals(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fake_clock_start();
    f.relay.heartbeat_ms = 500;
    f.relay.on_frame = behave_but_ignore_pings;
    fixture_dial(&f);
    expect_down(&f, GT_END_LOST, GT_CODE_NONE, "heartbeat timeout");
    fixture_deinit(&f);
}

static bool was_pinged(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].n_frames[GT_CONTROL_PING] > 0;
}

/* After a sleep or a change of the route, a PING is sent at once. Only its PONG counts: other
 * frames do not extend the 5 s. */
static void test_probe_is_answered_or_times_out_after_5_seconds(void **state)
{
    for (int answers = 0; answers < 2; answers++) {
        struct fixture f;

        fixture_init(&f);
        fake_clock_start();
        f.relay.heartbeat_ms = 15000;
        f.relay.on_frame = answers ? behave : behave_but_ignore_pings;
        fixture_dial(&f);
        assert_true(fake_run(f.loop, is_registered, &f, 5));
        gt_control_connection_check(f.control, true);
        gt_control_connection_check(f.control, true); /* no second PING */
        assert_true(fake_run(f.loop, was_pinged, &f, 1));
        fake_client_peer(&f.relay.clients[0], true, GT_CODE_NONE);
        assert_int_equal(fake_run(f.loop, is_down, &f, 4.5), false);
        assert_int_equal(fake_run(f.loop, is_down, &f, 1.5), !answers);
        assert_int_equal(f.relay.clients[0].n_frames[GT_CONTROL_PING], 1);
        if (!answers)
            expect_down(&f, GT_END_LOST, GT_CODE_NONE, "heartbeat timeout");
        fixture_deinit(&f);
    }
}

static void test_network_change_does_not_probe_loopback(void **state)
{
    struct fixture f;

    fixture_up(&f);
    fake_clock_start();
    gt_control_connection_check(f.control, false);
    assert_false(fake_run(f.loop, was_pinged, &f, .3));
    assert_false(gt_control_connection_is_dialing(f.control) ||
                 gt_control_connection_is_over(f.control));
    fixture_deinit(&f);
}

static void test_connection_that_breaks_is_lost(void **state)
{
    struct fixture f;

    fixture_up(&f);
    fake_client_close(&f.relay.clients[0]);
    expect_down(&f, GT_END_LOST, GT_CODE_NONE, "closed without close_notify");
    fixture_deinit(&f);
}

static void test_connection_that_the_relay_closes_is_lost(void **state)
{
    struct fixture f;

    fixture_up(&f);
    gt_tls_close(f.relay.clients[0].tls);
    expect_down(&f, GT_END_LOST, GT_CODE_NONE, "the relay closed the connection");
    fixture_deinit(&f);
}

static const struct gt_control_frame violations[] = {
    {.type = GT_CONTROL_HELLO, .hello = {.version_min = 1, .version_max = 1}},
    {.type = GT_CONTROL_RENDEZVOUS},
    {.type = GT_CONTROL_OPEN, .open = {.stream = 1, .attempt = 1}},
    {.type = GT_CONTROL_WELCOME, .welcome = {.version = 1}},
    {.type = GT_CONTROL_PEER}, /* these four have the rid of another session */
    {.type = GT_CONTROL_TICKET, .ticket = {.stream = 1, .attempt = 1}},
    {.type = GT_CONTROL_STREAM_END, .stream_end = {.stream = 1, .attempt = 1}},
    {.type = GT_CONTROL_SESSION},
};

static void test_frame_out_of_order_ends_it(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(violations); i++) {
        struct fixture f;

        fixture_up(&f);
        fake_client_send(&f.relay.clients[0], &violations[i]);
        expect_down(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "protocol");
        assert_int_equal(f.n_tickets + f.n_peers + f.n_ends, 0);
        fixture_deinit(&f);
    }
}

static void session_before_welcome(struct fake_client *client, const struct gt_control_frame *frame)
{
    if (frame->type == GT_CONTROL_HELLO)
        fake_client_session(client, 7001, true);
}

static void ticket_before_session(struct fake_client *client, const struct gt_control_frame *frame)
{
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);

    if (frame->type == GT_CONTROL_HELLO) {
        fake_client_welcome(client);
        fake_client_send(client, &ticket);
    }
}

static void test_frame_before_its_state_ends_it(void **state)
{
    struct fixture f;

    fixture_init(&f);
    f.relay.on_frame = session_before_welcome;
    fixture_dial(&f);
    expect_down(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "protocol");
    fixture_deinit(&f);
    fixture_init(&f);
    f.relay.on_frame = ticket_before_session;
    fixture_dial(&f);
    expect_down(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "protocol");
    fixture_deinit(&f);
}

static void test_malformed_frame_ends_it(void **state)
{
    static const struct {
        const char *data;
        size_t n;
    } cases[] = {
        {"\x7f\0\0\0", 4},
        {"\x30\1\0\x08"
         "12345678",
         12},
        {"\x30\0\0\x07"
         "1234567",
         11},
        {"\x81\0\xff\xff", 4},
        {"GET / HTTP/1.1\r\n", 16},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct fixture f;

        fixture_up(&f);
        fake_client_send_bytes(&f.relay.clients[0], cases[i].data, cases[i].n);
        expect_down(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "malformed frame");
        fixture_deinit(&f);
    }
}

/* --- prepared before the session is known ------------------------------------------------------
 */

/* Begins without a session: only HELLO leaves. */
static void fixture_prepare(struct fixture *f)
{
    static const struct gt_control_connection_events prepared = {
        .on_restart_notice = on_restart_notice,
        .on_down = on_down,
    };

    f->settings.rid = NULL;
    assert_int_equal(gt_control_connection_new(f->loop, &f->settings, &prepared, f, &f->control),
                     0);
    f->settings.rid = fake_rid;
}

static int fixture_register(struct fixture *f)
{
    return gt_control_connection_register(f->control, &f->settings, &events, f);
}

static bool has_welcome(void *userdata)
{
    const struct fixture *f = userdata;

    return gt_control_connection_received_at(f->control) > 0;
}

static bool has_no_client(void *userdata)
{
    const struct fixture *f = userdata;

    return f->relay.clients[0].fd < 0;
}

/* RENDEZVOUS, and an OPEN behind it, follow in any state: at once, when the relay has accepted, and
 * after WELCOME. */
static void test_prepared_connection_is_registered(void **state)
{
    for (int n = 0; n < 3; n++) {
        struct fixture f;

        fixture_init(&f);
        fixture_prepare(&f);
        if (n > 0)
            assert_true(fake_run(f.loop, n == 1 ? is_accepted : has_welcome, &f, 5));
        assert_int_equal(f.relay.clients[0].n_frames[GT_CONTROL_RENDEZVOUS], 0);
        assert_int_equal(fixture_register(&f), 0);
        assert_int_equal(gt_control_connection_request_ticket(f.control, 0, 1, 0), 0);
        assert_true(fake_run(f.loop, has_ticket, &f, 5));
        assert_int_equal(f.n_sessions, 1);
        assert_int_equal(f.relay.n_accepted, 1);
        assert_int_equal(f.relay.clients[0].n_frames[GT_CONTROL_HELLO], 1);
        assert_int_equal(f.relay.clients[0].n_frames[GT_CONTROL_RENDEZVOUS], 1);
        fixture_deinit(&f);
    }
}

/* It leaves no BYE: there is no session. */
static void test_prepared_connection_is_closed_without_bye(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fixture_prepare(&f);
    assert_true(fake_run(f.loop, has_welcome, &f, 5));
    f.control = gt_control_connection_free(f.control);
    assert_true(fake_run(f.loop, has_no_client, &f, 5));
    assert_int_equal(f.relay.n_close_notifies, 1);
    assert_int_equal(f.relay.clients[0].n_frames[GT_CONTROL_BYE], 0);
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static void test_prepared_connection_that_ended_is_not_registered(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fixture_prepare(&f);
    assert_true(fake_run(f.loop, has_welcome, &f, 5));
    fake_client_code(&f.relay.clients[0], GT_CONTROL_BYE, GT_CODE_PAIRING);
    expect_down(&f, GT_END_PEER, GT_CODE_PAIRING, "");
    assert_int_equal(fixture_register(&f), GT_CONTROL_CONNECTION_E_OVER);
    assert_int_equal(f.n_downs, 1);
    fixture_deinit(&f);
}

/* No frame of a session is in order before RENDEZVOUS. */
static void test_session_frame_before_rendezvous_ends_a_prepared_connection(void **state)
{
    const struct gt_control_frame frames[] = {
        /* the rid is zeros, as here */
        {.type = GT_CONTROL_SESSION, .session.port = 7001},
        {.type = GT_CONTROL_PEER, .peer.reason = GT_CODE_LOST},
        {.type = GT_CONTROL_TICKET, .ticket = {1, 1, .ttl_s = 30}},
        {.type = GT_CONTROL_STREAM_END, .stream_end = {1, 1, .code = GT_CODE_LOST}},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(frames); i++) {
        struct fixture f;

        fixture_init(&f);
        fixture_prepare(&f);
        assert_true(fake_run(f.loop, has_welcome, &f, 5));
        fake_client_send(&f.relay.clients[0], &frames[i]);
        expect_down(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "broke the protocol");
        fixture_deinit(&f);
    }
}

/* The relay's own limit for a first RENDEZVOUS is 30 s. */
static void test_prepared_connection_ends_without_a_session(void **state)
{
    struct fixture f;

    fixture_init(&f);
    fixture_prepare(&f);
    assert_true(fake_run(f.loop, has_welcome, &f, 5));
    fake_clock_start();
    assert_true(fake_run(f.loop, is_down, &f, 40));
    expect_down(&f, GT_END_LOST, GT_CODE_NONE, "no session");
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prepared_connection_is_registered),
        cmocka_unit_test(test_prepared_connection_is_closed_without_bye),
        cmocka_unit_test(test_prepared_connection_that_ended_is_not_registered),
        cmocka_unit_test(test_session_frame_before_rendezvous_ends_a_prepared_connection),
        cmocka_unit_test(test_prepared_connection_ends_without_a_session),
        cmocka_unit_test(test_open_leaves_with_hello),
        cmocka_unit_test(test_frames_cut_at_any_byte_are_handled),
        cmocka_unit_test(test_many_frames_in_few_records_are_answered),
        cmocka_unit_test(test_queue_rejects_opens_beyond_its_limit),
        cmocka_unit_test(test_full_queue_is_sent),
        cmocka_unit_test(test_heartbeat_is_sent_at_the_least_interval),
        cmocka_unit_test(test_bye_is_sent_once),
        cmocka_unit_test(test_bye_with_unread_frames_does_not_reset),
        cmocka_unit_test(test_free_sends_bye),
        cmocka_unit_test(test_bye_while_dialing_ends_it),
        cmocka_unit_test(test_bye_from_a_callback_ends_it),
        cmocka_unit_test(test_free_works_in_every_state),
        cmocka_unit_test(test_last_frame_of_the_relay_gives_the_end_reason),
        cmocka_unit_test(test_limit_is_reported_with_its_value),
        cmocka_unit_test(test_error_limit_of_one_stream_is_not_the_end),
        cmocka_unit_test(test_closed_port_is_unreachable),
        cmocka_unit_test(test_unknown_host_is_unreachable),
        cmocka_unit_test(test_wrong_key_is_refused),
        cmocka_unit_test(test_relay_without_handshake_times_out),
        cmocka_unit_test(test_relay_that_closes_at_once_is_unreachable),
        cmocka_unit_test(test_server_that_is_not_a_relay_is_unreachable),
        cmocka_unit_test(test_relay_without_welcome_times_out),
        cmocka_unit_test(test_welcome_of_another_version_ends_it),
        cmocka_unit_test(test_silent_relay_is_lost_after_three_intervals),
        cmocka_unit_test(test_probe_is_answered_or_times_out_after_5_seconds),
        cmocka_unit_test(test_network_change_does_not_probe_loopback),
        cmocka_unit_test(test_connection_that_breaks_is_lost),
        cmocka_unit_test(test_connection_that_the_relay_closes_is_lost),
        cmocka_unit_test(test_frame_out_of_order_ends_it),
        cmocka_unit_test(test_frame_before_its_state_ends_it),
        cmocka_unit_test(test_malformed_frame_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
