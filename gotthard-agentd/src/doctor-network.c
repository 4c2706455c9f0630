/* SPDX-License-Identifier: ISC */
/* The rows of the broker, of each relay, and of the targets of services. */
#include <stdio.h>
#include <string.h>

#include "doctor.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/doctor/broker-rows.h"
#include "gotthard/doctor/fault-id.h"
#include "gotthard/doctor/network-check.h"
#include "gotthard/doctor/relay-rows.h"
#include "gotthard/mqtt/mqtt-error.h"
#include "gotthard/signaling/topic.h"
#include "setup-summary.h"

#define ID_BYTES 8 /* the client id has at most 23 characters, which every broker accepts */

/* --- the broker ------------------------------------------------------------------------------- */

static bool check_broker_network(struct doctor *doctor)
{
    static const struct gt_network_words words = {
        .name = "broker name",
        .tcp = "broker TCP",
        .fault = {GT_FAULT_BROKER_UNREACHABLE, GT_EXIT_UNAVAILABLE,
                  "check {mqtt.endpoint}, and the route and the firewalls between this machine and "
                  "it"},
        .blocked = "open the port in the firewall, or let the broker listen on port 443 (AWS IoT "
                   "Core does) and set that port in {mqtt.endpoint}",
        .refused = "start the broker, for example: systemctl start mosquitto; or correct "
                   "{mqtt.endpoint}",
        .setting = "{mqtt.endpoint}",
    };
    const struct gt_mqtt_url *broker = &doctor->setup->broker;
    struct gt_host_port to = {.port = broker->port};
    struct gt_network network;

    snprintf(to.host, sizeof(to.host), "%s", broker->host);
    gt_network_check(doctor->loop, &to, &network);
    return gt_network_add_rows(&network, &to, &words, &doctor->checkup);
}

static bool check_broker_proxy(struct doctor *doctor, const struct gt_proxy *proxy)
{
    static const struct gt_check_fault fault = {GT_FAULT_BROKER_UNREACHABLE, GT_EXIT_UNAVAILABLE,
                                                NULL};

    return gt_network_check_proxy(doctor->loop, proxy, "mqtt.proxy", fault, &doctor->checkup);
}

struct topics {
    char req[GT_TOPIC_MAX + 1], rsp[GT_TOPIC_MAX + 1];
};

static bool make_topics(const struct settings *s, struct topics *ret)
{
    return gt_topic_req(s->mqtt_prefix, s->device_name, ret->req) == 0 &&
           gt_topic_rsp(s->mqtt_prefix, s->device_name, s->device_name, ret->rsp) == 0;
}

/* The running agent keeps its client id: a broker would end its connection. */
static bool make_client_id(const struct doctor *doctor, char *ret, size_t cap)
{
    uint8_t random[ID_BYTES];

    snprintf(ret, cap, "%s", doctor->setup->settings->device_name);
    if (doctor->pid == 0)
        return true;
    if (gt_random(random, sizeof(random)) != 0)
        return false;
    snprintf(ret, cap, "gtd-");
    gt_text_hex(random, sizeof(random), ret + strlen(ret));
    return true;
}

/* Returns true if the cause may be the client id of this check: a policy may permit the agent's
 * alone. Brokers refuse that, or close the connection (AWS IoT Core: either, by the version of
 * MQTT). Where a user name is set, "not authorized" is more probably about that. */
static bool may_be_of_client_id(const struct doctor *doctor, const struct gt_broker_facts *facts)
{
    const char *name = facts->outcome ? facts->outcome->name : "";

    if (doctor->pid == 0)
        return false;
    return strcmp(name, "client-id") == 0 || strcmp(name, "closed-early") == 0 ||
           (strcmp(name, "not-authorized") == 0 && !doctor->setup->settings->mqtt_username);
}

