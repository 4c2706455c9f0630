/* SPDX-License-Identifier: ISC */
/*
 * mqtt.c and mqtt-connection.c with a real mosquitto on a free loopback port, and with servers that
 * are silent, old or misbehaving. Tests wait for events of the loop; a guard timer fails a test
 * whose event does not arrive.
 */
#include "gotthard/mqtt/mqtt.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>
#include <mosquitto.h>

#include "gotthard/base/log.h"
#include "gotthard/mqtt/mqtt-queue.h"
#include "gotthard/net/sock.h"
#include "gotthard/tls/certificate-context.h"
#include "mqtt-client.h"

#define MOSQUITTO "/usr/sbin/mosquitto"

static char folder[64];
static sem_t gate, passed;

/* A resolver that blocks for the name slow.example; libmosquitto calls it as well. The name
 * race.example has the addresses of race[]. */
static const char *race[4]; /* ends with NULL */

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (host && strcmp(host, "race.example") == 0) {
        for (const char *const *address = race; *address; address++, ret = &(*ret)->ai_next)
            if (real(*address, service, hints, ret) != 0)
                return EAI_FAIL;
        return *race ? 0 : EAI_NONAME;
    }
    if (!host || strcmp(host, "slow.example") != 0)
        return real(host, service, hints, ret);
    sem_wait(&gate);
    sem_post(&passed);
    return EAI_AGAIN;
}

/* A slow machine: only the library's thread sleeps, after each event for the loop and before each
 * read from the broker. */
static atomic_uint slow_ms;
static __thread bool is_of_the_loop;

static void be_slow(void)
{
    unsigned ms = is_of_the_loop ? 0 : slow_ms;

    if (ms)
        nanosleep(&(struct timespec){0, (long)ms * 1000000}, NULL);
}

void ev_async_send(struct ev_loop *l, ev_async *async)
{
    void (*real)(struct ev_loop *, ev_async *);
    *(void **)&real = dlsym(RTLD_NEXT, "ev_async_send");
    real(l, async);
    be_slow();
}

int pselect(int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
            const sigset_t *mask)
{
    int (*real)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *);
    *(void **)&real = dlsym(RTLD_NEXT, "pselect");
    be_slow();
    return real(n, in, out, except, timeout, mask);
}

/* Without memory: the event with this number is lost, counted from 1 (an attempt's first event is
 * its ENDED), and the next subscription is not sent. */
static atomic_int lost_event;
static bool is_subscribe_failing;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
int __real_mosquitto_subscribe_multiple(struct mosquitto *mosquitto, int *mid, int n,
                                        char *const *const filters, int qos, int options,
                                        const mosquitto_property *properties);
int __wrap_mosquitto_subscribe_multiple(struct mosquitto *mosquitto, int *mid, int n,
                                        char *const *const filters, int qos, int options,
                                        const mosquitto_property *properties);

void *__wrap_calloc(size_t n, size_t size)
{
    bool is_lost = size == sizeof(struct gt_mqtt_event) && atomic_fetch_sub(&lost_event, 1) == 1;

    return is_lost ? NULL : __real_calloc(n, size);
}

int __wrap_mosquitto_subscribe_multiple(struct mosquitto *mosquitto, int *mid, int n,
                                        char *const *const filters, int qos, int options,
                                        const mosquitto_property *properties)
{
    if (!is_subscribe_failing)
        return __real_mosquitto_subscribe_multiple(mosquitto, mid, n, filters, qos, options,
                                                   properties);
    is_subscribe_failing = false;
    return MOSQ_ERR_NOMEM;
}

/* --- the broker ------------------------------------------------------------------------------- */

struct mosquitto_process {
    pid_t pid;
    uint16_t port;
};

static uint16_t free_port(void)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 1);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    close(fd);
    return gt_addr_port(&addr);
}

static void path_of(const char *name, char *ret)
{
    snprintf(ret, 128, "%s/%s", folder, name);
}

