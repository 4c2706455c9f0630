/* SPDX-License-Identifier: ISC */
/*
 * worker-streams.c, with channels of the test: which targets are dialed, and the one log line of
 * each connection.
 */
#include "worker-streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/base/log.h"

struct gt_channel {
    uint32_t number;
    int fd; /* of gt_channel_serve */
    enum gt_rst code;
};

static struct {
    struct ev_loop *loop;
    struct worker_grant grant;
    struct worker_events events;
    struct worker_streams streams;
    int listener, saved; /* saved: standard error */
    uint16_t port;
    FILE *captured;
    char text[65536];
} f;

const char *gt_channel_service(const struct gt_channel *channel)
{
    return "the service";
}

uint32_t gt_channel_number(const struct gt_channel *channel)
{
    return channel->number;
}

void gt_channel_serve(struct gt_channel *channel, int fd)
{
    channel->fd = fd;
    ev_break(f.loop, EVBREAK_ALL);
}

void gt_channel_reject(struct gt_channel *channel, enum gt_rst code)
{
    channel->code = code;
    ev_break(f.loop, EVBREAK_ALL);
}

void gt_channel_abort(struct gt_channel *channel, enum gt_rst code)
{
    channel->code = code;
}

static void add_target(const char *name, const char *host, uint16_t port)
{
    struct target target = {.address.port = port};

    snprintf(target.name, sizeof(target.name), "%s", name);
    snprintf(target.address.host, sizeof(target.address.host), "%s", host);
    assert_int_equal(targets_add(&f.grant.services, &target), 0);
}

static int set_up(void **state)
{
    struct gt_addr addr;

    memset(&f, 0, sizeof(f));
    f.events.fd = -1;
    f.loop = ev_loop_new(0);
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    f.listener = gt_sock_listen(&addr, 64);
    assert_int_equal(gt_sock_local(f.listener, &addr), 0);
    f.port = gt_addr_port(&addr);
    add_target("ssh", "127.0.0.1", f.port);
    add_target("nowhere", "no such host", 22);
    f.captured = tmpfile();
    assert_non_null(f.captured);
    f.saved = dup(STDERR_FILENO);
    dup2(fileno(f.captured), STDERR_FILENO);
    gt_log_open("gotthard-agentd", GT_LOG_INFO);
    worker_streams_init(&f.streams, f.loop, "session=test operator=alice", &f.grant, &f.events,
                        5000);
    return 0;
}

/* Ends the capture. Returns the number of lines. */
static unsigned captured(void)
{
    unsigned n = 0;

    worker_streams_deinit(&f.streams);
    dup2(f.saved, STDERR_FILENO);
    close(f.saved);
    rewind(f.captured);
    f.text[fread(f.text, 1, sizeof(f.text) - 1, f.captured)] = 0;
    fclose(f.captured);
    for (const char *at = f.text; *at; at++)
        n += *at == '\n';
    return n;
}

static int tear_down(void **state)
{
    worker_grant_deinit(&f.grant);
    gt_close(&f.listener);
    ev_loop_destroy(f.loop);
    return 0;
}

/* The stream keeps @channel. */
static void open_channel(struct gt_channel *channel, const char *service)
{
    worker_streams_open(&f.streams, channel, service);
    if (channel->code == GT_RST_NONE && channel->fd < 0)
        ev_run(f.loop, 0);
}

/* Returns the channel's last state. */
static struct gt_channel open_stream(uint32_t number, const char *service)
{
    struct gt_channel channel = {.number = number, .fd = -1};

    open_channel(&channel, service);
    return channel;
}

static void test_connection_has_one_line_at_its_end(void **state)
{
    struct gt_channel channel = open_stream(7, "ssh");
    struct gt_addr source;
    char wanted[200], text[GT_ADDR_TEXT];

    assert_true(channel.fd >= 0);
    assert_int_equal(gt_sock_local(channel.fd, &source), 0);
    worker_streams_end(&f.streams, "ssh", 7, GT_RST_NONE, 30, 50);
    assert_int_equal(f.streams.n_streams, 1);
    assert_int_equal(f.streams.n_up, 30);
    assert_int_equal(captured(), 1);
    snprintf(wanted, sizeof(wanted),
             "session=test operator=alice stream=7 service=ssh ended target=127.0.0.1:%u source=%s "
             "up=30 down=50 seconds=",
             f.port, gt_addr_text(&source, text));
    assert_non_null(strstr(f.text, wanted));
    assert_non_null(strstr(f.text, "reason=\"closed\""));
    close(channel.fd);
}

