/* SPDX-License-Identifier: ISC */
/*
 * The name under which ssh keeps the host key of a device (HostKeyAlias in ssh_config(5)). It does
 * not depend on the local port. ssh compares such names without regard to case, and names of
 * devices differ in case. So the alias is in lower case, and a suffix states which letters are
 * capitals: "oli.gotthard" for oli, "gatewayoli+81.gotthard" for GatewayOli. Pure.
 */
#pragma once

#include "gotthard/base/text.h"

/* Bytes with the NUL of the longest alias: the name, '+', a hex digit for 4 characters, ".gotthard"
 */
#define HOST_KEY_ALIAS_SIZE (GT_NAME_MAX + 1 + GT_NAME_MAX / 4 + sizeof(".gotthard"))

/* Writes the alias of @device, a name. No two names have the same alias: a name has no '+'. Returns
 * @ret. */
const char *host_key_alias(const char *device, char ret[static HOST_KEY_ALIAS_SIZE]);
