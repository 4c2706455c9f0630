/* SPDX-License-Identifier: ISC */
/*
 * The local side of a tunnel: every target of the command line with its listener. Decides which
 * port a target gets: the one that was asked for or none; the one that was only wished for, or a
 * free one.
 */
#pragma once

#include "failure.h"
#include "listener.h"
#include "target.h"

#define PORTS_MAX 63 /* more targets than that are refused by main.c */

struct ports;

struct port {
    struct ports *ports;
    struct target target;
    struct listener *listener;
    bool is_moved; /* the wish was taken: another one */
};

typedef void (*port_connection_fn)(void *userdata, struct port *port, int fd,
                                   const struct gt_addr *peer);

struct ports_settings {
    struct ev_loop *loop;
    const char *bind;      /* NULL: loopback */
    uint16_t default_port; /* for the targets that name none */
    bool is_default_asked; /* it was configured: the first such target takes it or fails */
};

struct ports {
    struct port items[PORTS_MAX];
    size_t n_items;
    port_connection_fn on_connection;
    void *userdata;
};

/* @targets were parsed already. 0, or 1 with @ret_failure. Nothing is accepted before
 * ports_start(). */
int ports_open(const struct ports_settings *settings, const struct target *targets,
               size_t n_targets, port_connection_fn on_connection, void *userdata,
               struct ports *ret, struct failure *ret_failure) GT_MUST_CHECK;
void ports_start(struct ports *ports);
/* Connections wait in the kernel's queue. */
void ports_stop(struct ports *ports);
/* Takes a zeroed one. */
void ports_close(struct ports *ports);
