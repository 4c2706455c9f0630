/* SPDX-License-Identifier: ISC */
/* Files of an identity, written completely before they are used; see the header. */
#include "gotthard/state/install.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define NAME        "enrolled"
#define FOLDERS_MAX 100

static int fail(const char *path, int error, char *ret_why)
{
    snprintf(ret_why, GT_INSTALL_WHY, "%.300s: %s", path, strerror(error));
    return GT_INSTALL_E_FILE;
}

/* --- one file --------------------------------------------------------------------------------- */

static int write_all(int fd, struct gt_span text)
{
    for (ssize_t n; text.n; text = gt_span(text.data + n, text.n - (size_t)n)) {
        n = write(fd, text.data, text.n);
        if (n <= 0)
            return n < 0 ? errno : EIO;
    }
    return fsync(fd) < 0 ? errno : 0;
}

static bool has_group(const struct gt_install *install)
{
    return install->group != (gid_t)-1;
}

/* Returns 0 or a positive errno. */
static int write_file(const struct gt_install *install, const char *path, struct gt_span text)
{
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return errno;
    if (has_group(install) && (fchown(fd, (uid_t)-1, install->group) < 0 || fchmod(fd, 0640) < 0))
        return errno;
    return write_all(fd, text);
}

static int make_folder(const struct gt_install *install, const char *path)
{
    if (mkdir(path, 0700) < 0)
        return errno;
    if (has_group(install) && (chown(path, (uid_t)-1, install->group) < 0 || chmod(path, 0750) < 0))
        return errno;
    return 0;
}

/* The entries of a folder must survive a power cut as well. */
static void sync_folder(const char *path)
{
    gt_cleanup(gt_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0)
        (void)!fsync(fd);
}

