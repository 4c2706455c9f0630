/* SPDX-License-Identifier: ISC */
/*
 * The sums of `connect`: connections and bytes of each service, rates and losses. Printed at
 * SIGUSR1 and at the end, as text and as the event "totals".
 */
#pragma once

#include "print.h"
#include "session.h"

#define CONNECT_TOTALS_MAX 64 /* services; those beyond count together */

struct connect_total {
    char service[GT_SERVICE_MAX + 1];
    unsigned n_streams, n_open;
    uint64_t n_up, n_down; /* bytes to the device, and from it */
};

struct connect_totals {
    struct print *print;                            /* keeps */
    const char *device;                             /* keeps */
    double up_at;                                   /* seconds of gt_clock(); 0: not yet */
    unsigned n_losses;                              /* of the relay or the device */
    struct connect_total ended[CONNECT_TOTALS_MAX]; /* streams that have ended */
    size_t n_services;
    double reported_at; /* for the rates since then */
    uint64_t reported_up, reported_down;
};

void connect_totals_init(struct connect_totals *totals, struct print *print, const char *device);
void connect_totals_up(struct connect_totals *totals);
void connect_totals_lost(struct connect_totals *totals);
void connect_totals_ended(struct connect_totals *totals, const char *service, uint64_t n_up,
                          uint64_t n_down);
/* Prints all sums; the rates are those since the last report. @session: of the open streams. */
void connect_totals_report(struct connect_totals *totals, const struct session *session);
/* Prints one line, and the event with the average rates; nothing if the tunnel was never up. */
void connect_totals_close(struct connect_totals *totals, const struct session *session);
