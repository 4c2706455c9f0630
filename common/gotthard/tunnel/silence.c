/* SPDX-License-Identifier: ISC */
/*
 * One timer, which runs only while data is in flight: an idle connection costs no wake-up.
 */
#include "gotthard/tunnel/silence.h"

#include "gotthard/base/clock.h"
#include "gotthard/net/sock.h"

#define LIMIT_S      90. /* found within two minutes, in any state */
#define CHECKS       10  /* within the limit */
#define CHECK_MAX_S  10.
#define DATA_REPEATS 3 /* an answer that was lost on its way is no silence */
#define PROBES       2

static bool is_vanished(const struct gt_silence *silence, const struct gt_sock_answers *answers)
{
    /* After a quiet hour the last answer is an hour old. After suspend the clock is ahead. */
    double silent_s = GT_MIN(answers->silent_s, gt_clock() - silence->since);

    return silent_s >= silence->limit_s &&
           (answers->n_repeats >= DATA_REPEATS || answers->n_probes >= PROBES);
}

static void silence_on_check(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct gt_silence *silence = timer->data;
    struct gt_sock_answers answers;

    if (gt_sock_get_answers(silence->fd, &answers) != 0 || !answers.is_in_flight) {
        ev_timer_stop(loop, timer);
        return;
    }
    if (!is_vanished(silence, &answers))
        return;
    ev_timer_stop(loop, timer);
    silence->on_vanished(silence->userdata);
}

void gt_silence_begin(struct gt_silence *silence)
{
    if (silence->fd < 0)
        return;
    silence->since = gt_clock();
    ev_timer_again(silence->loop, &silence->check);
}

static double limit_of(double limit_s)
{
    return limit_s > 0 ? limit_s : LIMIT_S;
}

void gt_silence_prepare(int fd, double limit_s)
{
    gt_sock_set_keepalive(fd, limit_of(limit_s));
}

void gt_silence_init(struct gt_silence *silence, struct ev_loop *loop, double limit_s,
                     void (*on_vanished)(void *userdata), void *userdata)
{
    *silence = (struct gt_silence){
        .loop = loop,
        .fd = -1,
        .limit_s = limit_of(limit_s),
        .on_vanished = on_vanished,
        .userdata = userdata,
    };
    ev_init(&silence->check, silence_on_check);
    silence->check.repeat = GT_MIN(silence->limit_s / CHECKS, CHECK_MAX_S);
    silence->check.data = silence;
}

void gt_silence_start(struct gt_silence *silence, int fd)
{
    silence->fd = fd;
}

void gt_silence_stop(struct gt_silence *silence)
{
    ev_timer_stop(silence->loop, &silence->check);
    silence->fd = -1;
}
