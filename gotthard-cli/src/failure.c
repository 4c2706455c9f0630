/* SPDX-License-Identifier: ISC */
/*
 * A failure from its id and the texts of the caller. Exit statuses and default hints come from the
 * table in failure-table.c.
 */
#include "failure-table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/config/config-mention.h"

static const struct gt_config *configuration;

enum failure_id failure_known(unsigned id)
{
    size_t n;
    const struct failure_row *rows = failure_table(&n);

    for (size_t i = 0; i < n; i++)
        if ((unsigned)rows[i].id == id)
            return rows[i].id;
    return FAILURE_INTERNAL;
}

int failure_exit(enum failure_id id)
{
    return failure_row(id)->exit;
}

void failure_use_settings(const struct gt_config *config)
{
    configuration = config;
}

/* Writes @hint with the name of @device. */
static void insert_device(const char *hint, const char *device, char *ret, size_t cap)
{
    const char *place;
    size_t n = 0;

    for (; (place = strstr(hint, "{device}")) && n < cap; hint = place + strlen("{device}"))
        n += (size_t)snprintf(ret + n, cap - n, "%.*s%s", (int)(place - hint), hint,
                              device ? device : "DEVICE");
    if (n < cap)
        snprintf(ret + n, cap - n, "%s", hint);
}

static void set(struct failure *ret, const char *device, enum failure_id id, const char *hint)
{
    char text[FAILURE_HINT];

    ret->id = id;
    insert_device(hint ? hint : failure_row(id)->hint, device, text, sizeof(text));
    gt_config_mention_all(configuration, text, ret->hint, sizeof(ret->hint));
}

int failure_set(struct failure *ret, enum failure_id id, const char *hint, const char *fmt, ...)
{
    va_list args;

    set(ret, NULL, id, hint);
    va_start(args, fmt);
    vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    return 1;
}

int failure_set_of(struct failure *ret, const char *device, enum failure_id id, const char *hint,
                   const char *fmt, ...)
{
    va_list args;

    set(ret, device, id, hint);
    va_start(args, fmt);
    vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    return 1;
}

int failure_set_unknown(struct failure *ret, const char *device, const char *why)
{
    bool has_user = strchr(device, '@') != NULL; /* which a name may have as well */

    return failure_set_of(ret, device, FAILURE_UNKNOWN_DEVICE,
                          has_user ? "a device has no user here: gotthard-cli ssh {device}" : NULL,
                          "no device named %s: the broker %s, and it did not answer", device, why);
}

void failure_hint(struct failure *failure, const char *fmt, ...)
{
    char text[FAILURE_HINT];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    gt_config_mention_all(configuration, text, failure->hint, sizeof(failure->hint));
}
