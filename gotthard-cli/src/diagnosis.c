/* SPDX-License-Identifier: ISC */
/*
 * The tables from protocol conditions to failures. Each text states what failed and why. The hint
 * of the failure's id (failure.c) states what to do, unless a more specific one is given here.
 */
#include "diagnosis.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "gotthard/signaling/request-rate.h"
#include "limit-diagnosis.h"

#define UDP "udp:" /* before a service, see forward-spec.h */

static void describe_offline(const char *device, uint64_t since, bool is_will, struct failure *ret)
{
    const char *what = is_will ? "last came online" : "since";
    char when[24], text[64] = "";
    time_t at = (time_t)since;
    struct tm local;

    if (at > 0 && localtime_r(&at, &local))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local);
    else
        *when = 0;
    if (*when)
        snprintf(text, sizeof(text), " (%s %s)", what, when);
    failure_set_of(ret, device, FAILURE_OFFLINE, NULL, "%s is offline%s", device, text);
}

void diagnosis_of_silence(const char *device, enum device_state state, uint64_t since, bool is_will,
                          unsigned timeout_s, struct failure *ret)
{
    switch (state) {
    case DEVICE_UNKNOWN: failure_set_unknown(ret, device, "has no state of it"); return;
    case DEVICE_FOREIGN:
        failure_set_of(ret, device, FAILURE_NO_ANSWER, FAILURE_HINT_OTHER_KEY,
                       "%s does not answer, and its state message is encrypted with another key",
                       device);
        return;
    case DEVICE_OFFLINE: describe_offline(device, since, is_will, ret); return;
    case DEVICE_ONLINE: break;
    }
    failure_set_of(ret, device, FAILURE_NO_ANSWER,
                   "its network may have been lost less than a minute ago (try again then), its "
                   "agent may hang, or the broker withholds its answers: gotthard-cli doctor "
                   "{device} finds out",
                   "%s is online, but did not answer within %u s", device, timeout_s);
}

static void describe_nak(const char *device, uint16_t code, struct failure *ret)
{
    switch ((enum gt_nak_code)code) {
    case GT_NAK_BUSY:
        failure_set_of(ret, device, FAILURE_QUOTA, "try again in a moment",
                       "%s is busy with other requests: it takes %u a second of one operator",
                       device, GT_REQ_RATE_PER_S);
        return;
    case GT_NAK_DENIED:
        failure_set_of(ret, device, FAILURE_DENIED, NULL,
                       "%s does not permit this operator to close its sessions", device);
        return;
    case GT_NAK_SIZE:
        failure_set(ret, FAILURE_BROKER_REFUSED,
                    "let the broker accept messages of 8192 bytes (mosquitto: max_packet_size)",
                    "the broker accepts no message as large as the answer of %s", device);
        return;
    case GT_NAK_EPOCH:
    case GT_NAK_CLOSED: break;
    }
    failure_set_of(ret, device, FAILURE_NO_ANSWER, "try again",
                   "%s did not accept the request (NAK %u)", device, code);
}

/* An older device does not name the limit. */
static void describe_quota(const char *device, const struct gt_extensions *extensions,
                           struct failure *ret)
{
    static const char per_operator[] = "limits.sessions_per_operator";
    char limit[64] = "limits.sessions_per_operator or limits.sessions";
    const char *hint = NULL;

    if (extensions->limit.n > 0) {
        gt_text_escape(extensions->limit, limit, sizeof(limit));
        if (strncmp(limit, per_operator, sizeof(per_operator) - 1) == 0)
            hint = "close your sessions: gotthard-cli disconnect {device}";
    }
    failure_set_of(ret, device, FAILURE_QUOTA, hint,
                   "%s has reached its maximum number of sessions: %s in its settings", device,
                   limit);
}

bool diagnosis_of_target(const char *device, const char *service, enum gt_rst code,
                         struct failure *ret)
{
    static const char *const hints[] = {
        [GT_RST_REFUSED] = "start the program on {device}, or see gotthard-cli doctor {device}",
        [GT_RST_TIMEOUT] = "see gotthard-cli doctor {device}",
        [GT_RST_UNREACHABLE] = "see gotthard-cli doctor {device}",
        [GT_RST_NO_NAME] = "correct the name, or services in the settings of {device}",
        [GT_RST_NO_RESOLVER] = "check the name server of {device}",
    };

