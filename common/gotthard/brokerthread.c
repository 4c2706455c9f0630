/* SPDX-License-Identifier: ISC */
/*
 * The thread of one connection, which alone runs the library's loop, all signals blocked. Leaving
 * is the thread's alone, between two turns: after mosquitto_disconnect() the library takes whatever
 * the broker still says for a breach of the protocol, and closes without the DISCONNECT that keeps
 * the will unpublished. The lock is never held while calling the library, whose callbacks take it.
 */
#include "gotthard/brokerthread.h"

#include <fcntl.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/assertion.h"
#include "gotthard/log.h"
#include "gotthard/way.h"

#define TURN_MS 500 /* between two looks at the clock, and never less; until it is up */
/* ... and in a keep-alive when it is: a ping is late by that at most */
#define KEEPALIVE_TURNS 8
#define QUICK_TURNS     20
#define REST_MS         50
#define PACKET_MAX      (GT_MESSAGE_MAX + GT_TOPIC_MAX + 512)
#define LEFT_BEHIND_MAX 8 /* threads; more are not begun until some have ended */

static atomic_int n_left_behind;

void gt_broker_init_locks(struct gt_broker *broker)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&broker->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&broker->lock, NULL);
}

void gt_broker_count(struct gt_broker *broker, int more)
{
    pthread_mutex_lock(&broker->lock);
    broker->n_unacknowledged += (unsigned)more;
    pthread_mutex_unlock(&broker->lock);
}

void gt_broker_kick(struct gt_broker *broker)
{
    if (eventfd_write(broker->kicked, 1) < 0)
        gt_debug("mqtt: the thread hears of it later"); /* cannot be: the counter is never full */
}

static int thread_begin(void *(*run)(void *), void *arg, pthread_t *ret)
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

/* A spoiled instance may hold a lock for ever: whoever destroys it must not be needed elsewhere. */
static void bury(struct mosquitto *spoiled)
{
    pthread_t thread;
    if (thread_begin(destroy_thread, spoiled, &thread) == 0)
        pthread_detach(thread);
}

void gt_broker_destroy(struct gt_broker *broker)
{
    if (broker->how.is_spoiled)
        bury(broker->mosquitto);
    else
        mosquitto_destroy(broker->mosquitto);
    gt_reports_deinit(&broker->reports);
    free(broker->end);
    if (broker->kicked >= 0)
        close(broker->kicked);
    pthread_cond_destroy(&broker->ended);
    pthread_mutex_destroy(&broker->lock);
    free(broker);
}

/* Careful: @broker is the owner's after this, or freed. */
static void broker_end(struct gt_broker *broker)
{
    struct gt_broker_report *end = broker->end;
    gt_broker_end_explain(&broker->how, end->text, sizeof(end->text));
    end->reason = broker->how.reason;
    end->is_version = gt_broker_end_may_be_older(&broker->how);
    pthread_mutex_lock(&broker->lock);
    bool is_abandoned = broker->state == GT_BROKER_ABANDONED;
    if (!is_abandoned) {
        broker->state = GT_BROKER_OVER;
        pthread_cond_signal(&broker->ended);
    }
    pthread_mutex_unlock(&broker->lock);
    if (is_abandoned) {
        gt_broker_destroy(broker);
        n_left_behind--;
    } else { /* the owner joins this thread before he frees anything */
        gt_reports_put(&broker->reports, gt_steal(&broker->end));
    }
}

/* The state as the owner has it now. A thread that is done with connecting is talking. */
static enum gt_broker_state broker_look(struct gt_broker *broker, bool *ret_is_acknowledged)
{
    pthread_mutex_lock(&broker->lock);
    if (broker->state == GT_BROKER_CONNECTING)
        broker->state = GT_BROKER_TALKING;
    enum gt_broker_state state = broker->state;
    *ret_is_acknowledged = broker->n_unacknowledged == 0;
    pthread_mutex_unlock(&broker->lock);
    return state;
}

