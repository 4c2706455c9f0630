/* SPDX-License-Identifier: ISC */
/*
 * The rows of the broker: name, TCP, TLS, CONNECT, and what this operator may publish and receive.
 * The failures of a connection are those of mqtt_connect_failure(), as of each command.
 */
#include <stdio.h>
#include <string.h>

#include "device-state.h"
#include "doctor.h"
#include "gotthard/doctor/broker-check.h"
#include "gotthard/doctor/network-check.h"
#include "mqtt-connect.h"

#define TLS     "broker TLS"
#define LOGIN   "broker login"
#define PUBLISH "publish"
#define RECEIVE "receive"

struct topics {
    char req[GT_TOPIC_MAX + 1], rsp[GT_TOPIC_MAX + 1], state[GT_TOPIC_MAX + 1];
    char echo[2 * GT_TOPIC_MAX];
};

static void skip_from(struct doctor *doctor, const char *first, const char *why)
{
    static const char *const names[] = {TLS, LOGIN, PUBLISH, RECEIVE};
    bool is_due = false;

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        is_due |= strcmp(names[i], first) == 0;
        if (is_due)
            gt_checkup_skip(&doctor->checkup, names[i], why);
    }
}

/* --- name and TCP ----------------------------------------------------------------------------- */

static bool check_network(struct doctor *doctor, const struct gt_mqtt_url *endpoint)
{
    struct gt_host_port to = {.port = endpoint->port};
    struct gt_network network;
    struct failure failure;
    struct gt_network_words words = {
        .name = "broker name",
        .tcp = "broker TCP",
        .fault = doctor_fault(FAILURE_BROKER_UNREACHABLE, &failure),
        .refused = "start the broker, for example: systemctl start mosquitto; or correct "
                   "{mqtt.endpoint}",
        .setting = "{mqtt.endpoint}",
    };

    snprintf(to.host, sizeof(to.host), "%s", endpoint->host);
    gt_network_check(doctor->context->loop, &to, &network);
    return gt_network_add_rows(&network, &to, &words, &doctor->checkup);
}

/* --- topics ----------------------------------------------------------------------------------- */

/* The name by which the broker knows this operator. */
static const char *name_at_broker(const struct doctor *doctor)
{
    const struct settings *settings = doctor->context->settings;

    if (settings->mqtt_username)
        return settings->mqtt_username;
    return doctor->has_certificate && *doctor->certificate.name ? doctor->certificate.name
                                                                : settings->client_name;
}

/* A broker of AWS closes the connection instead of refusing a message. */
static bool may_echo(const struct gt_mqtt_url *endpoint)
{
    return !strstr(endpoint->host, "amazonaws.com");
}

static bool make_topics(const struct doctor *doctor, const struct gt_mqtt_url *endpoint,
                        struct topics *ret)
{
    const struct settings *settings = doctor->context->settings;
    const char *device = doctor->device ? doctor->device : settings->client_name;

    if (gt_topic_req(settings->mqtt_prefix, device, ret->req) != 0 ||
        gt_topic_rsp(settings->mqtt_prefix, device, settings->client_name, ret->rsp) != 0 ||
        gt_topic_state(settings->mqtt_prefix, doctor->device ? device : "+", ret->state) != 0)
        return false;
    if (!doctor->device)
        snprintf(ret->rsp, sizeof(ret->rsp), "%.120s/d/+/rsp/%s", settings->mqtt_prefix,
                 settings->client_name);
    /* Shipped access rules let each client answer itself. */
    *ret->echo = 0;
    if (may_echo(endpoint))
        snprintf(ret->echo, sizeof(ret->echo), "%s/d/%s/rsp/%s", settings->mqtt_prefix,
                 name_at_broker(doctor), settings->client_name);
    return true;
}

/* --- the connection --------------------------------------------------------------------------- */

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Words of mqtt-error.c for failures before CONNECT is sent. */
static bool is_of_tls(const char *why)
{
    return has_prefix(why, "TLS:") || strstr(why, "TLS handshake");
}