    if (code == GT_RST_WITHDRAWN) {
        failure_set_of(ret, device, FAILURE_WITHDRAWN, NULL, "%s has withdrawn the access to %s",
                       device, service);
        return true;
    }
    if (code >= GT_ARRAY_SIZE(hints) || !hints[code])
        return false;
    failure_set_of(ret, device, FAILURE_TARGET, hints[code], "connection to %s failed: %s", service,
                   gt_rst_text(code));
    return true;
}

/* Returns the part after "udp:", or NULL. */
static const char *after_udp(const char *service)
{
    size_t n = strlen(UDP);

    return strncmp(service, UDP, n) == 0 ? service + n : NULL;
}

bool diagnosis_is_target(const char *service)
{
    const char *udp = after_udp(service);

    service = udp ? udp : service;
    return strchr(service, ':') || service[strspn(service, "0123456789")] == 0;
}

void diagnosis_of_service(const char *device, const char *service, struct failure *ret)
{
    const char *udp = after_udp(service);
    char hint[FAILURE_HINT];

    if (diagnosis_is_target(service))
        failure_set_of(
            ret, device, FAILURE_NO_SERVICE,
            "permit it on the device: agent.permit in agentd.conf, and the word permit in "
            "the services of the pin if it has a list",
            "%s does not permit %s to this operator", device, service);
    else if (strcmp(service, "permit") == 0)
        failure_set_of(ret, device, FAILURE_NO_SERVICE,
                       "permit targets on the device: agent.permit in agentd.conf, and the word "
                       "permit in the services of the pin if it has a list",
                       "%s permits no hosts behind it to this operator, for SOCKS clients", device);
    else if (strcmp(service, "@audit") == 0)
        failure_set_of(
            ret, device, FAILURE_NO_SERVICE,
            "the entry of this operator, in the access list or in the pins of the device, "
            "needs the role auditor or admin, and the device audit.files above 0",
            "%s does not permit this operator to read its audit", device);
    else if (udp) {
        snprintf(hint, sizeof(hint),
                 "configure it on the device: %s = \"" UDP "HOST:PORT\" in the group services of "
                 "agentd.conf; a list of services in the pin must have it as well",
                 udp);
        failure_set_of(ret, device, FAILURE_NO_SERVICE, hint,
                       "%s offers this operator no service \"%s\" over UDP", device, udp);
    } else
        failure_set_of(ret, device, FAILURE_NO_SERVICE, NULL,
                       "%s does not offer the service \"%s\" to this operator", device, service);
}

void diagnosis_of_refusal(const char *device, const struct gt_answer *answer, const char *service,
                          const char *relay, struct failure *ret)
{
    if (answer->nak_code != UINT16_MAX) {
        describe_nak(device, answer->nak_code, ret);
        return;
    }
    switch ((enum gt_ack_status)answer->ack.status) {
    case GT_ACK_OK: break;
    case GT_ACK_DENIED:
        failure_set_of(ret, device, FAILURE_DENIED, NULL,
                       "%s does not permit access to this operator", device);
        return;
    case GT_ACK_SERVICE: diagnosis_of_service(device, service, ret); return;
    case GT_ACK_QUOTA: describe_quota(device, &answer->ack.extensions, ret); return;
    case GT_ACK_RELAY:
        failure_set_of(ret, device, FAILURE_NO_RELAY, NULL,
                       "%s has no relay named \"%s\" in its settings", device, relay);
        return;
    case GT_ACK_INTERNAL:
        failure_set_of(ret, device, FAILURE_DEVICE_INTERNAL, NULL, "%s could not open a session",
                       device);
        return;
    }
    failure_set_of(ret, device, FAILURE_DENIED, "a newer gotthard-cli may explain this status",
                   "%s refused the request (status %u)", device, answer->ack.status);
}

bool diagnosis_of_version(const char *device, const struct gt_extensions *extensions,
                          struct failure *ret)
{
    bool is_older = extensions->session_version < GT_SESSION_VERSION;
    char version[64] = "of another version";

