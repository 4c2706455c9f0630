/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "gotthard/doctor/broker-rows.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/doctor/fault-id.h"
#include "gotthard/mqtt/mqtt-error.h"

void gt_broker_skip_rows(struct gt_checkup *checkup, const char *first, const char *why)
{
    static const char *const names[] = {GT_BROKER_ROW_TLS, GT_BROKER_ROW_LOGIN,
                                        GT_BROKER_ROW_PUBLISH, GT_BROKER_ROW_RECEIVE};
    bool is_due = false;

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        is_due |= strcmp(names[i], first) == 0;
        if (is_due)
            gt_checkup_skip(checkup, names[i], why);
    }
}

/* --- the connection --------------------------------------------------------------------------- */

static void add_tls_row(const struct gt_broker_words *words, struct gt_checkup *checkup)
{
    if (words->is_tls)
        gt_checkup_ok(checkup, GT_BROKER_ROW_TLS, "the certificate of %s is accepted", words->host);
    else if (words->is_loopback)
        gt_checkup_ok(checkup, GT_BROKER_ROW_TLS, "not used on this machine");
    else
        gt_checkup_warn(checkup, GT_BROKER_ROW_TLS, "use mqtts:// in {mqtt.endpoint}",
                        "mqtt://%s is not encrypted: the network can see which operator connects "
                        "to which device",
                        words->host);
}

struct gt_check_fault gt_broker_fault(const struct gt_mqtt_outcome *outcome)
{
    static const struct {
        enum gt_mqtt_kind kind;
        int id, exit;
    } rows[] = {
        {GT_MQTT_KIND_UNREACHABLE, GT_FAULT_BROKER_UNREACHABLE, GT_EXIT_UNAVAILABLE},
        {GT_MQTT_KIND_PROXY, GT_FAULT_PROXY, GT_EXIT_REFUSED},
        {GT_MQTT_KIND_REFUSED, GT_FAULT_BROKER_REFUSED, GT_EXIT_REFUSED},
        {GT_MQTT_KIND_UNTRUSTED, GT_FAULT_BROKER_UNTRUSTED, GT_EXIT_REFUSED},
        {GT_MQTT_KIND_FOREIGN, GT_FAULT_BROKER_FOREIGN, GT_EXIT_PROTOCOL},
        {GT_MQTT_KIND_CERTIFICATE, GT_FAULT_CERTIFICATE, GT_EXIT_CONFIGURATION},
        {GT_MQTT_KIND_CLOCK, GT_FAULT_CLOCK, GT_EXIT_CONFIGURATION},
        {GT_MQTT_KIND_SETTINGS, GT_FAULT_CONFIG, GT_EXIT_CONFIGURATION},
        {GT_MQTT_KIND_INTERNAL, GT_FAULT_INTERNAL, GT_EXIT_INTERNAL},
    };
    size_t i = 0;

    while (outcome && rows[i].kind != outcome->kind)
        i++;
    return (struct gt_check_fault){
        .id = rows[i].id,
        .exit = rows[i].exit,
        .remedy = outcome ? outcome->hint
                          : "check {mqtt.endpoint}, and the route and the firewalls between this "
                            "machine and it",
    };
}

/* Returns true for failures before CONNECT is sent. */
static bool is_of_tls(const struct gt_broker_facts *facts)
{
    return facts->outcome &&
           (gt_mqtt_outcome_is_of_tls(facts->outcome) || strstr(facts->why, "TLS handshake"));
}

void gt_broker_add_failure(const struct gt_broker_facts *facts, const struct gt_broker_words *words,
                           const struct gt_check_fault *fault, const char *text,
                           struct gt_checkup *checkup)
{
    bool is_at_tls = words->is_tls && is_of_tls(facts);

    if (!is_at_tls)
        add_tls_row(words, checkup);
    gt_checkup_fail(checkup, is_at_tls ? GT_BROKER_ROW_TLS : GT_BROKER_ROW_LOGIN, fault, "%s",
                    text);
    gt_broker_skip_rows(checkup, is_at_tls ? GT_BROKER_ROW_LOGIN : GT_BROKER_ROW_PUBLISH,
                        "no connection to the broker");
}

