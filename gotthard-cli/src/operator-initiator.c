/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "operator-initiator.h"

#include <string.h>

int operator_initiator_init(const struct settings *settings, const struct identity *identity,
                            const char *device, struct gt_initiator_settings *initiator,
                            struct gt_initiator *ret, struct failure *ret_failure)
{
    struct device_keys keys;

    initiator->prefix = settings->mqtt_prefix;
    initiator->operator_ = settings->client_name;
    initiator->device = device;
    initiator->signer = identity->signer;
    initiator->trust = &identity->trust;
    if (strcmp(initiator->operator_, device) == 0)
        return failure_set(
            ret_failure, FAILURE_CONFIG, "give this operator another name: {+client.name}",
            "client.name is %s, which is the name of the device", initiator->operator_);
    if (identity_device_key(identity, device, &keys, ret_failure) != 0)
        return 1;
    int r =
        gt_initiator_init(ret, initiator, keys.present, keys.has_previous ? keys.previous : NULL);
    device_keys_wipe(&keys);
    if (r != 0)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "shorten {mqtt.prefix} or {client.name}: a topic has at most 256 bytes",
                           "cannot form the topics for %s", device);
    return 0;
}
