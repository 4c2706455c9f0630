/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "broker-rights.h"

void broker_rights_hint(const struct settings *settings, const struct identity *identity,
                        struct failure *failure)
{
    const char *name = settings->client_name, *prefix = settings->mqtt_prefix;
    const char *certified = *identity->own.name ? identity->own.name : name;
    const char *user = settings->mqtt_username ? settings->mqtt_username : certified;

    if (identity_has_other_name(identity, settings))
        failure_hint(failure,
                     "the certificate is for \"%s\", and a broker that takes names from "
                     "certificates does not know %s: correct {client.name}, or cert.pem in "
                     "{mqtt.cert_path}",
                     identity->own.name, name);
    else
        failure_hint(
            failure,
            "the access rules of the broker must permit the user \"%s\" to write %s/d/+/req "
            "and to read %s/d/+/rsp/%s and %s/d/+/state (mosquitto: acl_file); "
            "gotthard-cli doctor prints the lines",
            user, prefix, prefix, name, prefix);
}