/* --- rights ----------------------------------------------------------------------------------- */

/* The broker does not do @what with @topic, for the reason @why. */
static void add_refusal(const struct gt_broker_words *words, const char *name, const char *what,
                        const char *topic, const char *why, struct gt_checkup *checkup)
{
    struct gt_check_fault fault = words->refused;
    char remedy[GT_CHECK_REMEDY];

    if (!words->known_as) {
        gt_checkup_fail(checkup, name, &fault, "the broker %s %s (%s)", what, topic, why);
        return;
    }
    snprintf(remedy, sizeof(remedy),
             "use a certificate for %s in {mqtt.cert_path}, or set {%s} to the name in the "
             "certificate",
             words->own_name, words->own_setting);
    fault.remedy = remedy;
    gt_checkup_fail(checkup, name, &fault,
                    "the broker %s %s (%s): the certificate is for \"%s\", and %s is %s", what,
                    topic, why, words->known_as, words->own_setting, words->own_name);
}

static const char *why_silent(const struct gt_broker_facts *facts)
{
    return facts->is_lost ? facts->why : "no answer";
}

static void add_publish_row(const struct gt_broker_facts *facts,
                            const struct gt_broker_words *words, struct gt_checkup *checkup)
{
    switch (facts->publish) {
    case GT_BROKER_GRANTED:
        gt_checkup_ok(checkup, GT_BROKER_ROW_PUBLISH, "%s", words->publish);
        return;
    case GT_BROKER_REFUSED:
        add_refusal(words, GT_BROKER_ROW_PUBLISH, "refuses messages to", words->publish,
                    facts->publish_why, checkup);
        return;
    case GT_BROKER_UNKNOWN:
        add_refusal(words, GT_BROKER_ROW_PUBLISH, "does not acknowledge messages to",
                    words->publish, why_silent(facts), checkup);
        return;
    }
}

static void add_delivery_row(const struct gt_broker_facts *facts,
                             const struct gt_broker_words *words, struct gt_checkup *checkup)
{
    switch (facts->echo) {
    case GT_BROKER_ECHO_RECEIVED:
        gt_checkup_ok(checkup, GT_BROKER_ROW_RECEIVE, "%s", words->receive);
        return;
    case GT_BROKER_ECHO_WITHHELD:
        add_refusal(words, GT_BROKER_ROW_RECEIVE, "does not deliver messages on", words->receive,
                    "its access rules", checkup);
        return;
    case GT_BROKER_ECHO_LOST:
        gt_checkup_warn(
            checkup, GT_BROKER_ROW_RECEIVE,
            "lower the MTU of this machine; the row \"large packets\" names the command",
            "the broker received small messages, but not one of 4,000 bytes: a link "
            "(VPN, LTE, PPPoE) loses large packets");
        return;
    case GT_BROKER_ECHO_UNKNOWN:
        gt_checkup_ok(checkup, GT_BROKER_ROW_RECEIVE, "%s is granted; the delivery is not proven",
                      words->receive);
        return;
    }
}

static void add_receive_row(const struct gt_broker_facts *facts,
                            const struct gt_broker_words *words, struct gt_checkup *checkup)
{
    switch (facts->subscribe) {
    case GT_BROKER_GRANTED: add_delivery_row(facts, words, checkup); return;
    case GT_BROKER_REFUSED:
        add_refusal(words, GT_BROKER_ROW_RECEIVE, "refuses the subscription to", words->receive,
                    facts->subscribe_why, checkup);
        return;
    case GT_BROKER_UNKNOWN:
        add_refusal(words, GT_BROKER_ROW_RECEIVE, "does not answer the subscription to",
                    words->receive, why_silent(facts), checkup);
        return;
    }
}

void gt_broker_add_rows(const struct gt_broker_facts *facts, const struct gt_broker_words *words,
                        struct gt_checkup *checkup)
{
    add_tls_row(words, checkup);
    gt_checkup_ok(checkup, GT_BROKER_ROW_LOGIN, "accepted in %.1f s", facts->took_s);
    add_publish_row(facts, words, checkup);
    add_receive_row(facts, words, checkup);
}
