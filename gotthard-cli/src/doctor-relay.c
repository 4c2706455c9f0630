/* SPDX-License-Identifier: ISC */
/*
 * The rows of the relay: name, TCP, key and version, ports, large packets. A failure to register is
 * described as the end of a tunnel with the same cause (diagnosis.h).
 */
#include <stdio.h>
#include <string.h>

#include "diagnosis.h"
#include "doctor.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/doctor/network-check.h"
#include "gotthard/doctor/relay-check.h"
#include "gotthard/doctor/relay-rows.h"

static bool check_network(struct doctor *doctor, const struct gt_host_port *relay)
{
    struct gt_network network;
    struct failure failure;
    struct gt_network_words words = {
        .name = "relay name",
        .tcp = "relay TCP",
        .fault = doctor_fault(FAILURE_RELAY_UNREACHABLE, &failure),
        .blocked = "open the port in the firewall, or let the relay listen on port 443 and set "
                   "{server.port} to 443 on all sides",
        .refused = "start the relay on its machine: systemctl start gotthard-relayd; or correct "
                   "{server.port}",
        .setting = "{server.host}",
    };

    gt_network_check(doctor->context->loop, relay, &network);
    return gt_network_add_rows(&network, relay, &words, &doctor->checkup);
}

static bool check_proxy(struct doctor *doctor, const struct gt_proxy *proxy)
{
    struct failure failure;

    return gt_network_check_proxy(doctor->context->loop, proxy, "server.proxy",
                                  doctor_fault(FAILURE_RELAY_UNREACHABLE, &failure),
                                  &doctor->checkup);
}

static void report_unregistered(struct doctor *doctor, const struct gt_host_port *relay,
                                const struct gt_relay_facts *facts)
{
    struct tunnel_end end = {
        .device = doctor->device ? doctor->device : "the device",
        .relay = relay,
        .cause = facts->reason,
        .code = facts->code,
        .why = facts->why,
    };
    struct failure failure;

    diagnosis_of_tunnel_end(&end, &failure);
    doctor_fail(doctor, GT_RELAY_ROW_KEY, &failure);
    gt_relay_skip_rows(&doctor->checkup, GT_RELAY_ROW_PORTS, "not registered at the relay");
}

static void check_relay(struct doctor *doctor, const struct gt_host_port *relay,
                        const struct gt_proxy *proxy)
{
    const struct settings *settings = doctor->context->settings;
    uint8_t client_key[GT_KEY_SIZE];
    struct gt_relay_facts facts;

    if (gt_key_client(&doctor->identity.key, GT_ROLE_OPERATOR, settings->client_name, client_key) !=
        0) {
        gt_relay_skip_rows(&doctor->checkup, GT_RELAY_ROW_KEY, "cannot derive the relay's key");
        return;
    }
    struct gt_relay_check check = {
        .relay = relay,
        .proxy = proxy,
        .role = GT_ROLE_OPERATOR,
        .name = settings->client_name,
        .client_key = client_key,
    };
    gt_relay_check(doctor->context->loop, &check, &facts);
    gt_wipe(client_key, sizeof(client_key));
    if (!facts.is_registered) {
        report_unregistered(doctor, relay, &facts);
        return;
    }
    doctor->is_relay_usable = true;
    gt_relay_add_rows(&facts, relay, settings->is_single_port, &doctor->checkup);
}

void doctor_check_relay(struct doctor *doctor)
{
    const struct settings *settings = doctor->context->settings;
    struct gt_host_port relay;
    struct gt_proxy proxy;
    struct failure failure;

    if (!settings_relay(settings, settings->relay, &relay)) {
        failure_set(&failure, FAILURE_CONFIG,
                    "set {+server.host}, or add the relay to the group relays",
                    "no address is configured for the relay \"%s\"", settings->relay);
        doctor_fail(doctor, "relay name", &failure);
        return;
    }
    bool has_proxy = gt_config_proxy(&settings->server_proxy, settings->server_proxy_password,
                                     relay.host, &proxy);
    if (!(has_proxy ? check_proxy(doctor, &proxy) : check_network(doctor, &relay)))
        gt_relay_skip_rows(&doctor->checkup, GT_RELAY_ROW_KEY, "no connection to the relay");
    else if (!doctor->has_key)
        gt_relay_skip_rows(&doctor->checkup, GT_RELAY_ROW_KEY, "there is no key");
    else
        check_relay(doctor, &relay, has_proxy ? &proxy : NULL);
    if (has_proxy)
        gt_wipe(&proxy, sizeof(proxy));
}
