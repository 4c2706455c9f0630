/* SPDX-License-Identifier: ISC */
/*
 * Lists of named targets, in the order of the configuration; see the header. A name of digits only
 * is rejected, because an operator's "22" means a port.
 */
#include "target.h"

#include <stdio.h>
#include <strings.h>

#include "gotthard/base/fields.h"

static const struct gt_field fields[] = {
    GT_FIELD_STRING(struct target, name),
    GT_FIELD_STRING(struct target, address.host),
    GT_FIELD_U16(struct target, address.port),
};

void targets_deinit(struct targets *targets)
{
    free(targets->all);
    *targets = (struct targets){0};
}

/* The array has room for the next power of two, so that a long list is not copied for each target.
 */
int targets_add(struct targets *targets, const struct target *target)
{
    size_t n = targets->n;

    if ((n & (n - 1)) == 0) {
        struct target *all = realloc(targets->all, (n ? 2 * n : 1) * sizeof(*all));

        if (!all)
            return -ENOMEM;
        targets->all = all;
    }
    targets->all[targets->n++] = *target;
    return 0;
}

int targets_add_all(struct targets *targets, const struct targets *from)
{
    for (size_t i = 0; i < from->n; i++) {
        int r = targets_add(targets, &from->all[i]);

        if (r)
            return r;
    }
    return 0;
}

const char *target_udp(const char *text)
{
    size_t n = strlen(TARGET_UDP);

    return strncmp(text, TARGET_UDP, n) == 0 ? text + n : NULL;
}

static bool is_usable_name(const char *name)
{
    return !target_udp(name) && gt_text_is_name(gt_span_text(name)) &&
           name[strspn(name, "0123456789")] != 0;
}

int targets_add_map(struct targets *targets, const struct gt_config_map *map, char *ret_why,
                    size_t cap)
{
    for (size_t i = 0; i < map->n_pairs; i++) {
        const struct gt_config_pair *pair = &map->pairs[i];
        struct target target = {0};

        if (!is_usable_name(pair->name)) {
            snprintf(ret_why, cap,
                     "'%s': invalid name, use letters, digits and ._:@-, and not digits only",
                     pair->name);
            return TARGET_E_BAD;
        }
        const char *udp = target_udp(pair->value);
        if (gt_text_host_port(udp ? udp : pair->value, 0, target.address.host,
                              &target.address.port) != 0) {
            snprintf(ret_why, cap, "%s = \"%s\": not of the form host:port", pair->name,
                     pair->value);
            return TARGET_E_BAD;
        }
        int n =
            snprintf(target.name, sizeof(target.name), "%s%s", udp ? TARGET_UDP : "", pair->name);
        if (n < 0 || (size_t)n >= sizeof(target.name)) {
            snprintf(ret_why, cap, "'%s': a name of UDP has at most %d bytes", pair->name,
                     GT_SERVICE_MAX - (int)strlen(TARGET_UDP));
            return TARGET_E_BAD;
        }
        int r = targets_add(targets, &target);
        if (r)
            return r;
    }
    return 0;
}

const struct target *targets_find(const struct targets *targets, const char *name)
{
    for (size_t i = 0; i < targets->n; i++)
        if (strcmp(targets->all[i].name, name) == 0)
            return &targets->all[i];
    return NULL;
}

static bool is_kind(const struct target *target, bool is_udp)
{
    return (target_udp(target->name) != NULL) == is_udp;
}

static const struct target *targets_find_port(const struct targets *targets, uint64_t port,
                                              bool is_udp)
{
    for (size_t i = 0; i < targets->n; i++)
        if (targets->all[i].address.port == port && is_kind(&targets->all[i], is_udp))
            return &targets->all[i];
    return NULL;
}

static const struct target *targets_find_address(const struct targets *targets, const char *host,
                                                 uint16_t port, bool is_udp)
{
    for (size_t i = 0; i < targets->n; i++)
        if (targets->all[i].address.port == port && is_kind(&targets->all[i], is_udp) &&
            strcasecmp(targets->all[i].address.host, host) == 0)
            return &targets->all[i];
    return NULL;
}

const struct target *targets_resolve(const struct targets *targets, const char *text)
{
    const struct target *named = targets_find(targets, text);
    char host[GT_HOST_MAX + 1];
    uint64_t number;
    const char *udp = target_udp(text);
    uint16_t port;

    if (named)
        return named;
    text = udp ? udp : text;
    if (gt_text_number(text, 1, UINT16_MAX, &number) == 0)
        return targets_find_port(targets, number, udp != NULL);
    if (gt_text_host_port(text, 0, host, &port) == 0)
        return targets_find_address(targets, host, port, udp != NULL);
    return NULL;
}

bool target_equals(const struct target *a, const struct target *b)
{
    return strcmp(a->name, b->name) == 0 && strcasecmp(a->address.host, b->address.host) == 0 &&
           a->address.port == b->address.port;
}

void target_encode(const struct target *target, struct gt_writer *w)
{
    gt_fields_write(w, fields, GT_ARRAY_SIZE(fields), target);
}

void target_decode(struct gt_reader *reader, struct target *ret)
{
    gt_fields_read(reader, fields, GT_ARRAY_SIZE(fields), ret);
}

void targets_encode(const struct targets *targets, struct gt_writer *w)
{
    if (targets->n > UINT16_MAX)
        w->failed = true;
    gt_write_u16(w, (uint16_t)targets->n);
    for (size_t i = 0; i < targets->n; i++)
        target_encode(&targets->all[i], w);
}

int targets_decode(struct gt_reader *reader, struct targets *ret)
{
    for (unsigned n_left = gt_read_u16(reader); n_left && !reader->failed; n_left--) {
        struct target target;

        target_decode(reader, &target);
        int r = targets_add(ret, &target);
        if (r)
            return r;
    }
    return 0;
}
