/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "broker-rights.h"

#include <stdio.h>

void broker_rights_rules(const struct settings *settings, const char *name, char *ret, size_t cap)
{
    const char *prefix = settings->mqtt_prefix;

    snprintf(
        ret, cap,
        "add to acl_file of mosquitto, then reload it: \"user %s\", \"topic write %s/d/+/req\", "
        "\"topic read %s/d/+/rsp/%s\", \"topic read %s/d/+/state\"",
        name, prefix, prefix, settings->client_name, prefix);
}

void broker_rights_hint(const struct settings *settings, const struct identity *identity,
                        struct failure *failure)
{
    const char *name = settings->client_name;
    const char *certified = *identity->own.name ? identity->own.name : name;
    const char *user = settings->mqtt_username ? settings->mqtt_username : certified;
    char rules[FAILURE_HINT];

    if (identity_has_other_name(identity, settings))
        failure_hint(failure,
                     "the certificate is for \"%s\", and a broker that takes names from "
                     "certificates does not know %s: correct {client.name}, or cert.pem in "
                     "{mqtt.cert_path}",
                     identity->own.name, name);
    else {
        broker_rights_rules(settings, user, rules, sizeof(rules));
        failure_hint(failure, "%s", rules);
    }
}
