/* SPDX-License-Identifier: ISC */
/*
 * A network of the test's own: a namespace with a cable (veth) whose near end is "near" and whose
 * far end is "far". It goes with the process. Include after cmocka.h.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool netns_is_here;

/* Runs `ip` with these words, which must work. */
static inline void ip(const char *words)
{
    char command[200];
    snprintf(command, sizeof command, "PATH=$PATH:/sbin:/usr/sbin ip %s", words);
    assert_int_equal(system(command), 0);
}

/* Once, before all tests. */
static inline int netns_enter(void **state)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        print_message("no network namespace to be had\n");
        return 0;
    }
    if (system("PATH=$PATH:/sbin:/usr/sbin ip link add near type veth peer name far 2>/dev/null")) {
        print_message("no veth, or no `ip`, to be had\n");
        return 0;
    }
    ip("link set lo up");
    ip("link set near addrgenmode none"); /* IPv6 would be busy with itself for seconds */
    ip("link set far addrgenmode none");
    ip("link set near up");
    ip("link set far up");
    ip("address add 192.0.2.2/24 dev near");
    ip("route add default via 192.0.2.1");
    netns_is_here = true;
    return 0;
}

static inline void needs_netns(void)
{
    if (!netns_is_here)
        skip();
}