static bool broker_is_leaving(struct gt_broker *broker)
{
    bool is_acknowledged;
    return broker_look(broker, &is_acknowledged) == GT_BROKER_LEAVING;
}

/* Nothing but the keep-alive needs a turn that neither the broker nor a kick asks for. */
static int broker_patience_ms(const struct gt_broker *broker)
{
    return broker->how.was_up ? GT_MAX(broker->keepalive_s * 1000 / KEEPALIVE_TURNS, TURN_MS)
                              : TURN_MS;
}

/* Sleeps until @fd is ready for @events, there is a kick, or the library has to see the time. */
static void broker_wait(struct gt_broker *broker, int fd, short events)
{
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = broker->kicked, .events = POLLIN}};
    eventfd_t n;
    if (poll(fds, GT_ARRAY_SIZE(fds), broker_patience_ms(broker)) > 0 && fds[1].revents)
        (void)eventfd_read(broker->kicked, &n);
}

static int broker_connect(struct gt_broker *broker)
{
    mosquitto_property *properties = NULL;
    int rc = 0;
    if (broker->how.is_v5)
        rc = mosquitto_property_add_int32(&properties, MQTT_PROP_MAXIMUM_PACKET_SIZE, PACKET_MAX);
    if (rc == 0)
        rc = mosquitto_connect_bind_v5(broker->mosquitto, broker->host, broker->port,
                                       broker->keepalive_s, NULL, properties);
    mosquitto_property_free_all(&properties);
    return rc;
}

/*
 * Acknowledges at once what a turn has read. Brokers leave Nagle's algorithm on (mosquitto does),
 * so that their second small packet waits for the first one's acknowledgement, which this side's
 * kernel would hold back for 40 ms: a question and its answer met that three times. Not lasting
 * (tcp(7)), so it is said again after each turn.
 */
static void broker_acknowledge(const struct gt_broker *broker)
{
    int fd = mosquitto_socket(broker->mosquitto), on = 1;
    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

/*
 * libmosquitto 2.0.21 asks select() for room to write for as long as the broker's part of the TLS
 * handshake is awaited, and is answered at once, always. A handshake takes a few turns; after more
 * than that it is only what the broker sends that is worth a turn.
 */
static void broker_rest(struct gt_broker *broker)
{
    struct pollfd fd = {.fd = mosquitto_socket(broker->mosquitto), .events = POLLIN};
    if (!broker->how.was_up && fd.fd >= 0 && ++broker->n_turns > QUICK_TURNS)
        (void)poll(&fd, 1, REST_MS);
}

/*
 * The library's loop, which here never sleeps. UP is told after the turn that brought the CONNACK:
 * in the callback the library has yet to send again all that it takes for unsent, and a message
 * published meanwhile would go twice.
 */
static void broker_turn(struct gt_broker *broker)
{
    broker_rest(broker);
    bool was_up = broker->how.was_up;
    int want_write = mosquitto_want_write(broker->mosquitto) ? POLLOUT : 0;
    broker_wait(broker, mosquitto_socket(broker->mosquitto), (short)(POLLIN | want_write));
    errno = 0;
    broker->how.rc = mosquitto_loop(broker->mosquitto, 0, 1);
    broker->how.err = errno;
    broker_acknowledge(broker);
    if (broker->how.rc == MOSQ_ERR_SUCCESS && broker->how.was_up && !was_up)
        gt_reports_put(&broker->reports, gt_report_new(GT_BROKER_UP, "", gt_span("", 0)));
}

/* Until the broker closes: were we to close before it has read all, what it still sends us would be
 * answered by a reset, and a reset is no goodbye. */
static void broker_hear_out(struct gt_broker *broker, int fd)
{
    char scrap[1024];
    ssize_t n;
    shutdown(fd, SHUT_WR);
    do {
        broker_wait(broker, fd, POLLIN);
        n = recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT);
    } while ((n > 0 || (n < 0 && errno == EAGAIN)) && broker_is_leaving(broker));
}

