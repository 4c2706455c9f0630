/* SPDX-License-Identifier: ISC */
/*
 * The proxy that a configuration names for a host. A setting of type PROXY may have a second one
 * "<path>_password", a SECRET.
 */
#pragma once

#include "gotthard/base/proxy.h"
#include "gotthard/config/config.h"

/*
 * Returns true and the proxy of the setting @path for connections to @host; false if there is none,
 * "none" is set, @config is NULL, or the proxy is one of the machine's variables and no_proxy lists
 * @host.
 */
bool gt_config_proxy(const struct gt_config *config, const char *path, const char *host,
                     struct gt_proxy *ret);
