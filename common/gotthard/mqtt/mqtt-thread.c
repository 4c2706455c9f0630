/* SPDX-License-Identifier: ISC */
/*
 * The thread of one connection, which alone runs the library's loop, with all signals blocked. Only
 * the thread disconnects, between two iterations: after mosquitto_disconnect() the library treats
 * any further packet as a protocol error, and closes without the DISCONNECT that suppresses the
 * will. The lock must never be held during a call of the library, whose callbacks take it.
 */
#include "gotthard/mqtt/mqtt-thread.h"

#include <fcntl.h>
#include <mosquitto.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/base/assertion-guard.h"
#include "gotthard/base/log.h"
#include "gotthard/crypto/crypto-start.h"
#include "gotthard/mqtt/mqtt-probe.h"
#include "gotthard/mqtt/mqtt-proxy.h"
#include "gotthard/net/route.h"
#include "gotthard/tls/certificate-context.h"

#define ITERATION_MS 500 /* longest sleep of an iteration before CONNACK, shortest one after it */
/* Iterations in a keep-alive interval after CONNACK; PINGREQ is delayed by one of them at most. */
#define KEEPALIVE_ITERATIONS 8
#define ORDINARY_PACKETS     (1 << 20) /* bytes: many times the largest packet that we wait for */
#define ABANDONED_MAX        8         /* threads; no new one is started until some have ended */

static atomic_int n_abandoned;

void gt_mqtt_connection_init_locks(struct gt_mqtt_connection *connection)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&connection->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&connection->lock, NULL);
}

unsigned gt_mqtt_connection_n_unacknowledged(struct gt_mqtt_connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    unsigned n = connection->n_unacknowledged;
    pthread_mutex_unlock(&connection->lock);
    return n;
}

void gt_mqtt_connection_count_unacknowledged(struct gt_mqtt_connection *connection, int more)
{
    pthread_mutex_lock(&connection->lock);
    connection->n_unacknowledged += (unsigned)more;
    pthread_mutex_unlock(&connection->lock);
}

void gt_mqtt_connection_wake_up(struct gt_mqtt_connection *connection)
{
    if (eventfd_write(connection->wakeup_fd, 1) < 0)
        gt_debug("mqtt: wake-up failed"); /* impossible: the counter is never full */
}

void gt_mqtt_connection_run_out_of_memory(struct gt_mqtt_connection *connection)
{
    atomic_store(&connection->is_out_of_memory, true);
    gt_mqtt_connection_wake_up(connection);
}

void gt_mqtt_connection_report(struct gt_mqtt_connection *connection, struct gt_mqtt_event *event)
{
    if (!gt_mqtt_queue_push(&connection->queue, event))
        gt_mqtt_connection_run_out_of_memory(connection);
}

