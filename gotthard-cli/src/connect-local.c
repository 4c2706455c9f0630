/* SPDX-License-Identifier: ISC */
/*
 * A local end is an address with a port, or a path. Programs read the events "listening" and "up",
 * and the lines of --print-port.
 */
#include "connect-local.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/text.h"
#include "host-key-alias.h"

#define LOCAL_TEXT 128 /* bytes of a path, or of an address with a port */

/* Returns the address as it was given, or NULL. */
static const char *bind_of(const struct connect_output *output, const struct forward *forward)
{
    return forward->spec.bind[0] ? forward->spec.bind : output->bind;
}

static const char *host_of(const struct connect_output *output, const struct forward *forward)
{
    const char *bind = bind_of(output, forward);

    return bind && strcmp(bind, "*") != 0 ? bind : "localhost";
}

/* Writes the local end: a path, or the address and the port with @separator between them. Returns
 * @ret. */
static const char *local_text(const struct connect_output *output, const struct forward *forward,
                              const char *separator, char ret[static LOCAL_TEXT])
{
    const char *path = local_listener_path(forward->listener);

    if (path)
        snprintf(ret, LOCAL_TEXT, "%s", path);
    else
        snprintf(ret, LOCAL_TEXT, "%s%s%u", host_of(output, forward), separator,
                 local_listener_port(forward->listener));
    return ret;
}

static void report_listening(struct connect_output *output, const struct forward *forward)
{
    unsigned number = local_listener_port(forward->listener);
    const char *service = forward->spec.service, *path = local_listener_path(forward->listener);
    bool is_shared = local_listener_is_shared(forward->listener);
    char text[LOCAL_TEXT];

    if (forward->is_moved)
        print_note(output->print, "Local port %u is in use, using %u for %s.", forward->spec.local,
                   number, service);
    print_fact(output->print, "listening on %s for %s of %s",
               local_text(output, forward, " port ", text), service, output->device);
    if (path)
        print_event(output->print, "listening", "{s:s, s:s, s:b}", "socket", path, "service",
                    service, "shared", is_shared);
    else
        print_event(output->print, "listening", "{s:s, s:i, s:s, s:b}", "address",
                    host_of(output, forward), "port", (int)number, "service", service, "shared",
                    is_shared);
}

void connect_local_listening(struct connect_output *output, const struct forwards *forwards)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        report_listening(output, &forwards->items[i]);
}

void connect_local_sharing(struct connect_output *output, const struct forwards *forwards)
{
    bool is_shared = false;

    for (size_t i = 0; i < forwards->n_items; i++) {
        const struct local_listener *listener = forwards->items[i].listener;

        is_shared |= local_listener_is_shared(listener);
        if (gt_addr_is_loopback(local_listener_addr(listener)))
            continue;
        print_warning(output->print,
                      "listening on %s: any host that can reach this address can reach %s",
                      bind_of(output, &forwards->items[i]), output->device);
        return;
    }
    if (is_shared)
        print_note(output->print, "Every user of this machine can reach %s (client.share).",
                   output->device);
}

static bool is_ssh(const struct forward *forward)
{
    return strcmp(forward->spec.service, "ssh") == 0 || strcmp(forward->spec.service, "22") == 0;
}

static void print_arrows(struct connect_output *output, const struct forwards *forwards)
{
    bool has_marks = output->print->has_marks;
    char text[LOCAL_TEXT];

    for (size_t i = 0; i < forwards->n_items; i++)
        print_plain(output->print, "%-s %s  %-s  %s:%s", has_marks ? "→" : "->",
                    local_text(output, &forwards->items[i], ":", text), has_marks ? "⇢" : "=>",
                    output->device, forwards->items[i].spec.service);
}

static void print_ssh_hint(struct connect_output *output, const struct forward *forward)
{
    const char *path = local_listener_path(forward->listener);
    char alias[HOST_KEY_ALIAS_SIZE], shown[4 * LOCAL_TEXT], command[sizeof(shown) + 256];

    host_key_alias(output->device, alias);
    if (path)
        snprintf(command, sizeof(command),
                 "ssh -o ProxyCommand=\"nc -U %s\" -o HostKeyAlias=%s localhost",
                 gt_text_shorten(path, shown, sizeof(shown)), alias);
    else
        snprintf(command, sizeof(command), "ssh -p %u -o HostKeyAlias=%s %s",
                 local_listener_port(forward->listener), alias, host_of(output, forward));
    print_plain(output->print, "  %s", command);
    print_fact(output->print, "to log in: %-s", command);
}

static bool is_forwarded(const struct forwards *forwards, const char *name, size_t n)
{
    for (size_t i = 0; i < forwards->n_items; i++)
        if (gt_span_equals(gt_span_text(forwards->items[i].spec.service), gt_span(name, n)))
            return true;
    return false;
}

/* The services of the device that the command line does not name. */
static void print_others(struct connect_output *output, const struct forwards *forwards)
{
    char others[sizeof(output->services)] = "";
    size_t n = 0;

    for (const char *at = output->services; *at; at += strspn(at, " ")) {
        size_t n_name = strcspn(at, " ");

        if (!is_forwarded(forwards, at, n_name))
            n += (size_t)snprintf(others + n, sizeof(others) - n, "%s%.*s", n > 0 ? ", " : "",
                                  (int)n_name, at);
        n = GT_MIN(n, sizeof(others) - 1);
        at += n_name;
    }
    if (n > 0)
        print_plain(output->print, "  also here: %s", others);
}

void connect_local_usage(struct connect_output *output, const struct forwards *forwards)
{
    print_arrows(output, forwards);
    print_plain(output->print, "%s", "");
    for (size_t i = 0; i < forwards->n_items; i++)
        if (is_ssh(&forwards->items[i]))
            print_ssh_hint(output, &forwards->items[i]);
    print_others(output, forwards);
}

/* Returns a new reference, or NULL for a Unix socket. */
static json_t *json_of_port(const struct forward *forward)
{
    unsigned number = local_listener_port(forward->listener);

    return number > 0 ? json_integer(number) : NULL;
}

void connect_local_ports(struct connect_output *output, const struct forwards *forwards,
                         uint64_t ms)
{
    json_t *numbers = json_array();

    for (size_t i = 0; i < forwards->n_items; i++) {
        const struct forward *forward = &forwards->items[i];
        const char *path = local_listener_path(forward->listener);

        if (!path)
            json_array_append_new(numbers, json_of_port(forward));
        if (!output->is_print_port || output->print->is_json)
            continue;
        if (path)
            print_data(output->print, "%s\n", path);
        else
            print_data(output->print, "%u\n", local_listener_port(forward->listener));
    }
    print_event(output->print, "up", "{s:s, s:I, s:o*, s:O}", "device", output->device, "ms",
                (json_int_t)ms, "port", json_of_port(&forwards->items[0]), "ports", numbers);
    json_decref(numbers);
}
