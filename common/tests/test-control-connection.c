/* SPDX-License-Identifier: ISC */
/* A link against a relay that behaves, and against relays that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include "fake-relay.h"
#include "gotthard/link.h"

struct fixture {
    struct ev_loop *loop;
    struct fake_relay relay;
    struct gt_link_settings settings;
    struct gt_link *link;
    unsigned n_sessions, n_peers, n_tickets, n_ends, n_restarts, n_downs;
    struct gt_addr addr;
    uint16_t port;
    bool is_peer_up;
    enum gt_code peer_reason;
    struct gt_ticket ticket;
    enum gt_down cause;
    enum gt_code code;
    char why[200];
    void (*then)(struct fixture *f); /* called inside the next callback but on_down */
};

static void follow(struct fixture *f)
{
    if (f->then)
        f->then(f);
    f->then = NULL;
}

static void on_session(void *userdata, const struct gt_addr *addr, uint16_t port, bool is_peer_up)
{
    struct fixture *f = userdata;
    f->n_sessions++;
    f->addr = *addr;
    f->port = port;
    f->is_peer_up = is_peer_up;
    follow(f);
}

static void on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct fixture *f = userdata;
    f->n_peers++;
    f->is_peer_up = is_up;
    f->peer_reason = reason;
    follow(f);
}

static void on_ticket(void *userdata, const struct gt_ticket *ticket)
{
    struct fixture *f = userdata;
    f->n_tickets++;
    f->ticket = *ticket;
    follow(f);
}

static void on_stream_end(void *userdata, uint32_t stream, uint32_t attempt, unsigned code)
{
    struct fixture *f = userdata;
    f->n_ends++;
    follow(f);
}

static void on_restarting(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
    struct fixture *f = userdata;
    f->n_restarts++;
    follow(f);
}

static void on_down(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
{
    struct fixture *f = userdata;
    f->n_downs++;
    f->cause = cause;
    f->code = code;
    snprintf(f->why, sizeof f->why, "%s", why);
}

static const struct gt_link_events events = {
    .on_session = on_session,
    .on_peer = on_peer,
    .on_ticket = on_ticket,
    .on_stream_end = on_stream_end,
    .on_restarting = on_restarting,
    .on_down = on_down,
};

/* A relay that does all of it right. */
static void behave(struct fake_member *member, const struct gt_control_frame *frame)
{
    struct gt_control_frame answer = fake_frame(GT_CONTROL_TICKET);
    if (frame->type == GT_CONTROL_HELLO)
        fake_member_welcome(member);
    else if (frame->type == GT_CONTROL_RENDEZVOUS)
        fake_member_session(member, 7001, true);
    else if (frame->type == GT_CONTROL_OPEN) {
        answer.ticket = (struct gt_ticket){frame->open.stream, frame->open.attempt, .ttl_s = 30};
        memset(answer.ticket.secret, 0x5a, sizeof answer.ticket.secret);
        fake_member_say(member, &answer);
    } else if (frame->type == GT_CONTROL_PING) {
        answer = *frame;
        answer.type = GT_CONTROL_PONG;
        fake_member_say(member, &answer);
    }
}

static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.loop = ev_loop_new(0)};
    fake_relay_init(&f->relay, f->loop);
    f->relay.on_frame = behave;
    f->relay.userdata = f;
    f->settings = (struct gt_link_settings){
        .host = "127.0.0.1",
        .port = f->relay.port,
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
    assert_int_equal(gt_link_new(f->loop, &f->settings, &events, f, &f->link), 0);
    assert_int_equal(f->n_downs + f->n_sessions, 0);
}

