/* SPDX-License-Identifier: ISC */
/*
 * Candidates one after the other. The folder itself is checked by its descriptor, not by its name.
 */
#include "runtime-folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gotthard/config/protected-file.h"

static int unusable(char *ret_why, const char *path, const char *reason)
{
    snprintf(ret_why, RUNTIME_FOLDER_WHY, "%.100s: %.320s", path, reason);
    return RUNTIME_FOLDER_E_NONE;
}

/* Returns 0 if @path is a folder of this user alone. */
static int check_folder(const char *path, char *ret_why)
{
    gt_cleanup(gt_close) int fd = -1;
    char why[GT_PROTECTEDFILE_WHY];
    struct stat st;

    if (gt_protectedfile_open_folder(path, &fd, why) != 0)
        return unusable(ret_why, path, why);
    if (fstat(fd, &st) < 0)
        return unusable(ret_why, path, strerror(errno));
    if (st.st_uid != geteuid())
        return unusable(ret_why, path, "belongs to another user");
    if ((st.st_mode & 077) != 0)
        return unusable(ret_why, path, "other users can enter it; its mode must be 0700");
    return 0;
}

/* @base: an absolute path of a folder of this user, or /tmp. */
static int try_folder(const char *base, const char *name, char *ret, char *ret_why)
{
    char path[RUNTIME_FOLDER_MAX + 1];
    int n = snprintf(path, sizeof(path), "%s/%s", base, name);

    if (n < 0 || (size_t)n >= sizeof(path))
        return unusable(ret_why, base, "too long for the path of a socket");
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return unusable(ret_why, path, strerror(errno));
    if (check_folder(path, ret_why) != 0)
        return RUNTIME_FOLDER_E_NONE;
    memcpy(ret, path, (size_t)n + 1);
    return 0;
}

/* As of another user, whose environment `su` or `sudo -E` has kept. */
static bool is_own(const char *base)
{
    struct stat st;

    return *base == '/' && stat(base, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

/* Where /tmp is occupied by another user, or not writable. A home is never created. */
static int try_cache(char *ret, char *ret_why)
{
    const char *given = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char cache[RUNTIME_FOLDER_MAX + 1];

    if (given && is_own(given))
        return try_folder(given, "gotthard", ret, ret_why);
    if (!home || !is_own(home))
        return RUNTIME_FOLDER_E_NONE;
    int n = snprintf(cache, sizeof(cache), "%s/.cache", home);
    if (n < 0 || (size_t)n >= sizeof(cache) || (mkdir(cache, 0700) < 0 && errno != EEXIST))
        return RUNTIME_FOLDER_E_NONE;
    return try_folder(cache, "gotthard", ret, ret_why);
}

int runtime_folder_find(char ret[static RUNTIME_FOLDER_MAX + 1],
                        char ret_why[static RUNTIME_FOLDER_WHY])
{
    const char *given = getenv("XDG_RUNTIME_DIR");
    char name[32], of_login[32];

    snprintf(of_login, sizeof(of_login), "/run/user/%u", (unsigned)geteuid());
    snprintf(name, sizeof(name), "gotthard-%u", (unsigned)geteuid());
    if (given && is_own(given) && try_folder(given, "gotthard", ret, ret_why) == 0)
        return 0;
    if ((!given || !*given) && is_own(of_login) &&
        try_folder(of_login, "gotthard", ret, ret_why) == 0)
        return 0;
    if (try_folder("/tmp", name, ret, ret_why) == 0)
        return 0;
    return try_cache(ret, ret_why);
}
