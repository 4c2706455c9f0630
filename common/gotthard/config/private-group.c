/* SPDX-License-Identifier: ISC */
/*
 * As OpenSSH does in Debian, but stricter: databases on a network need not list their users, so the
 * group must have the user's name as well.
 */
#include "gotthard/config/private-group.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "gotthard/base/base.h"

static bool is_sole_member(const struct group *group, const char *name)
{
    for (char **member = group->gr_mem; *member; member++)
        if (strcmp(*member, name) != 0)
            return false;
    return true;
}

/* Returns true if the group @gid is that of another user by the user database. */
static bool is_group_of_another(gid_t gid, uid_t uid)
{
    const struct passwd *user;
    bool is_found = false;

    setpwent();
    while (!is_found && (user = getpwent()))
        is_found = user->pw_gid == gid && user->pw_uid != uid;
    endpwent();
    return is_found;
}

bool gt_private_group_is(gid_t gid, uid_t uid)
{
    const struct passwd *user = uid == 0 ? NULL : getpwuid(uid);
    const struct group *group = user && user->pw_gid == gid ? getgrgid(gid) : NULL;

    return group && strcmp(group->gr_name, user->pw_name) == 0 &&
           is_sole_member(group, user->pw_name) && !is_group_of_another(gid, uid);
}

bool gt_private_group_is_shared_by_acl(int fd)
{
    char path[sizeof("/proc/self/fd/") + 11];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return getxattr(path, "system.posix_acl_access", NULL, 0) >= 0 ||
           (errno != ENODATA && errno != EOPNOTSUPP);
}
