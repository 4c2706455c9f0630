/* SPDX-License-Identifier: ISC */
/*
 * Many systems give each user a group of the same name that has no other member, and let new files
 * be writable by it (umask 002). What such a group may do, its user may do.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Returns true if @gid is certainly the group of this user alone: it is the user's own group and
 * has the user's name, and the system's databases list no other member. Never true for root. Reads
 * the databases, which may block. */
bool gt_private_group_is(gid_t gid, uid_t uid);
/* Returns true if the open file @fd, also one of O_PATH, has an access control list, or if that is
 * unknown. Its entries appear in the mode as rights of the group (acl(5)). */
bool gt_private_group_is_shared_by_acl(int fd);
