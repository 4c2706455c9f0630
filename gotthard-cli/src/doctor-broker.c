/* SPDX-License-Identifier: ISC */
/*
 * The rows of the broker: name, TCP, TLS, CONNECT, and what this operator may publish and receive.
 * The failures of a connection are those of mqtt_connect_failure(), as of each command.
 */
#include <stdio.h>
#include <string.h>

#include "broker-rights.h"
#include "device-state.h"
#include "doctor.h"
#include "gotthard/doctor/broker-rows.h"
#include "gotthard/doctor/network-check.h"
#include "gotthard/signaling/topic.h"
#include "mqtt-connect.h"

struct topics {
    char req[GT_TOPIC_MAX + 1], rsp[GT_TOPIC_MAX + 1], state[GT_TOPIC_MAX + 1];
    char echo[2 * GT_TOPIC_MAX];
};

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
        .blocked = "open the port in the firewall, or let the broker listen on port 443 (AWS IoT "
                   "Core does) and set that port in {mqtt.endpoint}",
        .refused = "start the broker, for example: systemctl start mosquitto; or correct "
                   "{mqtt.endpoint}",
        .setting = "{mqtt.endpoint}",
    };

    snprintf(to.host, sizeof(to.host), "%s", endpoint->host);
    gt_network_check(doctor->context->loop, &to, &network);
    return gt_network_add_rows(&network, &to, &words, &doctor->checkup);
}

static bool check_proxy(struct doctor *doctor, const struct gt_proxy *proxy)
{
    struct failure failure;

    return gt_network_check_proxy(doctor->context->loop, proxy, "mqtt.proxy",
                                  doctor_fault(FAILURE_BROKER_UNREACHABLE, &failure),
                                  &doctor->checkup);
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

/* --- rights ----------------------------------------------------------------------------------- */

/* A broker that takes names from certificates knows this operator by another one. */
static bool has_other_name(const struct doctor *doctor)
{
    struct failure failures[2];
    struct gt_certificate_words words = doctor_certificate_words(doctor, failures);

    return doctor->has_certificate && !doctor->context->settings->mqtt_username &&
           gt_certificate_has_other_name(&doctor->certificate, &words);
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
    snprintf(doctor->state.fault, sizeof(doctor->state.fault), "%.*s",
             (int)state.extensions.fault.n, state.extensions.fault.data);
    if (state.extensions.n_services > 0)
        snprintf(doctor->state.service, sizeof(doctor->state.service), "%.*s",
                 (int)state.extensions.services[0].n, state.extensions.services[0].data);
}

static void report(struct doctor *doctor, const struct gt_mqtt_url *endpoint,
                   const struct topics *topics, const struct gt_broker_facts *facts)
{
    const struct settings *settings = doctor->context->settings;
    char rules[GT_CHECK_REMEDY];
    struct failure failure;
    struct gt_broker_words words = {
        .host = endpoint->host,
        .is_tls = endpoint->is_tls,
        .is_loopback = gt_mqtt_url_is_loopback(endpoint),
        .publish = topics->req,
        .receive = topics->rsp,
        .refused = doctor_fault(FAILURE_BROKER_REFUSED, &failure),
        .known_as = has_other_name(doctor) ? name_at_broker(doctor) : NULL,
        .own_name = settings->client_name,
        .own_setting = "client.name",
    };

    broker_rights_rules(doctor->context->settings, name_at_broker(doctor), rules, sizeof(rules));
    words.refused.remedy = rules;
    doctor->is_broker_usable = facts->is_up;
    if (facts->is_up) {
        gt_broker_add_rows(facts, &words, &doctor->checkup);
        return;
    }
    mqtt_connect_failure(settings, facts->outcome, facts->why, &failure);
    struct gt_check_fault fault = {
        .id = (int)failure.id, .exit = failure_exit(failure.id), .remedy = failure.hint};
    gt_broker_add_failure(facts, &words, &fault, failure.message, &doctor->checkup);
}

static void check_mqtt(struct doctor *doctor, const struct mqtt_connect_setup *setup)
{
    struct gt_broker_facts facts;
    struct failure failure;
    struct topics topics;

    if (!make_topics(doctor, &setup->endpoint, &topics)) {
        failure_set(&failure, FAILURE_CONFIG,
                    "shorten {mqtt.prefix} or {client.name}: a topic has at most 256 bytes",
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
    report(doctor, &setup->endpoint, &topics, &facts);
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
        doctor_fail(doctor, GT_BROKER_ROW_TLS, &failure);
        gt_broker_skip_rows(&doctor->checkup, GT_BROKER_ROW_LOGIN, "no connection to the broker");
        return;
    }
    bool is_reachable = setup.mqtt.proxy ? check_proxy(doctor, &setup.proxy)
                                         : check_network(doctor, &setup.endpoint);
    if (is_reachable)
        check_mqtt(doctor, &setup);
    else
        gt_broker_skip_rows(&doctor->checkup, GT_BROKER_ROW_TLS, "no connection to the broker");
    mqtt_connect_setup_deinit(&setup);
}
