/* SPDX-License-Identifier: ISC */
/* The folder is checked on each write, and the file on each read (config.h): other users could have
 * replaced them. */
#include "state-file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gotthard/base/log.h"
#include "gotthard/config/protected-file.h"

#define N_ID (STATE_FILE_ID / 2) /* bytes of the hash in a file's name */

/* Root may run with the home of another user. A home is never created: build systems set one that
 * must not exist. */
bool state_file_folder(char ret[static PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool is_set = state && *state == '/';
    const char *base = is_set ? state : home;
    struct stat status;

    if (!base || *base != '/')
        return false;
    bool exists = stat(base, &status) == 0;
    if ((!exists && !is_set) || (exists && status.st_uid != geteuid()))
        return false;
    int n = snprintf(ret, PATH_MAX, "%s%s/gotthard", base, is_set ? "" : "/.local/state");
    return n > 0 && n < PATH_MAX;
}

/* Hashes the broker, the prefix and the fleet. */
static bool find_id(const struct settings *settings, const struct identity *identity,
                    char ret[static STATE_FILE_ID + 1])
{
    uint8_t fleet[GT_KEY_ID_SIZE], hash[GT_KEY_SIZE];
    struct gt_span parts[] = {
        gt_span(settings->mqtt_endpoint, strlen(settings->mqtt_endpoint) + 1),
        gt_span(settings->mqtt_prefix, strlen(settings->mqtt_prefix) + 1),
        gt_span(fleet, sizeof(fleet)),
    };

    if (gt_key_relay_id(&identity->key, fleet) != 0 ||
        gt_sha256(parts, GT_ARRAY_SIZE(parts), hash) != 0)
        return false;
    gt_text_hex(hash, N_ID, ret);
    return true;
}

bool state_file_path(const char *kind, const struct settings *settings,
                     const struct identity *identity, char ret[static PATH_MAX])
{
    char folder[PATH_MAX], id[STATE_FILE_ID + 1];

    if (!settings->mqtt_endpoint || !state_file_folder(folder) || !find_id(settings, identity, id))
        return false;
    int n = snprintf(ret, PATH_MAX, "%s/%s-%s", folder, kind, id);
    return n > 0 && n < PATH_MAX;
}

/* Creates the folders of @path, for this user alone. Existing ones stay as they are. */
static void make_folders(const char *path)
{
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *at = strchr(copy + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        (void)!mkdir(copy, 0700);
        *at = '/';
    }
}

bool state_file_write(const char *path, const char *text, size_t n, bool is_durable)
{
    char temporary[PATH_MAX], why[GT_PROTECTEDFILE_WHY], folder[PATH_MAX];
    gt_cleanup(gt_close) int of_folder = -1, fd = -1;

    make_folders(path);
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = 0; /* the path is absolute */
    if (gt_protectedfile_open_folder(folder, &of_folder, why) != 0) {
        gt_debug("%s: %s", folder, why);
        errno = EPERM;
        return false;
    }
    const char *name = strrchr(path, '/') + 1;
    snprintf(temporary, sizeof(temporary), "%.64s.%ld", name, (long)getpid());
    (void)!unlinkat(of_folder, temporary, 0); /* of a process that was killed */
    fd = openat(of_folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return false;
    bool is_written = write(fd, text, n) == (ssize_t)n && (!is_durable || fsync(fd) == 0) &&
                      renameat(of_folder, temporary, of_folder, name) == 0;
    if (!is_written)
        unlinkat(of_folder, temporary, 0);
    return is_written;
}