static void test_unknown_service_is_denied(void **state)
{
    struct gt_channel channel = open_stream(1, "telnet");

    assert_int_equal(channel.code, GT_RST_DENIED);
    worker_streams_end(&f.streams, "telnet", 1, channel.code, 0, 0);
    assert_int_equal(captured(), 1);
    assert_non_null(strstr(f.text, "warn gotthard-agentd"));
    assert_non_null(strstr(f.text, "stream=1 service=telnet not connected target=- "));
}

/* @host: permitted at the port of the listener; @more: further entries. */
static void permit(const char *host, const char *more)
{
    char text[160], why[160];

    snprintf(text, sizeof(text), "%s:%u %s", host, f.port, more);
    assert_int_equal(permit_parse(text, &f.grant.permit, why, sizeof(why)), 0);
}

static struct gt_channel open_target(uint32_t number, const char *host)
{
    char text[64];

    snprintf(text, sizeof(text), "%s:%u", host, f.port);
    return open_stream(number, text);
}

static void test_permitted_target_is_dialed(void **state)
{
    permit("127.0.0.0/8", "");
    struct gt_channel numeric = open_target(1, "127.0.0.2"), named = open_target(2, "localhost");

    assert_int_equal(numeric.code, GT_RST_REFUSED); /* dialed: the listener is at 127.0.0.1 */
    assert_true(named.fd >= 0);
    gt_close(&named.fd);
    worker_streams_end(&f.streams, "127.0.0.2", 1, numeric.code, 0, 0);
    worker_streams_end(&f.streams, "localhost", 2, GT_RST_NONE, 0, 0);
    assert_int_equal(captured(), 2);
}

static void test_name_whose_address_is_not_permitted_is_denied(void **state)
{
    permit("0.0.0.0/0", "[::/0]:* *.example:*");
    struct gt_channel special = open_target(1, "localhost"), numeric = open_target(2, "127.0.0.2");

    assert_int_equal(special.code, GT_RST_DENIED);
    assert_int_equal(numeric.code, GT_RST_DENIED);
    worker_streams_end(&f.streams, "localhost", 1, special.code, 0, 0);
    worker_streams_end(&f.streams, "127.0.0.2", 2, numeric.code, 0, 0);
    assert_int_equal(captured(), 2);
    assert_non_null(strstr(f.text, "details=\"its address is not permitted\""));
}

/* The answer of a name server must not lead to this machine. */
static void test_permitted_name_does_not_lead_to_a_special_address(void **state)
{
    permit("name.example", "");
    snprintf(f.grant.permit.entries[0].name, sizeof(f.grant.permit.entries[0].name), "localhost");
    struct gt_channel channel = open_target(1, "localhost");

    assert_int_equal(channel.code, GT_RST_DENIED);
    worker_streams_end(&f.streams, "localhost", 1, channel.code, 0, 0);
    assert_int_equal(captured(), 1);
}

/* Only the streams of withdrawn services end; one whose dial is in progress does not connect. */
static void test_recheck_ends_withdrawn_streams(void **state)
{
    struct gt_channel ssh = {.number = 1, .fd = -1}, web = {.number = 2, .fd = -1},
                      named = {.number = 3, .fd = -1}, again = {.number = 4, .fd = -1},
                      dialing = {.number = 5, .fd = -1};
    char target[64];

    add_target("web", "127.0.0.1", f.port);
    add_target("slow", "no such host", f.port);
    permit("127.0.0.0/8", "localhost:*");
    snprintf(target, sizeof(target), "localhost:%u", f.port);
    open_channel(&ssh, "ssh");
    open_channel(&web, "web");
    open_channel(&named, target);
    open_channel(&again, target);
    worker_streams_open(&f.streams, &dialing, "slow");
    f.grant.services.n = 2;
    permit_deinit(&f.grant.permit);
    permit("127.0.0.0/8", "");
    worker_streams_recheck(&f.streams);
    assert_int_equal(ssh.code, GT_RST_NONE);
    assert_int_equal(named.code, GT_RST_NONE); /* its address is permitted */
    assert_int_equal(web.code, GT_RST_WITHDRAWN);
    assert_int_equal(dialing.code, GT_RST_WITHDRAWN);
    permit_deinit(&f.grant.permit);
    worker_streams_recheck(&f.streams);
    assert_int_equal(ssh.code, GT_RST_NONE);
    assert_int_equal(named.code, GT_RST_WITHDRAWN);
    assert_int_equal(again.code, GT_RST_WITHDRAWN);
    f.grant.services.all[0].address.port++;
    worker_streams_recheck(&f.streams);
    assert_int_equal(ssh.code, GT_RST_WITHDRAWN);
    assert_true(f.streams.n_streams == 5 && captured() == 0);
    gt_close(&ssh.fd);
    gt_close(&web.fd);
    gt_close(&named.fd);
    gt_close(&again.fd);
}