/* Adds @suffix to @path; both were checked to fit. */
static const char *with_suffix(const char *path, const char *suffix, char ret[static PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%.4000s%s", path, suffix);
    return ret;
}

/* --- the folder ------------------------------------------------------------------------------- */

static void folder_path(const struct gt_install *install, unsigned number,
                        char ret[static PATH_MAX])
{
    char suffix[sizeof("/" NAME "-") + 10] = "/" NAME;

    if (number > 1)
        snprintf(suffix, sizeof(suffix), "/" NAME "-%u", number);
    with_suffix(install->base, suffix, ret);
}

int gt_install_init(struct gt_install *install, const char *base, gid_t group,
                    char ret_why[static GT_INSTALL_WHY])
{
    int error = EEXIST;

    *install = (struct gt_install){.group = group};
    if (strlen(base) > PATH_MAX - 200)
        return fail(base, ENAMETOOLONG, ret_why);
    snprintf(install->base, sizeof(install->base), "%s", base);
    if (mkdir(base, 0755) < 0 && errno != EEXIST)
        return fail(base, errno, ret_why);
    for (unsigned i = 1; error == EEXIST && i <= FOLDERS_MAX; i++) {
        folder_path(install, i, install->folder);
        error = make_folder(install, install->folder);
        install->number = i;
    }
    if (error == 0)
        return 0;
    fail(install->folder, error, ret_why);
    if (error != EEXIST)
        rmdir(install->folder);
    install->folder[0] = 0;
    return GT_INSTALL_E_FILE;
}

static char *path_in(const char *folder, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

int gt_install_add(struct gt_install *install, const char *name, struct gt_span text,
                   char ret_why[static GT_INSTALL_WHY])
{
    char *path = install->n_files < GT_INSTALL_FILES_MAX ? path_in(install->folder, name) : NULL;

    if (!path)
        return -ENOMEM;
    install->files[install->n_files++] = path;
    int error = write_file(install, path, text);
    return error ? fail(path, error, ret_why) : 0;
}

/* --- configuration files ---------------------------------------------------------------------- */

static void configuration_name(const struct gt_install_configuration *configuration,
                               const char *suffix, char ret[static PATH_MAX])
{
    with_suffix(configuration->path, suffix, ret);
}

int gt_install_add_configuration(struct gt_install *install, const char *path, struct gt_span text,
                                 char ret_why[static GT_INSTALL_WHY])
{
    struct gt_install_configuration *configuration =
        &install->configurations[install->n_configurations];
    char staged[PATH_MAX], folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (install->n_configurations == GT_INSTALL_CONFIGURATION_MAX || !slash ||
        strlen(path) > PATH_MAX - 200)
        return -EINVAL;
    snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return fail(folder, errno, ret_why);
    configuration->path = strdup(path);
    if (!configuration->path)
        return -ENOMEM;
    install->n_configurations++;
    configuration_name(configuration, ".new", staged);
    unlink(staged); /* of an installation that was interrupted */
    int error = write_file(install, staged, text);
    return error ? fail(staged, error, ret_why) : 0;
}

/* A hard link keeps the file before, so that there is one at every moment. */
static int configuration_rename(struct gt_install_configuration *configuration)
{
    char staged[PATH_MAX], before[PATH_MAX];

    configuration_name(configuration, ".new", staged);
    configuration_name(configuration, ".before", before);
    unlink(before);
    configuration->has_before = link(configuration->path, before) == 0;
    if (!configuration->has_before && errno != ENOENT)
        return errno;
    if (rename(staged, configuration->path) < 0)
        return errno;
    configuration->is_renamed = true;
    return 0;
}

static void configuration_restore(struct gt_install_configuration *configuration)
{
    char before[PATH_MAX];

    configuration_name(configuration, ".before", before);
    if (configuration->is_renamed && configuration->has_before)
        (void)!rename(before, configuration->path);
    else if (configuration->is_renamed)
        unlink(configuration->path);
    else if (configuration->has_before)
        unlink(before);
    configuration->is_renamed = configuration->has_before = false;
}

static void sync_configurations(const struct gt_install *install)
{
    for (size_t i = 0; i < install->n_configurations; i++) {
        const char *path = install->configurations[i].path;
        char folder[PATH_MAX];

        snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
        sync_folder(folder);
    }
}

int gt_install_commit(struct gt_install *install, char ret_why[static GT_INSTALL_WHY])
{
    sync_folder(install->folder);
    sync_folder(install->base);
    for (size_t i = 0; i < install->n_configurations; i++) {
        int error = configuration_rename(&install->configurations[i]);

        if (error) {
            fail(install->configurations[i].path, error, ret_why);
            gt_install_rollback(install);
            return GT_INSTALL_E_FILE;
        }
    }
    sync_configurations(install);
    return 0;
}

void gt_install_rollback(struct gt_install *install)
{
    for (size_t i = install->n_configurations; i-- > 0;)
        configuration_restore(&install->configurations[i]);
    sync_configurations(install);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Removes the files of this identity's names from an earlier folder, and then the folder. A file
 * with another name stays, with the folder. */
static void remove_earlier(const struct gt_install *install, unsigned number)
{
    char folder[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];

    folder_path(install, number, folder);
    for (size_t i = 0; i < install->n_files; i++) {
        snprintf(path, sizeof(path), "%s%s", folder, strrchr(install->files[i], '/'));
        unlink(path);
    }
    rmdir(folder);
}

static void forget(struct gt_install *install)
{
    for (size_t i = 0; i < install->n_files; i++)
        free(install->files[i]);
    for (size_t i = 0; i < install->n_configurations; i++)
        free(install->configurations[i].path);
    *install = (struct gt_install){.group = (gid_t)-1};
}

void gt_install_finish(struct gt_install *install)
{
    for (size_t i = 0; i < install->n_configurations; i++) {
        char before[PATH_MAX];

        configuration_name(&install->configurations[i], ".before", before);
        if (install->configurations[i].has_before)
            unlink(before);
    }
    for (unsigned i = 1; i <= FOLDERS_MAX; i++)
        if (i != install->number)
            remove_earlier(install, i);
    forget(install);
}

void gt_install_deinit(struct gt_install *install)
{
    gt_install_rollback(install);
    for (size_t i = 0; i < install->n_configurations; i++) {
        char staged[PATH_MAX];

        configuration_name(&install->configurations[i], ".new", staged);
        unlink(staged);
    }
    for (size_t i = 0; i < install->n_files; i++)
        unlink(install->files[i]);
    if (install->folder[0])
        rmdir(install->folder);
    forget(install);
}
