/* SPDX-License-Identifier: ISC */
/*
 * The library connects to a single address and opens its own socket, so each address has a client
 * of its own. All connect without blocking, and none sends a byte before the race is decided: the
 * library writes only in mosquitto_loop(), and TLS cannot write to a socket that is not connected.
 */
#include "gotthard/mqtt/mqtt-race.h"

#include <mqtt_protocol.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/net/route.h"
#include "gotthard/signaling/message.h"
#include "gotthard/signaling/topic.h"
#include "gotthard/tls/certificate-context.h"

#define DELAY_S       0.25 /* RFC 8305, section 5: Connection Attempt Delay */
#define PACKET_MAX    (GT_MESSAGE_MAX + GT_TOPIC_MAX + 512)
#define NUMERIC_CAP   64 /* "fe80::...%interface" */
#define FIRST_ADDRESS 1  /* in pollfds: the wake-up is before it */

struct run {
    struct gt_mqtt_race *race;
    struct pollfd fds[FIRST_ADDRESS + GT_RESOLVE_MAX];
    size_t n_started, n_pending;
    double next_at; /* by gt_clock(): start of the next candidate */
    int rc, err;    /* the first failure */
};

/*
 * Only this function of the library takes properties, and it connects with blocking. The port is
 * invalid, so that it keeps the properties and returns before that. Should another version not keep
 * them, the broker is not informed of the limit, which is enforced here nevertheless.
 */
static int set_properties(struct mosquitto *mosquitto, const char *host, int keepalive_s)
{
    mosquitto_property *properties = NULL;
    int rc = mosquitto_property_add_int32(&properties, MQTT_PROP_MAXIMUM_PACKET_SIZE, PACKET_MAX);

    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_connect_bind_v5(mosquitto, host, -1, keepalive_s, NULL, properties);
    mosquitto_property_free_all(&properties);
    return rc == MOSQ_ERR_NOMEM ? rc : MOSQ_ERR_SUCCESS;
}

/*
 * The context has everything about TLS; the library's own defaults would read files. From version
 * 2.0.12 on the library releases its reference only if it has made a connection. So it gets one as
 * late as possible, and only where a connect can begin.
 */
static int set_tls(struct mosquitto *mosquitto, struct ssl_ctx_st *tls)
{
    int rc = mosquitto_int_option(mosquitto, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0);

    return rc ? rc : mosquitto_void_option(mosquitto, MOSQ_OPT_SSL_CTX, tls);
}

