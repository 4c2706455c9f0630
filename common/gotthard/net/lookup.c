/* SPDX-License-Identifier: ISC */
/* A thread with its own copy of the name and its own descriptor, and nothing shared; see the
 * header. */
#include "gotthard/net/lookup.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/text.h"

struct lookup {
    char host[GT_HOST_MAX + 1];
    int fd; /* owned */
    void (*on_end)(void);
};

static void answer_add(struct gt_lookup_answer *answer, const struct addrinfo *found)
{
    struct gt_addr *addr = &answer->addrs[answer->n_addrs++];

    memcpy(&addr->storage, found->ai_addr, found->ai_addrlen);
    addr->n = found->ai_addrlen;
}

static const struct addrinfo *find_family(const struct addrinfo *found, int family, bool is_wanted)
{
    while (found && (found->ai_family == family) != is_wanted)
        found = found->ai_next;
    return found;
}

/* The families alternate (RFC 8305, section 4): the first of a family that does not work here must
 * not be followed by all others of that family. */
static void answer_set(struct gt_lookup_answer *answer, const struct addrinfo *found)
{
    int family = found->ai_family;
    const struct addrinfo *same = found, *other = find_family(found, family, false);

    while ((same || other) && answer->n_addrs < GT_LOOKUP_MAX) {
        if (same) {
            answer_add(answer, same);
            same = find_family(same->ai_next, family, true);
        }
        if (other && answer->n_addrs < GT_LOOKUP_MAX) {
            answer_add(answer, other);
            other = find_family(other->ai_next, family, false);
        }
    }
}

static void *lookup_thread(void *arg)
{
    struct lookup *lookup = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct gt_lookup_answer answer;
    void (*on_end)(void) = lookup->on_end;

    memset(&answer, 0, sizeof(answer)); /* its padding is sent too */
    answer.err = getaddrinfo(lookup->host, NULL, &hints, &found);
    if (answer.err == 0) {
        answer_set(&answer, found);
        freeaddrinfo(found);
    }
    (void)send(lookup->fd, &answer, sizeof(answer), MSG_NOSIGNAL);
    close(lookup->fd);
    free(lookup);
    if (on_end)
        on_end();
    return NULL;
}

/* Starts a thread with all signals blocked: they belong to the loop. */
static int thread_start(struct lookup *lookup)
{
    sigset_t all, before;
    pthread_t thread;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&thread, NULL, lookup_thread, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0)
        pthread_detach(thread);
    return -err;
}

int gt_lookup_start(const char *host, int fd, void (*on_end)(void))
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    int r = -ENOMEM;

    if (lookup) {
        *lookup = (struct lookup){.fd = fd, .on_end = on_end};
        memcpy(lookup->host, host, strlen(host) + 1);
        r = thread_start(lookup);
    }
    if (r < 0) {
        free(lookup);
        close(fd);
    }
    return r;
}

static bool is_valid(const struct gt_lookup_answer *answer)
{
    if (answer->n_addrs > GT_LOOKUP_MAX || (answer->err == 0 && answer->n_addrs == 0))
        return false;
    for (size_t i = 0; i < answer->n_addrs; i++) {
        const struct gt_addr *addr = &answer->addrs[i];
        bool is_v4 = addr->any.sa_family == AF_INET && addr->n == sizeof(addr->v4);
        bool is_v6 = addr->any.sa_family == AF_INET6 && addr->n == sizeof(addr->v6);

        if (!is_v4 && !is_v6)
            return false;
    }
    return true;
}

void gt_lookup_receive(int fd, struct gt_lookup_answer *ret)
{
    ssize_t n = recv(fd, ret, sizeof(*ret), MSG_TRUNC | MSG_DONTWAIT);

    if (n != sizeof(*ret) || !is_valid(ret))
        *ret = (struct gt_lookup_answer){.err = EAI_AGAIN};
}