static void write_file(const char *name, const char *text)
{
    char path[128];

    path_of(name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Returns true if a server listens on the port. */
static bool answers(uint16_t port)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.1", port, &addr), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_up = connect(fd, &addr.any, addr.n) == 0;
    close(fd);
    return is_up;
}

static void mosquitto_begin(struct mosquitto_process *process, uint16_t port, const char *more)
{
    char config[1024], path[128], log[128];

    path_of("log", log);
    snprintf(config, sizeof(config),
             "listener %u 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n%s", port, more);
    write_file("mosquitto.conf", config);
    path_of("mosquitto.conf", path);
    process->port = port;
    process->pid = fork();
    assert_true(process->pid >= 0);
    if (process->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
        dup2(STDERR_FILENO, STDOUT_FILENO); /* if it outlives a failed test, meson must not wait */
        execl(MOSQUITTO, "mosquitto", "-c", path, (char *)NULL);
        _exit(127);
    }
    for (double until = now() + 10; !answers(port);) {
        assert_true(now() < until);
        assert_int_equal(waitpid(process->pid, NULL, WNOHANG), 0);
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
}

static void mosquitto_end(struct mosquitto_process *process)
{
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
}

static struct mosquitto_process common; /* for tests that do not need a separate one */

/* --- with a working broker -------------------------------------------------------------------- */

static void test_message_returns_to_subscriber(void **state)
{
    struct client client;

    client_up(&client, common.port, "round");
    assert_int_equal(client.n_down, 0);
    client_subscribe(&client, "round/+");
    int id = client_publish(&client, "round/trip", "hello", false);
    wait_for(&client.n_published, 1, 10);
    wait_for(&client.n_messages, 1, 10);
    assert_int_equal(client.id, id);
    assert_false(client.has_no_subscribers);
    assert_false(client.is_retained);
    assert_string_equal(client.topic, "round/trip");
    assert_string_equal(client.payload, "hello");
    gt_mqtt_free(client.mqtt);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Publishing in the loop's thread must wake up the library's thread, and a received packet must
 * wake up the loop: no part of ITERATION_MS may be in a round trip. */
static void test_round_trip_has_no_polling_delay(void **state)
{
    enum { N_TRIPS = 50 };
    struct client client;
    double trips[N_TRIPS];
    client_up(&client, common.port, "quick");
    client_subscribe(&client, "quick");
    for (unsigned i = 0; i < N_TRIPS; i++) {
        double begun = now();

        client_publish(&client, "quick", "x", false);
        wait_for(&client.n_messages, i + 1, 10);
        wait_for(&client.n_published, i + 1, 10);
        trips[i] = now() - begun;
    }
    qsort(trips, N_TRIPS, sizeof(*trips), by_value);
    print_message("round trip: median %.2f ms, worst %.2f ms\n", trips[N_TRIPS / 2] * 1e3,
                  trips[N_TRIPS - 1] * 1e3);
    assert_true(trips[N_TRIPS / 2] < 0.1);
    gt_mqtt_free(client.mqtt);
}

static void test_message_has_retained_flag(void **state)
{
    struct client early, late;

    client_up(&early, common.port, "early");
    client_up(&late, common.port, "late");
    client_subscribe(&early, "kept");
    client_publish(&early, "kept", "one", true);
    wait_for(&early.n_messages, 1, 10);
    assert_false(early.is_retained);
    client_subscribe(&late, "kept");
    wait_for(&late.n_messages, 1, 10);
    assert_true(late.is_retained);
    client_publish(&early, "kept", "", true);
    wait_for(&late.n_messages, 2, 10);
    assert_int_equal(late.n, 0);
    gt_mqtt_free(early.mqtt);
    gt_mqtt_free(late.mqtt);
}

/* Several filters in one SUBSCRIBE; the SUBACK of a later one follows all messages. The reader is
 * slow, so that the queue between thread and loop is full for most of the time. */
static void test_suback_follows_all_messages_of_a_slow_reader(void **state)
{
    enum { N_KEPT = 3000 };
    static const char *const filters[] = {"many/+", "other/#", "third"}, *const marker = "marker";
    struct client client;
    int id, marker_id;
    char topic[32];

    client_up(&client, common.port, "writer");
    for (unsigned i = 0; i < N_KEPT; i++) {
        snprintf(topic, sizeof(topic), "many/%u", i);
        client_publish(&client, topic, "a state", true);
        if (i % 50 == 49)
            wait_for(&client.n_published, i + 1, 20);
    }
    gt_mqtt_free(client.mqtt);
    client_init(&client, common.port, "reader");
    client.settings.receive_maximum = 65535;
    client.events.on_suback = client_on_suback;
    client_begin(&client);
    wait_for(&client.n_up, 1, 10);
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, filters, 3, 0, &id), 0);
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    wait_for(&client.n_subacks, 1, 10);
    assert_int_equal(client.suback_id, id);
    assert_int_equal(client.n_refused_filters, 0);
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, &marker, 1, 0, &marker_id), 0);
    wait_for(&client.n_subacks, 2, 20);
    assert_int_equal(client.suback_id, marker_id);
    assert_int_equal(client.n_messages_at_suback, N_KEPT);
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, filters, 0, 0, &id), -EINVAL);
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, filters, 9, 0, &id), -EINVAL);
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, filters, 1, 2, &id), -EINVAL);
    gt_mqtt_free(client.mqtt);
}

