/* SPDX-License-Identifier: ISC */
/*
 * Outcomes of a connection with a played broker: the library's codes are as the table of
 * mqtt-error.c assumes. Each answer is written when the CONNECT arrives; some brokers act later.
 */
#include "mqtt-client.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "gotthard/base/log.h"
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
        cmocka_unit_test(test_second_short_connection_suggests_a_rival),
        cmocka_unit_test(test_awaited_connection_is_not_spread),
    };

    loop = ev_default_loop(0);
    signal(SIGPIPE, SIG_IGN);
    if (getenv("GOTTHARD_TEST_DEBUG"))
        gt_log_open("test-mqtt-outcomes", GT_LOG_DEBUG);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
