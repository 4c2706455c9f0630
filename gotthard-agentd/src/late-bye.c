/* SPDX-License-Identifier: ISC */
/*
 * SENDING -> (on failure) WAITING -> SENDING ... -> DONE; see the header. Attempts are repeated
 * until every operator must have given up: after a power cut the network may take its time. Never
 * blocks the listener.
 */
#include "late-bye.h"

#include <stdio.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/relay/control-connection.h"
#include "session-file.h"

struct late_bye *late_bye_free(struct late_bye *late_bye)
{
    if (!late_bye)
        return NULL;
    gt_list_unlink(&late_bye->link);
    ev_timer_stop(late_bye->loop, &late_bye->due);
    gt_control_connection_free(late_bye->control);
    free(late_bye->session_file_path);
    gt_wipe(late_bye, sizeof(*late_bye));
    free(late_bye);
    return NULL;
}

/* @after: seconds until late_bye_on_due; SENDING has the control connection's own deadlines. */
static void late_bye_enter(struct late_bye *late_bye, enum late_bye_state state, double after)
{
    static const char *const names[] = {
        [LATE_BYE_SENDING] = "sending",
        [LATE_BYE_WAITING] = "waiting",
        [LATE_BYE_DONE] = "done",
    };

    gt_debug("device=%s late bye %s -> %s", late_bye->device, names[late_bye->state], names[state]);
    late_bye->state = state;
    ev_timer_stop(late_bye->loop, &late_bye->due);
    ev_timer_set(&late_bye->due, after, 0.);
    if (state != LATE_BYE_SENDING)
        ev_timer_start(late_bye->loop, &late_bye->due);
}

/* --- the control connection */

/* The relay notified the operator as soon as we were registered; BYE ends the session. */
static void late_bye_on_session(void *userdata, const struct gt_addr *addr, uint16_t port,
                                bool is_peer_up)
{
    struct late_bye *late_bye = userdata;

    gt_control_connection_bye(late_bye->control, late_bye->code);
}

static void late_bye_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void late_bye_on_ticket(void *userdata, const struct gt_ticket *ticket)
{
}

static void late_bye_on_stream_end(void *userdata, uint32_t stream, uint32_t attempt, unsigned code)
{
}

static void late_bye_on_restart_notice(void *userdata, uint32_t reconnect_in_ms,
                                       uint32_t try_for_ms)
{
}

/* A relay that refuses does not know the session any more: nothing is left to send. */
static void late_bye_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                             const char *why)
{
    struct late_bye *late_bye = userdata;
    bool is_done =
        cause == GT_END_CLOSED || cause == GT_END_REFUSED || gt_clock() >= late_bye->give_up_at;

    if (is_done)
        late_bye_enter(late_bye, LATE_BYE_DONE, 0.);
    else
        late_bye_enter(late_bye, LATE_BYE_WAITING, gt_backoff_next(&late_bye->backoff));
}

/* The relay may not have noticed the loss of the old connection. Generation 0 is a new process and
 * always replaces it; the greatest generation replaces any connection of the same process. */
static int late_bye_send(struct late_bye *late_bye)
{
    static const struct gt_control_connection_events events = {
        .on_session = late_bye_on_session,
        .on_peer = late_bye_on_peer,
        .on_ticket = late_bye_on_ticket,
        .on_stream_end = late_bye_on_stream_end,
        .on_restart_notice = late_bye_on_restart_notice,
        .on_down = late_bye_on_down,
    };
    const struct gt_control_connection_settings settings = {
        .relay = &late_bye->relay.address,
        .proxy = late_bye->proxy.kind == GT_PROXY_NONE ? NULL : &late_bye->proxy,
        .role = GT_ROLE_DEVICE,
        .name = late_bye->device,
        .client_key = late_bye->client_key,
        .rid = late_bye->rid,
        .generation = late_bye->code == GT_CODE_NEW_PROCESS ? 0 : UINT32_MAX,
    };

    late_bye->control = gt_control_connection_free(late_bye->control);
    late_bye_enter(late_bye, LATE_BYE_SENDING, 0.);
    return gt_control_connection_new(late_bye->loop, &settings, &events, late_bye,
                                     &late_bye->control);
}

/* --- beginning and end */

static void late_bye_on_due(struct ev_loop *loop, ev_timer *watcher, int revents)
{
    struct late_bye *late_bye = watcher->data;

    if (late_bye->state == LATE_BYE_WAITING && late_bye_send(late_bye) == 0)
        return;
    if (late_bye->state == LATE_BYE_DONE && late_bye->session_file_path)
        session_file_unlink(late_bye->session_file_path);
    late_bye->on_end(late_bye->userdata, late_bye);
}

int late_bye_new(struct ev_loop *loop, const struct late_bye_settings *settings, late_bye_fn on_end,
                 void *userdata, struct late_bye **ret)
{
    struct late_bye *late_bye = calloc(1, sizeof(*late_bye));

    if (!late_bye)
        return -ENOMEM;
    gt_list_init(&late_bye->link);
    late_bye->loop = loop;
    late_bye->on_end = on_end;
    late_bye->userdata = userdata;
    late_bye->relay = *settings->relay;
    if (settings->proxy)
        late_bye->proxy = *settings->proxy;
    snprintf(late_bye->device, sizeof(late_bye->device), "%s", settings->device);
    memcpy(late_bye->client_key, settings->client_key, GT_KEY_SIZE);
    memcpy(late_bye->rid, settings->rid, GT_RID_SIZE);
    late_bye->session_file_path =
        settings->session_file_path ? strdup(settings->session_file_path) : NULL;
    late_bye->code = settings->code;
    late_bye->give_up_at = gt_clock() + settings->give_up_after_ms / 1000.;
    ev_init(&late_bye->due, late_bye_on_due);
    late_bye->due.data = late_bye;
    int r = late_bye_send(late_bye);
    if (r) {
        late_bye_free(late_bye);
        return r;
    }
    *ret = late_bye;
    return 0;
}
