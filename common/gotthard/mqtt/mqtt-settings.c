/* SPDX-License-Identifier: ISC */
/* The texts of the settings; see the headers. */
#include "gotthard/mqtt/mqtt-settings.h"

#include "gotthard/tls/certificate-context.h"

enum gt_mqtt_version gt_mqtt_version_of(const char *word)
{
    if (strcmp(word, "5") == 0)
        return GT_MQTT_VERSION_5;
    return strcmp(word, "3.1.1") == 0 ? GT_MQTT_VERSION_3 : GT_MQTT_VERSION_ANY;
}

static struct gt_proxy *copy_proxy(const struct gt_proxy *proxy)
{
    struct gt_proxy *copy = malloc(sizeof(*copy));

    if (copy)
        *copy = *proxy;
    return copy;
}

bool gt_mqtt_settings_copy(const struct gt_mqtt_settings *from, struct gt_mqtt_settings *ret)
{
    const char *const sources[] = {from->host, from->client_id, from->username, from->password};
    const char **const copies[] = {&ret->host, &ret->client_id, &ret->username, &ret->password};
    bool is_complete = true;

    *ret = *from;
    ret->proxy = from->proxy ? copy_proxy(from->proxy) : NULL;
    is_complete = !from->proxy || ret->proxy;
    ret->tls = gt_certificate_context_ref(from->tls);
    for (size_t i = 0; i < GT_ARRAY_SIZE(sources); i++) {
        *copies[i] = sources[i] ? strdup(sources[i]) : NULL;
        is_complete &= !sources[i] || *copies[i];
    }
    return is_complete;
}

void gt_mqtt_settings_deinit(struct gt_mqtt_settings *settings)
{
    const char *const strings[] = {settings->host, settings->client_id, settings->username,
                                   settings->password};

    if (settings->password)
        gt_wipe((char *)settings->password, strlen(settings->password));
    if (settings->proxy)
        gt_wipe((struct gt_proxy *)settings->proxy, sizeof(*settings->proxy));
    free((struct gt_proxy *)settings->proxy);
    for (size_t i = 0; i < GT_ARRAY_SIZE(strings); i++)
        free((char *)strings[i]);
    settings->tls = gt_certificate_context_free(settings->tls);
}
