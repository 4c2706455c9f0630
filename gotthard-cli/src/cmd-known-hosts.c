/* SPDX-License-Identifier: ISC */
/*
 * `known-hosts DEVICE [HOSTNAME]`: lines of known_hosts (sshd(8)) for ssh's KnownHostsCommand, from
 * the authentic answer of the device in the session that ssh uses. Without a session it prints
 * nothing, and ssh rejects the host: this command never asks the network.
 */
#include <string.h>

#include "commands.h"
#include "holder-path.h"
#include "holder-reach.h"

/* As ssh writes names of hosts with or without a port: no pattern, no list, no marker. */
static bool is_host_name(const char *text)
{
    static const char characters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:@+-[]";

    return *text && *text != '@' && text[strspn(text, characters)] == 0;
}

static void print_lines(struct print *print, const char *host, char *keys)
{
    char *at = NULL;

    for (char *key = strtok_r(keys, "\n", &at); key; key = strtok_r(NULL, "\n", &at))
        print_data(print, "%s %s\n", host, key);
}

static void print_answer(struct print *print, const char *device, const char *host, char *keys)
{
    if (*keys)
        print_lines(print, host, keys);
    else
        print_warning(print, "%s sends no ssh host keys: check agent.host_keys there", device);
}

int cmd_known_hosts(struct context *context)
{
    static struct holder_message answer;
    char device[GT_NAME_MAX + 1], folder[RUNTIME_FOLDER_MAX + 1];
    char path[LOCAL_SOCKET_PATH_MAX + 1], why[RUNTIME_FOLDER_WHY];
    const char *host = context->arguments[context->n_arguments - 1];
    bool is_unused;

    if (!command_take_device(context, context->arguments[0], device))
        return GT_EXIT_USAGE;
    if (!is_host_name(host))
        return command_misused(context, "invalid host name");
    if (runtime_folder_find(folder, why) == 0 &&
        holder_path(context->settings, device, context->purpose, folder, path) == 0 &&
        holder_query(path, HOLDER_HOST_KEYS_QUERY, HOLDER_HOST_KEYS, &answer, &is_unused) == 0)
        print_answer(&context->print, device, host, answer.host_keys);
    return 0;
}