static void report_down(struct doctor *doctor, const struct gt_broker_facts *facts,
                        const struct gt_broker_words *words)
{
    const char *endpoint = doctor->setup->settings->mqtt_endpoint;
    char text[GT_CHECK_TEXT];
    struct gt_check_fault fault = gt_broker_fault(facts->outcome);

    if (may_be_of_client_id(doctor, facts)) {
        gt_checkup_warn(&doctor->checkup, GT_BROKER_ROW_LOGIN,
                        "to check with the agent's client id: systemctl stop gotthard-agentd; "
                        "gotthard-agentd --doctor; systemctl start gotthard-agentd",
                        "broker %s: %s; this check has another client id than the running agent, "
                        "whose connection it must not end",
                        endpoint, facts->why);
        gt_broker_skip_rows(&doctor->checkup, GT_BROKER_ROW_PUBLISH, "no connection to the broker");
        return;
    }
    bool is_unauthorized =
        doctor->pid > 0 && facts->outcome && strcmp(facts->outcome->name, "not-authorized") == 0;
    snprintf(text, sizeof(text), "broker %s: %s%s", endpoint, facts->why,
             is_unauthorized ? " (the client id of this check is not that of the running agent)"
                             : "");
    gt_broker_add_failure(facts, words, &fault, text, &doctor->checkup);
}

static bool has_other_name(const struct doctor *doctor)
{
    struct gt_certificate_words words = doctor_certificate_words(doctor);

    return doctor->has_certificate && !doctor->setup->settings->mqtt_username &&
           gt_certificate_has_other_name(&doctor->certificate, &words);
}

static void report_broker(struct doctor *doctor, const struct gt_broker_facts *facts,
                          const struct topics *topics)
{
    const struct settings *s = doctor->setup->settings;
    const struct gt_mqtt_url *broker = &doctor->setup->broker;
    char rules[GT_CHECK_REMEDY];
    struct gt_broker_words words = {
        .host = broker->host,
        .is_tls = broker->is_tls,
        .is_loopback = gt_mqtt_url_is_loopback(broker),
        .publish = topics->rsp,
        .receive = topics->req,
        .refused = {GT_FAULT_BROKER_REFUSED, GT_EXIT_REFUSED, rules},
        .known_as = has_other_name(doctor) ? doctor->certificate.name : NULL,
        .own_name = s->device_name,
        .own_setting = "device.name",
    };

    snprintf(
        rules, sizeof(rules),
        "add to acl_file of mosquitto, then reload it: \"pattern read %s/d/%%u/req\", \"pattern write "
        "%s/d/%%u/rsp/+\", \"pattern write %s/d/%%u/state\"",
        s->mqtt_prefix, s->mqtt_prefix, s->mqtt_prefix);
    if (facts->is_up)
        gt_broker_add_rows(facts, &words, &doctor->checkup);
    else
        report_down(doctor, facts, &words);
}

void doctor_check_broker(struct doctor *doctor)
{
    const struct setup *setup = doctor->setup;
    const struct settings *s = setup->settings;
    struct gt_broker_facts facts;
    struct topics topics;
    char client_id[GT_NAME_MAX + 32];
    struct gt_proxy proxy;
    bool has_proxy =
        gt_config_proxy(&s->mqtt_proxy, s->mqtt_proxy_password, setup->broker.host, &proxy);
    bool is_reachable =
        has_proxy ? check_broker_proxy(doctor, &proxy) : check_broker_network(doctor);

    if (!is_reachable || !make_topics(s, &topics) ||
        !make_client_id(doctor, client_id, sizeof(client_id))) {
        gt_broker_skip_rows(&doctor->checkup, GT_BROKER_ROW_TLS, "no connection to the broker");
        return;
    }
    struct gt_broker_check check = {
        .mqtt = {.host = setup->broker.host,
                 .port = setup->broker.port,
                 .proxy = has_proxy ? &proxy : NULL,
                 .tls = setup->credentials->tls,
                 .client_id = client_id,
                 .username = s->mqtt_username,
                 .password = s->mqtt_password,
                 .keepalive_s = (unsigned)(s->mqtt_keepalive_ms / 1000),
                 .version = gt_mqtt_version_of(s->mqtt_version),
                 .is_once = true},
        .publish_topic = topics.rsp,
        .filters = {topics.req},
    };
    gt_broker_check(doctor->loop, &check, &facts);
    gt_wipe(&proxy, sizeof(proxy));
    report_broker(doctor, &facts, &topics);
}