/* Says DISCONNECT, and reads nothing before. The library closes its socket with that, so what
 * comes after needs one of our own. */
static void broker_say_goodbye(struct gt_broker *broker)
{
    struct mosquitto *mosquitto = broker->mosquitto;
    int fd = fcntl(mosquitto_socket(mosquitto), F_DUPFD_CLOEXEC, 0);
    int rc = mosquitto_disconnect(mosquitto);
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_loop_write(mosquitto, 1);
    while (rc == MOSQ_ERR_SUCCESS && mosquitto_socket(mosquitto) >= 0 &&
           broker_is_leaving(broker)) {
        broker_wait(broker, mosquitto_socket(mosquitto), POLLOUT);
        rc = mosquitto_loop_write(mosquitto, 1);
    }
    if (fd >= 0 && broker->has_will)
        broker_hear_out(broker, fd);
    if (fd >= 0)
        close(fd);
}

/* Is the way to the broker gone? Asked in the thread, whose socket nobody else closes. */
static bool broker_is_cut_off(struct gt_broker *broker)
{
    int fd = mosquitto_socket(broker->mosquitto);
    struct gt_addr to;
    if (!atomic_exchange(&broker->is_check_due, false) || fd < 0 || gt_sock_peer(fd, &to))
        return false;
    return gt_way_of(fd, &to) == GT_WAY_GONE;
}

static void broker_talk(void *userdata)
{
    struct gt_broker *broker = userdata;
    bool is_acknowledged;
    errno = 0;
    broker->how.rc = broker_connect(broker);
    broker->how.err = errno;
    while (broker->how.rc == MOSQ_ERR_SUCCESS) {
        enum gt_broker_state state = broker_look(broker, &is_acknowledged);
        if (state == GT_BROKER_ABANDONED || (state == GT_BROKER_LEAVING && !broker->how.was_up))
            return;
        if (state == GT_BROKER_LEAVING && is_acknowledged) {
            broker_say_goodbye(broker);
            return;
        }
        if (broker_is_cut_off(broker)) {
            broker->how.reason = GT_BROKER_NO_WAY;
            return;
        }
        broker_turn(broker);
    }
}

static void *broker_thread(void *arg)
{
    struct gt_broker *broker = arg;
    broker->how.is_spoiled = !gt_assertion_holds(broker_talk, broker);
    broker_end(broker);
    return NULL;
}

/* --- asked by the owner ----------------------------------------------------------------------- */

bool gt_broker_thread_is_too_many(void)
{
    return n_left_behind >= LEFT_BEHIND_MAX;
}

int gt_broker_thread_begin(struct gt_broker *broker)
{
    return thread_begin(broker_thread, broker, &broker->thread);
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

void gt_broker_thread_leave(struct gt_broker *broker, unsigned patience_ms)
{
    struct timespec until = in_ms(patience_ms);
    int err = 0;
    pthread_mutex_lock(&broker->lock);
    if (broker->state == GT_BROKER_TALKING) {
        broker->state = GT_BROKER_LEAVING;
        gt_broker_kick(broker);
    }
    while (broker->state == GT_BROKER_LEAVING && err == 0)
        err = pthread_cond_timedwait(&broker->ended, &broker->lock, &until);
    pthread_mutex_unlock(&broker->lock);
}

void gt_broker_thread_let_go(struct gt_broker *broker)
{
    pthread_mutex_lock(&broker->lock);
    bool is_over = broker->state == GT_BROKER_OVER;
    if (!is_over) {
        broker->state = GT_BROKER_ABANDONED;
        gt_reports_close(&broker->reports);
        n_left_behind++;
        gt_broker_kick(broker);
        pthread_detach(broker->thread); /* it may be stuck in the resolver */
    }
    pthread_mutex_unlock(&broker->lock);
    if (is_over) {
        pthread_join(broker->thread, NULL); /* an instant; what libcrypto keeps of it goes too */
        gt_broker_destroy(broker);
    }
}
