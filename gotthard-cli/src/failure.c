/* SPDX-License-Identifier: ISC */
/*
 * The table of failures: a row for each id, with its exit status and the hint that applies if the
 * caller has none. An id, once released, must keep its meaning.
 */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

struct failure_kind {
    enum failure_id id;
    int exit;
    const char *hint;
};

static const struct failure_kind kinds[] = {
    {FAILURE_CONFIG, GT_EXIT_CONFIGURATION,
     "show all settings with their origins: gotthard-cli config show"},
    {FAILURE_KEY, GT_EXIT_CONFIGURATION,
     "use the same GOTTHARD_CRYPT_KEY and GOTTHARD_CRYPT_IV on all sides"},
    {FAILURE_BROKER_UNREACHABLE, GT_EXIT_UNAVAILABLE,
     "check GOTTHARD_MQTT_ENDPOINT and the route to it (DNS, firewall, port 8883)"},
    {FAILURE_BROKER_REFUSED, GT_EXIT_REFUSED,
     "check the certificate in GOTTHARD_AWS_CERT_PATH and its permissions at the broker"},
    {FAILURE_UNKNOWN_DEVICE, GT_EXIT_UNAVAILABLE,
     "list all devices: gotthard-cli devices (names are case-sensitive)"},
    {FAILURE_OFFLINE, GT_EXIT_UNAVAILABLE,
     "check the power and the network of the device; it reconnects by itself"},
    {FAILURE_NO_ANSWER, GT_EXIT_UNAVAILABLE,
     "check that both sides have the same key and that the broker permits this side to subscribe"},
    {FAILURE_UNTRUSTED, GT_EXIT_REFUSED,
     "compare the device's fingerprint with its line in the pin file"},
    {FAILURE_LIST_NOT_WHOLE, GT_EXIT_UNAVAILABLE, "run the command again"},
    {FAILURE_DENIED, GT_EXIT_REFUSED, "add a pin for this operator to the pin file of the device"},
    {FAILURE_NO_SERVICE, GT_EXIT_REFUSED,
     "list its services: gotthard-cli status DEVICE; they are configured on the device"},
    {FAILURE_QUOTA, GT_EXIT_TRY_AGAIN,
     "close all sessions of the device first: gotthard-cli disconnect DEVICE"},
    {FAILURE_NO_RELAY, GT_EXIT_REFUSED, "configure the relay under the same name on both sides"},
    {FAILURE_DEVICE_INTERNAL, GT_EXIT_TRY_AGAIN, "see the log of the device"},
    {FAILURE_WITHDRAWN, GT_EXIT_REFUSED,
     "the log of the device has the reason: a pin, a service or a key was changed there"},
    {FAILURE_RELAY_UNREACHABLE, GT_EXIT_UNAVAILABLE,
     "check GOTTHARD_SERVER_HOST, GOTTHARD_SERVER_PORT and firewalls"},
    {FAILURE_RELAY_REFUSED, GT_EXIT_REFUSED,
     "check that it is a gotthard-relayd with the same fleet key"},
    {FAILURE_RELAY_FULL, GT_EXIT_TRY_AGAIN, "try again later, or widen the relay's range of ports"},
    {FAILURE_RELAY_ERROR, GT_EXIT_PROTOCOL, "see the log of the relay"},
    {FAILURE_DEVICE_RELAY, GT_EXIT_UNAVAILABLE,
     "check the relay in the settings of the device, and its DNS, route and firewall"},
    {FAILURE_RELAY_LIMIT, GT_EXIT_TRY_AGAIN, "see the log of the relay"},
    {FAILURE_PORT_BUSY, GT_EXIT_TRY_AGAIN, "use another local port, or 0 for any free one"},
    {FAILURE_BIND, GT_EXIT_REFUSED,
     "use a port above 1023, and --bind with an address of this machine"},
    {FAILURE_TUNNEL_LOST, GT_EXIT_UNAVAILABLE,
     "connect again; timeouts.resume_window limits the wait for the relay"},
    {FAILURE_TUNNEL_IDLE, GT_EXIT_UNAVAILABLE, "connect again"},
    {FAILURE_TUNNEL_EXPIRED, GT_EXIT_UNAVAILABLE, "connect again"},
    {FAILURE_DEVICE_LOST, GT_EXIT_UNAVAILABLE,
     "show whether it is online: gotthard-cli status DEVICE"},
    {FAILURE_INTERNAL, GT_EXIT_INTERNAL, "please report this as a bug"},
};

static const struct failure_kind *failure_kind(enum failure_id id)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(kinds); i++)
        if (kinds[i].id == id)
            return &kinds[i];
    abort();
}

int failure_exit(enum failure_id id)
{
    return failure_kind(id)->exit;
}

int failure_set(struct failure *ret, enum failure_id id, const char *hint, const char *fmt, ...)
{
    ret->id = id;
    ret->hint = hint ? hint : failure_kind(id)->hint;
    va_list args;
    va_start(args, fmt);
    vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    return 1;
}
