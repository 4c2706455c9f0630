/* SPDX-License-Identifier: ISC */
/*
 * The operator's own command that signs a certificate request, for authorities that Gotthard does
 * not know, such as AWS IoT Core (`enroll.sign_command`). The shell runs it: the request (PEM) is
 * its standard input, its standard output is the certificate with its chain (PEM), and NAME and
 * KIND (device, operator) are in its environment, which has none of Gotthard's variables. It has a
 * minute.
 */
#pragma once

#include <ev.h>

#include "gotthard/base/bytes.h"

#define SIGN_HOOK_OUTPUT_MAX (64 * 1024) /* bytes */
#define SIGN_HOOK_WHY        160         /* bytes of a reason with its NUL */

struct sign_hook;

struct sign_hook_settings {
    const char *command;
    const char *name, *kind;
    const char *request; /* PEM, at most 16 KiB */
};

/* The end: @why is NULL if the command exited with success, and @output its output, borrowed.
 * The last callback: free the hook inside it or later. */
typedef void (*sign_hook_fn)(void *userdata, const char *why, struct gt_span output);

/* @loop: libev's default loop. Returns 0 or a negative errno. */
int sign_hook_new(struct ev_loop *loop, const struct sign_hook_settings *settings,
                  sign_hook_fn on_end, void *userdata, struct sign_hook **ret) GT_MUST_CHECK;
/* Kills the command and its children if they run. Takes NULL; returns NULL. */
struct sign_hook *sign_hook_free(struct sign_hook *hook);