/* --- relays ----------------------------------------------------------------------------------- */

static bool check_relay_network(struct doctor *doctor, const struct gt_host_port *relay)
{
    static const struct gt_network_words words = {
        .name = "relay name",
        .tcp = "relay TCP",
        .fault = {GT_FAULT_RELAY_UNREACHABLE, GT_EXIT_UNAVAILABLE,
                  "check {server.host} and {server.port}, and the firewalls between this machine "
                  "and it"},
        .blocked = "open the port in the firewall, or let the relay listen on port 443 and set "
                   "{server.port} to 443 on all sides",
        .refused = "start the relay on its machine: systemctl start gotthard-relayd; or correct "
                   "{server.port}",
        .setting = "{server.host}",
    };
    struct gt_network network;

    gt_network_check(doctor->loop, relay, &network);
    return gt_network_add_rows(&network, relay, &words, &doctor->checkup);
}

static bool check_relay_proxy(struct doctor *doctor, const struct gt_proxy *proxy)
{
    static const struct gt_check_fault fault = {GT_FAULT_RELAY_UNREACHABLE, GT_EXIT_UNAVAILABLE,
                                                NULL};

    return gt_network_check_proxy(doctor->loop, proxy, "server.proxy", fault, &doctor->checkup);
}

static struct gt_check_fault fault_of_relay(const struct gt_relay_facts *facts)
{
    if (facts->reason == GT_END_UNREACHABLE)
        return (struct gt_check_fault){GT_FAULT_RELAY_UNREACHABLE, GT_EXIT_UNAVAILABLE,
                                       "check {server.host} and {server.port}, and the firewalls "
                                       "between this machine and it"};
    if (facts->reason == GT_END_REFUSED)
        return (struct gt_check_fault){
            GT_FAULT_RELAY_REFUSED, GT_EXIT_REFUSED,
            "check that it is a gotthard-relayd, and that its key and {crypt.key} are of the same "
            "fleet"};
    if (facts->reason == GT_END_PROXY)
        return (struct gt_check_fault){GT_FAULT_PROXY, GT_EXIT_REFUSED,
                                       "correct {server.proxy}, or let the proxy permit CONNECT "
                                       "to the relay"};
    if (facts->reason == GT_END_LIMIT)
        return (struct gt_check_fault){GT_FAULT_RELAY_LIMIT, GT_EXIT_TRY_AGAIN,
                                       "see the log of the relay"};
    if (facts->code == GT_CODE_NO_PORT)
        return (struct gt_check_fault){GT_FAULT_RELAY_FULL, GT_EXIT_TRY_AGAIN,
                                       "try again later, or widen the relay's range of ports"};
    return (struct gt_check_fault){GT_FAULT_RELAY_ERROR, GT_EXIT_PROTOCOL,
                                   "see the log of the relay"};
}

