/* SPDX-License-Identifier: ISC */
/*
 * The statement whether a list of devices is whole. A broker may send no retained messages to a
 * subscription to all devices (AWS IoT Core, RabbitMQ), drop some of them (a queue limit), or
 * refuse it; known names, asked one by one, reveal that. Pure.
 */
#pragma once

#include "gotthard/base/base.h"

enum list_end { LIST_SETTLED, LIST_LOST, LIST_SILENT, LIST_OVERDUE, LIST_FLOODED };

struct list_facts {
    enum list_end end;
    bool keeps_no_states; /* the broker has no retained messages */
    bool is_all_refused;  /* the subscription to all devices */
    bool is_declared;     /* the operator named devices: pins, settings, arguments */
    bool is_dropping;     /* two answers of the broker to that subscription differ */
    size_t n_by_all;      /* retained states that came from the subscription to all devices */
    size_t n_by_name;     /* states that came only when they were asked by name */
    size_t n_unasked;     /* known names without a state that were not asked */
    size_t n_refused;     /* subscriptions by name */
    size_t n_dropped;     /* devices beyond the limit of the list */
    char why[160];        /* LIST_LOST: the reason */
};

struct list_verdict {
    bool is_whole;
    bool keeps_no_states;
    bool is_by_name; /* whole as far as the operator named the devices */
    char why[320];   /* if it is not whole: a sentence without its end, else empty */
    const char *hint;
};

void list_verdict_of(const struct list_facts *facts, struct list_verdict *ret);
