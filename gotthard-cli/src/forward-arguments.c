/* SPDX-License-Identifier: ISC */
/*
 * The forwards of the command line, each by forward-spec.c, with --socket and the default service.
 */
#include "forward-arguments.h"

#include <string.h>

#define DEFAULT_SERVICE "ssh"

/* --socket is PATH of the only forward. */
static int use_socket(struct context *context, struct forward_spec *spec, size_t n_specs)
{
    size_t n = strlen(context->socket);

    if (n_specs > 1)
        return command_misused(context, "--socket is for one forward; several: PATH:SERVICE each");
    if (spec->is_local_given)
        return command_misused(context, "--socket replaces the local port");
    if (n == 0 || n > LOCAL_SOCKET_PATH_MAX)
        return command_misused(context, "the path of a socket has 1 to %d bytes",
                               LOCAL_SOCKET_PATH_MAX);
    memcpy(spec->path, context->socket, n + 1);
    return 0;
}

/* -D is one more forward. */
static int add_socks(struct context *context, struct forward_spec *ret, size_t *n)
{
    const char *why = "";

    if (!context->socks)
        return 0;
    if (*n == FORWARDS_MAX)
        return command_misused(context, "more than %d forwards", FORWARDS_MAX);
    if (forward_spec_parse_socks(context->socks, &ret[(*n)++], &why) != 0)
        return command_misused(context, "option '-D': %s", why);
    return 0;
}

/* The kernel does not report the user of a sender of UDP. */
static int check_udp(struct context *context, const struct forward_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (specs[i].is_udp && !context->settings->is_shared)
            return command_misused(context, "the local port of a forward of UDP serves every user "
                                            "of this machine: add --share, which holds for all "
                                            "forwards: give UDP a command of its own");
    return 0;
}

int forward_arguments_parse(struct context *context, struct forward_spec ret[static FORWARDS_MAX],
                            size_t *ret_n)
{
    uint16_t port = (uint16_t)context->settings->client_port;
    const char *why = "";
    size_t n = context->n_arguments - 1;

    for (size_t i = 0; i < n; i++)
        if (forward_spec_parse(context->arguments[i + 1], port, &ret[i], &why) != 0) {
            char shown[80];

            gt_text_shorten(context->arguments[i + 1], shown, sizeof(shown));
            return command_misused(context, "invalid forward '%s': %s", shown, why);
        }
    if (add_socks(context, ret, &n) != 0)
        return GT_EXIT_USAGE;
    if (n == 0 && forward_spec_parse(DEFAULT_SERVICE, port, &ret[n++], &why) != 0)
        return GT_EXIT_INTERNAL;
    if (check_udp(context, ret, n) != 0)
        return GT_EXIT_USAGE;
    *ret_n = n;
    return context->socket ? use_socket(context, ret, n) : 0;
}