static void test_publish_reports_missing_subscribers(void **state)
{
    struct client client;

    client_up(&client, common.port, "alone");
    client_publish(&client, "alone/here", "x", false);
    wait_for(&client.n_published, 1, 10);
    assert_true(client.has_no_subscribers);
    gt_mqtt_free(client.mqtt);
}

/* Another client with the same client id: the will of the old one is published, and the waits
 * grow. This mosquitto closes without the reason code of MQTT 5. */
static void test_client_id_conflict_backs_off(void **state)
{
    struct client watcher, old, rival;

    client_up(&watcher, common.port, "watcher");
    client_subscribe(&watcher, "wills");
    client_init(&old, common.port, "same");
    old.will_topic = "wills";
    client_begin(&old);
    wait_for(&old.n_up, 1, 10);
    client_up(&rival, common.port, "same");
    wait_for(&old.n_down, 1, 10);
    wait_for(&watcher.n_messages, 1, 10);
    assert_string_equal(watcher.payload, "gone");
    /* mosquitto 2.0.11 just closes; later versions send the reason code, which counts at once. */
    if (old.retry_ms < 5000)
        assert_in_range(old.retry_ms, 1000, 1250);
    else
        assert_in_range(old.retry_ms, 5000, 6250);
    wait_for(&rival.n_down, 1, 10);
    wait_for(&old.n_down, 2, 20);
    assert_in_range(old.retry_ms, 5000, 6250);
    gt_mqtt_free(old.mqtt);
    gt_mqtt_free(rival.mqtt);
    gt_mqtt_free(watcher.mqtt);
}

/* A message published just before gt_mqtt_free() arrives once, and the will does not. */
static void leave(struct client *watcher, const char *id, bool is_received_first)
{
    struct client leaver;
    unsigned n = watcher->n_messages;

    client_init(&leaver, common.port, id);
    leaver.will_topic = "bye/will";
    client_begin(&leaver);
    wait_for(&leaver.n_up, 1, 30);
    client_publish(&leaver, "bye/last", "words", false);
    if (is_received_first) /* so that its PUBACK has arrived or is in flight */
        wait_for(&watcher->n_messages, n + 1, 30);
    double begun = now();
    gt_mqtt_free(leaver.mqtt);
    print_message("disconnect: %.2f ms\n", (now() - begun) * 1e3);
    wait_for(&watcher->n_messages, n + 1, 30);
    assert_string_equal(watcher->topic, "bye/last");
    client_publish(watcher, "bye/end", "", false);
    wait_for(&watcher->n_messages, n + 2, 30);
    assert_string_equal(watcher->topic, "bye/end");
}

static void test_free_delivers_last_message_without_will(void **state)
{
    static const unsigned slow[] = {0, 30, 0, 0, 0, 0, 0, 0, 0, 0};
    struct client watcher;

    client_up(&watcher, common.port, "watcher2");
    client_subscribe(&watcher, "bye/#");
    for (size_t i = 0; i < GT_ARRAY_SIZE(slow); i++) {
        slow_ms = slow[i];
        leave(&watcher, "hasty", false);
        leave(&watcher, "patient", true);
    }
    slow_ms = 0;
    gt_mqtt_free(watcher.mqtt);
}

static void test_large_message_is_dropped(void **state)
{
    static char text[GT_MESSAGE_MAX + 2];
    struct client client;

    memset(text, 'x', GT_MESSAGE_MAX + 1);
    client_up(&client, common.port, "large");
    client_subscribe(&client, "large");
    client_publish(&client, "large", text, false);
    text[GT_MESSAGE_MAX] = 0;
    client_publish(&client, "large", text, false);
    wait_for(&client.n_messages, 1, 10);
    assert_int_equal(client.n, GT_MESSAGE_MAX);
    wait_for(&client.n_published, 2, 10);
    assert_int_equal(client.n_messages, 1);
    gt_mqtt_free(client.mqtt);
}

static void test_free_in_callback(void **state)
{
    struct client client;

    client_init(&client, common.port, "brief");
    client.must_free_on_up = true;
    client_begin(&client);
    wait_for(&client.n_up, 1, 10);
    assert_null(client.mqtt);
    client_init(&client, free_port(), "brief");
    client.must_free_on_down = true;
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    assert_null(client.mqtt);
}

