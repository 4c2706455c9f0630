/* SPDX-License-Identifier: ISC */
/*
 * getaddrinfo(3), away from the loop. A query is two things: the asker's half (struct gt_resolve,
 * in the loop) and the question, which its thread keeps for as long as the resolver holds it. An
 * asker who gives up leaves the question to the thread; nobody ever waits for one.
 */
#include "gotthard/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "gotthard/text.h"

enum question_state { ASKED, ANSWERED, ABANDONED };

struct question {
    enum question_state state;
    struct gt_resolve *asker; /* borrows; not when ABANDONED */
    char host[GT_HOST_MAX + 1];
    uint16_t port;
    int err;
    struct gt_addr addrs[GT_RESOLVE_MAX];
    size_t n_addrs;
};

struct gt_resolve {
    struct ev_loop *loop;
    ev_async answered;
    gt_resolve_fn done;
    void *userdata;
    struct question *question; /* NULL while its answer is being told */
};

/* One for all: it is held for an instant, a few times an hour. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void question_keep(struct question *question, const struct addrinfo *found)
{
    for (; found && question->n_addrs < GT_RESOLVE_MAX; found = found->ai_next) {
        struct gt_addr *addr = &question->addrs[question->n_addrs++];
        memcpy(&addr->storage, found->ai_addr, found->ai_addrlen);
        addr->n = found->ai_addrlen;
        gt_addr_set_port(addr, question->port);
    }
}

static void *question_thread(void *arg)
{
    struct question *question = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    question->err = getaddrinfo(question->host, NULL, &hints, &found);
    if (question->err == 0) {
        question_keep(question, found);
        freeaddrinfo(found);
    }
    pthread_mutex_lock(&lock);
    bool is_abandoned = question->state == ABANDONED;
    if (!is_abandoned) {
        question->state = ANSWERED;
        ev_async_send(question->asker->loop, &question->asker->answered);
    }
    pthread_mutex_unlock(&lock);
    if (is_abandoned)
        free(question);
    return NULL;
}

/* Begins a thread that hears no signal: those are the loop's. */
static int question_ask(struct question *question)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&thread, NULL, question_thread, question);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0)
        pthread_detach(thread);
    return -err;
}

static void resolve_on_answered(struct ev_loop *loop, ev_async *async, int revents)
{
    struct gt_resolve *resolve = gt_container_of(async, struct gt_resolve, answered);
    pthread_mutex_lock(&lock);
    bool is_answered = resolve->question->state == ANSWERED;
    pthread_mutex_unlock(&lock);
    if (!is_answered)
        return;
    struct question *question = gt_steal(&resolve->question);
    ev_async_stop(loop, async);
    resolve->done(resolve->userdata, question->err, question->addrs, question->n_addrs);
    free(question);
    free(resolve);
}

/* A question; one about a numeric host, or no host at all, is answered already. */
static struct question *question_new(const char *host, uint16_t port, struct gt_resolve *asker)
{
    struct question *question = calloc(1, sizeof(*question));
    if (!question)
        return NULL;
    *question = (struct question){.state = ANSWERED, .asker = asker, .port = port};
    if (strlen(host) > GT_HOST_MAX) {
        question->err = EAI_NONAME;
    } else if (gt_addr_parse(host, port, &question->addrs[0]) == 0) {
        question->n_addrs = 1;
    } else {
        question->state = ASKED;
        memcpy(question->host, host, strlen(host) + 1);
    }
    return question;
}

int gt_resolve_new(struct ev_loop *loop, const char *host, uint16_t port, gt_resolve_fn done,
                   void *userdata, struct gt_resolve **ret)
{
    gt_cleanup(gt_free) struct gt_resolve *resolve = calloc(1, sizeof(*resolve));
    if (!resolve)
        return -ENOMEM;
    gt_cleanup(gt_free) struct question *question = question_new(host, port, resolve);
    if (!question)
        return -ENOMEM;
    *resolve =
        (struct gt_resolve){.loop = loop, .done = done, .userdata = userdata, .question = question};
    ev_async_init(&resolve->answered, resolve_on_answered);
    ev_async_start(loop, &resolve->answered);
    int r = 0;
    if (question->state == ANSWERED)
        ev_async_send(loop, &resolve->answered);
    else
        r = question_ask(question);
    if (r < 0) {
        ev_async_stop(loop, &resolve->answered);
        return r;
    }
    gt_steal(&question);
    *ret = gt_steal(&resolve);
    return 0;
}

struct gt_resolve *gt_resolve_cancel(struct gt_resolve *resolve)
{
    if (!resolve || !resolve->question)
        return NULL;
    pthread_mutex_lock(&lock);
    bool is_answered = resolve->question->state == ANSWERED;
    resolve->question->state = ABANDONED;
    pthread_mutex_unlock(&lock);
    if (is_answered)
        free(resolve->question);
    ev_async_stop(resolve->loop, &resolve->answered);
    free(resolve);
    return NULL;
}
