/* SPDX-License-Identifier: ISC */
/*
 * The table of failures: one row an id, with its exit code and what to do when nothing better is
 * known. An id, once released, keeps its meaning for ever.
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
    {FAILURE_CONFIG, EXIT_CONFIGURATION, "see what is set, and where: gotthard-cli config show"},
    {FAILURE_KEY, EXIT_CONFIGURATION, "the same GOTTHARD_CRYPT_KEY and _IV belong on all sides"},
    {FAILURE_BROKER_UNREACHABLE, EXIT_UNREACHABLE,
     "check GOTTHARD_MQTT_ENDPOINT and the way to it (name, firewall, port 8883)"},
    {FAILURE_BROKER_REFUSED, EXIT_REFUSED,
     "check the certificate in GOTTHARD_AWS_CERT_PATH and what the broker allows it"},
    {FAILURE_UNKNOWN_DEVICE, EXIT_UNREACHABLE,
     "see which devices there are: gotthard-cli devices (case matters)"},
    {FAILURE_OFFLINE, EXIT_UNREACHABLE, "it comes back by itself when its network does"},
    {FAILURE_NO_ANSWER, EXIT_UNREACHABLE,
     "check that both sides have the same key, and that the broker lets this side read its answers"},
    {FAILURE_UNTRUSTED, EXIT_REFUSED,
     "compare the device's fingerprint with its line in the pin file"},
    {FAILURE_DENIED, EXIT_REFUSED,
     "the device's policy decides: add a pin for this operator there"},
    {FAILURE_NO_SERVICE, EXIT_REFUSED,
     "see what it offers: gotthard-cli status DEVICE; services are configured on the device"},
    {FAILURE_QUOTA, EXIT_TRY_AGAIN,
     "close another session first: gotthard-cli disconnect DEVICE closes them all"},
    {FAILURE_NO_RELAY, EXIT_REFUSED, "give the relay the same name on both sides"},
    {FAILURE_DEVICE_INTERNAL, EXIT_TRY_AGAIN, "the device's own log says why"},
    {FAILURE_RELAY_UNREACHABLE, EXIT_UNREACHABLE,
     "check GOTTHARD_SERVER_HOST and _PORT, and the firewall on the way"},
    {FAILURE_RELAY_REFUSED, EXIT_REFUSED,
     "the relay holds another key, or it is not a gotthard-relayd at all"},
    {FAILURE_RELAY_FULL, EXIT_TRY_AGAIN,
     "try again later, or widen the relay's GOTTHARD_SERVER_PORTS_FROM.._TO"},
    {FAILURE_RELAY_ERROR, EXIT_PROTOCOL, "the relay's own log says why"},
    {FAILURE_PORT_BUSY, EXIT_TRY_AGAIN, "ask for another one, or for any free one with 0"},
    {FAILURE_BIND, EXIT_REFUSED, "ports below 1024 need a privilege; --bind needs an own address"},
    {FAILURE_TUNNEL_LOST, EXIT_UNREACHABLE, "connect again"},
    {FAILURE_DEVICE_LOST, EXIT_UNREACHABLE, "see whether it is back: gotthard-cli status DEVICE"},
    {FAILURE_INTERNAL, EXIT_INTERNAL, "this should not happen: please report it"},
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
