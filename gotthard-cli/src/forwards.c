/* SPDX-License-Identifier: ISC */
/*
 * Binds the forwards of a tunnel one after the other, so that two forwards with one preferred port
 * do not clash: the second gets a free one.
 */
#include "forwards.h"

#include <string.h>

static void forward_on_accept(void *userdata, int fd, const struct local_peer *peer)
{
    struct forward *forward = userdata;
    struct forwards *forwards = forward->forwards;

    forwards->events->on_connection(forwards->userdata, forward, fd, peer);
}

static void forward_on_refused(void *userdata, const struct local_peer *peer,
                               enum local_refusal why)
{
    struct forward *forward = userdata;
    struct forwards *forwards = forward->forwards;

    forwards->events->on_refused(forwards->userdata, forward, peer, why);
}

static const struct local_listener_events listener_events = {
    .on_accept = forward_on_accept,
    .on_refused = forward_on_refused,
};

static bool forwards_has_port(const struct forwards *forwards, uint16_t port)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        if (local_listener_port(forwards->items[i].listener) == port)
            return true;
    return false;
}

/* Returns true if @spec must get its local port, and no other. */
static bool is_port_required(const struct forwards_settings *settings,
                             const struct forwards *forwards, const struct forward_spec *spec)
{
    if (spec->is_local_given)
        return true;
    return settings->is_default_required && spec->local == settings->default_port &&
           !forwards_has_port(forwards, spec->local);
}

static const char *bind_of(const struct forwards_settings *settings,
                           const struct forward_spec *spec)
{
    return spec->bind[0] ? spec->bind : settings->bind;
}

static int describe_failure(int err, const struct forwards_settings *settings,
                            const struct forward_spec *spec, struct failure *ret_failure)
{
    const char *bind = bind_of(settings, spec);
    const char *address = bind ? bind : "localhost";

    switch (err) {
    case LOCAL_LISTENER_E_BUSY:
        return failure_set(ret_failure, FAILURE_PORT_BUSY, NULL,
                           "local port %u is in use by another program", spec->local);
    case LOCAL_LISTENER_E_DENIED:
        return failure_set(ret_failure, FAILURE_BIND, NULL, "local port %u: permission denied",
                           spec->local);
    case LOCAL_LISTENER_E_ADDRESS:
        return failure_set(ret_failure, FAILURE_BIND,
                           "--bind takes a numeric address of this machine, or * for all",
                           "cannot listen on %s", address);
    default:
        return failure_set(ret_failure, FAILURE_INTERNAL,
                           err == -EMFILE ? "raise the limit of open files: ulimit -n" : NULL,
                           "cannot listen on %s port %u: %s", address, spec->local, strerror(-err));
    }
}

static int forward_open_path(struct forward *forward,
                             const struct local_listener_settings *settings,
                             struct failure *ret_failure)
{
    char why[LOCAL_SOCKET_WHY];
    int r = local_listener_new_at_path(settings, forward->spec.path, &listener_events, forward,
                                       &forward->listener, why);

    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    if (r == LOCAL_LISTENER_E_BUSY)
        return failure_set(ret_failure, FAILURE_PORT_BUSY, "choose another path", "%s", why);
    if (r != 0)
        return failure_set(ret_failure, FAILURE_BIND,
                           "choose a path in a folder that only you can write", "%s", why);
    return 0;
}

static int forward_open_port(struct forward *forward, struct local_listener_settings *settings,
                             bool can_move)
{
    int r = local_listener_new(settings, &listener_events, forward, &forward->listener);

    if (can_move && (r == LOCAL_LISTENER_E_BUSY || r == LOCAL_LISTENER_E_DENIED)) {
        settings->port = 0;
        forward->is_moved = true;
        r = local_listener_new(settings, &listener_events, forward, &forward->listener);
    }
    return r;
}

static int forward_on_udp(void *userdata, int fd, const struct gt_addr *addr)
{
    struct forward *forward = userdata;
    struct forwards *forwards = forward->forwards;

    return forwards->events->on_udp(forwards->userdata, forward, fd,
                                    &(struct local_peer){.addr = *addr});
}

static void forward_init_udp(struct forward *forward, struct ev_loop *loop)
{
    const int *fds;
    size_t n = local_listener_udp(forward->listener, &fds);

    udp_clients_init(&forward->udp, loop, fds, n, forward_on_udp, forward);
}

static int forwards_add(struct forwards *forwards, const struct forwards_settings *settings,
                        const struct forward_spec *spec, struct failure *ret_failure)
{
    struct local_listener_settings listener = {
        .loop = settings->loop,
        .bind = bind_of(settings, spec),
        .port = spec->local,
        .is_shared = settings->is_shared,
        .is_udp = spec->is_udp,
        .vanished_s = settings->vanished_s,
    };
    struct forward *forward = &forwards->items[forwards->n_items];
    bool can_move = !is_port_required(settings, forwards, spec) && spec->local != 0;

    *forward = (struct forward){.forwards = forwards, .spec = *spec};
    if (spec->path[0]) {
        if (forward_open_path(forward, &listener, ret_failure) != 0)
            return 1;
    } else {
        int r = forward_open_port(forward, &listener, can_move);

        if (r != 0)
            return describe_failure(r, settings, spec, ret_failure);
    }
    if (spec->is_udp)
        forward_init_udp(forward, settings->loop);
    forwards->n_items++;
    return 0;
}

int forwards_open(const struct forwards_settings *settings, const struct forward_spec *specs,
                  size_t n_specs, const struct forwards_events *events, void *userdata,
                  struct forwards *ret, struct failure *ret_failure)
{
    ret->n_items = 0;
    ret->events = events;
    ret->userdata = userdata;
    for (size_t i = 0; i < n_specs && i < FORWARDS_MAX; i++)
        if (forwards_add(ret, settings, &specs[i], ret_failure) != 0) {
            forwards_close(ret);
            return 1;
        }
    return 0;
}

void forwards_start(struct forwards *forwards)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        if (forwards->items[i].spec.is_udp)
            udp_clients_start(&forwards->items[i].udp);
        else
            local_listener_start(forwards->items[i].listener);
}

void forwards_stop(struct forwards *forwards)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        local_listener_stop(forwards->items[i].listener);
}

void forwards_stop_socks(struct forwards *forwards)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        if (forwards->items[i].spec.is_socks)
            local_listener_stop(forwards->items[i].listener);
}

void forwards_pause_udp(struct forwards *forwards, bool is_paused)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        if (forwards->items[i].spec.is_udp)
            udp_clients_pause(&forwards->items[i].udp, is_paused);
}

void forwards_close(struct forwards *forwards)
{
    for (size_t i = 0; i < forwards->n_items; i++) {
        if (forwards->items[i].spec.is_udp)
            udp_clients_deinit(&forwards->items[i].udp);
        forwards->items[i].listener = local_listener_free(forwards->items[i].listener);
    }
    forwards->n_items = 0;
}
