/* SPDX-License-Identifier: ISC */
/*
 * Opens the listeners of a tunnel, one after the other, so that two targets with one wish do not
 * clash: the second moves.
 */
#include "ports.h"

#include <string.h>

static void port_on_accept(void *userdata, int fd, const struct gt_addr *peer)
{
    struct port *port = userdata;
    port->ports->on_connection(port->ports->userdata, port, fd, peer);
}

/* Is this port an own one already? */
static bool ports_has(const struct ports *ports, uint16_t number)
{
    for (size_t i = 0; i < ports->n_items; i++)
        if (listener_port(ports->items[i].listener) == number)
            return true;
    return false;
}

/* Must it be this port and no other? */
static bool is_asked(const struct ports_settings *settings, const struct ports *ports,
                     const struct target *target)
{
    if (target->is_local_given)
        return true;
    return settings->is_default_asked && target->local == settings->default_port &&
           !ports_has(ports, target->local);
}

static int describe(int err, const struct ports_settings *settings, const struct target *target,
                    struct failure *ret_failure)
{
    const char *where = settings->bind ? settings->bind : "localhost";
    switch (err) {
    case LISTENER_E_BUSY:
        return failure_set(ret_failure, FAILURE_PORT_BUSY, NULL,
                           "local port %u is in use by another program", target->local);
    case LISTENER_E_DENIED:
        return failure_set(ret_failure, FAILURE_BIND, NULL, "local port %u: permission denied",
                           target->local);
    case LISTENER_E_ADDRESS:
        return failure_set(ret_failure, FAILURE_BIND,
                           "--bind takes a numeric address of this machine, or * for all",
                           "cannot listen on %s", where);
    default:
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot listen on %s port %u: %s",
                           where, target->local, strerror(-err));
    }
}

static int ports_add(struct ports *ports, const struct ports_settings *settings,
                     const struct target *target, struct failure *ret_failure)
{
    struct listener_settings listener = {
        .loop = settings->loop,
        .bind = settings->bind,
        .port = target->local,
    };
    struct port *port = &ports->items[ports->n_items];
    *port = (struct port){.ports = ports, .target = *target};
    bool may_move = !is_asked(settings, ports, target) && target->local != 0;
    int err = listener_new(&listener, port_on_accept, port, &port->listener);
    if (may_move && (err == LISTENER_E_BUSY || err == LISTENER_E_DENIED)) {
        listener.port = 0;
        port->is_moved = true;
        err = listener_new(&listener, port_on_accept, port, &port->listener);
    }
    if (err != 0)
        return describe(err, settings, target, ret_failure);
    ports->n_items++;
    return 0;
}

int ports_open(const struct ports_settings *settings, const struct target *targets,
               size_t n_targets, port_connection_fn on_connection, void *userdata,
               struct ports *ret, struct failure *ret_failure)
{
    ret->n_items = 0;
    ret->on_connection = on_connection;
    ret->userdata = userdata;
    for (size_t i = 0; i < n_targets && i < PORTS_MAX; i++)
        if (ports_add(ret, settings, &targets[i], ret_failure) != 0) {
            ports_close(ret);
            return 1;
        }
    return 0;
}

void ports_start(struct ports *ports)
{
    for (size_t i = 0; i < ports->n_items; i++)
        listener_start(ports->items[i].listener);
}

void ports_stop(struct ports *ports)
{
    for (size_t i = 0; i < ports->n_items; i++)
        listener_stop(ports->items[i].listener);
}

void ports_close(struct ports *ports)
{
    for (size_t i = 0; i < ports->n_items; i++)
        ports->items[i].listener = listener_free(ports->items[i].listener);
    ports->n_items = 0;
}
