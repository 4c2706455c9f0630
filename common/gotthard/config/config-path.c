/* SPDX-License-Identifier: ISC */
/* Resolution of paths; see the header. The file system is not consulted: a file may appear later.
 */
#include "gotthard/config/config-path.h"

#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

/* Returns the home of this process's user, or NULL. */
static const char *find_home(void)
{
    const char *home = getenv("HOME");

    if (home && *home == '/')
        return home;
    const struct passwd *user = getpwuid(getuid());
    return user && *user->pw_dir == '/' ? user->pw_dir : NULL;
}

bool gt_configpath_home(char *ret)
{
    const char *folder = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool is_given = folder && *folder == '/';

    if (!is_given && (!home || *home != '/'))
        return false;
    int n = snprintf(ret, PATH_MAX, "%s%s/gotthard", is_given ? folder : home,
                     is_given ? "" : "/.config");
    return n < PATH_MAX;
}

static int join(const char *folder, const char *name, char **ret)
{
    const char *slash = folder[strlen(folder) - 1] == '/' ? "" : "/";

    return asprintf(ret, "%s%s%s", folder, slash, name) < 0 ? -ENOMEM : 0;
}

static int resolve_home(const char *text, char **ret, const char **ret_why)
{
    const char *home = find_home();

    *ret_why = text[1] && text[1] != '/' ? "only ~/ is known, not the home of another user"
               : !home                   ? "~/ needs a home, and HOME is not set"
                                         : NULL;
    if (*ret_why)
        return 1;
    if (text[1])
        return join(home, text + 2, ret);
    *ret = strdup(home);
    return *ret ? 0 : -ENOMEM;
}

int gt_configpath_resolve(const char *text, const char *folder, char **ret, const char **ret_why)
{
    gt_cleanup(gt_free) char *working = NULL;

    if (*text == '/') {
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
    }
    if (*text == '~')
        return resolve_home(text, ret, ret_why);
    if (!folder)
        folder = working = getcwd(NULL, 0);
    if (!folder) {
        *ret_why = "a relative path, and the working directory is unknown";
        return 1;
    }
    return join(folder, strncmp(text, "./", 2) == 0 ? text + 2 : text, ret);
}

int gt_configpath_resolve_all(const char *text, const char *folder, char **ret,
                              const char **ret_why)
{
    gt_cleanup(gt_free) char *copy = strdup(text);
    gt_cleanup(gt_free) char *all = strdup("");
    char *remaining = copy, *word;

    while (copy && all && (word = strsep(&remaining, " \t"))) {
        gt_cleanup(gt_free) char *path = NULL;
        char *longer = NULL;

        if (!*word)
            continue;
        int r = gt_configpath_resolve(word, folder, &path, ret_why);
        if (r)
            return r;
        if (asprintf(&longer, "%s%s%s", all, *all ? " " : "", path) < 0)
            return -ENOMEM;
        free(all);
        all = longer;
    }
    if (!copy || !all)
        return -ENOMEM;
    *ret = gt_steal(&all);
    return 0;
}

char *gt_configpath_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *absolute = NULL;

    if (*path == '/')
        return strndup(path, GT_MAX((size_t)(slash - path), (size_t)1));
    gt_cleanup(gt_free) char *working = getcwd(NULL, 0);
    if (!working || !slash)
        return gt_steal(&working);
    gt_cleanup(gt_free) char *folder = strndup(path, (size_t)(slash - path));
    return folder && join(working, folder, &absolute) == 0 ? absolute : NULL;
}
