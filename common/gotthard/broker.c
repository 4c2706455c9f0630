/* SPDX-License-Identifier: ISC */
/*
 * libmosquitto, kept where it can do no harm (HACKING.md has the list of what it does otherwise):
 * one instance for one connection, one thread that alone runs its loop, all signals blocked there.
 * Publishing goes straight from the caller's thread: the library's own locks allow that, and a
 * kick makes the thread send at once. Leaving is the thread's alone, between two turns: after
 * mosquitto_disconnect() the library takes whatever the broker still says for a breach of the
 * protocol, and closes without the DISCONNECT that keeps the will unpublished. This file's lock is
 * never held while calling the library, whose callbacks take it.
 */
#include "gotthard/broker.h"

#include <fcntl.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/assertion.h"
#include "gotthard/log.h"
#include "gotthard/way.h"

#define TURN_MS 500 /* between two looks at the clock, and never less; until it is up */
#define KEEPALIVE_TURNS                                                     \
    8 /* ... and in a keep-alive when it is: a ping is late by that at most \
       */
#define QUICK_TURNS     20
#define REST_MS         50
#define QOS             1
#define PACKET_MAX      (GT_MESSAGE_MAX + GT_TOPIC_MAX + 512)
#define LEFT_BEHIND_MAX 8 /* threads; more are not begun until some have ended */

enum broker_state {
    BROKER_CONNECTING, /* in mosquitto_connect(): perhaps stuck in the resolver for a minute */
    BROKER_TALKING,    /* in mosquitto_loop() or asleep until there is something for it */
    BROKER_LEAVING,    /* the owner waits: what he published is acknowledged, then we disconnect */
    BROKER_ENDED,      /* the thread is done with everything here */
    BROKER_ABANDONED,  /* the owner is gone: the thread frees everything */
};

struct gt_broker {
    pthread_mutex_t lock; /* of state, n_unacknowledged and last_error */
    pthread_cond_t ended;
    enum broker_state state;
    pthread_t thread;
    unsigned n_unacknowledged; /* published */
    char last_error[160];
    struct gt_reports reports; /* open as long as not ABANDONED */

    atomic_bool is_check_due; /* the network has changed */
    int kicked;               /* eventfd: there is something to send, or the state is another */
    struct mosquitto *mosquitto;
    bool is_v5, has_will;
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    int keepalive_s;

    /* The thread's own. */
    bool was_up;
    unsigned n_turns;             /* until it was up */
    int rc, err;                  /* the library's last word, and errno then */
    int reason;                   /* of a CONNACK that refuses, or the broker's DISCONNECT */
    bool is_spoiled;              /* the library gave up in the middle of a turn */
    struct gt_broker_report *end; /* made in advance: the last report never lacks memory */
};

static atomic_int n_left_behind;

/* One more that was published, or one less. */
static void broker_count(struct gt_broker *broker, int more)
{
    pthread_mutex_lock(&broker->lock);
    broker->n_unacknowledged += (unsigned)more;
    pthread_mutex_unlock(&broker->lock);
}

static void broker_kick(struct gt_broker *broker)
{
    if (eventfd_write(broker->kicked, 1) < 0)
        gt_debug("mqtt: the thread hears of it later"); /* cannot be: the counter is never full */
}

/* --- libmosquitto's callbacks, in the thread --------------------------------------------------
 */

static void broker_on_connack(struct mosquitto *mosquitto, void *userdata, int reason, int flags,
                              const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    uint16_t keepalive_s;
    if (broker->was_up) /* said before */
        return;
    broker->reason = reason;
    broker->was_up = reason == 0;
    if (mosquitto_property_read_int16(properties, MQTT_PROP_SERVER_KEEP_ALIVE, &keepalive_s, false))
        broker->keepalive_s = keepalive_s; /* the library follows it, too */
}

static void broker_on_disconnect(struct mosquitto *mosquitto, void *userdata, int reason,
                                 const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    if (reason >= GT_BROKER_FAILED) /* below: the library's own codes */
        broker->reason = reason;
}

