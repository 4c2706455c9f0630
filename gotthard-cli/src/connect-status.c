/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "connect-status.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "holder-path.h"
#include "holder-status.h"

/* "4444:ssh /home/me/oli:web". What does not fit is left out. */
static void format_forwards(const struct forwards *forwards, char *ret, size_t cap)
{
    char text[LOCAL_SOCKET_PATH_MAX + GT_SERVICE_MAX + 8];
    size_t n = 0;

    ret[0] = 0;
    for (size_t i = 0; i < forwards->n_items; i++) {
        const struct forward *forward = &forwards->items[i];
        const char *path = local_listener_path(forward->listener);

        if (path)
            snprintf(text, sizeof(text), "%s:%s", path, forward->spec.service);
        else
            snprintf(text, sizeof(text), "%u:%s", local_listener_port(forward->listener),
                     forward->spec.service);
        if (n + strlen(text) + 2 > cap)
            return;
        n += (size_t)snprintf(ret + n, cap - n, "%s%s", n > 0 ? " " : "", text);
    }
}

static void server_get_status(void *userdata, struct holder_status *ret)
{
    const struct connect_status *status = userdata;

    holder_status_fill(status->session, status->device, status->operator_, status->started_ms, ret);
    ret->kind = HOLDER_KIND_CONNECT;
    format_forwards(status->forwards, ret->forwards, sizeof(ret->forwards));
}

static const struct holder_server_events events = {.get_status = server_get_status};

void connect_status_start(struct connect_status *status, struct ev_loop *loop,
                          const struct session *session, const struct forwards *forwards,
                          const char *device, const char *operator_)
{
    char folder[RUNTIME_FOLDER_MAX + 1], path[LOCAL_SOCKET_PATH_MAX + 1];
    char why[GT_MAX(RUNTIME_FOLDER_WHY, LOCAL_SOCKET_WHY)];
    struct local_socket file;
    int fd;

    *status = (struct connect_status){
        .session = session,
        .forwards = forwards,
        .device = device,
        .operator_ = operator_,
        .started_ms = gt_clock_ms(),
    };
    int r = runtime_folder_find(folder, why);
    if (r == 0) {
        snprintf(path, sizeof(path), "%s/%d" HOLDER_SUFFIX_CONNECT, folder, (int)getpid());
        r = local_socket_listen(path, SOCK_SEQPACKET, false, &file, &fd, why);
    }
    if (r != 0) {
        gt_debug("not listed by sessions: %s", r < 0 ? strerror(-r) : why);
        return;
    }
    holder_server_init(&status->server, loop, &events, status);
    holder_server_listen(&status->server, fd, &file);
    status->is_started = true;
}

void connect_status_stop(struct connect_status *status)
{
    if (status->is_started)
        holder_server_deinit(&status->server);
    status->is_started = false;
}
