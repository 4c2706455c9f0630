/* SPDX-License-Identifier: ISC */
/*
 * Which connections, and which of their ways, an order is about: its words after the value.
 *
 *   way=up|down          one direction (else both)
 *   on=all               those there are and those to come (the default)
 *   on=live | on=new     only the former, only the latter
 *   on=3,7,9             by number
 *   on=25%               a share of those there are, by the dice
 *   port=7001[-7020]     only those that came to these ports, of those there are
 */
#pragma once

#include "connection.h"

#define SELECTION_IDS 256

struct selection {
    bool has_way[PROXY_WAYS];
    bool is_future, is_live;
    double share; /* 1: each */
    uint16_t port_from, port_to;
    size_t n_ids;
    unsigned ids[SELECTION_IDS];
};

enum { SELECTION_E_SYNTAX = 1 };

/* @words ends with NULL. E_SYNTAX. */
int selection_parse(char **words, struct selection *ret) GT_MUST_CHECK;
/* Throws the dice: each connection is asked about once an order. */
bool selection_has(const struct selection *selection, const struct connection *connection);
