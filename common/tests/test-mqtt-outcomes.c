/* SPDX-License-Identifier: ISC */
/*
 * Outcomes of a connection with a played broker: the library's codes are as the table of
 * mqtt-error.c assumes. Each answer is written when the CONNECT arrives; some brokers act later.
 */
#include "mqtt-client.h"

#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "gotthard/base/log.h"
#include "gotthard/mqtt/mqtt-internal.h"
#include "gotthard/net/sock.h"

#define BYTES(...) gt_span((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#define TEXT(text) gt_span(text, sizeof(text) - 1)

struct answer {
    struct gt_span v5, v3; /* to a CONNECT of that version; empty: silent */
    bool is_closing;       /* after the answer */
};

struct played {
    ev_io accepting, readable[8];
    unsigned n_connections, n_connects, n_v5;
    uint16_t port;
    struct answer answer;
};

/* CONNECT's protocol level is its byte 8 as long as the packet is below 128 bytes. */
static void played_on_readable(struct ev_loop *l, ev_io *io, int revents)
{
    struct played *played = io->data;
    uint8_t in[512];
    ssize_t n = read(io->fd, in, sizeof(in));
    bool is_connect = n > 8 && in[0] == 0x10, is_v5 = is_connect && in[8] == 5;
    struct gt_span answer = is_v5 ? played->answer.v5 : played->answer.v3;

    played->n_connects += is_connect;
    played->n_v5 += is_v5;
    if (is_connect && answer.n)
        assert_int_equal(write(io->fd, answer.data, answer.n), answer.n);
    if (n > 0 && !(is_connect && played->answer.is_closing))
        return;
    ev_io_stop(l, io);
    close(io->fd);
}

static void played_on_accept(struct ev_loop *l, ev_io *io, int revents)
{
    struct played *played = gt_container_of(io, struct played, accepting);
    struct gt_addr addr;
    int fd = gt_sock_accept(io->fd, &addr);

    assert_true(fd >= 0 && played->n_connections < GT_ARRAY_SIZE(played->readable));
    ev_io *readable = &played->readable[played->n_connections++];
    ev_io_init(readable, played_on_readable, fd, EV_READ);
    readable->data = played;
    ev_io_start(l, readable);
}

static void played_begin(struct played *played, struct answer answer)
{
    struct gt_addr addr;

    *played = (struct played){.answer = answer};
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 8);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    played->port = gt_addr_port(&addr);
    ev_io_init(&played->accepting, played_on_accept, fd, EV_READ);
    ev_io_start(loop, &played->accepting);
}

static void played_end(struct played *played)
{
    ev_io_stop(loop, &played->accepting);
    close(played->accepting.fd);
    for (unsigned i = 0; i < played->n_connections; i++) {
        if (!ev_is_active(&played->readable[i]))
            continue;
        ev_io_stop(loop, &played->readable[i]);
        close(played->readable[i].fd);
    }
}

/* --- brokers that end the connection ---------------------------------------------------------- */

#define CONNACK 0x20, 3, 0, 0, 0