static void broker_on_suback(struct mosquitto *mosquitto, void *userdata, int id, int n_granted,
                             const int *granted, const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    struct gt_broker_report *report = gt_report_new(GT_BROKER_GRANTED, "", gt_span("", 0));
    if (report && (n_granted < 1 || granted[0] >= GT_BROKER_FAILED))
        report->reason = GT_BROKER_FAILED;
    gt_reports_put(&broker->reports, report);
}

static void broker_on_message(struct mosquitto *mosquitto, void *userdata,
                              const struct mosquitto_message *message,
                              const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    size_t n = (size_t)message->payloadlen;
    if (n > GT_MESSAGE_MAX || strlen(message->topic) > GT_TOPIC_MAX) {
        gt_debug("mqtt dropped=%zu reason=size", n);
        return;
    }
    struct gt_broker_report *report =
        gt_report_new(GT_BROKER_MESSAGE, message->topic, gt_span(message->payload, n));
    if (report)
        report->is_retained = message->retain;
    if (!gt_reports_put(&broker->reports, report))
        gt_debug("mqtt dropped=%zu reason=backlog", n);
}

static void broker_on_puback(struct mosquitto *mosquitto, void *userdata, int id, int reason,
                             const mosquitto_property *properties)
{
    struct gt_broker *broker = userdata;
    struct gt_broker_report *report =
        gt_report_new(GT_BROKER_PUBLISHED, mosquitto_reason_string(reason), gt_span("", 0));
    if (report) {
        report->id = id;
        report->reason = reason;
    }
    broker_count(broker, -1);
    gt_reports_put(&broker->reports, report);
}

/* Called in either thread. The details of a failed handshake come this way and no other. */
static void broker_on_log(struct mosquitto *mosquitto, void *userdata, int level, const char *text)
{
    struct gt_broker *broker = userdata;
    gt_debug("mqtt: %s", text);
    if (level != MOSQ_LOG_ERR && level != MOSQ_LOG_WARNING)
        return;
    pthread_mutex_lock(&broker->lock);
    snprintf(broker->last_error, sizeof(broker->last_error), "%s", text);
    pthread_mutex_unlock(&broker->lock);
}

/* --- the thread -------------------------------------------------------------------------------
 */

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

