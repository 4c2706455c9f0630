/* SPDX-License-Identifier: ISC */
/* Nothing waits: a datagram that one side does not take is dropped. See the header. */
#include "udp-target.h"

#include <sys/socket.h>

#include "gotthard/net/sock.h"
#include "gotthard/tunnel/datagrams.h"

#define TURN_MAX 32 /* datagrams in one turn of the loop */

struct udp_target {
    struct ev_loop *loop;
    udp_target_fn on_end;
    void *userdata;
    int fd; /* owned */
    ev_io readable;
    ev_timer refused; /* reports a refusal from the loop */
    struct gt_datagrams *datagrams;
};

struct udp_target *udp_target_free(struct udp_target *target)
{
    if (!target)
        return NULL;
    ev_io_stop(target->loop, &target->readable);
    ev_timer_stop(target->loop, &target->refused);
    gt_datagrams_free(target->datagrams);
    gt_close(&target->fd);
    free(target);
    return NULL;
}

static void udp_target_on_refused(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct udp_target *target = watcher->data;

    target->on_end(target->userdata, true);
}

/* An error of an earlier datagram is reported once, by the next call. */
static void udp_target_check(struct udp_target *target, int err)
{
    if (err == ECONNREFUSED)
        ev_timer_start(target->loop, &target->refused);
}

static void udp_target_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    static uint8_t data[GT_DATAGRAM_MAX];
    struct udp_target *target = watcher->data;

    for (int i = 0; i < TURN_MAX; i++) {
        ssize_t n = recv(target->fd, data, sizeof(data), MSG_TRUNC);

        if (n < 0) {
            udp_target_check(target, errno);
            return;
        }
        (void)gt_datagrams_send(target->datagrams, data, (size_t)n); /* drops a longer one */
    }
}

static void udp_target_on_datagram(void *userdata, const uint8_t *data, size_t n)
{
    struct udp_target *target = userdata;

    if (send(target->fd, data, n, MSG_NOSIGNAL) < 0)
        udp_target_check(target, errno);
}

static void udp_target_on_end(void *userdata)
{
    struct udp_target *target = userdata;

    target->on_end(target->userdata, false);
}

int udp_target_new(struct ev_loop *loop, int fd, udp_target_fn on_end, void *userdata,
                   struct udp_target **ret, int *ret_stream)
{
    static const struct gt_datagrams_events events = {udp_target_on_datagram, udp_target_on_end};
    struct udp_target *target = calloc(1, sizeof(*target));
    int ends[2];

    if (!target) {
        close(fd);
        return -ENOMEM;
    }
    *target = (struct udp_target){.loop = loop, .on_end = on_end, .userdata = userdata, .fd = fd};
    ev_io_init(&target->readable, udp_target_on_readable, fd, EV_READ);
    ev_timer_init(&target->refused, udp_target_on_refused, 0., 0.);
    target->readable.data = target->refused.data = target;
    int r = gt_sock_pair(ends);
    if (r == 0) {
        r = gt_datagrams_new(loop, ends[0], 0., &events, target, &target->datagrams);
        if (r)
            close(ends[1]);
    }
    if (r) {
        udp_target_free(target);
        return r;
    }
    ev_io_start(loop, &target->readable);
    *ret = target;
    *ret_stream = ends[1];
    return 0;
}
