/* SPDX-License-Identifier: ISC */
/*
 * mqtt.c and broker.c against a real mosquitto of our own on a free loopback port, and against
 * servers that are silent, old or rude. What is waited for is always an event of the loop; a guard
 * timer ends a test whose event never comes.
 */
#include "gotthard/mqtt.h"

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

#include "gotthard/log.h"
#include "gotthard/sock.h"

#define MOSQUITTO "/usr/sbin/mosquitto"

static struct ev_loop *loop;
static char folder[64];
static sem_t gate, passed;

/* A resolver that hangs: libmosquitto's call comes here too, and waits for names in "slow". */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!host || strcmp(host, "slow.example") != 0)
        return real(host, service, hints, ret);
    sem_wait(&gate);
    sem_post(&passed);
    return EAI_AGAIN;
}

/* A slow machine: the library's thread, and no other, gets no further for a while after it has told
 * the loop something, and before it looks what the broker says. */
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

/* --- waiting ----------------------------------------------------------------------------------
 */

static bool is_late;

static void guard_on_timer(struct ev_loop *l, ev_timer *timer, int revents)
{
    is_late = true;
}

/* Runs the loop until *@counter is @at_least; fails the test after @seconds. */
static void wait_for(const unsigned *counter, unsigned at_least, double seconds)
{
    ev_timer guard;
    is_late = false;
    ev_now_update(loop);
    ev_timer_init(&guard, guard_on_timer, seconds, 0);
    ev_timer_start(loop, &guard);
    while (*counter < at_least && !is_late)
        ev_run(loop, EVRUN_ONCE);
    ev_timer_stop(loop, &guard);
    assert_true(*counter >= at_least);
}