static void broker_destroy(struct gt_broker *broker)
{
    if (broker->is_spoiled)
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

/*
 * In TLS 1.3 a broker that does not take this side's certificate says so after the handshake: the
 * library sees the alert when it reads or writes, and calls it a lost connection or EPROTO. Where
 * the broker's reset overtakes its own alert, EPROTO (which comes from nothing but TLS) is all
 * there is.
 */
static bool broker_failed_in_tls(const struct gt_broker *broker)
{
    if (broker->rc == MOSQ_ERR_TLS)
        return true;
    if (broker->rc == MOSQ_ERR_SUCCESS || broker->was_up)
        return false;
    return (broker->rc == MOSQ_ERR_ERRNO && broker->err == EPROTO) ||
           strstr(broker->last_error, " alert ") ||
           strstr(broker->last_error, "certificate verify");
}

/* Why the connection ended, in words for a log line. */
static void broker_explain(struct gt_broker *broker, char *ret, size_t cap)
{
    char text[128];
    int rc = broker->rc;
    if (broker->is_spoiled)
        snprintf(ret, cap, "the broker sent what the MQTT library cannot bear");
    else if (broker->reason == GT_BROKER_NO_WAY)
        snprintf(ret, cap, "the network has gone");
    else if (broker->reason && broker->was_up)
        snprintf(ret, cap, "closed by the broker: %s", mosquitto_reason_string(broker->reason));
    else if (broker->reason)
        snprintf(ret, cap, "refused by the broker: %s",
                 broker->is_v5 ? mosquitto_reason_string(broker->reason)
                               : mosquitto_connack_string(broker->reason));
    else if (broker_failed_in_tls(broker))
        snprintf(ret, cap, "TLS: %s",
                 *broker->last_error ? broker->last_error
                                     : "broken off by the broker, as when it takes no certificate "
                                       "of ours");
    else if (rc == MOSQ_ERR_ERRNO)
        snprintf(ret, cap, "%s", strerror_r(broker->err, text, sizeof(text)));
    else if (rc == MOSQ_ERR_EAI)
        snprintf(ret, cap, "no address for that name");
    else
        snprintf(ret, cap, "%s", mosquitto_strerror(rc));
}

/*
 * Could an older broker have ended it like this? Some refuse version 5 (as 0x84, or 1 in the words
 * of version 3), some send what this library cannot read as version 5, some just close.
 */
static bool broker_may_be_older(const struct gt_broker *broker)
{
    int rc = broker->rc;
    if (!broker->is_v5 || broker->was_up || broker->is_spoiled || broker_failed_in_tls(broker))
        return false;
    if (broker->reason)
        return broker->reason == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION ||
               broker->reason == CONNACK_REFUSED_PROTOCOL_VERSION;
    return rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_PROTOCOL || rc == MOSQ_ERR_MALFORMED_PACKET;
}

/* Careful: @broker is the owner's after this, or freed. */
static void broker_end(struct gt_broker *broker)
{
    struct gt_broker_report *end = broker->end;
    broker_explain(broker, end->text, sizeof(end->text));
    end->reason = broker->reason;
    end->is_version = broker_may_be_older(broker);
    pthread_mutex_lock(&broker->lock);
    bool is_abandoned = broker->state == BROKER_ABANDONED;
    if (!is_abandoned) {
        broker->state = BROKER_ENDED;
        pthread_cond_signal(&broker->ended);
    }
    pthread_mutex_unlock(&broker->lock);
    if (is_abandoned) {
        broker_destroy(broker);
        n_left_behind--;
    } else { /* the owner joins this thread before he frees anything */
        gt_reports_put(&broker->reports, gt_steal(&broker->end));
    }
}

/* The state as the owner has it now. A thread that is done with connecting is talking. */
static enum broker_state broker_look(struct gt_broker *broker, bool *ret_is_acknowledged)
{
    pthread_mutex_lock(&broker->lock);
    if (broker->state == BROKER_CONNECTING)
        broker->state = BROKER_TALKING;
    enum broker_state state = broker->state;
    *ret_is_acknowledged = broker->n_unacknowledged == 0;
    pthread_mutex_unlock(&broker->lock);
    return state;
}

static bool broker_is_leaving(struct gt_broker *broker)
{
    bool is_acknowledged;
    return broker_look(broker, &is_acknowledged) == BROKER_LEAVING;
}

/* Nothing but the keep-alive needs a turn that neither the broker nor a kick asks for. */
static int broker_patience_ms(const struct gt_broker *broker)
{
    return broker->was_up ? GT_MAX(broker->keepalive_s * 1000 / KEEPALIVE_TURNS, TURN_MS) : TURN_MS;
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
    if (broker->is_v5)
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
    if (!broker->was_up && fd.fd >= 0 && ++broker->n_turns > QUICK_TURNS)
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
    bool was_up = broker->was_up;
    int want_write = mosquitto_want_write(broker->mosquitto) ? POLLOUT : 0;
    broker_wait(broker, mosquitto_socket(broker->mosquitto), (short)(POLLIN | want_write));
    errno = 0;
    broker->rc = mosquitto_loop(broker->mosquitto, 0, 1);
    broker->err = errno;
    broker_acknowledge(broker);
    if (broker->rc == MOSQ_ERR_SUCCESS && broker->was_up && !was_up)
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
    broker->rc = broker_connect(broker);
    broker->err = errno;
    while (broker->rc == MOSQ_ERR_SUCCESS) {
        enum broker_state state = broker_look(broker, &is_acknowledged);
        if (state == BROKER_ABANDONED || (state == BROKER_LEAVING && !broker->was_up))
            return;
        if (state == BROKER_LEAVING && is_acknowledged) {
            broker_say_goodbye(broker);
            return;
        }
        if (broker_is_cut_off(broker)) {
            broker->reason = GT_BROKER_NO_WAY;
            return;
        }
        broker_turn(broker);
    }
}

static void *broker_thread(void *arg)
{
    struct gt_broker *broker = arg;
    broker->is_spoiled = !gt_assertion_holds(broker_talk, broker);
    broker_end(broker);
    return NULL;
}

/* --- the owner's side -------------------------------------------------------------------------
 */

/* An encrypted key is refused: the library would ask for its passphrase on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *userdata)
{
    return 0;
}

static int set_tls(struct mosquitto *mosquitto, const struct gt_mqtt_settings *settings)
{
    const char *folder = settings->ca_file ? NULL : "/etc/ssl/certs";
    int rc = mosquitto_tls_set(mosquitto, settings->ca_file, folder, settings->cert_file,
                               settings->key_file, no_passphrase);
    if (rc == 0)
        rc = mosquitto_tls_opts_set(mosquitto, 1, "tlsv1.2", NULL);
    if (rc == 0 && settings->alpn)
        rc = mosquitto_string_option(mosquitto, MOSQ_OPT_TLS_ALPN, settings->alpn);
    return rc;
}

static int set_options(struct mosquitto *mosquitto, const struct gt_mqtt_settings *settings,
                       bool is_v5, const struct gt_broker_will *will)
{
    int version = is_v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311;
    int rc = mosquitto_threaded_set(mosquitto, true);
    if (rc == 0)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_PROTOCOL_VERSION, version);
    if (rc == 0)
        rc = mosquitto_int_option(mosquitto, MOSQ_OPT_TCP_NODELAY, 1);
    if (rc == 0 && settings->username)
        rc = mosquitto_username_pw_set(mosquitto, settings->username, settings->password);
    if (rc == 0 && settings->is_tls)
        rc = set_tls(mosquitto, settings);
    if (rc == 0 && will)
        rc = mosquitto_will_set(mosquitto, will->topic, (int)will->payload.n, will->payload.data,
                                QOS, true);
    return rc;
}

static void set_callbacks(struct mosquitto *mosquitto)
{
    mosquitto_connect_v5_callback_set(mosquitto, broker_on_connack);
    mosquitto_disconnect_v5_callback_set(mosquitto, broker_on_disconnect);
    mosquitto_subscribe_v5_callback_set(mosquitto, broker_on_suback);
    mosquitto_message_v5_callback_set(mosquitto, broker_on_message);
    mosquitto_publish_v5_callback_set(mosquitto, broker_on_puback);
    mosquitto_log_callback_set(mosquitto, broker_on_log);
}

static void init_locks(struct gt_broker *broker)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&broker->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&broker->lock, NULL);
}

static void init_library(void)
{
    mosquitto_lib_init();
}

int gt_broker_new(const struct gt_mqtt_settings *settings, bool is_v5,
                  const struct gt_broker_will *will, struct ev_loop *loop, ev_async *heard,
                  struct gt_broker **ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_library);
    if (n_left_behind >= LEFT_BEHIND_MAX)
        return -EAGAIN;
    struct gt_broker *broker = calloc(1, sizeof(*broker));
    if (!broker)
        return -ENOMEM;
    init_locks(broker);
    gt_reports_init(&broker->reports, loop, heard);
    broker->is_v5 = is_v5;
    broker->has_will = will;
    broker->port = settings->port;
    broker->keepalive_s = (int)settings->keepalive_s;
    snprintf(broker->host, sizeof(broker->host), "%s", settings->host);
    broker->kicked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    broker->end = gt_report_new(GT_BROKER_ENDED, "", gt_span("", 0));
    broker->mosquitto = mosquitto_new(settings->client_id, true, broker);
    int r = broker->end && broker->mosquitto && broker->kicked >= 0 ? 0 : -ENOMEM;
    if (r == 0 && set_options(broker->mosquitto, settings, is_v5, will) != MOSQ_ERR_SUCCESS)
        r = -EINVAL;
    if (r == 0) {
        set_callbacks(broker->mosquitto);
        r = thread_begin(broker_thread, broker, &broker->thread);
    }
    if (r < 0) {
        broker_destroy(broker);
        return r;
    }
    *ret = broker;
    return 0;
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

/* Asks a thread that can hear it to leave in order, and waits for it. */
static void broker_leave(struct gt_broker *broker, unsigned patience_ms)
{
    struct timespec until = in_ms(patience_ms);
    int err = 0;
    pthread_mutex_lock(&broker->lock);
    if (broker->state == BROKER_TALKING) {
        broker->state = BROKER_LEAVING;
        broker_kick(broker);
    }
    while (broker->state == BROKER_LEAVING && err == 0)
        err = pthread_cond_timedwait(&broker->ended, &broker->lock, &until);
    pthread_mutex_unlock(&broker->lock);
}

struct gt_broker *gt_broker_free(struct gt_broker *broker, unsigned patience_ms)
{
    if (!broker)
        return NULL;
    if (patience_ms)
        broker_leave(broker, patience_ms);
    pthread_mutex_lock(&broker->lock);
    bool is_ended = broker->state == BROKER_ENDED;
    if (!is_ended) {
        broker->state = BROKER_ABANDONED;
        gt_reports_close(&broker->reports);
        n_left_behind++;
        broker_kick(broker);
        pthread_detach(broker->thread); /* it may be stuck in the resolver */
    }
    pthread_mutex_unlock(&broker->lock);
    if (is_ended) {
        pthread_join(broker->thread, NULL); /* an instant; what libcrypto keeps of it goes too */
        broker_destroy(broker);
    }
    return NULL;
}

void gt_broker_check(struct gt_broker *broker)
{
    atomic_store(&broker->is_check_due, true);
    broker_kick(broker);
}

struct gt_broker_report *gt_broker_take(struct gt_broker *broker)
{
    return broker ? gt_reports_take(&broker->reports) : NULL;
}

static int to_errno(int rc)
{
    if (rc == MOSQ_ERR_SUCCESS)
        return 0;
    if (rc == MOSQ_ERR_NOMEM)
        return -ENOMEM;
    if (rc == MOSQ_ERR_OVERSIZE_PACKET || rc == MOSQ_ERR_QOS_NOT_SUPPORTED ||
        rc == MOSQ_ERR_RETAIN_NOT_SUPPORTED)
        return -EOPNOTSUPP; /* as its CONNACK said */
    return rc == MOSQ_ERR_NO_CONN || rc == MOSQ_ERR_CONN_LOST ? -ENOTCONN : -EINVAL;
}

int gt_broker_publish(struct gt_broker *broker, const char *topic, struct gt_span payload,
                      bool is_retained, unsigned expiry_s, int *ret_id)
{
    mosquitto_property *properties = NULL;
    int id = 0, rc = 0;
    if (broker->is_v5 && expiry_s)
        rc = mosquitto_property_add_int32(&properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, expiry_s);
    broker_count(broker, 1);
    if (rc == 0)
        rc = mosquitto_publish_v5(broker->mosquitto, &id, topic, (int)payload.n, payload.data, QOS,
                                  is_retained, properties);
    mosquitto_property_free_all(&properties);
    broker_kick(broker);
    if (rc) {
        broker_count(broker, -1);
        return to_errno(rc);
    }
    *ret_id = id;
    return 0;
}

int gt_broker_subscribe(struct gt_broker *broker, const char *filter)
{
    int rc = mosquitto_subscribe(broker->mosquitto, NULL, filter, QOS);
    broker_kick(broker);
    return to_errno(rc);
}
