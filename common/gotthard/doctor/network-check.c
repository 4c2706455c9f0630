/* SPDX-License-Identifier: ISC */
/* Names and addresses, one after the other; see the header. */
#include "gotthard/doctor/network-check.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"
#include "gotthard/doctor/wait.h"
#include "gotthard/net/resolve-error.h"

#define NAME_S     8.
#define TCP_S      5.
#define ALIVE_S    3.
#define OTHER_PORT 443 /* the one that nearly every network lets out */

/* --- the name --------------------------------------------------------------------------------- */

struct lookup {
    struct ev_loop *loop;
    struct gt_network *network;
    bool is_done;
    int err;
};

static void on_resolved(void *userdata, int err, const struct gt_addr *addrs, size_t n_addrs)
{
    struct lookup *lookup = userdata;

    lookup->is_done = true;
    lookup->err = err;
    for (size_t i = 0; i < GT_MIN(n_addrs, (size_t)GT_RESOLVE_MAX); i++)
        lookup->network->attempts[i].addr = addrs[i];
    lookup->network->n_attempts = GT_MIN(n_addrs, (size_t)GT_RESOLVE_MAX);
    gt_check_wake(lookup->loop);
}

/* EAI_AGAIN is both an error of the server and its silence: the time distinguishes them. */
static enum gt_network_name judge_name(const struct lookup *lookup, double took_s)
{
    if (!lookup->is_done)
        return GT_NETWORK_NAME_SILENT;
    if (lookup->network->n_attempts > 0)
        return GT_NETWORK_NAME_FOUND;
    if (lookup->err == EAI_AGAIN)
        return took_s >= GT_RESOLVE_SILENT_S ? GT_NETWORK_NAME_SILENT : GT_NETWORK_NAME_FAILED;
    return lookup->err == 0 || gt_resolve_is_unknown(lookup->err) ? GT_NETWORK_NAME_ABSENT
                                                                  : GT_NETWORK_NAME_FAILED;
}

static void check_name(struct ev_loop *loop, const struct gt_host_port *to,
                       struct gt_network *network)
{
    struct lookup lookup = {.loop = loop, .network = network};
    struct gt_resolve *resolve = NULL;
    double began = gt_clock();

    network->name = GT_NETWORK_NAME_FAILED;
    if (gt_resolve_new(loop, to->host, to->port, on_resolved, &lookup, &resolve) != 0)
        return;
    gt_check_wait(loop, NAME_S);
    gt_resolve_free(resolve);
    network->name = judge_name(&lookup, gt_clock() - began);
}

/* --- the addresses ---------------------------------------------------------------------------- */

struct race { /* all addresses at the same time */
    struct ev_loop *loop;
    size_t n_pending;
    struct connection {
        struct race *race;
        struct gt_network_attempt *attempt;
        int fd;
        ev_io writable;
    } connections[GT_RESOLVE_MAX];
};

static void connection_end(struct connection *connection, int err)
{
    connection->attempt->err = err;
    ev_io_stop(connection->race->loop, &connection->writable);
    gt_close(&connection->fd);
    if (--connection->race->n_pending == 0)
        gt_check_wake(connection->race->loop);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct connection *connection = io->data;

    connection_end(connection, -gt_sock_error(connection->fd));
}

static void connection_start(struct race *race, struct connection *connection,
                             struct gt_network_attempt *attempt)
{
    int r = gt_sock_connect(&attempt->addr);

    connection->race = race;
    connection->attempt = attempt;
    connection->fd = r;
    attempt->err = r < 0 ? -r : ETIMEDOUT;
    ev_init(&connection->writable, on_writable);
    if (r < 0)
        return;
    connection->writable.data = connection;
    ev_io_set(&connection->writable, connection->fd, EV_WRITE);
    ev_io_start(race->loop, &connection->writable);
    race->n_pending++;
}

static void check_addresses(struct ev_loop *loop, struct gt_network_attempt *attempts, size_t n,
                            double limit_s)
{
    struct race race = {.loop = loop};

    for (size_t i = 0; i < n; i++)
        connection_start(&race, &race.connections[i], &attempts[i]);
    if (race.n_pending > 0)
        gt_check_wait(loop, limit_s);
    for (size_t i = 0; i < n; i++)
        if (race.connections[i].fd >= 0)
            connection_end(&race.connections[i], ETIMEDOUT);
}