/* --- with a broker that stops, rejects, or is absent ---------------------------------------- */

/* Two failures in a row. A change of this machine's network or clock restarts the count. */
static void wait_for_a_second_failure(struct client *client)
{
    wait_for(&client->n_down, 1, 10);
    for (unsigned n = 2; n < 6 && client->retry_ms <= 1250; n++)
        wait_for(&client->n_down, n, 20);
    assert_in_range(client->retry_ms, 2000, 2500);
}

static void test_client_reconnects_to_restarted_broker(void **state)
{
    struct mosquitto_process broker;
    struct client client;
    int id;

    mosquitto_begin(&broker, free_port(), "");
    client_up(&client, broker.port, "patient");
    mosquitto_end(&broker);
    wait_for(&client.n_down, 1, 10);
    assert_false(gt_mqtt_is_up(client.mqtt));
    assert_in_range(client.retry_ms, 1000, 1250);
    assert_int_equal(gt_mqtt_publish(client.mqtt, "x", gt_span_text(""), false, 0, &id), -ENOTCONN);
    assert_int_equal(gt_mqtt_subscribe(client.mqtt, "x"), -ENOTCONN);
    wait_for_a_second_failure(&client);
    mosquitto_begin(&broker, broker.port, "");
    wait_for(&client.n_up, 2, 10);
    client_subscribe(&client, "back");
    client_publish(&client, "back", "again", false);
    wait_for(&client.n_messages, 1, 10);
    gt_mqtt_free(client.mqtt);
    mosquitto_end(&broker);
}

static void test_publish_without_permission_is_rejected(void **state)
{
    struct mosquitto_process broker;
    struct client client;
    char more[256];

    write_file("acl", "topic readwrite open/#\n");
    snprintf(more, sizeof(more), "acl_file %s/acl\n", folder);
    mosquitto_begin(&broker, free_port(), more);
    client_up(&client, broker.port, "guest");
    client_publish(&client, "closed", "x", false);
    wait_for(&client.n_refused, 1, 10);
    assert_string_equal(client.refusal, "Not authorized");
    assert_int_equal(client.n_published, 0);
    gt_mqtt_free(client.mqtt);
    mosquitto_end(&broker);
}

static void test_wrong_password_is_final_for_a_command(void **state)
{
    struct mosquitto_process broker;
    struct client client;

    mosquitto_begin(&broker, free_port(), "allow_anonymous false\n");
    client_init(&client, broker.port, "intruder");
    client.settings.username = "unknown";
    client.settings.password = "nothing";
    client.settings.is_once = true;
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "refused by the broker: Not authorized");
    assert_int_equal(client.retry_ms, 0);
    run_for(0.1);
    assert_int_equal(client.n_down, 1);
    gt_mqtt_free(client.mqtt);
    mosquitto_end(&broker);
}

static void test_connection_refused_is_retried(void **state)
{
    struct client client;

    client_init(&client, free_port(), "lost");
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "Connection refused");
    assert_in_range(client.retry_ms, 1000, 1250);
    double begun = now();
    gt_mqtt_free(client.mqtt); /* while it waits: at once */
    assert_true(now() - begun < 0.1);
}

static void test_unknown_name_fails(void **state)
{
    struct client client;

    client_init(&client, 1883, "lost");
    client.settings.host = "nowhere.invalid";
    client.settings.is_once = true;
    client.settings.connack_s = 5;
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    print_message("unknown name: %s\n", client.why);
    gt_mqtt_free(client.mqtt);
}

/* Attempts continue, the number of abandoned threads is bounded, and no call waits for one. */
static void test_blocked_resolver_does_not_block_the_loop(void **state)
{
    struct client client;

    client_init(&client, 1883, "stuck");
    client.settings.host = "slow.example";
    client.settings.connack_s = 1;
    client_begin(&client);
    wait_for_a_second_failure(&client);
    assert_string_equal(client.why, "no answer from the name server within 1 s");
    unsigned n_stuck = client.n_down + 1;
    gt_mqtt_free(client.mqtt);

    client_begin(&client);
    run_for(0.1);
    double begun = now();
    gt_mqtt_free(client.mqtt); /* while its thread is in the resolver: at once */
    assert_true(now() - begun < 0.1);
    for (unsigned i = 0; i < n_stuck; i++)
        sem_post(&gate);
    for (unsigned i = 0; i < n_stuck; i++)
        sem_wait(&passed);
}

