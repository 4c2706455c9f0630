/* SPDX-License-Identifier: ISC */
/* The proxy that a setting names for a host. */
#pragma once

#include "gotthard/base/proxy.h"
#include "gotthard/config/config.h"

/*
 * Returns true and the proxy of @setting for connections to @host; false if there is none, "none"
 * is set, or the proxy is one of the machine's variables and no_proxy lists @host. @password: of
 * the user, if @setting has none; or NULL.
 */
bool gt_config_proxy(const struct gt_config_proxy *setting, const char *password, const char *host,
                     struct gt_proxy *ret);
/* Returns the machine's variable that would be the proxy for connections to @host and is not
 * usable, so that they are direct; or NULL. */
const char *gt_config_proxy_unusable(const struct gt_config_proxy *setting, const char *host);
/* A warning; its arguments are the variable, the host, and the setting. */
#define GT_CONFIG_PROXY_UNUSABLE                             \
    "%s is not usable as a proxy, expected " GT_PROXY_WANTED \
    "; connecting to %s directly. Set %s to another proxy, or to none"
