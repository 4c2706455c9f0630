/* SPDX-License-Identifier: ISC */
/*
 * The proxy of a setting for one host. no_proxy belongs to the variables that all programs of a
 * machine share, and not to a proxy that was configured for this program.
 */
#include "gotthard/config/config-proxy.h"

#include <stdlib.h>

#include "gotthard/crypto/crypto.h"

static const char *no_proxy(void)
{
    const char *lower = getenv("no_proxy");

    return lower && *lower ? lower : getenv("NO_PROXY");
}

bool gt_config_proxy(const struct gt_config_proxy *setting, const char *password, const char *host,
                     struct gt_proxy *ret)
{
    struct gt_proxy proxy = {0};

    if (!setting->text || gt_proxy_parse(setting->text, &proxy) != 0 || proxy.kind == GT_PROXY_NONE)
        return false;
    if (setting->is_shared && gt_proxy_is_excluded(no_proxy(), host))
        return false;
    if (!*proxy.password && password)
        memcpy(proxy.password, password, strnlen(password, GT_PROXY_USER_MAX));
    *ret = proxy;
    gt_wipe(&proxy, sizeof(proxy));
    return true;
}

const char *gt_config_proxy_unusable(const struct gt_config_proxy *setting, const char *host)
{
    return setting->unusable && !gt_proxy_is_excluded(no_proxy(), host) ? setting->unusable : NULL;
}