/* Waits until the client of race.example is up. */
static void assert_race_is_won(const char *id, unsigned connack_s, double seconds)
{
    struct client client;

    client_init(&client, common.port, id);
    client.settings.host = "race.example";
    client.settings.connack_s = connack_s;
    client_begin(&client);
    wait_for(&client.n_up, 1, seconds);
    gt_mqtt_free(client.mqtt);
}

static void test_name_that_is_unknown_at_first_is_tried_again(void **state)
{
    struct client client;

    race[0] = NULL;
    client_init(&client, common.port, "early");
    client.settings.host = "race.example";
    client_begin(&client);
    wait_for(&client.n_down, 1, 5);
    assert_non_null(strstr(client.why, "the host name cannot be resolved"));
    race[0] = "127.0.0.1";
    race[1] = NULL;
    wait_for(&client.n_up, 1, 5);
    gt_mqtt_free(client.mqtt);
}

static void test_address_that_only_accepts_is_passed(void **state)
{
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse("127.0.0.2", common.port, &addr), 0);
    int fd = gt_sock_listen(&addr, 8);
    assert_true(fd >= 0);
    race[0] = "127.0.0.2";
    race[1] = "127.0.0.1";
    race[2] = NULL;
    assert_race_is_won("patient", 1, 5);
    close(fd);
    assert_race_is_won("quick", 20, 1); /* now the first one refuses */
}

/* --- with other servers ----------------------------------------------------------------------- */

struct server {
    ev_io accepting;
    struct server_client {
        ev_io readable;
    } clients[8];
    unsigned n_clients;
    uint16_t port;
    enum server_manner { SERVER_SILENT, SERVER_CLOSES_V5, SERVER_REFUSES_V5, SERVER_LIMITS } manner;
};

/* MQTT 5 without retained messages, with packets of 1000 bytes and two of three filters refused. It
 * rejects a CONNECT with a retained will. */
static void server_limit(int fd, const uint8_t *in)
{
    static const uint8_t connack[] = {0x20, 10, 0, 0, 7, 0x25, 0, 0x27, 0, 0, 3, 0xe8};
    static const uint8_t no_retained[] = {0x20, 3, 0, 0x9a, 0};
    uint8_t suback[] = {0x90, 6, in[2], in[3], 0, 1, 0x87, 0x80};
    bool is_refused = in[0] == 0x10 && (in[9] & 0x20);

    if (is_refused)
        assert_int_equal(write(fd, no_retained, sizeof(no_retained)), sizeof(no_retained));
    else if (in[0] == 0x10)
        assert_int_equal(write(fd, connack, sizeof(connack)), sizeof(connack));
    else if (in[0] == 0x82)
        assert_int_equal(write(fd, suback, sizeof(suback)), sizeof(suback));
}

/* CONNECT's protocol level is its byte 8 as long as the packet is below 128 bytes. */
static void server_on_readable(struct ev_loop *l, ev_io *io, int revents)
{
    static const uint8_t refused[] = {0x20, 2, 0, 1}, accepted[] = {0x20, 2, 0, 0};
    enum server_manner manner = *(enum server_manner *)io->data;
    uint8_t in[256];
    ssize_t n = read(io->fd, in, sizeof(in));

    if (n > 8 && manner == SERVER_LIMITS) {
        server_limit(io->fd, in);
    } else if (n > 8 && in[0] == 0x10 && manner != SERVER_SILENT) {
        bool is_v5 = in[8] == 5;

        if (!is_v5)
            assert_int_equal(write(io->fd, accepted, sizeof(accepted)), sizeof(accepted));
        else if (manner == SERVER_REFUSES_V5)
            assert_int_equal(write(io->fd, refused, sizeof(refused)), sizeof(refused));
        if (!is_v5)
            return;
        n = 0;
    }
    if (n > 0)
        return;
    ev_io_stop(l, io);
    close(io->fd);
}

static void server_on_accept(struct ev_loop *l, ev_io *io, int revents)
{
    struct server *server = gt_container_of(io, struct server, accepting);
    struct gt_addr addr;
    int fd = gt_sock_accept(io->fd, &addr);

    assert_true(fd >= 0 && server->n_clients < GT_ARRAY_SIZE(server->clients));
    ev_io *readable = &server->clients[server->n_clients++].readable;
    ev_io_init(readable, server_on_readable, fd, EV_READ);
    readable->data = &server->manner;
    ev_io_start(l, readable);
}