static void report_down(struct doctor *doctor, const struct gt_broker_facts *facts, bool is_tls)
{
    bool is_at_tls = is_tls && is_of_tls(facts->why);
    struct failure failure;

    mqtt_connect_failure(doctor->context->settings, facts->why, &failure);
    if (!is_at_tls)
        gt_checkup_ok(&doctor->checkup, TLS, is_tls ? "the handshake is complete" : "not used");
    doctor_fail(doctor, is_at_tls ? TLS : LOGIN, &failure);
    skip_from(doctor, is_at_tls ? LOGIN : PUBLISH, "no connection to the broker");
}

static void report_up(struct doctor *doctor, const struct gt_mqtt_url *endpoint,
                      const struct gt_broker_facts *facts)
{
    if (endpoint->is_tls)
        gt_checkup_ok(&doctor->checkup, TLS, "the certificate of %s is accepted", endpoint->host);
    else if (gt_mqtt_url_is_loopback(endpoint))
        gt_checkup_ok(&doctor->checkup, TLS, "not used on this machine");
    else
        gt_checkup_warn(&doctor->checkup, TLS, "use mqtts:// in {mqtt.endpoint}",
                        "mqtt://%s is not encrypted: the network can see which operator connects "
                        "to which device",
                        endpoint->host);
    gt_checkup_ok(&doctor->checkup, LOGIN, "accepted in %.1f s", facts->took_s);
}

/* --- rights ----------------------------------------------------------------------------------- */

/* A broker that takes names from certificates knows this operator by another one. */
static bool has_other_name(const struct doctor *doctor)
{
    struct failure failures[2];
    struct gt_certificate_words words = doctor_certificate_words(doctor, failures);

    return doctor->has_certificate && !doctor->context->settings->mqtt_username &&
           gt_certificate_has_other_name(&doctor->certificate, &words);
}

/* Adds a failed row: the broker does not do something for this operator, for the reason @why. */
static void fail_refused(struct doctor *doctor, const char *name, const char *why, const char *fmt,
                         const char *topic)
{
    const struct settings *settings = doctor->context->settings;
    const char *known_as = name_at_broker(doctor), *prefix = settings->mqtt_prefix;
    char remedy[GT_CHECK_REMEDY], text[GT_CHECK_TEXT];
    struct failure failure;
    struct gt_check_fault fault = doctor_fault(FAILURE_BROKER_REFUSED, &failure);

    fault.remedy = remedy;
    snprintf(text, sizeof(text), "%s %s", fmt, topic);
    if (has_other_name(doctor)) {
        snprintf(
            remedy, sizeof(remedy),
            "use a certificate for %s in {mqtt.cert_path}, or set {client.name} to the name in the "
            "certificate",
            settings->client_name);
        gt_checkup_fail(&doctor->checkup, name, &fault,
                        "the broker %s (%s): the certificate is for \"%s\", and client.name is %s",
                        text, why, known_as, settings->client_name);
        return;
    }
    snprintf(remedy, sizeof(remedy),
             "add to the ACL of the broker: \"user %s\", \"topic write %s/d/+/req\", \"topic read "
             "%s/d/+/rsp/%s\", \"topic read %s/d/+/state\"",
             known_as, prefix, prefix, settings->client_name, prefix);
    gt_checkup_fail(&doctor->checkup, name, &fault, "the broker %s (%s)", text, why);
}

static void report_publish(struct doctor *doctor, const struct topics *topics,
                           const struct gt_broker_facts *facts)
{
    switch (facts->publish) {
    case GT_BROKER_GRANTED: gt_checkup_ok(&doctor->checkup, PUBLISH, "%s", topics->req); return;
    case GT_BROKER_REFUSED:
        fail_refused(doctor, PUBLISH, facts->publish_why, "refuses messages to", topics->req);
        return;
    case GT_BROKER_UNKNOWN:
        fail_refused(doctor, PUBLISH, facts->is_lost ? facts->why : "no answer",
                     "does not acknowledge messages to", topics->req);
        return;
    }
}