    if (extensions->session_version == GT_SESSION_VERSION)
        return false;
    if (extensions->version.n > 0)
        gt_text_escape(extensions->version, version, sizeof(version));
    failure_set_of(ret, device, FAILURE_VERSION,
                   is_older ? "upgrade gotthard-agentd on {device}" : "upgrade gotthard-cli here",
                   "%s has gotthard-agentd %s, which cannot open a tunnel with gotthard-cli %s",
                   device, version, GOTTHARD_VERSION);
    return true;
}

static enum failure_id failure_of_code(enum gt_code code)
{
    if (code == GT_CODE_NO_PORT)
        return FAILURE_RELAY_FULL;
    return code == GT_CODE_SHUTDOWN ? FAILURE_TUNNEL_LOST : FAILURE_RELAY_ERROR;
}

const char *diagnosis_reason(const char *why, char *ret, size_t cap)
{
    snprintf(ret, cap, "%s", why);
    if (isupper((unsigned char)ret[0]) && islower((unsigned char)ret[1]))
        ret[0] = (char)tolower((unsigned char)ret[0]);
    return ret;
}

bool diagnosis_is_elsewhere(const struct gt_host_port *relay, const struct gt_report *report)
{
    const char *port = strrchr(report->relay, ':');
    const char *host = report->relay + (report->relay[0] == '[');
    char own_port[8];

    if (!port)
        return false; /* an agent that does not name it */
    size_t n = (size_t)(port - host) - (host > report->relay);
    snprintf(own_port, sizeof(own_port), "%u", relay->port);
    return strcmp(port + 1, own_port) != 0 || strlen(relay->host) != n ||
           strncasecmp(relay->host, host, n) != 0;
}

static void describe_unreachable(const char *device, const struct gt_host_port *relay,
                                 const struct gt_report *report, const char *why,
                                 struct failure *ret)
{
    if (diagnosis_is_elsewhere(relay, report))
        failure_set_of(ret, device, FAILURE_DEVICE_RELAY,
                       "correct server.host and server.port on the device, then systemctl reload "
                       "gotthard-agentd; or check its DNS, route and firewall",
                       "%s cannot reach its relay %s (%s); here it is %s:%u", device, report->relay,
                       why, relay->host, relay->port);
    else
        failure_set_of(ret, device, FAILURE_DEVICE_RELAY, NULL, "%s cannot reach its relay %s (%s)",
                       device, report->relay, why);
}

void diagnosis_of_report(const char *device, const struct gt_host_port *relay,
                         const struct gt_report *report, struct failure *ret)
{
    bool is_full = report->code == GT_CODE_NO_PORT;
    char why[GT_REPORT_WHY_MAX + 1];

    diagnosis_reason(report->why, why, sizeof(why));
    switch ((enum gt_report_kind)report->kind) {
    case GT_REPORT_AT_RELAY:
        failure_set_of(ret, device, FAILURE_DEVICE_RELAY, "configure the same relay on both sides",
                       "%s waits at relay %s and this side at relay %s:%u: not the same one",
                       device, report->relay, relay->host, relay->port);
        return;
    case GT_REPORT_UNREACHABLE: describe_unreachable(device, relay, report, why, ret); return;
    case GT_REPORT_REJECTED:
        failure_set_of(ret, device, FAILURE_DEVICE_RELAY,
                       "check that the device and its relay have keys of the same fleet",
                       "%s is not accepted by %s (%s)", device, report->relay, why);
        return;
    case GT_REPORT_ERROR:
        if (limit_diagnosis_of_report(device, report->code, report->why, ret))
            return;
        failure_set(ret, is_full ? FAILURE_RELAY_FULL : FAILURE_DEVICE_RELAY,
                    is_full ? NULL : "see the log of the relay", "%s was refused by %s (%s)",
                    device, report->relay, why);
        return;
    case GT_REPORT_ENDED: break;
    }
    failure_set_of(ret, device, FAILURE_DEVICE_LOST, NULL,
                   "%s ended the session before it was up (%s)", device, why);
}

