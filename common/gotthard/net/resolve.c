/* SPDX-License-Identifier: ISC */
/*
 * A query is one end of a socket pair. The other end belongs to a thread of this process, or goes
 * to the resolver process. It may be closed at any time, so that a query that is freed leaves its
 * lookup alone. The loop must never wait for a lookup.
 */
#include "gotthard/net/resolve.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/text.h"
#include "gotthard/net/lookup.h"
#include "gotthard/net/resolver.h"

struct gt_resolve {
    struct ev_loop *loop;
    ev_io answered; /* its fd is owned; -1: the answer was known at once */
    ev_timer known; /* reports such an answer in the next iteration of the loop */
    gt_resolve_fn on_done;
    void *userdata;
    uint16_t port;
    char host[GT_HOST_MAX + 1];
    struct gt_lookup_answer answer;
};

static int resolver = -1; /* owned; -1: lookups are threads of this process */

/* The last answer for the first name that the resolver process has found, which is the relay's: a
 * session must not end because that process has failed, or has too much to do. */
static struct {
    char host[GT_HOST_MAX + 1];
    struct gt_lookup_answer answer;
} kept;

void gt_resolve_use_process(int fd)
{
    gt_close(&resolver);
    resolver = fd;
    kept.host[0] = 0;
}

static void resolve_report(struct gt_resolve *resolve)
{
    struct gt_lookup_answer *answer = &resolve->answer;

    for (size_t i = 0; i < answer->n_addrs; i++)
        gt_addr_set_port(&answer->addrs[i], resolve->port);
    resolve->on_done(resolve->userdata, answer->err, answer->addrs, answer->n_addrs);
}

static void resolve_keep_answer(const struct gt_resolve *resolve)
{
    bool is_first = !kept.host[0] || strcmp(kept.host, resolve->host) == 0;

    if (resolver < 0 || resolve->answer.err || !is_first)
        return;
    memcpy(kept.host, resolve->host, sizeof(kept.host));
    kept.answer = resolve->answer;
}

/* The process cannot be asked. */
static void resolve_use_kept_answer(struct gt_resolve *resolve)
{
    if (kept.host[0] && strcmp(kept.host, resolve->host) == 0)
        resolve->answer = kept.answer;
    else
        resolve->answer.err = EAI_AGAIN;
    ev_timer_start(resolve->loop, &resolve->known);
}

static void resolve_on_answered(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct gt_resolve *resolve = gt_container_of(watcher, struct gt_resolve, answered);

    gt_lookup_receive(watcher->fd, &resolve->answer);
    ev_io_stop(loop, watcher);
    resolve_keep_answer(resolve);
    resolve_report(resolve);
}

static void resolve_on_known(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    resolve_report(gt_container_of(watcher, struct gt_resolve, known));
}

static int look_up(const char *host, int fd)
{
    if (resolver < 0)
        return gt_lookup_start(host, fd, NULL);
    int r = gt_resolver_ask(resolver, host, fd);
    close(fd);
    return r;
}

static int resolve_start(struct gt_resolve *resolve, const char *host)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    int r = look_up(host, ends[1]);
    if (r < 0) {
        close(ends[0]);
        return r;
    }
    ev_io_set(&resolve->answered, ends[0], EV_READ);
    ev_io_start(resolve->loop, &resolve->answered);
    return 0;
}

/* Returns true with the answer for a numeric host, or for a name that is too long. */
static bool is_known_at_once(const char *host, struct gt_lookup_answer *ret)
{
    if (strlen(host) > GT_HOST_MAX)
        ret->err = EAI_NONAME;
    else if (gt_addr_parse(host, 0, &ret->addrs[0]) == 0)
        ret->n_addrs = 1;
    return ret->err != 0 || ret->n_addrs > 0;
}

int gt_resolve_new(struct ev_loop *loop, const char *host, uint16_t port, gt_resolve_fn on_done,
                   void *userdata, struct gt_resolve **ret)
{
    gt_cleanup(gt_free) struct gt_resolve *resolve = calloc(1, sizeof(*resolve));
    int r = 0;

    if (!resolve)
        return -ENOMEM;
    resolve->loop = loop;
    resolve->on_done = on_done;
    resolve->userdata = userdata;
    resolve->port = port;
    ev_io_init(&resolve->answered, resolve_on_answered, -1, EV_READ);
    ev_timer_init(&resolve->known, resolve_on_known, 0., 0.);
    if (is_known_at_once(host, &resolve->answer)) {
        ev_timer_start(loop, &resolve->known);
    } else {
        memcpy(resolve->host, host, strlen(host) + 1);
        r = resolve_start(resolve, host);
    }
    if (r < 0 && resolver >= 0) {
        resolve_use_kept_answer(resolve);
        r = 0;
    }
    if (r == 0)
        *ret = gt_steal(&resolve);
    return r;
}

void gt_resolve_report_known(struct gt_resolve *resolve)
{
    if (!ev_is_active(&resolve->known))
        return;
    ev_timer_stop(resolve->loop, &resolve->known);
    resolve_report(resolve);
}

struct gt_resolve *gt_resolve_free(struct gt_resolve *resolve)
{
    if (!resolve)
        return NULL;
    ev_io_stop(resolve->loop, &resolve->answered);
    ev_timer_stop(resolve->loop, &resolve->known);
    gt_close(&resolve->answered.fd);
    free(resolve);
    return NULL;
}
