/* SPDX-License-Identifier: ISC */
/*
 * The address of a server before its name is resolved: a relay of the settings, a service of a
 * device. It is built once, from settings or arguments (gt_text_host_port in base/text.h), and then
 * passed by pointer.
 */
#pragma once

#include "gotthard/base/text.h"

struct gt_host_port {
    char host[GT_HOST_MAX + 1]; /* a DNS name, or a numeric address without brackets */
    uint16_t port;              /* 1 to 65535; 0: unknown */
};