static void describe_peer_lost(const struct tunnel_end *end, struct failure *ret)
{
    if (end->was_up)
        failure_set_of(ret, end->device, FAILURE_DEVICE_LOST,
                       "show whether it is online: gotthard-cli status {device}; "
                       "{timeouts.resume_window} limits the wait for it",
                       "%s is lost: %s", end->device, end->why);
    else if (end->is_offline)
        failure_set_of(ret, end->device, FAILURE_OFFLINE, NULL,
                       "%s went offline before the tunnel was up", end->device);
    else if (end->report)
        diagnosis_of_report(end->device, end->relay, end->report, ret);
    else
        failure_set_of(ret, end->device, FAILURE_DEVICE_LOST,
                       "check that the device can reach the relay; timeouts.peer limits the wait",
                       "%s did not connect to the relay (%s:%u) in time, and did not report why",
                       end->device, end->relay->host, end->relay->port);
}

/* Adds the device's view to a failure of this side's way to the relay. */
static void add_report(const struct tunnel_end *end, struct failure *ret)
{
    size_t n = strlen(ret->message);
    char why[GT_REPORT_WHY_MAX + 1];

    if (!end->report || end->was_up)
        return;
    diagnosis_reason(end->report->why, why, sizeof(why));
    if (end->report->kind == GT_REPORT_AT_RELAY)
        snprintf(ret->message + n, sizeof(ret->message) - n, "; %s is connected to %s", end->device,
                 end->report->relay);
    else if (end->report->kind == GT_REPORT_UNREACHABLE)
        snprintf(ret->message + n, sizeof(ret->message) - n, "; %s cannot reach %s either (%s)",
                 end->device, end->report->relay, why);
}

/* The device has answered the sealed request, so that both sides have the same fleet key. */
static void describe_rejected(const struct tunnel_end *end, struct failure *ret)
{
    const struct gt_report *report = end->was_up ? NULL : end->report;
    const char *host = end->relay->host;
    unsigned port = end->relay->port;

    if (report && report->kind == GT_REPORT_REJECTED && !diagnosis_is_elsewhere(end->relay, report))
        failure_set(ret, FAILURE_RELAY_REFUSED,
                    "gotthard-cli keygen relay > relay.key, copy it to crypt.key_file of the "
                    "relay, then systemctl reload gotthard-relayd",
                    "the relay %s:%u rejects this operator and %s alike: the key of the relay is "
                    "not of this fleet (%s)",
                    host, port, end->device, end->why);
    else
        failure_set(ret, FAILURE_RELAY_REFUSED, NULL, "relay %s:%u: %s", host, port, end->why);
}

void diagnosis_of_tunnel_end(const struct tunnel_end *end, struct failure *ret)
{
    const char *host = end->relay->host;
    unsigned port = end->relay->port;

    if (limit_diagnosis(end, ret))
        return;
    switch (end->cause) {
    case GT_END_CLOSED:
        if (end->was_up) {
            failure_set_of(ret, end->device, FAILURE_CLOSED, NULL,
                           "the tunnel to %s was closed by an operator's disconnect, or because "
                           "its agent stopped",
                           end->device);
            return;
        }
        failure_set_of(ret, end->device, FAILURE_DEVICE_LOST, NULL,
                       "%s closed the session before it was up", end->device);
        return;
    case GT_END_UNREACHABLE:
        failure_set_of(ret, end->device, FAILURE_RELAY_UNREACHABLE,
                       end->has_proxy ? "check {server.proxy}, {server.host} and {server.port}"
                                      : NULL,
                       "relay %s:%u: %s", host, port, end->why);
        add_report(end, ret);
        return;
    case GT_END_PROXY: failure_set(ret, FAILURE_PROXY, NULL, "%s", end->why); return;
    case GT_END_REFUSED: describe_rejected(end, ret); return;
    case GT_END_RELAY:
        failure_set(ret, failure_of_code(end->code), NULL, "relay %s:%u: %s", host, port, end->why);
        return;
    case GT_END_LOST:
        failure_set(ret, FAILURE_TUNNEL_LOST, NULL, "connection to the relay lost: %s", end->why);
        return;
    case GT_END_PEER: describe_peer_lost(end, ret); return;
    case GT_END_WITHDRAWN:
        failure_set_of(ret, end->device, FAILURE_WITHDRAWN, NULL, "%s has withdrawn the access",
                       end->device);
        return;
    case GT_END_EXPIRED:
    case GT_END_IDLE:
    case GT_END_LIMIT: /* described above */
    case GT_END_INTERNAL: break;
    }
    failure_set(ret, FAILURE_INTERNAL, NULL, "%s", end->why);
}
