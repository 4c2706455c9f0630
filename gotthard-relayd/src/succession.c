/* SPDX-License-Identifier: ISC */
/*
 * The moments at which a relay changes hands. In earnest it happens outside the loop: nothing that
 * runs is interrupted, and what came before is heard before.
 */
#include "succession.h"

#include <signal.h>

#include "estate.h"
#include "gotthard/log.h"
#include "restarting.h"

static struct estate succession_estate(struct relayd *relayd)
{
    return (struct estate){
        .loop = relayd->loop,
        .registry = &relayd->registry,
        .members = &relayd->members,
        .quota = &relayd->quota,
        .planes = relayd->planes.all,
        .n_planes = relayd->planes.n,
        .door = &relayd->door,
        .on_accept = relayd_on_accept,
        .userdata = relayd,
    };
}

static void succession_write(void *userdata, struct gt_writer *writer)
{
    const struct estate estate = succession_estate(userdata);

    estate_write(&estate, writer);
}

static void succession_on_refused(void *userdata, const char *why)
{
    gt_error("upgrade refused, this program goes on reason=\"%s\"", why);
    relayd_be_ready(userdata);
}

static void succession_on_rehearsed(void *userdata)
{
    struct relayd *relayd = userdata;

    relayd->state = RELAYD_UPGRADING;
    ev_break(relayd->loop, EVBREAK_ALL);
}

/* The planes stand still for as long as it takes to write the state down. */
void succession_on_signal(struct ev_loop *loop, ev_signal *signal, int events)
{
    struct relayd *relayd = signal->data;
    static struct gt_log_rate rate;
    unsigned left_out;

    if (relayd->state != RELAYD_RUNNING || relayd->upgrade.state != UPGRADE_IDLE) {
        if (gt_log_is_allowed(&rate, 1, &left_out))
            gt_info("upgrade not begun, another or the end is under way left-out=%u", left_out);
        return;
    }
    gt_info("upgrade: the installed program rehearses");
    gt_notify_reloading();
    planes_stop(&relayd->planes);
    upgrade_rehearse(&relayd->upgrade);
    planes_go_on(&relayd->planes);
}

static void succession_block_signals(int how)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < GT_ARRAY_SIZE(signals); i++)
        sigaddset(&set, signals[i]);
    sigprocmask(how, &set, NULL);
}

/* From here on whoever comes waits for the next image, as signals do; one that has come before is
 * heard first, for it may be the end. */
void succession_execute(struct relayd *relayd)
{
    const char *why = NULL;

    door_pause(&relayd->door);
    restarting_tell(&relayd->members, restarting_window_ms(&relayd->members, RESTARTING_IMAGE));
    succession_block_signals(SIG_BLOCK);
    ev_run(relayd->loop, EVRUN_NOWAIT);
    if (relayd->state == RELAYD_UPGRADING) {
        planes_stop(&relayd->planes);
        member_host_settle(&relayd->members);
        why = upgrade_execute(&relayd->upgrade);
        planes_go_on(&relayd->planes);
        relayd->state = RELAYD_RUNNING;
    }
    succession_block_signals(SIG_UNBLOCK);
    if (why)
        succession_on_refused(relayd, why);
}

/* The planes have no threads yet. */
int succession_inherit(struct relayd *relayd)
{
    const struct estate estate = succession_estate(relayd);
    uint16_t wanted = (uint16_t)relayd->settings->port;
    struct estate_counts counts;
    int r = estate_take(&estate, heir_state(relayd->call->heir), &counts);

    heir_deinit(relayd->call->heir);
    if (!r && door_port(&relayd->door, wanted) != wanted)
        gt_warn("server.port changes with a restart only");
    if (!r)
        gt_info("took over sessions=%zu pairs=%zu tickets=%zu pause=%llums", counts.n_sessions,
                counts.n_pairs, counts.n_tickets,
                (unsigned long long)(now_ms() - counts.stopped_at));
    return r;
}

void succession_init(struct relayd *relayd)
{
    upgrade_init(&relayd->upgrade, relayd->loop, relayd->call->argv);
    relayd->upgrade.write = succession_write;
    relayd->upgrade.on_rehearsed = succession_on_rehearsed;
    relayd->upgrade.on_refused = succession_on_refused;
    relayd->upgrade.userdata = relayd;
    succession_block_signals(SIG_UNBLOCK); /* the image before has blocked them */
}
