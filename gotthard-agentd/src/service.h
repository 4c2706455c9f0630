/* SPDX-License-Identifier: ISC */
/*
 * One dial of a named target for one stream: resolve, connect without blocking, and hand the
 * socket over or say, in the stream's own words, why not. It dials only the target it is given,
 * which comes from the configuration, and logs the local source port: what listens there sees only
 * 127.0.0.1, so that line is the only link from a login to an operator.
 */
#pragma once

#include <ev.h>

#include "gotthard/resolve.h"
#include "gotthard/stream.h"
#include "target.h"

struct service;

struct service_settings {
    const struct target *target; /* keeps */
    uint32_t stream;             /* whose it is */
    unsigned timeout_ms;         /* for all of it */
    const char *log_prefix;      /* keeps: "session=7f3a9c21 operator=alice" */
};

/* @fd >= 0: connected (yours to close), @code GT_RST_NONE; else -1 and why. The dial frees itself
 * after this. */
typedef void (*service_fn)(void *userdata, struct service *service, int fd, enum gt_rst code);

/* @done comes from the loop, never inside this call. */
int service_new(struct ev_loop *loop, const struct service_settings *settings, service_fn done,
                void *userdata, struct service **ret) GT_MUST_CHECK;
/* Gives up: the callback will not come. Takes NULL. */
struct service *service_free(struct service *service);
uint32_t service_stream(const struct service *service);

/* An errno of connect(2), as a stream says it. */
enum gt_rst service_code_of(int err);