static void run_for(double seconds)
{
    ev_timer guard;
    is_late = false;
    ev_now_update(loop);
    ev_timer_init(&guard, guard_on_timer, seconds, 0);
    ev_timer_start(loop, &guard);
    while (!is_late)
        ev_run(loop, EVRUN_ONCE);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* --- a broker of our own ----------------------------------------------------------------------
 */

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

/* Is somebody listening there? */
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

static struct mosquitto_process common; /* of the tests that do not need one of their own */

/* --- a client and what it was told ------------------------------------------------------------
 */

struct client {
    struct gt_mqtt *mqtt;
    struct gt_mqtt_settings settings;
    struct gt_mqtt_events events;
    unsigned n_up, n_down, n_subscribed, n_messages, n_published, n_refused;
    unsigned retry_ms;
    bool is_unheard, is_retained;
    int id;
    char why[256], topic[GT_TOPIC_MAX + 1], refusal[64];
    char payload[GT_MESSAGE_MAX + 1];
    size_t n;
    const char *will_topic; /* NULL: none */
    bool must_free_on_up, must_free_on_down;
};

static void client_on_up(void *userdata)
{
    struct client *client = userdata;
    client->n_up++;
    if (client->must_free_on_up)
        client->mqtt = gt_mqtt_free(client->mqtt);
}

static void client_on_down(void *userdata, const char *why, unsigned retry_ms)
{
    struct client *client = userdata;
    client->n_down++;
    client->retry_ms = retry_ms;
    snprintf(client->why, sizeof(client->why), "%s", why);
    if (client->must_free_on_down)
        client->mqtt = gt_mqtt_free(client->mqtt);
}

static void client_on_subscribed(void *userdata)
{
    ((struct client *)userdata)->n_subscribed++;
}

static void client_on_message(void *userdata, const char *topic, bool is_retained,
                              struct gt_span payload)
{
    struct client *client = userdata;
    client->n_messages++;
    client->is_retained = is_retained;
    client->n = payload.n;
    snprintf(client->topic, sizeof(client->topic), "%s", topic);
    memcpy(client->payload, payload.data, payload.n);
    client->payload[payload.n] = 0;
}

static void client_on_published(void *userdata, int id, bool is_unheard)
{
    struct client *client = userdata;
    client->n_published++;
    client->id = id;
    client->is_unheard = is_unheard;
}

static void client_on_refused(void *userdata, int id, const char *why)
{
    struct client *client = userdata;
    client->n_refused++;
    snprintf(client->refusal, sizeof(client->refusal), "%s", why);
}

static bool client_make_will(void *userdata, char *ret_topic, uint8_t *ret, size_t *ret_n)
{
    struct client *client = userdata;
    if (!client->will_topic)
        return false;
    strcpy(ret_topic, client->will_topic);
    memcpy(ret, "gone", 4);
    *ret_n = 4;
    return true;
}

static void client_init(struct client *client, uint16_t port, const char *id)
{
    *client = (struct client){
        .settings = {.host = "127.0.0.1", .port = port, .client_id = id, .keepalive_s = 60},
        .events = {client_on_up, client_on_down, client_on_subscribed, client_on_message,
                   client_on_published, client_make_will, client_on_refused},
    };
}

static void client_begin(struct client *client)
{
    assert_int_equal(gt_mqtt_new(loop, &client->settings, &client->events, client, &client->mqtt),
                     0);
}

static void client_up(struct client *client, uint16_t port, const char *id)
{
    client_init(client, port, id);
    client_begin(client);
    wait_for(&client->n_up, 1, 10);
    assert_true(gt_mqtt_is_up(client->mqtt));
}

static void client_subscribe(struct client *client, const char *filter)
{
    unsigned n = client->n_subscribed;
    assert_int_equal(gt_mqtt_subscribe(client->mqtt, filter), 0);
    wait_for(&client->n_subscribed, n + 1, 10);
}

static int client_publish(struct client *client, const char *topic, const char *text,
                          bool is_retained)
{
    int id = 0;
    assert_int_equal(gt_mqtt_publish(client->mqtt, topic, gt_span_text(text), is_retained, 20, &id),
                     0);
    return id;
}

/* --- with a good broker -----------------------------------------------------------------------
 */

static void message_goes_round(void **state)
{
    struct client client;
    client_up(&client, common.port, "round");
    assert_int_equal(client.n_down, 0);
    client_subscribe(&client, "round/+");
    int id = client_publish(&client, "round/trip", "hello", false);
    wait_for(&client.n_published, 1, 10);
    wait_for(&client.n_messages, 1, 10);
    assert_int_equal(client.id, id);
    assert_false(client.is_unheard);
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

/* Publishing from the loop's thread while the library's thread sleeps in select must wake it, and
 * what that one hears must wake the loop: no part of TURN_MS may be in a round trip. */
static void round_trips_are_quick(void **state)
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

static void retained_is_told_apart(void **state)
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

static void nobody_listens(void **state)
{
    struct client client;
    client_up(&client, common.port, "alone");
    client_publish(&client, "alone/here", "x", false);
    wait_for(&client.n_published, 1, 10);
    assert_true(client.is_unheard);
    gt_mqtt_free(client.mqtt);
}

/* A rival with the same client id: the old one's will is published, and they keep their distance.
 * This mosquitto does not say why it closes, as MQTT 5 would have it. */
static void rival_takes_over(void **state)
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
    /* mosquitto 2.0.11 just closes; later ones say why, and are believed at once. */
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

/* What was published just before the goodbye arrives, once, and the will does not. */
static void leave(struct client *watcher, const char *id, bool is_heard_first)
{
    struct client leaver;
    unsigned n = watcher->n_messages;
    client_init(&leaver, common.port, id);
    leaver.will_topic = "bye/will";
    client_begin(&leaver);
    wait_for(&leaver.n_up, 1, 30);
    client_publish(&leaver, "bye/last", "words", false);
    if (is_heard_first) /* so that its PUBACK is here too, or on its way */
        wait_for(&watcher->n_messages, n + 1, 30);
    double begun = now();
    gt_mqtt_free(leaver.mqtt);
    print_message("goodbye: %.2f ms\n", (now() - begun) * 1e3);
    wait_for(&watcher->n_messages, n + 1, 30);
    assert_string_equal(watcher->topic, "bye/last");
    client_publish(watcher, "bye/end", "", false);
    wait_for(&watcher->n_messages, n + 2, 30);
    assert_string_equal(watcher->topic, "bye/end");
}

static void goodbye_is_orderly(void **state)
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

static void large_is_dropped(void **state)
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

static void freed_in_its_callback(void **state)
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

/* --- with a broker that goes, refuses, or is none ----------------------------------------------
 */

/* In a row. When this machine's network or clock is changed meanwhile, the row begins anew. */
static void wait_for_a_second_failure(struct client *client)
{
    wait_for(&client->n_down, 1, 10);
    for (unsigned n = 2; n < 6 && client->retry_ms <= 1250; n++)
        wait_for(&client->n_down, n, 20);
    assert_in_range(client->retry_ms, 2000, 2500);
}

static void broker_comes_back(void **state)
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

static void rights_are_missing(void **state)
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

static void password_is_wrong(void **state)
{
    struct mosquitto_process broker;
    struct client client;
    mosquitto_begin(&broker, free_port(), "allow_anonymous false\n");
    client_init(&client, broker.port, "stranger");
    client.settings.username = "nobody";
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

static void port_is_wrong(void **state)
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

static void name_is_unknown(void **state)
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

/* Attempts go on, a bounded number of threads stays behind, and nobody waits for one. */
static void resolver_hangs(void **state)
{
    struct client client;
    client_init(&client, 1883, "stuck");
    client.settings.host = "slow.example";
    client.settings.connack_s = 1;
    client_begin(&client);
    wait_for_a_second_failure(&client);
    assert_string_equal(client.why, "no answer from the broker in time");
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

/* --- servers that are no brokers ---------------------------------------------------------------
 */

struct server {
    ev_io accepting;
    struct server_client {
        ev_io readable;
    } clients[8];
    unsigned n_clients;
    uint16_t port;
    enum server_manner { SERVER_SILENT, SERVER_CLOSES_V5, SERVER_REFUSES_V5 } manner;
};

/* CONNECT's protocol level is its byte 8 as long as the packet is below 128 bytes. */
static void server_on_readable(struct ev_loop *l, ev_io *io, int revents)
{
    static const uint8_t refused[] = {0x20, 2, 0, 1}, accepted[] = {0x20, 2, 0, 0};
    enum server_manner manner = *(enum server_manner *)io->data;
    uint8_t in[256];
    ssize_t n = read(io->fd, in, sizeof(in));
    if (n > 8 && in[0] == 0x10 && manner != SERVER_SILENT) {
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

static void older_broker_is_understood(void **state)
{
    static const enum server_manner manners[] = {SERVER_CLOSES_V5, SERVER_REFUSES_V5};
    for (size_t i = 0; i < GT_ARRAY_SIZE(manners); i++) {
        struct server server;
        struct client client;
        server_begin(&server, manners[i]);
        client_init(&client, server.port, "modern");
        client.settings.is_once = true; /* the second version is no second attempt */
        client_begin(&client);
        wait_for(&client.n_up, 1, 10);
        assert_int_equal(client.n_down, 0);
        gt_mqtt_free(client.mqtt);
        server_end(&server);
    }
}

/* Nobody can reach a device that is connected and hears nothing. */
static void subscription_is_not_answered(void **state)
{
    struct server server;
    struct client client;
    server_begin(&server, SERVER_REFUSES_V5);
    client_init(&client, server.port, "unheard");
    client.settings.connack_s = 1;
    client_begin(&client);
    wait_for(&client.n_up, 1, 10);
    assert_int_equal(gt_mqtt_subscribe(client.mqtt, "some/topic"), 0);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "no answer from the broker in time");
    assert_int_equal(client.n_subscribed, 0);
    gt_mqtt_free(client.mqtt);
    server_end(&server);
}

/* Invariant I7: waiting costs nothing. */
static void silence_is_quiet(void **state)
{
    struct server server;
    struct client client;
    struct rusage before, after;
    server_begin(&server, SERVER_SILENT);
    client_init(&client, server.port, "patient");
    client.settings.connack_s = 3;
    client_begin(&client);
    wait_for(&server.n_clients, 1, 10);
    getrusage(RUSAGE_SELF, &before);
    double begun = now();
    wait_for(&client.n_down, 1, 10);
    double lasted = now() - begun;
    getrusage(RUSAGE_SELF, &after);
    assert_string_equal(client.why, "no answer from the broker in time");
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

/* --- TLS --------------------------------------------------------------------------------------
 */

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

static void tls_holds(void **state)
{
    enum { N_KEPT = 60 };
    struct mosquitto_process broker;
    struct client client;
    char ca[128];
    tls_begin(&broker);
    client_init(&client, broker.port, "secret");
    path_of("ca.crt", ca);
    client.settings.is_tls = true;
    client.settings.ca_file = ca;
    client.settings.alpn = "x-amzn-mqtt-ca";
    client_begin(&client);
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
    path_of("other.crt", ca);
    client.settings.is_tls = true;
    client.settings.ca_file = ca;
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    print_message("wrong CA: %s\n", client.why);
    assert_non_null(strstr(client.why, "TLS"));
    assert_int_equal(client.n_up, 0);
    gt_mqtt_free(client.mqtt);

    client_init(&client, broker.port, "keyless");
    client.settings.is_tls = true;
    client.settings.ca_file = "/nonexistent/ca.crt";
    client.settings.is_once = true;
    client_begin(&client);
    wait_for(&client.n_down, 1, 10);
    assert_string_equal(client.why, "a certificate, key or other setting is not usable");
    gt_mqtt_free(client.mqtt);
    mosquitto_end(&broker);
}

static int begin(void **state)
{
    loop = ev_default_loop(0);
    snprintf(folder, sizeof(folder), "/tmp/test-mqtt.XXXXXX");
    if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
        return -1;
    mosquitto_begin(&common, free_port(), "");
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
        cmocka_unit_test(message_goes_round),
        cmocka_unit_test(round_trips_are_quick),
        cmocka_unit_test(retained_is_told_apart),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(rival_takes_over),
        cmocka_unit_test(goodbye_is_orderly),
        cmocka_unit_test(large_is_dropped),
        cmocka_unit_test(freed_in_its_callback),
        cmocka_unit_test(broker_comes_back),
        cmocka_unit_test(rights_are_missing),
        cmocka_unit_test(password_is_wrong),
        cmocka_unit_test(port_is_wrong),
        cmocka_unit_test(name_is_unknown),
        cmocka_unit_test(resolver_hangs),
        cmocka_unit_test(older_broker_is_understood),
        cmocka_unit_test(subscription_is_not_answered),
        cmocka_unit_test(silence_is_quiet),
        cmocka_unit_test(tls_holds),
    };
    is_of_the_loop = true;
    sem_init(&gate, 0, 0);
    sem_init(&passed, 0, 0);
    signal(SIGPIPE, SIG_IGN);
    if (access(MOSQUITTO, X_OK) < 0)
        return 77; /* skipped, in meson's words */
    if (getenv("GOTTHARD_TEST_DEBUG"))
        gt_log_open("test-mqtt", GT_LOG_DEBUG);
    return cmocka_run_group_tests(tests, begin, end);
}
