/* SPDX-License-Identifier: ISC */
/*
 * The topics of the messages, and the device's name out of one. See docs/protocol.md, section 2.
 */
#pragma once

#include "gotthard/base/base.h"

#define GT_TOPIC_MAX 256

enum { GT_TOPIC_E_BAD = 1 };

/* Write "<prefix>/d/<device>/req" and the like into @ret (GT_TOPIC_MAX + 1). Return 0, or E_BAD if
 * a name is ill-formed or the result would exceed 7 slashes or 256 bytes: the limits of AWS IoT. */
int gt_topic_req(const char *prefix, const char *device, char *ret) GT_MUST_CHECK;
int gt_topic_rsp(const char *prefix, const char *device, const char *operator_,
                 char *ret) GT_MUST_CHECK;
/* @device may be "+", the filter for all devices. */
int gt_topic_state(const char *prefix, const char *device, char *ret) GT_MUST_CHECK;
/* Writes "<prefix>/fleet/access/<part>": of a part of the access list. */
int gt_topic_access(const char *prefix, size_t part, char *ret) GT_MUST_CHECK;
/* Returns true for the topic of a part. */
bool gt_topic_is_access(const char *prefix, const char *topic);
/* Writes the device's name out of a state topic (GT_NAME_MAX + 1). Returns 0 or E_BAD. */
int gt_topic_device(const char *prefix, const char *topic, char *ret_device) GT_MUST_CHECK;