static void fixture_deinit(struct fixture *f)
{
    f->link = gt_link_free(f->link);
    fake_relay_deinit(&f->relay);
    ev_loop_destroy(f->loop);
    assert_int_equal(gt_batch_n_held(), 0);
    gt_batch_trim();
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

/* Waits for the end, which must be this one. */
static void expect_down(struct fixture *f, enum gt_down cause, enum gt_code code, const char *why)
{
    assert_true(fake_run(f->loop, is_down, f, 10));
    if (f->cause != cause || f->code != code || !strstr(f->why, why))
        fail_msg("%s, code %d, \"%s\"", gt_down_text(f->cause), f->code, f->why);
    assert_int_equal(f->n_downs, 1);
}

/* --- a relay that behaves --------------------------------------------------------------------- */

static bool has_ticket(void *userdata)
{
    const struct fixture *f = userdata;
    return f->n_tickets > 0;
}

static void open_goes_out_with_the_greeting(void **state)
{
    struct fixture f;
    fixture_init(&f);
    fixture_dial(&f);
    assert_int_equal(gt_link_open(f.link, 1, 1), 0);
    assert_true(fake_run(f.loop, has_ticket, &f, 5));
    assert_int_equal(f.n_sessions, 1);
    assert_int_equal(f.port, 7001);
    assert_int_equal(gt_addr_port(&f.addr), f.relay.port);
    assert_true(f.is_peer_up);
    assert_int_equal(f.ticket.stream, 1);
    assert_int_equal(f.ticket.secret[31], 0x5a);
    assert_int_equal(f.relay.n_accepted, 1);
    fixture_deinit(&f);
}

static bool has_all_news(void *userdata)
{
    const struct fixture *f = userdata;
    return f->n_peers == 1 && f->n_ends == 1 && f->n_restarts == 1 && f->n_sessions == 2 &&
           f->relay.members[0].n_frames[GT_CONTROL_PONG] == 1;
}

static void news_arrive_cut_anywhere(void **state)
{
    struct fixture f;
    uint8_t data[5 * GT_CONTROL_FRAME_MAX];
    struct gt_control_frame frames[] = {
        fake_frame(GT_CONTROL_PEER),    fake_frame(GT_CONTROL_STREAM_END),
        fake_frame(GT_CONTROL_PING),    fake_frame(GT_CONTROL_RESTARTING),
        fake_frame(GT_CONTROL_SESSION),
    };
    static const uint8_t unknown[] = {0x81, 0, 0, 3, 'n', 'e', 'w'};
    size_t n = sizeof unknown;
    memcpy(data, unknown, n);
    frames[0].peer.reason = GT_CODE_LOST;
    for (size_t i = 0; i < GT_ARRAY_SIZE(frames); i++)
        n += gt_control_encode(&frames[i], data + n);
    for (size_t size = 1; size <= n; size += size < 20 ? 1 : 50) {
        fixture_up(&f);
        for (size_t at = 0; at < n; at += size)
            fake_member_say_bytes(&f.relay.members[0], data + at, GT_MIN(size, n - at));
        assert_true(fake_run(f.loop, has_all_news, &f, 5));
        assert_int_equal(f.peer_reason, GT_CODE_LOST);
        assert_false(f.is_peer_up);
        fixture_deinit(&f);
    }
}

static bool has_1000_pongs(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.members[0].n_frames[GT_CONTROL_PONG] == 1000;
}

static void many_frames_in_few_records(void **state)
{
    struct fixture f;
    static uint8_t data[12000];
    struct gt_control_frame ping = {.type = GT_CONTROL_PING, .ping = 7};
    size_t n = 0;
    fixture_up(&f);
    for (int i = 0; i < 1000; i++)
        n += gt_control_encode(&ping, data + n);
    fake_member_say_bytes(&f.relay.members[0], data, n);
    assert_true(fake_run(f.loop, has_1000_pongs, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static void too_many_opens_are_not_taken(void **state)
{
    struct fixture f;
    uint32_t n = 0;
    fixture_init(&f);
    fixture_dial(&f);
    while (n < 10000 && gt_link_open(f.link, n + 1, 1) == 0)
        n++;
    assert_in_range(n, 64, 9999);
    assert_int_equal(gt_link_open(f.link, n + 1, 1), GT_LINK_E_FULL);
    assert_true(fake_run(f.loop, is_registered, &f, 5));
    fixture_deinit(&f);
}

static bool has_a_queue_of_opens(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.members[0].n_frames[GT_CONTROL_OPEN] >= 64;
}

/* All of it goes out, although a link with so much to say does not listen. */
static void a_full_queue_goes_out(void **state)
{
    struct fixture f;
    uint32_t n = 0;
    fixture_up(&f);
    while (gt_link_open(f.link, n + 1, 1) == 0)
        n++;
    assert_in_range(n, 64, 9999);
    assert_true(fake_run(f.loop, has_a_queue_of_opens, &f, 2));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static bool has_ping(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.members[0].n_frames[GT_CONTROL_PING] >= 2;
}

static void it_beats(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.heartbeat_ms = 1; /* 500 is the least it takes */
    fixture_dial(&f);
    assert_true(fake_run(f.loop, has_ping, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

/* --- ends ------------------------------------------------------------------------------------- */

static bool has_bye(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.members[0].n_frames[GT_CONTROL_BYE] == 1;
}

static void bye_is_said(void **state)
{
    struct fixture f;
    fixture_up(&f);
    gt_link_bye(f.link, GT_CODE_BYE);
    gt_link_bye(f.link, GT_CODE_BYE);
    assert_int_equal(gt_link_open(f.link, 1, 1), GT_LINK_E_OVER);
    assert_int_equal(f.n_downs, 0);
    expect_down(&f, GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
    assert_true(fake_run(f.loop, has_bye, &f, 5));
    fixture_deinit(&f);
}

static bool has_parted(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.n_goodbyes > 0 && f->n_downs > 0;
}

/* What was not read yet would make the kernel tear the connection, and the goodbye with it. */
static void bye_is_no_reset(void **state)
{
    struct fixture f;
    fixture_up(&f);
    for (unsigned i = 0; i < 50; i++)
        fake_member_peer(&f.relay.members[0], i % 2, GT_CODE_LOST);
    gt_link_bye(f.link, GT_CODE_BYE);
    assert_true(fake_run(f.loop, has_parted, &f, 5));
    assert_int_equal(f.relay.members[0].n_frames[GT_CONTROL_BYE], 1);
    assert_int_equal(f.relay.n_resets, 0);
    assert_int_equal(f.cause, GT_DOWN_CLOSED);
    assert_string_equal(f.why, "closed");
    fixture_deinit(&f);
}

static void bye_is_said_by_free_too(void **state)
{
    struct fixture f;
    fixture_up(&f);
    f.link = gt_link_free(f.link);
    assert_true(fake_run(f.loop, has_bye, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

static void bye_before_anything(void **state)
{
    struct fixture f;
    fixture_init(&f);
    fixture_dial(&f);
    gt_link_bye(f.link, GT_CODE_BYE);
    assert_int_equal(f.n_downs, 0);
    expect_down(&f, GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
    fixture_deinit(&f);
}

static void say_bye(struct fixture *f)
{
    gt_link_bye(f->link, GT_CODE_BYE);
}

static void bye_from_inside_a_callback(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.then = say_bye;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_CLOSED, GT_CODE_NONE, "closed");
    fixture_deinit(&f);
}

static void free_in_every_state(void **state)
{
    for (unsigned n_turns = 0; n_turns < 12; n_turns++) {
        struct fixture f;
        fixture_init(&f);
        fixture_dial(&f);
        for (unsigned i = 0; i < n_turns; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        f.link = gt_link_free(f.link);
        for (unsigned i = 0; i < 5; i++)
            ev_run(f.loop, EVRUN_NOWAIT);
        assert_int_equal(f.n_downs, 0);
        fixture_deinit(&f);
    }
    assert_null(gt_link_free(NULL));
}

static void what_the_relay_says_last_is_told(void **state)
{
    static const struct {
        enum gt_control_type type;
        enum gt_code code;
        enum gt_down cause;
    } cases[] = {
        {GT_CONTROL_BYE, GT_CODE_BYE, GT_DOWN_CLOSED},
        {GT_CONTROL_BYE, GT_CODE_EXPIRED, GT_DOWN_EXPIRED},
        {GT_CONTROL_BYE, GT_CODE_SHUTDOWN, GT_DOWN_RELAY},
        {GT_CONTROL_BYE, GT_CODE_REPLACED, GT_DOWN_RELAY},
        {GT_CONTROL_ERROR, GT_CODE_NO_PORT, GT_DOWN_RELAY},
        {GT_CONTROL_ERROR, GT_CODE_TAKEN, GT_DOWN_RELAY},
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct fixture f;
        fixture_up(&f);
        struct fake_member *member = &f.relay.members[0];
        fake_member_code(member, cases[i].type, cases[i].code);
        fake_member_close(member); /* at once: a broken pipe must not hide it */
        assert_int_equal(gt_link_open(f.link, 1, 1), 0);
        expect_down(&f, cases[i].cause, cases[i].code, gt_code_text(cases[i].code));
        fixture_deinit(&f);
    }
}

static void one_stream_over_the_limit_ends_nothing(void **state)
{
    struct fixture f;
    fixture_up(&f);
    fake_member_code(&f.relay.members[0], GT_CONTROL_ERROR, GT_CODE_LIMIT);
    assert_int_equal(gt_link_open(f.link, 1, 1), 0);
    assert_true(fake_run(f.loop, has_ticket, &f, 5));
    assert_int_equal(f.n_downs, 0);
    fixture_deinit(&f);
}

/* --- relays that do not behave ---------------------------------------------------------------- */

static void nobody_listens(void **state)
{
    struct fixture f;
    fixture_init(&f);
    ev_io_stop(f.loop, &f.relay.acceptable);
    gt_close(&f.relay.listener);
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_UNREACHABLE, GT_CODE_NONE, "refused");
    fixture_deinit(&f);
}

static void no_such_host(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.settings.host = "no such host";
    struct gt_link *link = NULL;
    int r = gt_link_new(f.loop, &f.settings, &events, &f, &link);
    if (r == 0) {
        f.link = link;
        expect_down(&f, GT_DOWN_UNREACHABLE, GT_CODE_NONE, "no address for no such host");
    }
    fixture_deinit(&f);
}

static void a_wrong_key_is_told_apart(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.is_unsure = true;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_REFUSED, GT_CODE_NONE, "wrong key?");
    fixture_deinit(&f);
}

static void a_mute_relay_is_given_up(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.is_mute = true;
    f.settings.connect_timeout_ms = 200;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_UNREACHABLE, GT_CODE_NONE, "no answer to the handshake");
    fixture_deinit(&f);
}

static void a_curt_relay_is_unreachable(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.is_curt = true;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_UNREACHABLE, GT_CODE_NONE, "came to nothing");
    fixture_deinit(&f);
}

static bool is_accepted(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.n_accepted > 0;
}

static void what_is_no_relay_is_unreachable(void **state)
{
    static const char *const greetings[] = {
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        "220 mail.example.org ESMTP\r\n",
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(greetings); i++) {
        struct fixture f;
        fixture_init(&f);
        f.relay.is_mute = true;
        fixture_dial(&f);
        assert_true(fake_run(f.loop, is_accepted, &f, 5));
        size_t n = strlen(greetings[i]);
        assert_int_equal(send(f.relay.members[0].fd, greetings[i], n, MSG_NOSIGNAL), n);
        expect_down(&f, GT_DOWN_UNREACHABLE, GT_CODE_NONE, "no TLS is spoken");
        fixture_deinit(&f);
    }
}

static void say_nothing(struct fake_member *member, const struct gt_control_frame *frame)
{
}

static void a_relay_without_welcome_is_given_up(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.on_frame = say_nothing;
    f.settings.connect_timeout_ms = 300;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_UNREACHABLE, GT_CODE_NONE, "no greeting");
    fixture_deinit(&f);
}

static void welcome_in_another_version(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.version = 2;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_RELAY, GT_CODE_VERSION, "version");
    fixture_deinit(&f);
}

static void no_answer_to_pings(struct fake_member *member, const struct gt_control_frame *frame)
{
    if (frame->type != GT_CONTROL_PING)
        behave(member, frame);
}

static void a_silent_relay_is_dead_after_three_beats(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.heartbeat_ms = 500;
    f.relay.on_frame = no_answer_to_pings;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_LOST, GT_CODE_NONE, "silent");
    fixture_deinit(&f);
}

static bool was_pinged(void *userdata)
{
    const struct fixture *f = userdata;
    return f->relay.members[0].n_frames[GT_CONTROL_PING] > 0;
}

/* After a sleep, or when the route has moved: asked at once, and dead in 5 s if there is no answer;
 * what else comes is none. */
static void a_link_in_doubt_proves_itself(void **state)
{
    for (int answers = 0; answers < 2; answers++) {
        struct fixture f;
        fixture_init(&f);
        f.relay.heartbeat_ms = 15000;
        f.relay.on_frame = answers ? behave : no_answer_to_pings;
        fixture_dial(&f);
        assert_true(fake_run(f.loop, is_registered, &f, 5));
        gt_link_check(f.link, true);
        gt_link_check(f.link, true); /* one question */
        assert_true(fake_run(f.loop, was_pinged, &f, 1));
        fake_member_peer(&f.relay.members[0], true, GT_CODE_NONE);
        assert_int_equal(fake_run(f.loop, is_down, &f, 4.5), false);
        assert_int_equal(fake_run(f.loop, is_down, &f, 1.5), !answers);
        assert_int_equal(f.relay.members[0].n_frames[GT_CONTROL_PING], 1);
        if (!answers)
            expect_down(&f, GT_DOWN_LOST, GT_CODE_NONE, "silent");
        fixture_deinit(&f);
    }
}

static void a_changed_network_is_no_matter_on_loopback(void **state)
{
    struct fixture f;
    fixture_up(&f);
    gt_link_check(f.link, false);
    assert_false(fake_run(f.loop, was_pinged, &f, .3));
    assert_false(gt_link_is_dialling(f.link) || gt_link_is_over(f.link));
    fixture_deinit(&f);
}

static void a_cut_link_is_lost(void **state)
{
    struct fixture f;
    fixture_up(&f);
    fake_member_close(&f.relay.members[0]);
    expect_down(&f, GT_DOWN_LOST, GT_CODE_NONE, "cut off");
    fixture_deinit(&f);
}

static void a_closed_link_is_lost(void **state)
{
    struct fixture f;
    fixture_up(&f);
    gt_tls_close(f.relay.members[0].tls);
    expect_down(&f, GT_DOWN_LOST, GT_CODE_NONE, "the relay closed the connection");
    fixture_deinit(&f);
}

static const struct gt_control_frame violations[] = {
    {.type = GT_CONTROL_HELLO, .hello = {.version_min = 1, .version_max = 1}},
    {.type = GT_CONTROL_RENDEZVOUS},
    {.type = GT_CONTROL_OPEN, .open = {.stream = 1, .attempt = 1}},
    {.type = GT_CONTROL_WELCOME, .welcome = {.version = 1}},
    {.type = GT_CONTROL_PEER}, /* of another rid, these four */
    {.type = GT_CONTROL_TICKET, .ticket = {.stream = 1, .attempt = 1}},
    {.type = GT_CONTROL_STREAM_END, .stream_end = {.stream = 1, .attempt = 1}},
    {.type = GT_CONTROL_SESSION},
};

static void what_is_out_of_order_ends_it(void **state)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(violations); i++) {
        struct fixture f;
        fixture_up(&f);
        fake_member_say(&f.relay.members[0], &violations[i]);
        expect_down(&f, GT_DOWN_RELAY, GT_CODE_PROTOCOL, "protocol");
        assert_int_equal(f.n_tickets + f.n_peers + f.n_ends, 0);
        fixture_deinit(&f);
    }
}

static void session_before_welcome(struct fake_member *member, const struct gt_control_frame *frame)
{
    if (frame->type == GT_CONTROL_HELLO)
        fake_member_session(member, 7001, true);
}

static void ticket_before_session(struct fake_member *member, const struct gt_control_frame *frame)
{
    struct gt_control_frame ticket = fake_frame(GT_CONTROL_TICKET);
    if (frame->type == GT_CONTROL_HELLO) {
        fake_member_welcome(member);
        fake_member_say(member, &ticket);
    }
}

static void what_comes_too_early_ends_it(void **state)
{
    struct fixture f;
    fixture_init(&f);
    f.relay.on_frame = session_before_welcome;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_RELAY, GT_CODE_PROTOCOL, "protocol");
    fixture_deinit(&f);
    fixture_init(&f);
    f.relay.on_frame = ticket_before_session;
    fixture_dial(&f);
    expect_down(&f, GT_DOWN_RELAY, GT_CODE_PROTOCOL, "protocol");
    fixture_deinit(&f);
}

static void what_is_no_frame_ends_it(void **state)
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
        fake_member_say_bytes(&f.relay.members[0], cases[i].data, cases[i].n);
        expect_down(&f, GT_DOWN_RELAY, GT_CODE_PROTOCOL, "no frame");
        fixture_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_goes_out_with_the_greeting),
        cmocka_unit_test(news_arrive_cut_anywhere),
        cmocka_unit_test(many_frames_in_few_records),
        cmocka_unit_test(too_many_opens_are_not_taken),
        cmocka_unit_test(a_full_queue_goes_out),
        cmocka_unit_test(it_beats),
        cmocka_unit_test(bye_is_said),
        cmocka_unit_test(bye_is_no_reset),
        cmocka_unit_test(bye_is_said_by_free_too),
        cmocka_unit_test(bye_before_anything),
        cmocka_unit_test(bye_from_inside_a_callback),
        cmocka_unit_test(free_in_every_state),
        cmocka_unit_test(what_the_relay_says_last_is_told),
        cmocka_unit_test(one_stream_over_the_limit_ends_nothing),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(no_such_host),
        cmocka_unit_test(a_wrong_key_is_told_apart),
        cmocka_unit_test(a_mute_relay_is_given_up),
        cmocka_unit_test(a_curt_relay_is_unreachable),
        cmocka_unit_test(what_is_no_relay_is_unreachable),
        cmocka_unit_test(a_relay_without_welcome_is_given_up),
        cmocka_unit_test(welcome_in_another_version),
        cmocka_unit_test(a_silent_relay_is_dead_after_three_beats),
        cmocka_unit_test(a_link_in_doubt_proves_itself),
        cmocka_unit_test(a_changed_network_is_no_matter_on_loopback),
        cmocka_unit_test(a_cut_link_is_lost),
        cmocka_unit_test(a_closed_link_is_lost),
        cmocka_unit_test(what_is_out_of_order_ends_it),
        cmocka_unit_test(what_comes_too_early_ends_it),
        cmocka_unit_test(what_is_no_frame_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
