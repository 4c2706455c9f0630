/* SPDX-License-Identifier: ISC */
/*
 * The proxy of a setting for one host. no_proxy belongs to the variables that all programs of a
 * machine share, and not to a proxy that was configured for this program.
 */
#include <stdlib.h>

#include "gotthard/config/config-private.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/crypto/crypto.h"

#define PASSWORD_SUFFIX "_password"

/* Returns the index of the item of that path, or n_items. */
static size_t find_item(const struct gt_config_program *program, const char *path, size_t n_path,
                        const char *suffix)
{
    size_t i = 0;

    while (i < program->n_items && (strncmp(program->items[i].path, path, n_path) != 0 ||
                                    strcmp(program->items[i].path + n_path, suffix) != 0))
        i++;
    return i;
}

/* Returns the text of a setting, or NULL. */
static const char *text_of(const struct gt_config *config, const char *path, const char *suffix)
{
    size_t i = find_item(config->program, path, strlen(path), suffix);

    if (i == config->program->n_items)
        return NULL;
    return *(char **)(void *)((char *)config->settings + config->program->items[i].offset);
}

static const char *no_proxy(void)
{
    const char *lower = getenv("no_proxy");

    return lower && *lower ? lower : getenv("NO_PROXY");
}

static bool is_standard(const struct gt_config *config, const char *path)
{
    size_t i = find_item(config->program, path, strlen(path), "");
    const struct gt_config_assignments *given = &config->assignments[i];

    return given->n > 0 && given->all[given->n - 1].is_standard;
}

bool gt_config_proxy(const struct gt_config *config, const char *path, const char *host,
                     struct gt_proxy *ret)
{
    const char *text = config ? text_of(config, path, "") : NULL, *password;
    struct gt_proxy proxy = {0};

    if (!text || gt_proxy_parse(text, &proxy) != 0 || proxy.kind == GT_PROXY_NONE)
        return false;
    if (is_standard(config, path) && gt_proxy_is_excluded(no_proxy(), host))
        return false;
    password = text_of(config, path, PASSWORD_SUFFIX);
    if (!*proxy.password && password)
        memcpy(proxy.password, password, strnlen(password, GT_PROXY_USER_MAX));
    *ret = proxy;
    gt_wipe(&proxy, sizeof(proxy));
    return true;
}