static void server_begin(struct server *server, enum server_manner manner)
{
    struct gt_addr addr;

    *server = (struct server){.manner = manner};
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &addr), 0);
    int fd = gt_sock_listen(&addr, 8);
    assert_true(fd >= 0);
    assert_int_equal(gt_sock_local(fd, &addr), 0);
    server->port = gt_addr_port(&addr);
    ev_io_init(&server->accepting, server_on_accept, fd, EV_READ);
    ev_io_start(loop, &server->accepting);
}

static void server_end(struct server *server)
{
    ev_io_stop(loop, &server->accepting);
    close(server->accepting.fd);
    for (unsigned i = 0; i < server->n_clients; i++) {
        if (!ev_is_active(&server->clients[i].readable))
            continue;
        ev_io_stop(loop, &server->clients[i].readable);
        close(server->clients[i].readable.fd);
    }
}

static void test_client_falls_back_to_version_3(void **state)
{
    static const enum server_manner manners[] = {SERVER_CLOSES_V5, SERVER_REFUSES_V5};

    for (size_t i = 0; i < GT_ARRAY_SIZE(manners); i++) {
        struct server server;
        struct client client;

        server_begin(&server, manners[i]);
        client_init(&client, server.port, "modern");
        client.settings.is_once = true; /* the second version belongs to the same attempt */
        client_begin(&client);
        wait_for(&client.n_up, 1, 10);
        assert_int_equal(client.n_down, 0);
        gt_mqtt_free(client.mqtt);
        server_end(&server);
    }
}

/* Without on_suback the connection ends; with it the caller decides. */
static void test_refused_filter_is_reported(void **state)
{
    static const char *const filters[] = {"open/1", "closed/1", "closed/2"};
    struct server server;
    struct client client;
    int id;

    server_begin(&server, SERVER_LIMITS);
    client_init(&client, server.port, "guest");
    client.events.on_suback = client_on_suback;
    client_begin(&client);
    wait_for(&client.n_up, 1, 10);
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, filters, 3, 1, &id), 0);
    wait_for(&client.n_subscribed, 1, 10);
    assert_int_equal(client.n_subacks, 1);
    assert_int_equal(client.suback_id, id);
    assert_int_equal(client.n_refused_filters, 2);
    assert_string_equal(client.refusal, "Not authorized");
    assert_int_equal(client.n_down, 0);
    gt_mqtt_free(client.mqtt);

    client_up(&client, server.port, "guest");
    assert_int_equal(gt_mqtt_subscribe_all(client.mqtt, filters, 3, 1, &id), 0);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "the broker refuses a subscription");
    gt_mqtt_free(client.mqtt);
    server_end(&server);
}

/* A broker without retained messages gets a will that is not retained, in the same attempt. */
static void test_limits_of_the_broker_are_known(void **state)
{
    struct gt_span large = gt_span((uint8_t[1000]){0}, 1000);
    struct server server;
    struct client client;
    int id;

    server_begin(&server, SERVER_LIMITS);
    client_init(&client, server.port, "limited");
    client.will_topic = "wills";
    client.settings.is_once = true;
    client_begin(&client);
    assert_true(gt_mqtt_has_retained(client.mqtt));
    assert_int_equal(gt_mqtt_max_packet(client.mqtt), UINT32_MAX);
    wait_for(&client.n_up, 1, 10);
    assert_int_equal(client.n_down, 0);
    assert_int_equal(server.n_clients, 2);
    assert_false(gt_mqtt_has_retained(client.mqtt));
    assert_int_equal(gt_mqtt_max_packet(client.mqtt), 1000);
    large.n = 1000 - GT_MQTT_OVERHEAD - strlen("x");
    assert_int_equal(gt_mqtt_publish(client.mqtt, "x", large, true, 60, &id), 0);
    large.n++;
    assert_int_equal(gt_mqtt_publish(client.mqtt, "x", large, true, 60, &id), -EOPNOTSUPP);
    gt_mqtt_free(client.mqtt);
    server_end(&server);
}

/* An event that is lost without memory must not leave the owner waiting until a deadline of 20 s.
 */
static void test_lost_event_ends_the_connection(void **state)
{
    enum { CONNECTED = 2, UP, SUBACK, PUBACK, N_EVENTS };

    for (int lost = CONNECTED; lost <= N_EVENTS; lost++) { /* the last time the subscription */
        struct client client;
        double start = now();

        client_init(&client, common.port, "forgetful");
        is_subscribe_failing = lost == N_EVENTS;
        lost_event = lost < N_EVENTS ? lost : 0;
        client_begin(&client);
        if (lost > UP) {
            wait_for(&client.n_up, 1, 10);
            assert_int_equal(gt_mqtt_subscribe(client.mqtt, "t/x"), lost == N_EVENTS ? -ENOMEM : 0);
        }
        if (lost == PUBACK) {
            wait_for(&client.n_subscribed, 1, 10);
            client_publish(&client, "t/y", "x", false);
        }
        wait_for(&client.n_down, 1, 10);
        assert_true(now() - start < 5 && client.retry_ms < 2000);
        assert_string_equal(client.why, "out of memory");
        gt_mqtt_free(client.mqtt);
    }
}

