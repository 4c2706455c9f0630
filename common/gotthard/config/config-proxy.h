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
