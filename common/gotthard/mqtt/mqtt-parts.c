/* SPDX-License-Identifier: ISC */
/* The subscription to parts of the access list, by the exact name of each. */
#include "gotthard/mqtt/mqtt.h"

int gt_mqtt_subscribe_parts(struct gt_mqtt *mqtt, const char *prefix, size_t first, size_t n,
                            int *ret_id)
{
    char topics[GT_MQTT_FILTERS_MAX][GT_TOPIC_MAX + 1];
    const char *filters[GT_MQTT_FILTERS_MAX];

    for (size_t i = 0; i < n && i < GT_MQTT_FILTERS_MAX; i++) {
        if (gt_topic_access(prefix, first + i, topics[i]) != 0)
            return -EINVAL;
        filters[i] = topics[i];
    }
    return gt_mqtt_subscribe_all(mqtt, filters, n, 1, ret_id);
}