/* A device that is connected without a subscription cannot be reached. */
static void test_missing_suback_ends_the_connection(void **state)
{
    struct server server;
    struct client client;

    server_begin(&server, SERVER_REFUSES_V5);
    client_init(&client, server.port, "unanswered");
    client.settings.connack_s = 1;
    client_begin(&client);
    wait_for(&client.n_up, 1, 10);
    assert_int_equal(gt_mqtt_subscribe(client.mqtt, "some/topic"), 0);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "no answer from the broker to a subscription within 1 s");
    assert_int_equal(client.n_subscribed, 0);
    gt_mqtt_free(client.mqtt);
    server_end(&server);
}

/* Invariant I7: waiting does not use the CPU. */
static void assert_silence_is_idle(struct ssl_ctx_st *tls)
{
    struct server server;
    struct client client;
    struct rusage before, after;

    server_begin(&server, SERVER_SILENT);
    client_init(&client, server.port, "patient");
    client.settings.connack_s = 3;
    client.settings.tls = tls;
    client_begin(&client);
    wait_for(&server.n_clients, 1, 10);
    getrusage(RUSAGE_SELF, &before);
    double begun = now();
    wait_for(&client.n_down, 1, 10);
    double lasted = now() - begun;
    getrusage(RUSAGE_SELF, &after);
    assert_string_equal(client.why,
                        tls ? "no answer from the broker to the TLS handshake within 3 s"
                            : "no answer from the broker to CONNECT within 3 s");
    assert_in_range(client.retry_ms, 1000, 1250);
    double n_wakeups = (double)(after.ru_nvcsw - before.ru_nvcsw) / lasted;
    print_message("silent broker: %.1f wake-ups a second\n", n_wakeups);
    assert_true(n_wakeups < 30); /* a spin has thousands; a sanitizer's own thread has ten */
    wait_for(&server.n_clients, 2, 10);
    begun = now();
    gt_mqtt_free(client.mqtt);
    assert_true(now() - begun < 1.0);
    server_end(&server);
}

static void test_silent_broker_causes_no_busy_wait(void **state)
{
    assert_silence_is_idle(NULL);
}

/* --- TLS -------------------------------------------------------------------------------------- */

static void shell(const char *command)
{
    char line[1024];

    snprintf(line, sizeof(line), "cd %s && (%s) >openssl.log 2>&1", folder, command);
    assert_int_equal(system(line), 0);
}

static void tls_begin(struct mosquitto_process *broker)
{
    char more[512];

    shell("for ca in ca other; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
          "-nodes -keyout $ca.key -out $ca.crt -days 2 -subj /CN=$ca; done");
    shell("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key "
          "-out server.csr -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 && "
          "openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
          "-copy_extensions copy -out server.crt && chmod 644 server.key");
    snprintf(more, sizeof(more),
             "cafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile %s/server.key\n", folder, folder,
             folder);
    mosquitto_begin(broker, free_port(), more);
}

/* The context for @host, from one of the authorities above. */
static struct ssl_ctx_st *make_tls(const char *authority, const char *host, const char *alpn)
{
    struct ssl_ctx_st *tls = NULL;
    char path[128], pem[4096], why[GT_CERTIFICATE_WHY];

    path_of(authority, path);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, pem, sizeof(pem));
    close(fd);
    assert_true(n > 0);
    struct gt_certificate_files files = {.authorities = gt_span(pem, (size_t)n)};
    assert_int_equal(gt_certificate_context_new(&files, host, alpn, &tls, why), 0);
    return tls;
}