static int thread_start(void *(*run)(void *), void *arg, pthread_t *ret)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(ret, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

static void *destroy_thread(void *mosquitto)
{
    mosquitto_destroy(mosquitto);
    return NULL;
}

/* An instance that failed an assertion may keep its lock: a separate thread destroys it. */
static void destroy_in_thread(struct mosquitto *aborted)
{
    pthread_t thread;

    if (thread_start(destroy_thread, aborted, &thread) == 0)
        pthread_detach(thread);
}

void gt_mqtt_connection_destroy(struct gt_mqtt_connection *connection)
{
    if (connection->how.is_aborted)
        destroy_in_thread(connection->mosquitto);
    else
        mosquitto_destroy(connection->mosquitto);
    gt_wipe(&connection->proxy, sizeof(connection->proxy));
    gt_mqtt_race_deinit(&connection->race);
    gt_mqtt_queue_deinit(&connection->queue);
    free(connection->end);
    if (connection->wakeup_fd >= 0)
        close(connection->wakeup_fd);
    pthread_cond_destroy(&connection->ended);
    pthread_mutex_destroy(&connection->lock);
    free(connection);
}

/* Afterwards @connection belongs to the owner again, or is freed. */
static void connection_end(struct gt_mqtt_connection *connection)
{
    struct gt_mqtt_event *end = connection->end;

    connection->how.limit_s = (unsigned)connection->keepalive_s;
    gt_mqtt_error_describe(&connection->how, end->text, sizeof(end->text));
    end->effect = gt_mqtt_error_effect(&connection->how);
    end->outcome = gt_mqtt_error_outcome(&connection->how);
    end->probed = connection->probed;
    pthread_mutex_lock(&connection->lock);
    bool is_abandoned = connection->state == GT_MQTT_CONNECTION_ABANDONED;
    if (!is_abandoned) {
        connection->state = GT_MQTT_CONNECTION_DONE;
        pthread_cond_signal(&connection->ended);
    }
    pthread_mutex_unlock(&connection->lock);
    if (is_abandoned) {
        gt_mqtt_connection_destroy(connection);
        n_abandoned--;
    } else { /* the owner joins this thread before it frees anything */
        gt_mqtt_queue_push(&connection->queue, gt_steal(&connection->end));
    }
}

/* Returns the state that the owner has set. CONNECTING becomes RUNNING. */
static enum gt_mqtt_connection_state connection_get_state(struct gt_mqtt_connection *connection,
                                                          bool *ret_is_acknowledged)
{
    pthread_mutex_lock(&connection->lock);
    if (connection->state == GT_MQTT_CONNECTION_CONNECTING)
        connection->state = GT_MQTT_CONNECTION_RUNNING;
    enum gt_mqtt_connection_state state = connection->state;
    *ret_is_acknowledged = connection->n_unacknowledged == 0;
    pthread_mutex_unlock(&connection->lock);
    return state;
}

static bool connection_is_stopping(struct gt_mqtt_connection *connection)
{
    bool is_acknowledged;

    return connection_get_state(connection, &is_acknowledged) == GT_MQTT_CONNECTION_STOPPING;
}

/* Returns the longest sleep. Only the keep-alive needs an iteration without an event. */
static int connection_sleep_ms(const struct gt_mqtt_connection *connection)
{
    int keepalive_s =
        connection->keepalive_s ? connection->keepalive_s : connection->race.keepalive_s;

    return connection->how.was_up ? GT_MAX(keepalive_s * 1000 / KEEPALIVE_ITERATIONS, ITERATION_MS)
                                  : ITERATION_MS;
}

/* Sleeps until @fd is ready for @events, a wake-up arrives, or the library's timers are due. */
static void connection_wait(struct gt_mqtt_connection *connection, int fd, short events)
{
    struct pollfd fds[] = {{.fd = fd, .events = events},
                           {.fd = connection->wakeup_fd, .events = POLLIN}};
    eventfd_t n;

    if (poll(fds, GT_ARRAY_SIZE(fds), connection_sleep_ms(connection)) > 0 && fds[1].revents)
        (void)eventfd_read(connection->wakeup_fd, &n);
}

static bool connection_is_abandoned(void *userdata)
{
    struct gt_mqtt_connection *connection = userdata;

    pthread_mutex_lock(&connection->lock);
    bool is_abandoned = connection->state == GT_MQTT_CONNECTION_ABANDONED;
    pthread_mutex_unlock(&connection->lock);
    return is_abandoned;
}

/* Returns MOSQ_ERR_SUCCESS when the proxy has connected to the broker. */
static int connection_pass_proxy(struct gt_mqtt_connection *connection)
{
    const struct gt_mqtt_proxy pass = {
        .proxy = &connection->proxy,
        .broker = connection->broker,
        .fd = mosquitto_socket(connection->mosquitto),
        .wakeup_fd = connection->wakeup_fd,
        .is_over = connection_is_abandoned,
        .userdata = connection,
    };
    bool is_passed =
        gt_mqtt_proxy_pass(&pass, connection->how.proxy_why, &connection->how.is_proxy_denial);

    connection->how.is_at_proxy = !is_passed;
    return is_passed ? MOSQ_ERR_SUCCESS : MOSQ_ERR_NO_CONN;
}

/* The first connect with TLS initializes parts of the library and of OpenSSL, which stay incomplete
 * if memory runs out. Until one has succeeded a failed allocation ends the process. */
static int connection_connect(struct gt_mqtt_connection *connection)
{
    static atomic_bool is_library_complete;
    struct gt_mqtt_race *race = &connection->race;

    unsigned before = gt_crypto_n_failed_allocations();
    race->keepalive_s = connection->keepalive_s;
    race->is_v5 = connection->how.is_v5;
    race->wakeup_fd = connection->wakeup_fd;
    race->is_over = connection_is_abandoned;
    race->userdata = connection;
    gt_certificate_context_hold(connection->how.is_at_proxy);
    int rc = gt_mqtt_race_run(race, &connection->mosquitto);
    if (rc == MOSQ_ERR_SUCCESS && connection->how.is_at_proxy)
        rc = connection_pass_proxy(connection);
    gt_certificate_context_hold(false);
    if (!is_library_complete)
        gt_crypto_require_complete(before);
    is_library_complete = is_library_complete || rc == MOSQ_ERR_SUCCESS;
    return rc;
}

/*
 * Sends the TCP acknowledgement of received data at once. Brokers such as mosquitto use Nagle's
 * algorithm, so their second small packet waits for the acknowledgement of the first, which this
 * side's kernel would delay by 40 ms, three times in a request and its answer. The option is not
 * permanent (tcp(7)), so each iteration sets it again.
 */
static void connection_acknowledge(const struct gt_mqtt_connection *connection)
{
    int fd = mosquitto_socket(connection->mosquitto), on = 1;

    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/*
 * Prevents busy waiting: during the TLS handshake libmosquitto polls for writability, which is
 * always given. After the first iteration, which sends the ClientHello, each one continues with
 * data from the broker.
 */
static void connection_throttle(struct gt_mqtt_connection *connection)
{
    if (connection->has_begun &&
        gt_certificate_context_is_in_handshake(mosquitto_ssl_get(connection->mosquitto)))
        connection_wait(connection, mosquitto_socket(connection->mosquitto), POLLIN);
    connection->has_begun = true;
}

static void connection_report_connected(struct gt_mqtt_connection *connection)
{
    bool is_in_handshake =
        gt_certificate_context_is_in_handshake(mosquitto_ssl_get(connection->mosquitto));

    if (connection->is_connected || is_in_handshake)
        return;
    connection->is_connected = true;
    gt_mqtt_connection_report(connection,
                              gt_mqtt_event_new(GT_MQTT_EVENT_CONNECTED, "", gt_span("", 0)));
}

/* A broker can switch MQTT's keep-alive off or make it long: then TCP's finds a lost path in the
 * configured time. */
static void connection_watch_path(const struct gt_mqtt_connection *connection)
{
    int configured_s = connection->race.keepalive_s;

    if (connection->keepalive_s == 0 || connection->keepalive_s > configured_s)
        gt_sock_set_keepalive(mosquitto_socket(connection->mosquitto), configured_s);
}

static void connection_report_up(struct gt_mqtt_connection *connection)
{
    struct gt_mqtt_event *event = gt_mqtt_event_new(GT_MQTT_EVENT_UP, "", gt_span("", 0));

    if (event)
        event->limits = connection->limits;
    gt_mqtt_connection_report(connection, event);
}

/* Returns the end of a connection for which the library has returned success: after a DISCONNECT
 * from the broker it has closed its socket, and a CONNACK can be one that we cannot use. */
static int connection_check(const struct gt_mqtt_connection *connection)
{
    if (mosquitto_socket(connection->mosquitto) < 0 || connection->how.reason != 0)
        return MOSQ_ERR_CONN_LOST;
    return MOSQ_ERR_SUCCESS;
}

/* The library allocates the size in a packet's header, up to 256 MiB. Returns true if that failed
 * and this process has memory for all that a broker may send us: the header is at fault. */
static bool connection_is_packet_large(const struct gt_mqtt_connection *connection)
{
    if (connection->how.rc != MOSQ_ERR_NOMEM || connection->is_out_of_memory)
        return false;
    void *volatile ordinary = malloc(ORDINARY_PACKETS); /* volatile: must not be optimized away */
    bool is_left = ordinary;
    free(ordinary);
    return is_left;
}

/*
 * One iteration of the library's loop, which itself must not sleep. UP is reported after the
 * iteration that received the CONNACK: during the callback the library has not yet resent its
 * unsent messages, and a message published then would be sent twice.
 */
static void connection_iterate(struct gt_mqtt_connection *connection)
{
    connection_throttle(connection);
    bool was_up = connection->how.was_up;
    int want_write = mosquitto_want_write(connection->mosquitto) ? POLLOUT : 0;
    connection_wait(connection, mosquitto_socket(connection->mosquitto),
                    (short)(POLLIN | want_write));
    errno = 0;
    connection->how.rc = mosquitto_loop(connection->mosquitto, 0, 1);
    connection->how.err = errno;
    connection->how.is_packet_large = connection_is_packet_large(connection);
    if (connection->how.rc == MOSQ_ERR_SUCCESS)
        connection->how.rc = connection_check(connection);
    if (connection->how.rc != MOSQ_ERR_SUCCESS)
        return;
    connection_acknowledge(connection);
    connection_report_connected(connection);
    if (connection->how.was_up && !was_up) {
        connection_watch_path(connection);
        connection_report_up(connection);
    }
    if (connection->is_out_of_memory)
        connection->how.rc = MOSQ_ERR_NOMEM;
}

/* Reads until the broker closes. A close before that would answer its packets with a reset, and the
 * broker would publish the will. */
static void connection_drain(struct gt_mqtt_connection *connection, int fd)
{
    char discarded[1024];
    ssize_t n;

    shutdown(fd, SHUT_WR);
    do {
        connection_wait(connection, fd, POLLIN);
        n = recv(fd, discarded, sizeof(discarded), MSG_DONTWAIT);
    } while ((n > 0 || (n < 0 && errno == EAGAIN)) && connection_is_stopping(connection));
}

/* Sends DISCONNECT without reading before. The library closes its socket with that, so draining
 * needs a duplicate. */
static void connection_disconnect(struct gt_mqtt_connection *connection)
{
    struct mosquitto *mosquitto = connection->mosquitto;
    int fd = fcntl(mosquitto_socket(mosquitto), F_DUPFD_CLOEXEC, 0);
    int rc = mosquitto_disconnect(mosquitto);

    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_loop_write(mosquitto, 1);
    while (rc == MOSQ_ERR_SUCCESS && mosquitto_socket(mosquitto) >= 0 &&
           connection_is_stopping(connection)) {
        connection_wait(connection, mosquitto_socket(mosquitto), POLLOUT);
        rc = mosquitto_loop_write(mosquitto, 1);
    }
    if (fd >= 0 && connection->has_will)
        connection_drain(connection, fd);
    if (fd >= 0)
        close(fd);
}

/* Returns true if the route to the broker is gone. Only this thread closes the socket. */
static bool connection_has_lost_route(struct gt_mqtt_connection *connection)
{
    int fd = mosquitto_socket(connection->mosquitto);
    struct gt_addr to;

    if (!atomic_exchange(&connection->is_check_due, false) || fd < 0 || gt_sock_peer(fd, &to))
        return false;
    return gt_route_check_socket(fd, &to) == GT_ROUTE_GONE;
}

static void connection_run(void *userdata)
{
    struct gt_mqtt_connection *connection = userdata;
    bool is_acknowledged;

    errno = 0;
    connection->how.rc = connection_connect(connection);
    connection->how.err = errno;
    while (connection->how.rc == MOSQ_ERR_SUCCESS) {
        enum gt_mqtt_connection_state state = connection_get_state(connection, &is_acknowledged);

        if (state == GT_MQTT_CONNECTION_ABANDONED ||
            (state == GT_MQTT_CONNECTION_STOPPING && !connection->how.was_up))
            return;
        if (state == GT_MQTT_CONNECTION_STOPPING && is_acknowledged) {
            connection_disconnect(connection);
            return;
        }
        if (connection_has_lost_route(connection)) {
            connection->how.reason = GT_MQTT_REASON_NO_ROUTE;
            return;
        }
        connection_iterate(connection);
    }
}

static void *connection_thread(void *arg)
{
    struct gt_mqtt_connection *connection = arg;

    gt_certificate_context_watch(&connection->how.verification);
    connection->how.is_aborted = !gt_assertion_guard_run(connection_run, connection);
    gt_mqtt_probe_alert(&connection->race, &connection->how, &connection->probed);
    gt_certificate_context_watch(NULL);
    connection_end(connection);
    return NULL;
}

/* --- for the owner ---------------------------------------------------------------------------- */

bool gt_mqtt_thread_limit_reached(void)
{
    return n_abandoned >= ABANDONED_MAX;
}

int gt_mqtt_thread_start(struct gt_mqtt_connection *connection)
{
    return thread_start(connection_thread, connection, &connection->thread);
}

static struct timespec in_ms(unsigned ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t ns = (uint64_t)at.tv_nsec + (uint64_t)ms * 1000000;
    at.tv_sec += (time_t)(ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    return at;
}

void gt_mqtt_thread_stop(struct gt_mqtt_connection *connection, unsigned timeout_ms)
{
    struct timespec until = in_ms(timeout_ms);
    int err = 0;

    pthread_mutex_lock(&connection->lock);
    if (connection->state == GT_MQTT_CONNECTION_RUNNING) {
        connection->state = GT_MQTT_CONNECTION_STOPPING;
        gt_mqtt_connection_wake_up(connection);
    }
    while (connection->state == GT_MQTT_CONNECTION_STOPPING && err == 0)
        err = pthread_cond_timedwait(&connection->ended, &connection->lock, &until);
    pthread_mutex_unlock(&connection->lock);
}

void gt_mqtt_thread_abandon(struct gt_mqtt_connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    bool is_over = connection->state == GT_MQTT_CONNECTION_DONE;
    if (!is_over) {
        connection->state = GT_MQTT_CONNECTION_ABANDONED;
        n_abandoned++;
        gt_mqtt_connection_wake_up(connection);
        pthread_detach(connection->thread); /* it may be in the middle of a TLS handshake */
    }
    pthread_mutex_unlock(&connection->lock);
    if (is_over) {
        /* Immediate; releases libcrypto's data of the thread as well. */
        pthread_join(connection->thread, NULL);
        gt_mqtt_connection_destroy(connection);
    }
}
