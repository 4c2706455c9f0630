/* SPDX-License-Identifier: ISC */
#include "gotthard/signaling/topic.h"

#include <stdio.h>

#include "gotthard/base/bytes.h"
#include "gotthard/base/text.h"

#define SLASH_MAX 7 /* AWS IoT's limit */

/* Each level of a prefix must be a name: no wildcard, no empty level, no "$" (MQTT 5, section
 * 4.7). */
static bool is_prefix(const char *prefix)
{
    for (const char *at = prefix;; at++) {
        size_t n = strcspn(at, "/");

        if (!gt_text_is_name(gt_span(at, n)))
            return false;
        at += n;
        if (!*at)
            return true;
    }
}

/* Joins the prefix and all levels by slashes. */
static int topic_join(const char *prefix, const char *const *levels, char *ret)
{
    char topic[GT_TOPIC_MAX + 1];
    struct gt_writer w = gt_writer(topic, GT_TOPIC_MAX);
    size_t n_slashes = 0;

    if (!is_prefix(prefix))
        return GT_TOPIC_E_BAD;
    gt_write_span(&w, gt_span_text(prefix));
    for (; *levels; levels++) {
        gt_write_u8(&w, '/');
        gt_write_span(&w, gt_span_text(*levels));
    }
    for (size_t i = 0; i < w.n; i++)
        n_slashes += topic[i] == '/';
    if (w.failed || n_slashes > SLASH_MAX)
        return GT_TOPIC_E_BAD;
    memcpy(ret, topic, w.n);
    ret[w.n] = 0;
    return 0;
}

int gt_topic_req(const char *prefix, const char *device, char *ret)
{
    if (!gt_text_is_device_name(gt_span_text(device)))
        return GT_TOPIC_E_BAD;
    return topic_join(prefix, (const char *const[]){"d", device, "req", NULL}, ret);
}

int gt_topic_rsp(const char *prefix, const char *device, const char *operator_, char *ret)
{
    if (!gt_text_is_device_name(gt_span_text(device)) || !gt_text_is_name(gt_span_text(operator_)))
        return GT_TOPIC_E_BAD;
    return topic_join(prefix, (const char *const[]){"d", device, "rsp", operator_, NULL}, ret);
}

int gt_topic_state(const char *prefix, const char *device, char *ret)
{
    if (!gt_text_is_device_name(gt_span_text(device)) && strcmp(device, "+") != 0)
        return GT_TOPIC_E_BAD;
    return topic_join(prefix, (const char *const[]){"d", device, "state", NULL}, ret);
}

int gt_topic_access(const char *prefix, size_t part, char *ret)
{
    char number[24];

    if (part > UINT16_MAX)
        return GT_TOPIC_E_BAD;
    snprintf(number, sizeof(number), "%zu", part);
    return topic_join(prefix, (const char *const[]){"fleet", "access", number, NULL}, ret);
}

bool gt_topic_is_access(const char *prefix, const char *topic)
{
    size_t n = strlen(prefix);

    return strncmp(topic, prefix, n) == 0 && strncmp(topic + n, "/fleet/access/", 14) == 0;
}

int gt_topic_device(const char *prefix, const char *topic, char *ret_device)
{
    struct gt_reader r = gt_reader(topic, strlen(topic));
    struct gt_span start = gt_read_bytes(&r, strlen(prefix));
    struct gt_span middle = gt_read_bytes(&r, 3);
    const uint8_t *slash = memchr(r.at, '/', r.left);
    struct gt_span name = gt_read_bytes(&r, slash ? (size_t)(slash - r.at) : 0);

    if (r.failed || !gt_span_equals(start, gt_span_text(prefix)) ||
        !gt_span_equals(middle, gt_span_text("/d/")) || !gt_text_is_name(name) ||
        !gt_span_equals(gt_span(r.at, r.left), gt_span_text("/state")))
        return GT_TOPIC_E_BAD;
    memcpy(ret_device, name.data, name.n);
    ret_device[name.n] = 0;
    return 0;
}