static void test_line_of_a_failure_has_its_cause(void **state)
{
    gt_close(&f.listener);
    struct gt_channel refused = open_stream(1, "ssh"), nameless = open_stream(2, "nowhere");

    assert_int_equal(refused.code, GT_RST_REFUSED);
    assert_true(nameless.code == GT_RST_NO_NAME || nameless.code == GT_RST_NO_RESOLVER);
    worker_streams_end(&f.streams, "ssh", 1, refused.code, 0, 0);
    worker_streams_end(&f.streams, "nowhere", 2, nameless.code, 0, 0);
    assert_int_equal(captured(), 2);
    assert_non_null(strstr(f.text, "reason=\"the target refused the connection\""));
    assert_non_null(strstr(f.text, "details=\"Connection refused\""));
    assert_non_null(strstr(f.text, "target=\"no such host:22\" "));
}

static void test_stream_that_ends_cancels_its_dial(void **state)
{
    struct gt_channel channel = {.number = 3, .fd = -1};

    worker_streams_open(&f.streams, &channel, "nowhere");
    worker_streams_end(&f.streams, "nowhere", 3, GT_RST_LOCAL, 0, 0);
    while (ev_run(f.loop, EVRUN_NOWAIT))
        ;
    assert_int_equal(channel.fd, -1);
    assert_int_equal(captured(), 1);
}

/* Whatever the order of their ends, each is found by its number. */
static void test_thousands_of_streams_end_in_any_order(void **state)
{
    static struct gt_channel channels[2048];
    const uint32_t n = GT_ARRAY_SIZE(channels), step = 797; /* without a common divisor */

    gt_close(&f.listener);
    for (uint32_t i = 0; i < n; i++) {
        channels[i] = (struct gt_channel){.number = i + 1, .fd = -1};
        worker_streams_open(&f.streams, &channels[i], "ssh");
        assert_int_equal(channels[i].code, GT_RST_REFUSED);
    }
    for (uint32_t i = 0; i < n; i++)
        worker_streams_end(&f.streams, "ssh", i * step % n + 1, GT_RST_REFUSED, 0, 0);
    assert_int_equal(f.streams.n_streams, n);
    assert_null(f.streams.open);
    assert_true(captured() < n);
    assert_null(strstr(f.text, "target=- ")); /* the line of a stream that was not found */
}

static void test_stream_without_service_has_no_line_and_many_are_summed(void **state)
{
    for (uint32_t number = 1; number <= 50; number++) {
        worker_streams_end(&f.streams, NULL, number, GT_RST_CLOSED, 0, 0);
        worker_streams_end(&f.streams, "ssh", number, GT_RST_NONE, 1, 2);
    }
    worker_streams_flush_log(&f.streams);
    assert_int_equal(captured(), 21);
    assert_non_null(strstr(f.text, "streams=30 ended up=30 down=60 failed=0 "));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_connection_has_one_line_at_its_end),
        TEST(test_unknown_service_is_denied),
        TEST(test_permitted_target_is_dialed),
        TEST(test_name_whose_address_is_not_permitted_is_denied),
        TEST(test_permitted_name_does_not_lead_to_a_special_address),
        TEST(test_recheck_ends_withdrawn_streams),
        TEST(test_line_of_a_failure_has_its_cause),
        TEST(test_stream_that_ends_cancels_its_dial),
        TEST(test_thousands_of_streams_end_in_any_order),
        TEST(test_stream_without_service_has_no_line_and_many_are_summed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
