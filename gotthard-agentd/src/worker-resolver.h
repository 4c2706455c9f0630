/* SPDX-License-Identifier: ISC */
/*
 * The process that resolves names for a worker, which may open no file. getaddrinfo(3) cannot run
 * in the worker: it reads /etc/resolv.conf again after each change of the network, often a new file
 * in its place, and a right to read /etc would include the keys in it. The resolver is forked
 * before the worker gets its keys, and ends with the worker.
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base/base.h"

/* Call it before the parameters are read. From then on gt_resolve_new asks the resolver. Returns 0
 * or the negative errno of socketpair(2) or fork(2). */
int worker_resolver_start(pid_t *ret_pid) GT_MUST_CHECK;