/* The keep-alive interval is 900 s: nothing may wait for a part of it. */
static void assert_end(struct gt_span answer, const char *why, unsigned min_ms, unsigned max_ms)
{
    struct played played;
    struct client client;

    played_begin(&played, (struct answer){.v5 = answer});
    client_init(&client, played.port, "GatewayOli");
    client.settings.keepalive_s = 900;
    client.settings.version = GT_MQTT_VERSION_5;
    client.settings.reconnect_spread_ms = 40000;
    client_begin(&client);
    wait_for(&client.n_down, 1, 20);
    if (!strstr(client.why, why))
        fail_msg("\"%s\" without \"%s\"", client.why, why);
    assert_in_range(client.retry_ms, min_ms, max_ms);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

static void test_disconnect_of_the_broker_ends_the_connection_at_once(void **state)
{
    const struct {
        struct gt_span answer;
        const char *why;
        unsigned min_ms, max_ms;
    } cases[] = {
        {BYTES(CONNACK, 0xe0, 1, 0x8e), "is there a second device named GatewayOli?", 5000, 6250},
        {BYTES(CONNACK, 0xe0, 2, 0x8e, 0), "another client uses the same client id", 5000, 6250},
        {BYTES(CONNACK, 0xe0, 1, 0x8b), "closed by the broker: Server shutting down", 1, 40001},
        {BYTES(CONNACK, 0xe0, 1, 0x89), "closed by the broker: Server busy", 1, 40001},
        {BYTES(CONNACK, 0xe0, 1, 0x98), "closed by the broker: Administrative action", 1, 40001},
        {BYTES(CONNACK, 0xe0, 1, 0x95), "a packet was larger than its limit", 1000, 1250},
        {BYTES(CONNACK, 0xe0, 1, 0x8d), "closed by the broker: Keep Alive timeout", 1, 40001},
        {BYTES(CONNACK, 0xe0, 12, 0x9d, 10, 0x1c, 0, 7, 'b', '.', 'o', 't', 'h', 'e', 'r'),
         "closed by the broker: the server has moved", 1, 40001},
        {BYTES(CONNACK, 0xe0, 1, 0), "the broker or the network closed the connection", 1, 40001},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_end(cases[i].answer, cases[i].why, cases[i].min_ms, cases[i].max_ms);
}

static void test_connack_names_its_reason(void **state)
{
    const struct {
        struct gt_span answer;
        const char *why;
    } cases[] = {
        {BYTES(0x20, 3, 0, 0x85, 0), "it does not accept the client id \"GatewayOli\""},
        {BYTES(0x20, 13, 0, 0x9c, 10, 0x1c, 0, 7, 'b', '.', 'o', 't', 'h', 'e', 'r'),
         "use another server; change mqtt.endpoint if this lasts; it names the server b.other"},
        {BYTES(0x20, 8, 0, 0x87, 5, 0x1f, 0, 2, 'n', 'o'), "Not authorized; it says: no"},
        {BYTES(0x20, 5, 0, 0, 2, 0x24, 0), "it accepts only QoS 0, and Gotthard needs QoS 1"},
        {BYTES(0x20, 3, 0, 0x9b, 0), "it accepts only QoS 0, and Gotthard needs QoS 1"},
        {BYTES(0x20, 3, 0, 0x8a, 0), "refused by the broker: Banned"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_end(cases[i].answer, cases[i].why, 1000, 1250);
    assert_end(BYTES(0x20, 3, 0, 0x89, 0), "refused by the broker: Server busy", 1, 40001);
}

/* The broker sets the interval to 1 s and does not answer PINGREQ. */
static void test_keepalive_timeout_has_words(void **state)
{
    assert_end(BYTES(0x20, 6, 0, 0, 3, 0x13, 0, 1),
               "no answer from the broker within the keep-alive interval of 1 s", 1, 40001);
}

static void test_peer_without_mqtt_has_words(void **state)
{
    const struct {
        struct gt_span answer;
        bool is_closing;
    } peers[] = {
        {TEXT("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"), true},
        {TEXT("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), true},
        {TEXT("220 mail.example.org ESMTP Postfix\r\n"), true},
        {TEXT("\x15\x03\x01\x00\x02\x02\x46"), true}, /* an alert of TLS */
        {TEXT("\xff\xff\xff\xff\xff\xff"), false},
        {TEXT(""), true},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(peers); i++) {
        struct played played;
        struct client client;

        played_begin(&played,
                     (struct answer){peers[i].answer, peers[i].answer, peers[i].is_closing});
        client_init(&client, played.port, "GatewayOli");
        client.settings.is_once = true;
        client_begin(&client);
        wait_for(&client.n_down, 1, 20);
        if (!strstr(client.why, "is this the broker's port"))
            fail_msg("peer %zu: \"%s\"", i, client.why);
        assert_int_equal(played.n_v5, 1); /* then 3.1.1 */
        gt_mqtt_free(client.mqtt);
        played_end(&played);
    }
}

/* --- versions --------------------------------------------------------------------------------- */

#define ONLY_V3 ((struct answer){.v3 = BYTES(0x20, 2, 0, 0)})

/* It reads MQTT 5 and does not answer. The second attempt begins long before the time limit. */
static void test_silence_to_mqtt_5_is_answered_with_3(void **state)
{
    struct played played;
    struct client client;

    played_begin(&played, ONLY_V3);
    client_init(&client, played.port, "GatewayOli");
    client.settings.connack_s = 60;
    client.settings.is_once = true;
    client_begin(&client);
    wait_for(&client.n_up, 1, 40);
    assert_int_equal(client.n_down, 0);
    assert_int_equal(played.n_v5, 1);
    assert_int_equal(played.n_connects, 2);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

static void test_version_of_the_settings_is_the_only_one(void **state)
{
    struct played played;
    struct client client;

    played_begin(&played, ONLY_V3);
    client_init(&client, played.port, "GatewayOli");
    client.settings.version = GT_MQTT_VERSION_3;
    client_begin(&client);
    wait_for(&client.n_up, 1, 20);
    assert_int_equal(played.n_v5, 0);
    gt_mqtt_free(client.mqtt);

    client_init(&client, played.port, "GatewayOli");
    client.settings.version = GT_MQTT_VERSION_5;
    client.settings.connack_s = 1;
    client_begin(&client);
    wait_for(&client.n_down, 1, 20);
    assert_string_equal(client.why, "no answer from the broker to CONNECT within 1 s");
    assert_int_equal(played.n_connects, 2);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

/* A busy broker, which has answered MQTT 5 before, must not get a second CONNECT. */
static void test_busy_broker_with_mqtt_5_keeps_it(void **state)
{
    struct played played;
    struct client client;

    played_begin(&played, (struct answer){.v5 = BYTES(CONNACK, 0xe0, 1, 0x8b)});
    client_init(&client, played.port, "GatewayOli");
    client.settings.connack_s = 6;
    client_begin(&client);
    wait_for(&client.n_down, 1, 20);
    played.answer.v5 = gt_span("", 0);
    wait_for(&client.n_down, 2, 40);
    assert_string_equal(client.why, "no answer from the broker to CONNECT within 6 s");
    assert_int_equal(played.n_v5, played.n_connects);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

/* A broker that needed long for TCP and TLS is slow, and gets no second CONNECT. The test takes the
 * time out of the attempt's timer. */
static bool use_time_up(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n)
{
    struct client *client = userdata;

    if (client->used_s > 0)
        gt_mqtt_set_timer(client->mqtt, client->settings.connack_s - client->used_s);
    return client_make_will(userdata, ret_topic, ret, ret_n);
}

static void test_only_a_quick_broker_is_suspected_to_ignore_mqtt_5(void **state)
{
    static const struct {
        unsigned limit_s;
        double used_s;
        bool is_suspected;
    } cases[] = {
        {20, 0, true}, {20, 3, true}, {20, 6, false}, {20, 17, false}, {7, 3, false}, {4, 0, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct played played;
        struct client client;

        played_begin(&played, ONLY_V3);
        client_init(&client, played.port, "GatewayOli");
        client.will_topic = "will";
        client.used_s = cases[i].used_s;
        client.events.make_will = use_time_up;
        client.settings.connack_s = cases[i].limit_s;
        client_begin(&client);
        while (!client.mqtt->is_connected && client.n_down == 0)
            ev_run(loop, EVRUN_ONCE);
        assert_int_equal(client.n_down, 0);
        assert_int_equal(client.mqtt->is_version_timed, cases[i].is_suspected);
        gt_mqtt_free(client.mqtt);
        played_end(&played);
    }
}

/* The whole way: the time is over before the CONNACK, and the attempt fails with MQTT 5. */
static void test_slow_broker_gets_one_connect(void **state)
{
    struct played played;
    struct client client;

    played_begin(&played, ONLY_V3);
    client_init(&client, played.port, "GatewayOli");
    client.settings.connack_s = 2;
    client_begin(&client);
    wait_for(&client.n_down, 1, 20);
    assert_string_equal(client.why, "no answer from the broker to CONNECT within 2 s");
    assert_int_equal(played.n_connects, 1);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

/* A load balancer whose broker is away closes, or answers in its own way. */
static void test_broker_known_to_speak_mqtt_5_is_not_tried_with_3(void **state)
{
    const struct gt_span answers[] = {TEXT(""), TEXT("HTTP/1.1 503 Service Unavailable\r\n\r\n")};

    for (size_t i = 0; i < GT_ARRAY_SIZE(answers); i++) {
        struct played played;
        struct client client;

        played_begin(&played, (struct answer){.v5 = BYTES(CONNACK, 0xe0, 1, 0x8b)});
        client_init(&client, played.port, "GatewayOli");
        client_begin(&client);
        wait_for(&client.n_down, 1, 20);
        played.answer = (struct answer){.v5 = answers[i], .v3 = answers[i], .is_closing = true};
        wait_for(&client.n_down, 2, 40);
        if (!strstr(client.why, "is this the broker's port"))
            fail_msg("answer %zu: \"%s\"", i, client.why);
        assert_int_equal(played.n_connects, 2);
        assert_int_equal(played.n_v5, 2);
        gt_mqtt_free(client.mqtt);
        played_end(&played);
    }
}

/* --- keep-alive ------------------------------------------------------------------------------- */

/* Returns the descriptor of the client's connection to @port. */
static int find_socket(uint16_t port)
{
    struct gt_addr peer;

    for (int fd = 0; fd < 256; fd++)
        if (gt_sock_peer(fd, &peer) == 0 && gt_addr_port(&peer) == port)
            return fd;
    fail_msg("no connection to port %u", port);
    return -1;
}

static int socket_option(int fd, int level, int name)
{
    int value = 0;
    socklen_t n = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
    return value;
}

/* The interval of the settings is 60 s. */
static void test_tcp_finds_a_lost_path_if_the_broker_disables_keepalive(void **state)
{
    const struct {
        struct gt_span answer;
        bool is_by_tcp;
    } cases[] = {
        {BYTES(0x20, 6, 0, 0, 3, 0x13, 0, 0), true},
        {BYTES(0x20, 6, 0, 0, 3, 0x13, 0xff, 0xff), true},
        {BYTES(0x20, 6, 0, 0, 3, 0x13, 0, 30), false},
        {BYTES(CONNACK), false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct played played;
        struct client client;

        played_begin(&played, (struct answer){.v5 = cases[i].answer});
        client_up(&client, played.port, "GatewayOli");
        int fd = find_socket(played.port);
        assert_int_equal(socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), cases[i].is_by_tcp);
        if (cases[i].is_by_tcp)
            assert_int_equal(socket_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 30);
        gt_mqtt_free(client.mqtt);
        played_end(&played);
    }
}

/* --- waits ------------------------------------------------------------------------------------ */

/* Two short connections in a row: this broker gives no reason. */
static void test_second_short_connection_suggests_a_rival(void **state)
{
    struct played played;
    struct client client;

    played_begin(&played, (struct answer){.v5 = BYTES(CONNACK), .is_closing = true});
    client_init(&client, played.port, "GatewayOli");
    client_begin(&client);
    wait_for(&client.n_down, 2, 40);
    assert_int_equal(client.n_up, 2);
    assert_string_equal(client.why,
                        "the broker or the network closed the connection, again after a "
                        "short time; is there a second device named GatewayOli?");
    assert_in_range(client.retry_ms, 5000, 6250);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

static bool is_awaited(void *userdata)
{
    return true;
}

static void test_awaited_connection_is_not_spread(void **state)
{
    struct played played;
    struct client client;

    played_begin(&played, (struct answer){.v5 = BYTES(CONNACK, 0xe0, 1, 0x8b)});
    client_init(&client, played.port, "GatewayOli");
    client.settings.reconnect_spread_ms = 1000000;
    client.events.is_awaited = is_awaited;
    client_begin(&client);
    wait_for(&client.n_down, 1, 20);
    assert_in_range(client.retry_ms, 1000, 1250);
    gt_mqtt_free(client.mqtt);
    played_end(&played);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disconnect_of_the_broker_ends_the_connection_at_once),
        cmocka_unit_test(test_connack_names_its_reason),
        cmocka_unit_test(test_keepalive_timeout_has_words),
        cmocka_unit_test(test_peer_without_mqtt_has_words),
        cmocka_unit_test(test_silence_to_mqtt_5_is_answered_with_3),
        cmocka_unit_test(test_version_of_the_settings_is_the_only_one),
        cmocka_unit_test(test_busy_broker_with_mqtt_5_keeps_it),
        cmocka_unit_test(test_only_a_quick_broker_is_suspected_to_ignore_mqtt_5),
        cmocka_unit_test(test_slow_broker_gets_one_connect),
        cmocka_unit_test(test_broker_known_to_speak_mqtt_5_is_not_tried_with_3),
        cmocka_unit_test(test_tcp_finds_a_lost_path_if_the_broker_disables_keepalive),
        cmocka_unit_test(test_second_short_connection_suggests_a_rival),
        cmocka_unit_test(test_awaited_connection_is_not_spread),
    };

    loop = ev_default_loop(0);
    signal(SIGPIPE, SIG_IGN);
    if (getenv("GOTTHARD_TEST_DEBUG"))
        gt_log_open("test-mqtt-outcomes", GT_LOG_DEBUG);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
