/* SPDX-License-Identifier: ISC */
/*
 * The connections, and their directions, that a command applies to: the options after its value.
 *
 *   way=up|down          one direction (default: both)
 *   on=all               present and future connections (the default)
 *   on=live | on=new     only present ones, only future ones
 *   on=3,7,9             by number
 *   on=25%               a random share of the present ones
 *   port=7001[-7020]     only present connections to these ports
 */
#pragma once

#include "connection.h"

#define SELECTION_IDS 256

struct selection {
    bool has_direction[PROXY_DIRECTIONS];
    bool is_future, is_live;
    double share; /* 1: all */
    uint16_t port_from, port_to;
    size_t n_ids;
    unsigned ids[SELECTION_IDS];
};

enum { SELECTION_E_SYNTAX = 1 };

/* @words ends with NULL. E_SYNTAX. */
int selection_parse(char **words, struct selection *ret) GT_MUST_CHECK;
/* Draws a random number for a share: call it once per connection and command. */
bool selection_has(const struct selection *selection, const struct connection *connection);