static void report_granted(struct doctor *doctor, const struct topics *topics,
                           const struct gt_broker_facts *facts)
{
    switch (facts->echo) {
    case GT_BROKER_ECHO_RECEIVED:
        gt_checkup_ok(&doctor->checkup, RECEIVE, "%s", topics->rsp);
        return;
    case GT_BROKER_ECHO_WITHHELD:
        fail_refused(doctor, RECEIVE, "its access rules", "does not deliver messages on",
                     topics->rsp);
        return;
    case GT_BROKER_ECHO_LOST:
        gt_checkup_warn(&doctor->checkup, RECEIVE,
                        "lower the MTU of this machine, for example: ip link set dev eth0 mtu 1280",
                        "the broker received small messages and none of 4,000 bytes: a link (VPN, "
                        "LTE, PPPoE) loses large packets");
        return;
    case GT_BROKER_ECHO_UNKNOWN:
        gt_checkup_ok(&doctor->checkup, RECEIVE, "%s is granted; the delivery is not proven",
                      topics->rsp);
        return;
    }
}

static void report_receive(struct doctor *doctor, const struct topics *topics,
                           const struct gt_broker_facts *facts)
{
    switch (facts->subscribe) {
    case GT_BROKER_GRANTED: report_granted(doctor, topics, facts); return;
    case GT_BROKER_REFUSED:
        fail_refused(doctor, RECEIVE, facts->subscribe_why, "refuses the subscription to",
                     topics->rsp);
        return;
    case GT_BROKER_UNKNOWN:
        fail_refused(doctor, RECEIVE, facts->is_lost ? facts->why : "no answer",
                     "does not answer the subscription to", topics->rsp);
        return;
    }
}

/* The device's retained state. */
static void doctor_on_message(void *userdata, const char *topic, struct gt_span payload)
{
    struct doctor *doctor = userdata;
    uint8_t buffer[GT_MESSAGE_MAX];
    struct gt_state state;

    if (!doctor->device || !doctor->has_key ||
        !device_state_decode(&doctor->identity, doctor->device, topic, payload, &state, buffer))
        return;
    doctor->state.is_known = true;
    doctor->state.is_online = state.is_online;
    doctor->state.since = state.extensions.since;
    if (state.extensions.n_services > 0)
        snprintf(doctor->state.service, sizeof(doctor->state.service), "%.*s",
                 (int)state.extensions.services[0].n, state.extensions.services[0].data);
}

static void check_mqtt(struct doctor *doctor, const struct mqtt_connect_setup *setup)
{
    struct gt_broker_facts facts;
    struct topics topics;

    if (!make_topics(doctor, &setup->endpoint, &topics)) {
        struct failure failure;

        failure_set(&failure, FAILURE_CONFIG,
                    "shorten mqtt.prefix or client.name: a topic has at most 256 bytes",
                    "cannot form the topics of %s", doctor->context->settings->client_name);
        doctor_fail(doctor, "configuration", &failure);
        return;
    }
    struct gt_broker_check check = {
        .mqtt = setup->mqtt,
        .publish_topic = topics.req,
        .filters = {topics.rsp, topics.state},
        .echo_topic = *topics.echo ? topics.echo : NULL,
        .on_message = doctor_on_message,
        .userdata = doctor,
    };
    gt_broker_check(doctor->context->loop, &check, &facts);
    if (!facts.is_up) {
        report_down(doctor, &facts, setup->endpoint.is_tls);
        return;
    }
    doctor->is_broker_usable = true;
    report_up(doctor, &setup->endpoint, &facts);
    report_publish(doctor, &topics, &facts);
    report_receive(doctor, &topics, &facts);
}

void doctor_check_broker(struct doctor *doctor)
{
    struct mqtt_connect_setup setup;
    struct failure failure;

    if (!doctor->context->settings->mqtt_endpoint) {
        gt_checkup_skip(&doctor->checkup, "broker name", "no broker is configured");
        return;
    }
    if (mqtt_connect_prepare(doctor->context->settings, &doctor->identity, &doctor->silence, &setup,
                             &failure) != 0) {
        doctor_fail(doctor, TLS, &failure);
        return;
    }
    if (check_network(doctor, &setup.endpoint))
        check_mqtt(doctor, &setup);
    else
        skip_from(doctor, TLS, "no connection to the broker");
    mqtt_connect_setup_deinit(&setup);
}
