/* SPDX-License-Identifier: ISC */
/*
 * A network namespace of the test: a pair of interfaces (veth) named "near" and "far". It ends with
 * the process. Include it after cmocka.h.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool has_netns;

/* Runs ip(8) with these arguments, and fails the test if that fails. */
static inline void ip(const char *words)
{
    char command[200];

    snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin ip %s", words);
    assert_int_equal(system(command), 0);
}

/* Enters the namespace: a group set-up of cmocka. Without privileges the tests that need it are
 * skipped. */
static inline int netns_enter(void **state)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        print_message("no network namespace available\n");
        return 0;
    }
    if (system("PATH=$PATH:/sbin:/usr/sbin ip link add near type veth peer name far 2>/dev/null")) {
        print_message("no veth, or no ip(8)\n");
        return 0;
    }
    ip("link set lo up");
    ip("link set near addrgenmode none"); /* else IPv6 sends events for seconds */
    ip("link set far addrgenmode none");
    ip("link set near up");
    ip("link set far up");
    ip("address add 192.0.2.2/24 dev near");
    ip("route add default via 192.0.2.1");
    has_netns = true;
    return 0;
}

static inline void needs_netns(void)
{
    if (!has_netns)
        skip();
}
