/* SPDX-License-Identifier: ISC */
/*
 * What the operator wants to reach, and where it shall appear here:
 *
 *     [[LOCAL:][SERVICE|HOST:]PORT]
 *
 *     ssh              the service of that name        8080:1880          device's 1880 on 8080
 * here 1880             the device's port 1880          2222:ssh           a service on 2222 here
 *     :22, 0:22        any free local port             8080:10.0.0.5:80   beyond the device
 *
 * IPv6 addresses stand in brackets. What the device makes of the service is its own
 * configuration's affair. Pure text: no socket is touched here.
 */
#pragma once

#include "gotthard/text.h"

struct target {
    bool is_local_given;              /* LOCAL was written: that port and no other */
    uint16_t local;                   /* 0: a free one. Without LOCAL: the wish, see target_parse */
    char service[GT_SERVICE_MAX + 1]; /* as the device is asked: "ssh", "1880", "10.0.0.5:80" */
};

enum { TARGET_E_BAD = 1 };

/*
 * Without LOCAL the wish is PORT itself when it needs no privilege (1024 and above), else
 * @default_local. E_BAD: *ret_why is a few static words.
 */
int target_parse(const char *text, uint16_t default_local, struct target *ret,
                 const char **ret_why) GT_MUST_CHECK;