static void test_tls_verifies_the_broker(void **state)
{
    enum { N_KEPT = 60 };
    struct mosquitto_process broker;
    struct client client;

    tls_begin(&broker);
    client_init(&client, broker.port, "secret");
    client.settings.tls = make_tls("ca.crt", "127.0.0.1", "x-amzn-mqtt-ca");
    client_begin(&client);
    gt_certificate_context_free(client.settings.tls); /* the client has a reference of its own */
    wait_for(&client.n_up, 1, 10);
    for (unsigned i = 0; i < N_KEPT; i++) {
        char topic[32];

        snprintf(topic, sizeof(topic), "kept/%u", i);
        client_publish(&client, topic, "retained and sent in one record", true);
    }
    wait_for(&client.n_published, N_KEPT, 10);
    double begun = now();
    client_subscribe(&client, "kept/+");
    wait_for(&client.n_messages, N_KEPT, 20);
    print_message("%u retained messages over TLS: %.1f ms\n", N_KEPT, (now() - begun) * 1e3);
    assert_true(now() - begun < 2);
    gt_mqtt_free(client.mqtt);

    client_init(&client, broker.port, "deceived");
    client.settings.tls = make_tls("other.crt", "127.0.0.1", NULL);
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    print_message("wrong CA: %s\n", client.why);
    assert_non_null(strstr(client.why, "TLS"));
    assert_non_null(strstr(
        client.why, "the certificate 127.0.0.1 is from ca, which is not a trusted authority"));
    assert_int_equal(client.n_up, 0);
    gt_mqtt_free(client.mqtt);
    gt_certificate_context_free(client.settings.tls);

    client_init(&client, broker.port, "misled");
    client.settings.tls = make_tls("ca.crt", "broker.example", NULL);
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why,
                        "TLS: the broker's certificate is for 127.0.0.1, not for broker.example");
    gt_mqtt_free(client.mqtt);
    gt_certificate_context_free(client.settings.tls);

    client_init(&client, broker.port, "keyless");
    client.settings.username = "\xff"; /* not UTF-8 */
    client.settings.is_once = true;
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "invalid certificate, key or other setting");
    gt_mqtt_free(client.mqtt);
    mosquitto_end(&broker);
}

/* With the authority that the test before has made. */
static void test_silent_broker_with_tls_causes_no_busy_wait(void **state)
{
    struct ssl_ctx_st *tls = make_tls("ca.crt", "127.0.0.1", NULL);

    assert_silence_is_idle(tls);
    gt_certificate_context_free(tls);
}

static int begin(void **state)
{
    loop = ev_default_loop(0);
    snprintf(folder, sizeof(folder), "/tmp/test-mqtt.XXXXXX");
    if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
        return -1;
    mosquitto_begin(&common, free_port(), "max_queued_messages 0\n");
    return 0;
}

static int end(void **state)
{
    char command[128];

    mosquitto_end(&common);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_returns_to_subscriber),
        cmocka_unit_test(test_round_trip_has_no_polling_delay),
        cmocka_unit_test(test_message_has_retained_flag),
        cmocka_unit_test(test_suback_follows_all_messages_of_a_slow_reader),
        cmocka_unit_test(test_publish_reports_missing_subscribers),
        cmocka_unit_test(test_client_id_conflict_backs_off),
        cmocka_unit_test(test_free_delivers_last_message_without_will),
        cmocka_unit_test(test_large_message_is_dropped),
        cmocka_unit_test(test_free_in_callback),
        cmocka_unit_test(test_client_reconnects_to_restarted_broker),
        cmocka_unit_test(test_publish_without_permission_is_rejected),
        cmocka_unit_test(test_wrong_password_is_final_for_a_command),
        cmocka_unit_test(test_connection_refused_is_retried),
        cmocka_unit_test(test_unknown_name_fails),
        cmocka_unit_test(test_blocked_resolver_does_not_block_the_loop),
        cmocka_unit_test(test_name_that_is_unknown_at_first_is_tried_again),
        cmocka_unit_test(test_address_that_only_accepts_is_passed),
        cmocka_unit_test(test_client_falls_back_to_version_3),
        cmocka_unit_test(test_refused_filter_is_reported),
        cmocka_unit_test(test_limits_of_the_broker_are_known),
        cmocka_unit_test(test_lost_event_ends_the_connection),
        cmocka_unit_test(test_missing_suback_ends_the_connection),
        cmocka_unit_test(test_silent_broker_causes_no_busy_wait),
        cmocka_unit_test(test_tls_verifies_the_broker),
        cmocka_unit_test(test_silent_broker_with_tls_causes_no_busy_wait),
    };

    is_of_the_loop = true;
    sem_init(&gate, 0, 0);
    sem_init(&passed, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    if (access(MOSQUITTO, X_OK) < 0)
        return 77; /* meson's exit status for a skipped test */
    if (getenv("GOTTHARD_TEST_DEBUG"))
        gt_log_open("test-mqtt", GT_LOG_DEBUG);
    return cmocka_run_group_tests(tests, begin, end);
}