int gt_network_check_address(struct ev_loop *loop, const struct gt_addr *addr, double limit_s)
{
    struct gt_network_attempt attempt = {.addr = *addr};

    check_addresses(loop, &attempt, 1, limit_s);
    return attempt.err;
}

static bool is_blocked(int err)
{
    return err == ETIMEDOUT || err == EHOSTUNREACH || err == EACCES || err == EPERM;
}

/* Another port distinguishes a firewall, which blocks one port, from a machine that is off. */
static bool is_alive(struct ev_loop *loop, const struct gt_network_attempt *attempt)
{
    struct gt_addr addr = attempt->addr;

    if (!is_blocked(attempt->err) || gt_addr_port(&addr) == OTHER_PORT)
        return false;
    gt_addr_set_port(&addr, OTHER_PORT);
    int err = gt_network_check_address(loop, &addr, ALIVE_S);
    return err == 0 || err == ECONNREFUSED;
}

void gt_network_check(struct ev_loop *loop, const struct gt_host_port *to, struct gt_network *ret)
{
    struct gt_addr numeric;

    *ret = (struct gt_network){.is_numeric = gt_addr_parse(to->host, to->port, &numeric) == 0};
    check_name(loop, to, ret);
    check_addresses(loop, ret->attempts, ret->n_attempts, TCP_S);
    for (size_t i = 0; i < ret->n_attempts; i++)
        ret->n_connected += ret->attempts[i].err == 0;
    if (ret->n_attempts > 0 && ret->n_connected == 0)
        ret->is_alive = is_alive(loop, &ret->attempts[0]);
}

/* --- rows ------------------------------------------------------------------------------------- */

void gt_network_remedy_of_name(enum gt_network_name name, const char *host, const char *setting,
                               char *ret, size_t cap)
{
    switch (name) {
    case GT_NETWORK_NAME_FOUND: *ret = 0; return;
    case GT_NETWORK_NAME_ABSENT:
        snprintf(ret, cap, "correct %s, or add the name to the DNS: getent ahosts %s", setting,
                 host);
        return;
    case GT_NETWORK_NAME_FAILED:
    case GT_NETWORK_NAME_SILENT:
        snprintf(
            ret, cap,
            "repair the network or the name servers of /etc/resolv.conf, or add its address to "
            "/etc/hosts; to check it: getent ahosts %s",
            host);
        return;
    }
}

static void add_name_row(const struct gt_network *network, const struct gt_host_port *to,
                         const struct gt_network_words *words, struct gt_checkup *checkup)
{
    char remedy[GT_CHECK_REMEDY];
    struct gt_check_fault fault = words->fault;

    gt_network_remedy_of_name(network->name, to->host, words->setting, remedy, sizeof(remedy));
    fault.remedy = remedy;
    switch (network->name) {
    case GT_NETWORK_NAME_FOUND:
        if (network->is_numeric)
            gt_checkup_ok(checkup, words->name, "%s is an address", to->host);
        else
            gt_checkup_ok(checkup, words->name, "%s has %zu address%s", to->host,
                          network->n_attempts, network->n_attempts == 1 ? "" : "es");
        return;
    case GT_NETWORK_NAME_ABSENT:
        gt_checkup_fail(checkup, words->name, &fault,
                        "there is no address for %s: the name servers do not know it", to->host);
        return;
    case GT_NETWORK_NAME_FAILED:
        gt_checkup_fail(checkup, words->name, &fault,
                        "the name server fails (SERVFAIL) for %s, or cannot be reached", to->host);
        return;
    case GT_NETWORK_NAME_SILENT:
        gt_checkup_fail(checkup, words->name, &fault, "no name server answers (asked for %s)",
                        to->host);
        return;
    }
}

/* An address of a family that this machine does not have is never used. */
static bool is_family_absent(int err)
{
    return err == ENETUNREACH || err == EADDRNOTAVAIL || err == EAFNOSUPPORT;
}

/* Returns the failure to show: that of an address in use, if there is one. */
static const struct gt_network_attempt *find_failed(const struct gt_network *network)
{
    const struct gt_network_attempt *found = NULL;

    for (size_t i = 0; i < network->n_attempts; i++) {
        const struct gt_network_attempt *attempt = &network->attempts[i];

        if (attempt->err != 0 && (!found || is_family_absent(found->err)))
            found = attempt;
    }
    return found;
}