static void check_relay(struct doctor *doctor, const struct gt_host_port *relay)
{
    const char *name = doctor->setup->settings->device_name;
    uint8_t client_key[GT_KEY_SIZE];
    struct gt_relay_facts facts;
    struct gt_proxy proxy;
    const struct settings *s = doctor->setup->settings;
    bool has_proxy =
        gt_config_proxy(&s->server_proxy, s->server_proxy_password, relay->host, &proxy);

    if (!(has_proxy ? check_relay_proxy(doctor, &proxy) : check_relay_network(doctor, relay))) {
        gt_relay_skip_rows(&doctor->checkup, GT_RELAY_ROW_KEY, "no connection to the relay");
        return;
    }
    if (setup_client_key(doctor->setup, name, client_key) != 0)
        return; /* setup_new() has derived it before */
    struct gt_relay_check check = {.relay = relay,
                                   .proxy = has_proxy ? &proxy : NULL,
                                   .role = GT_ROLE_DEVICE,
                                   .name = name,
                                   .client_key = client_key};
    gt_relay_check(doctor->loop, &check, &facts);
    gt_wipe(client_key, sizeof(client_key));
    if (has_proxy)
        gt_wipe(&proxy, sizeof(proxy));
    if (facts.is_registered) {
        gt_relay_add_rows(&facts, relay, doctor->setup->settings->is_single_port, &doctor->checkup);
        return;
    }
    struct gt_check_fault fault = fault_of_relay(&facts);
    gt_checkup_fail(&doctor->checkup, GT_RELAY_ROW_KEY, &fault, "relay %s:%u: %s", relay->host,
                    relay->port, facts.why);
    gt_relay_skip_rows(&doctor->checkup, GT_RELAY_ROW_PORTS, "not registered at the relay");
}

void doctor_check_relays(struct doctor *doctor)
{
    const struct targets *relays = &doctor->setup->policy.relays;

    for (size_t i = 0; i < relays->n; i++)
        check_relay(doctor, &relays->all[i].address);
    if (relays->n == 0)
        gt_checkup_fail(&doctor->checkup, "relay name",
                        &(struct gt_check_fault){GT_FAULT_CONFIG, GT_EXIT_CONFIGURATION,
                                                 "set {+server.host} to the host of the relay"},
                        "no relay: server.host is not set");
}

/* --- services --------------------------------------------------------------------------------- */

static const char *why_not(const struct gt_network *network, const char *host, char *ret,
                           size_t cap)
{
    static const char *const names[] = {
        [GT_NETWORK_NAME_FOUND] = "",
        [GT_NETWORK_NAME_ABSENT] = "there is no address for",
        [GT_NETWORK_NAME_FAILED] = "the name servers fail (SERVFAIL), or cannot be reached, for",
        [GT_NETWORK_NAME_SILENT] = "no name server answers for",
    };

    if (network->name != GT_NETWORK_NAME_FOUND)
        snprintf(ret, cap, "%s %s", names[network->name], host);
    else
        snprintf(ret, cap, "%s",
                 network->attempts[0].err == ETIMEDOUT ? "no answer"
                                                       : strerror(network->attempts[0].err));
    return ret;
}

static void check_service(struct doctor *doctor, const struct target *service)
{
    const struct gt_host_port *to = &service->address;
    char row[GT_SERVICE_MAX + 16], why[GT_HOST_MAX + 80];
    struct gt_network network;
    static const struct gt_check_fault fault = {
        GT_FAULT_TARGET, GT_EXIT_UNAVAILABLE,
        "start the program, or correct {services}; to see which program listens: ss -ltnp"};

    snprintf(row, sizeof(row), "service %s", service->name);
    if (target_udp(service->name)) {
        gt_checkup_skip(&doctor->checkup, row, "a target of UDP answers only its own protocol");
        return;
    }
    gt_network_check(doctor->loop, to, &network);
    if (network.n_connected > 0)
        gt_checkup_ok(&doctor->checkup, row, "%s:%u answers", to->host, to->port);
    else
        gt_checkup_fail(&doctor->checkup, row, &fault, "%s:%u: %s", to->host, to->port,
                        why_not(&network, to->host, why, sizeof(why)));
}

void doctor_check_services(struct doctor *doctor)
{
    const struct targets *services = &doctor->setup->policy.services;

    for (size_t i = 0; i < services->n; i++)
        check_service(doctor, &services->all[i]);
    if (doctor->setup->policy.permit.n > 0)
        gt_checkup_ok(&doctor->checkup, "permit", "further targets: %s",
                      setup_permit_text(doctor->setup));
    else if (services->n == 0)
        gt_checkup_warn(&doctor->checkup, "services", "add one to {+services}",
                        "no service is offered: no operator can open a tunnel");
}
