/* SPDX-License-Identifier: ISC */
/* The place of an identity; see the header. */
#include "gotthard/enrolment/place.h"

#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "gotthard/config/config-path.h"
#include "gotthard/config/protected-file.h"

static GT_PRINTF(2, 3) int refuse(char *ret_why, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(ret_why, GT_PLACE_WHY, fmt, arguments);
    va_end(arguments);
    return GT_PLACE_E_REFUSED;
}

static gid_t group_of(const char *program)
{
    char name[64];

    snprintf(name, sizeof(name), "gotthard-%s", program);
    const struct group *group = geteuid() == 0 ? getgrnam(name) : NULL;
    return group ? group->gr_gid : (gid_t)-1;
}

/* The paths are written into a configuration file, between quotes. */
static int set_paths(struct gt_place *place, const char *folder, const char *program, char *ret_why)
{
    if (strlen(folder) > 3800 || strpbrk(folder, "\"\\") || !gt_text_is_ascii(gt_span_text(folder)))
        return refuse(ret_why, "%.300s: this path cannot be written into a configuration file",
                      folder);
    snprintf(place->folder, sizeof(place->folder), "%s", folder);
    snprintf(place->configuration, sizeof(place->configuration), "%s/%s.conf.d/50-enrolled.conf",
             folder, program);
    snprintf(place->fleet, sizeof(place->fleet), "%s/%s.conf.d/40-fleet.conf", folder, program);
    return 0;
}

int gt_place_find_home(const char *program, struct gt_place *ret, char ret_why[static GT_PLACE_WHY])
{
    char folder[PATH_MAX];

    if (!gt_configpath_home(folder))
        return refuse(ret_why, "HOME is not set: there is no folder for this user's configuration");
    ret->is_default = true;
    ret->group = (gid_t)-1;
    return set_paths(ret, folder, program, ret_why);
}

int gt_place_find(const char *program, struct gt_place *ret, char ret_why[static GT_PLACE_WHY])
{
    const char *given = getenv("GOTTHARD_CONFIG_DIR");
    bool is_given = given && *given;
    gt_cleanup(gt_free) char *resolved = is_given ? realpath(given, NULL) : NULL;

    if (is_given && !resolved)
        return refuse(ret_why, "GOTTHARD_CONFIG_DIR: %.300s: %s", given, strerror(errno));
    const char *folder = is_given ? resolved : "/etc/gotthard";
    ret->is_default = !is_given;
    ret->group = group_of(program);
    return set_paths(ret, folder, program, ret_why);
}

/* Returns true if @origin, "/etc/gotthard/agentd.conf.d/site.conf:3", names the file @path. */
static bool is_of_file(const char *origin, const char *path)
{
    size_t n = strlen(path);

    return strncmp(origin, path, n) == 0 && (origin[n] == ':' || origin[n] == 0);
}

static int check_settings(const struct gt_place *place, const struct gt_config *config,
                          const char *const *settings, size_t n_settings, char *ret_why)
{
    for (size_t i = 0; i < n_settings; i++) {
        const char *origin =
            gt_config_is_set(config, settings[i]) ? gt_config_origin(config, settings[i]) : "";

        if (*origin == '/' && !is_of_file(origin, place->configuration))
            return refuse(ret_why,
                          "%s is set in %.300s: this machine is configured by hand. Remove its "
                          "identity there first",
                          settings[i], origin);
    }
    return 0;
}

/* A token is of use once: it must not be lost because of a folder that cannot be written. */
static int check_writable(const struct gt_place *place, char *ret_why)
{
    bool is_absent = access(place->folder, F_OK) < 0 && errno == ENOENT;
    const char *folder = is_absent ? "/etc" : place->folder;

    if (access(folder, W_OK | X_OK) == 0)
        return 0;
    return refuse(ret_why, "%.300s: %s. Run this command as root", folder, strerror(errno));
}

int gt_place_check(const struct gt_place *place, const struct gt_config_program *program,
                   const char *const *settings, size_t n_settings, bool is_forced,
                   struct gt_config **ret, char ret_why[static GT_PLACE_WHY])
{
    static struct gt_config_program partial; /* kept by the configuration */
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct gt_config *config = NULL;

    partial = *program;
    partial.check = NULL; /* a machine without an identity lacks settings */
    int r = gt_config_load(&partial, NULL, &config, error);
    if (r)
        return r < 0 ? r : refuse(ret_why, "%s", error);
    r = check_settings(place, config, settings, n_settings, ret_why);
    if (r == 0)
        r = check_writable(place, ret_why);
    if (r == 0 && !is_forced && !gt_protectedfile_is_absent(place->configuration))
        r = refuse(ret_why,
                   "%.300s exists: this machine is enrolled already. --force replaces its identity",
                   place->configuration);
    if (r)
        gt_config_free(config);
    else
        *ret = config;
    return r;
}