static const char *words_of(int err)
{
    return err == ETIMEDOUT ? "no answer" : strerror(err);
}

static const char *family_of(const struct gt_addr *addr)
{
    return addr->any.sa_family == AF_INET6 ? "IPv6" : "IPv4";
}

static void add_tcp_warning(const struct gt_network *network, const char *name,
                            const struct gt_network_attempt *failed, struct gt_checkup *checkup)
{
    char text[GT_ADDR_TEXT], remedy[GT_CHECK_REMEDY];

    gt_addr_text(&failed->addr, text);
    if (failed->addr.any.sa_family == AF_INET6)
        snprintf(remedy, sizeof(remedy),
                 "repair IPv6 on this network, or remove the AAAA record; each connection waits "
                 "0.25 s for it. To see it: ping -6 -c 1 %.*s",
                 (int)(strcspn(text, "]") - 1), text + 1);
    else
        snprintf(remedy, sizeof(remedy), "remove the address from the DNS if no server has it");
    gt_checkup_warn(checkup, name, remedy, "%s is broken: %s: %s; %zu of %zu addresses answer",
                    family_of(&failed->addr), text, words_of(failed->err), network->n_connected,
                    network->n_attempts);
}

static void add_tcp_failure(const struct gt_network *network, const struct gt_network_words *words,
                            const struct gt_network_attempt *failed, struct gt_checkup *checkup)
{
    struct gt_check_fault fault = words->fault;
    char text[GT_ADDR_TEXT];

    if (failed->err == ECONNREFUSED)
        fault.remedy = words->refused;
    else if (is_family_absent(failed->err))
        fault.remedy = "connect this machine to the network: ip route";
    gt_addr_text(&failed->addr, text);
    if (network->is_alive) {
        fault.remedy = words->blocked;
        gt_checkup_fail(checkup, words->tcp, &fault,
                        "%s: %s, and the machine answers at port %d: a firewall blocks port %u",
                        text, words_of(failed->err), OTHER_PORT, gt_addr_port(&failed->addr));
        return;
    }
    gt_checkup_fail(checkup, words->tcp, &fault, "%s: %s", text, words_of(failed->err));
}

bool gt_network_add_rows(const struct gt_network *network, const struct gt_host_port *to,
                         const struct gt_network_words *words, struct gt_checkup *checkup)
{
    const struct gt_network_attempt *failed = find_failed(network);
    char text[GT_ADDR_TEXT];

    add_name_row(network, to, words, checkup);
    if (network->name != GT_NETWORK_NAME_FOUND) {
        gt_checkup_skip(checkup, words->tcp, "there is no address");
        return false;
    }
    if (network->n_connected == 0) {
        add_tcp_failure(network, words, failed, checkup);
        return false;
    }
    if (failed && !is_family_absent(failed->err)) {
        add_tcp_warning(network, words->tcp, failed, checkup);
        return true;
    }
    for (size_t i = 0; i < network->n_attempts; i++)
        if (network->attempts[i].err == 0) {
            gt_checkup_ok(checkup, words->tcp, "%s answers",
                          gt_addr_text(&network->attempts[i].addr, text));
            break;
        }
    return true;
}

bool gt_network_check_proxy(struct ev_loop *loop, const struct gt_proxy *proxy, const char *setting,
                            struct gt_check_fault fault, struct gt_checkup *checkup)
{
    char named[48], silent[96], blocked[96], refused[96];
    struct gt_host_port to = {.port = proxy->port};
    struct gt_network network;
    struct gt_network_words words = {
        .name = "proxy name",
        .tcp = "proxy TCP",
        .fault = {fault.id, fault.exit, silent},
        .blocked = blocked,
        .refused = refused,
        .setting = named,
    };

    snprintf(named, sizeof(named), "{%s}", setting);
    snprintf(silent, sizeof(silent), "check %s, and the way to it", named);
    snprintf(blocked, sizeof(blocked), "open the port in the firewall, or correct %s", named);
    snprintf(refused, sizeof(refused), "start the proxy, or correct %s", named);
    snprintf(to.host, sizeof(to.host), "%s", proxy->host);
    gt_network_check(loop, &to, &network);
    return gt_network_add_rows(&network, &to, &words, checkup);
}