static int candidate_connect(const struct gt_mqtt_race *race,
                             const struct gt_mqtt_candidate *candidate)
{
    const struct gt_addr *addr = &candidate->addr;
    char host[NUMERIC_CAP];
    int rc = MOSQ_ERR_SUCCESS;

    if (getnameinfo(&addr->any, addr->n, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
        return MOSQ_ERR_EAI;
    gt_debug("mqtt address=%s port=%u", host, gt_addr_port(addr));
    if (!gt_route_exists(addr)) {
        errno = ENETUNREACH;
        return MOSQ_ERR_ERRNO;
    }
    if (race->tls)
        rc = set_tls(candidate->mosquitto, race->tls);
    if (rc == MOSQ_ERR_SUCCESS && race->is_v5)
        rc = set_properties(candidate->mosquitto, host, race->keepalive_s);
    errno = 0;
    if (rc == MOSQ_ERR_SUCCESS)
        rc = mosquitto_connect_bind_async(candidate->mosquitto, host, gt_addr_port(addr),
                                          race->keepalive_s, NULL);
    if (rc == MOSQ_ERR_SUCCESS && mosquitto_socket(candidate->mosquitto) < 0)
        rc = MOSQ_ERR_NO_CONN;
    return rc;
}

static void run_fail(struct run *run, size_t i, int rc, int err)
{
    struct gt_mqtt_candidate *candidate = &run->race->candidates[i];

    if (run->rc == MOSQ_ERR_SUCCESS) {
        run->rc = rc;
        run->err = err;
    }
    run->fds[FIRST_ADDRESS + i].fd = -1;
    mosquitto_destroy(gt_steal(&candidate->mosquitto));
    run->next_at = 0;
}

static void run_start_next(struct run *run)
{
    size_t i = run->n_started++;
    struct gt_mqtt_candidate *candidate = &run->race->candidates[i];

    run->next_at = gt_clock() + DELAY_S;
    int rc = candidate_connect(run->race, candidate);
    run->fds[FIRST_ADDRESS + i] = (struct pollfd){.fd = -1, .events = POLLOUT};
    if (rc != MOSQ_ERR_SUCCESS) {
        run_fail(run, i, rc, errno);
        return;
    }
    run->fds[FIRST_ADDRESS + i].fd = mosquitto_socket(candidate->mosquitto);
    run->n_pending++;
}

/* Returns true if the candidate is connected. */
static bool run_check(struct run *run, size_t i)
{
    struct pollfd *fd = &run->fds[FIRST_ADDRESS + i];
    struct gt_addr peer;

    if (fd->fd < 0 || !fd->revents)
        return false;
    int r = gt_sock_error(fd->fd);
    if (r == 0 && gt_sock_peer(fd->fd, &peer) == 0)
        return true;
    if (r == -ECONNRESET) /* after the TLS handshake, which the library begins at once */
        run->race->reached = run->race->candidates[i].addr;
    run->n_pending--;
    run_fail(run, i, MOSQ_ERR_ERRNO, r < 0 ? -r : ECONNREFUSED); /* TLS may have taken the error */
    return false;
}

/* The network may have changed. */
static void run_check_routes(struct run *run)
{
    for (size_t i = 0; i < run->n_started; i++) {
        int fd = run->fds[FIRST_ADDRESS + i].fd;

        if (fd < 0 || gt_route_check_socket(fd, &run->race->candidates[i].addr) != GT_ROUTE_GONE)
            continue;
        run->n_pending--;
        run_fail(run, i, MOSQ_ERR_ERRNO, ENETUNREACH);
    }
}

static int run_timeout_ms(const struct run *run)
{
    double left = run->next_at - gt_clock();

    if (run->n_started == run->race->n)
        return -1;
    return left > 0 ? (int)(left * 1000) + 1 : 0;
}

/* Returns true if the race is to end. */
static bool run_wait(struct run *run)
{
    eventfd_t n;

    int ready = poll(run->fds, FIRST_ADDRESS + run->n_started, run_timeout_ms(run));
    if (ready < 0) /* EINTR: all signals are blocked here */
        return errno != EINTR;
    if (!run->fds[0].revents)
        return false;
    (void)eventfd_read(run->race->wakeup_fd, &n);
    run_check_routes(run);
    return run->race->is_over(run->race->userdata);
}

static struct mosquitto *run_find_winner(struct run *run)
{
    for (size_t i = 0; i < run->n_started; i++)
        if (run_check(run, i)) {
            run->race->reached = run->race->candidates[i].addr;
            return gt_steal(&run->race->candidates[i].mosquitto);
        }
    return NULL;
}

static void race_destroy_candidates(struct gt_mqtt_race *race)
{
    for (size_t i = 0; i < race->n; i++)
        mosquitto_destroy(gt_steal(&race->candidates[i].mosquitto));
}

int gt_mqtt_race_run(struct gt_mqtt_race *race, struct mosquitto **ret)
{
    struct run run = {.race = race, .fds[0] = {.fd = race->wakeup_fd, .events = POLLIN}};
    struct mosquitto *winner = NULL;

    while (!winner && (run.n_pending > 0 || run.n_started < race->n)) {
        if (run.n_started < race->n && gt_clock() >= run.next_at)
            run_start_next(&run);
        if (run.n_pending == 0)
            continue;
        if (run_wait(&run)) {
            run.rc = MOSQ_ERR_NO_CONN;
            break;
        }
        winner = run_find_winner(&run);
    }
    race_destroy_candidates(race);
    errno = run.err;
    if (!winner)
        return run.rc != MOSQ_ERR_SUCCESS ? run.rc : MOSQ_ERR_NO_CONN;
    *ret = winner;
    return MOSQ_ERR_SUCCESS;
}

void gt_mqtt_race_deinit(struct gt_mqtt_race *race)
{
    race_destroy_candidates(race);
    race->tls = gt_certificate_context_free(race->tls);
}
