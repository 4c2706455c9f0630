/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "known-devices.h"

#include <stdio.h>
#include <string.h>

#include "device-memory.h"

#define BLANKS " \t\r\n"

/* Returns the next word of *at, or an empty span. */
static struct gt_span next_word(const char **at)
{
    *at += strspn(*at, BLANKS);
    struct gt_span word = gt_span(*at, strcspn(*at, BLANKS));
    *at += word.n;
    return word;
}

void known_devices_declare(struct device_table *table, const char *name)
{
    struct device_row *row = device_table_expect(table, name);

    if (row)
        row->is_declared = true;
}

static void declare_settings(const struct settings *settings, struct device_table *table)
{
    const char *at = settings->devices ? settings->devices : "";
    char name[GT_NAME_MAX + 1];

    for (struct gt_span word; (word = next_word(&at)).n > 0;) {
        memcpy(name, word.data, word.n); /* known_devices_check() has limited it */
        name[word.n] = 0;
        known_devices_declare(table, name);
    }
}

static void declare_pins(const struct gt_trust *trust, struct device_table *table)
{
    for (size_t i = 0; i < trust->n_pins; i++)
        if (trust->pins[i].role == GT_PIN_DEVICE)
            known_devices_declare(table, trust->pins[i].name);
}

static void declare_keys(const struct gt_device_keys *keys, struct device_table *table)
{
    for (size_t i = 0; i < keys->n; i++)
        known_devices_declare(table, gt_device_keys_name(keys, i));
}

void known_devices_load(const struct gt_config *config, struct identity *identity,
                        struct print *print, struct device_table *table)
{
    const struct settings *settings = gt_config_settings(config);
    struct failure failure;

    declare_settings(settings, table);
    declare_keys(&identity->devices, table);
    if (identity_load_trust(config, identity, &failure) == 0)
        declare_pins(&identity->trust, table);
    else
        print_warning(print, "the pinned devices are not known: %s", failure.message);
    device_memory_load(settings, identity, print, table);
}

void known_devices_declare_all(struct device_table *table, const struct selection *selection)
{
    for (size_t i = 0; i < selection->n_patterns; i++)
        if (gt_text_is_name(gt_span_text(selection->patterns[i])))
            known_devices_declare(table, selection->patterns[i]);
}

const char *known_devices_check(const char *names, char *ret_name)
{
    const char *at = names ? names : "";

    for (struct gt_span word; (word = next_word(&at)).n > 0;) {
        if (gt_text_is_device_name(word))
            continue;
        snprintf(ret_name, GT_NAME_MAX + 1, "%.*s", (int)GT_MIN(word.n, (size_t)32),
                 (const char *)word.data);
        return ret_name;
    }
    return NULL;
}
