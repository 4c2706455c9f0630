/* SPDX-License-Identifier: ISC */
/*
 * The way to a file is walked one name at a time with descriptors, so that a folder that was
 * checked is the one that is used, whatever is renamed meanwhile. See the header.
 */
#include "gotthard/config/protected-file.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>

#include "gotthard/config/private-group.h"

#define LINKS_MAX 40 /* as in the kernel */

struct walk {
    int fd;                 /* of the folder that was reached (O_PATH) */
    bool is_shared;         /* it is sticky, and others may create files in it */
    char reached[PATH_MAX]; /* its path */
    char left[PATH_MAX];    /* names that are still to be walked */
    char name[PATH_MAX];    /* the current name, in the folder */
    unsigned n_links;
    char *why;
};

/* --- decisions ------------------------------------------------------------------------------ */

static GT_PRINTF(2, 3) int reject(char *ret_why, const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(ret_why, GT_PROTECTEDFILE_WHY, fmt, arguments);
    va_end(arguments);
    return GT_PROTECTEDFILE_E_UNUSABLE;
}

static int reject_errno(char *ret_why, int err)
{
    return reject(ret_why, "%s", strerror(err));
}

static bool is_owner_trusted(const struct stat *st)
{
    return st->st_uid == 0 || st->st_uid == geteuid();
}

/* Writes "bob (uid 1001)", or "uid 1001". Returns @ret. */
static const char *owner_text(uid_t uid, char *ret, size_t cap)
{
    const struct passwd *user = getpwuid(uid);

    snprintf(ret, cap, user ? "%s (uid %u)" : "%suid %u", user ? user->pw_name : "", (unsigned)uid);
    return ret;
}

static int check_owner(const struct stat *st, char *ret_why)
{
    char owner[64];

    if (is_owner_trusted(st))
        return 0;
    return reject(ret_why, "belongs to %s, must belong to root or to this program's user (chown)",
                  owner_text(st->st_uid, owner, sizeof(owner)));
}

/* Returns true if no user but its owner, and root, may write the open file @fd. */
static bool is_writable_by_owner_alone(int fd, const struct stat *st)
{
    if (!(st->st_mode & (S_IWGRP | S_IWOTH)))
        return true;
    return !(st->st_mode & S_IWOTH) && st->st_uid == geteuid() &&
           gt_private_group_is(st->st_gid, st->st_uid) && !gt_private_group_is_shared_by_acl(fd);
}

static int check_mode(int fd, const struct stat *st, char *ret_why)
{
    mode_t mode = st->st_mode;
    bool is_group = mode & S_IWGRP, is_others = mode & S_IWOTH;

    if (is_writable_by_owner_alone(fd, st))
        return 0;
    return reject(ret_why, "mode %04o, must not be writable by %s (chmod %s-w)",
                  (unsigned)mode & 07777,
                  !is_others ? "its group"
                  : is_group ? "its group and others"
                             : "others",
                  !is_others ? "g"
                  : is_group ? "go"
                             : "o");
}

int gt_protectedfile_check_secret(mode_t mode, char ret_why[static GT_PROTECTEDFILE_WHY])
{
    bool is_group = mode & S_IWGRP;

    if (!(mode & (S_IROTH | S_IWOTH)))
        return 0;
    return reject(ret_why, "mode %04o, must not be accessible by others (chmod %so-rwx)",
                  (unsigned)mode & 07777, is_group ? "g-w," : "");
}

static int check_file(int fd, const struct stat *st, bool is_secret, char *ret_why)
{
    if (!S_ISREG(st->st_mode))
        return reject(ret_why, "not a regular file");
    int r = check_owner(st, ret_why);
    if (r == 0 && is_secret)
        r = gt_protectedfile_check_secret(st->st_mode, ret_why);
    return r == 0 ? check_mode(fd, st, ret_why) : r;
}

/* The owner of a folder, and every user who may write it, can replace everything below it. */
static int check_folder(int fd, const struct stat *st, const char *path, char *ret_why)
{
    char owner[64];

    if (!S_ISDIR(st->st_mode))
        return reject_errno(ret_why, ENOTDIR);
    if (!is_owner_trusted(st))
        return reject(
            ret_why,
            "the folder %.120s of this path belongs to %s, must belong to root or to this "
            "program's user (chown)",
            path, owner_text(st->st_uid, owner, sizeof(owner)));
    if (!(st->st_mode & S_ISVTX) && !is_writable_by_owner_alone(fd, st))
        return reject(ret_why,
                      "a folder of this path has mode %04o, must not be writable by others (chmod "
                      "go-w %.160s)",
                      (unsigned)st->st_mode & 07777, path);
    return 0;
}

bool gt_protectedfile_has_private_key(struct gt_span text)
{
    static const char end[] = "PRIVATE KEY-----";

    return memmem(text.data, text.n, end, strlen(end)) != NULL;
}

/* --- the walk ------------------------------------------------------------------------------- */

/* Takes @fd, a folder called @path, also on failure. */
static int walk_enter(struct walk *walk, int fd, const char *path)
{
    struct stat st;

    gt_close(&walk->fd);
    walk->fd = fd;
    if (fd < 0 || fstat(fd, &st) < 0)
        return reject_errno(walk->why, errno);
    walk->is_shared = st.st_mode & (S_IWGRP | S_IWOTH);
    memmove(walk->reached, path, strlen(path) + 1);
    return check_folder(fd, &st, path, walk->why);
}

static int walk_enter_root(struct walk *walk)
{
    return walk_enter(walk, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "/");
}

/* Takes the next name from the left ones, without "." names. Returns false if there is none. */
static bool walk_next(struct walk *walk)
{
    char *at = walk->left;
    size_t n;

    do {
        at += strspn(at, "/");
        n = strcspn(at, "/");
        memcpy(walk->name, at, n);
        walk->name[n] = 0;
        at += n;
    } while (strcmp(walk->name, ".") == 0);
    memmove(walk->left, at, strlen(at) + 1);
    return n > 0;
}

/* Returns true for a link of /proc/PID/fd to something without a path, as "pipe:[4711]". A shell's
 * <(COMMAND) names one. */
static bool is_without_path(const char *target, size_t n)
{
    static const char *const begins[] = {"pipe:[", "socket:[", "anon_inode:"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(begins); i++)
        if (n > strlen(begins[i]) && memcmp(target, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* Replaces the current name by the target of the link @fd. */
static int walk_follow(struct walk *walk, int fd)
{
    char target[PATH_MAX], left[sizeof(walk->left)];
    ssize_t n = readlinkat(fd, "", target, sizeof(target));

    if (n < 0)
        return reject_errno(walk->why, errno);
    if (is_without_path(target, (size_t)n))
        return reject(walk->why, "not a regular file");
    if (++walk->n_links > LINKS_MAX)
        return reject_errno(walk->why, ELOOP);
    int n_left = snprintf(left, sizeof(left), "%.*s%s", (int)n, target, walk->left);
    if (n_left < 0 || (size_t)n_left >= sizeof(left))
        return reject_errno(walk->why, ENAMETOOLONG);
    memcpy(walk->left, left, (size_t)n_left + 1);
    return target[0] == '/' ? walk_enter_root(walk) : 0;
}

/* In a folder where others may create files, only the owner of an entry is certain. */
static int walk_check_entry(const struct walk *walk, const struct stat *st)
{
    char owner[64];

    if (!walk->is_shared || is_owner_trusted(st))
        return 0;
    return reject(walk->why, "%.120s in the shared folder %.120s belongs to %s", walk->name,
                  walk->reached, owner_text(st->st_uid, owner, sizeof(owner)));
}

/* Opens the current name without following it. The flag for a folder triggers an automatic
 * mount. Returns as openat(2). */
static int walk_open_entry(const struct walk *walk)
{
    int fd = openat(walk->fd, walk->name, O_PATH | O_NOFOLLOW | O_CLOEXEC | O_DIRECTORY);

    return fd < 0 && (errno == ENOTDIR || errno == ELOOP)
               ? openat(walk->fd, walk->name, O_PATH | O_NOFOLLOW | O_CLOEXEC)
               : fd;
}

/* Enters the folder of the current name, or follows a link. *ret_is_end: the name is the last one
 * and no link. */
static int walk_step(struct walk *walk, bool *ret_is_end)
{
    gt_cleanup(gt_close) int fd = walk_open_entry(walk);
    char path[2 * PATH_MAX];
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return reject_errno(walk->why, errno);
    int r = walk_check_entry(walk, &st);
    if (r)
        return r;
    if (S_ISLNK(st.st_mode))
        return walk_follow(walk, fd);
    *ret_is_end = !*walk->left;
    if (*ret_is_end)
        return 0;
    int n =
        snprintf(path, sizeof(path), "%s/%s", walk->reached[1] ? walk->reached : "", walk->name);
    if (n < 0 || n >= PATH_MAX)
        return reject_errno(walk->why, ENAMETOOLONG);
    return walk_enter(walk, gt_steal_fd(&fd), path);
}

/* Walks to the folder of the last name. A path that ends with a slash is a folder: its last name
 * is entered as well, and *ret_is_folder is set. */
static int walk_run(struct walk *walk, bool *ret_is_folder)
{
    bool is_end = false;
    int r = walk_enter_root(walk);

    while (r == 0 && !is_end && walk_next(walk))
        r = walk_step(walk, &is_end);
    *ret_is_folder = !is_end;
    return r;
}

/* @walk: zeroed. @slash: "/" for a folder. */
static int walk_start(struct walk *walk, const char *path, const char *slash, char *ret_why)
{
    gt_cleanup(gt_free) char *working = *path == '/' ? NULL : getcwd(NULL, 0);

    walk->fd = -1;
    walk->why = ret_why;
    if (*path != '/' && !working)
        return reject_errno(ret_why, errno);
    int n =
        snprintf(walk->left, sizeof(walk->left), "%s/%s%s", working ? working : "", path, slash);
    return n < 0 || (size_t)n >= sizeof(walk->left) ? reject_errno(ret_why, ENAMETOOLONG) : 0;
}

/* --- opening -------------------------------------------------------------------------------- */

static int open_file(struct walk *walk, bool is_secret, int *ret_fd, struct stat *ret_stat)
{
    gt_cleanup(gt_close) int fd =
        openat(walk->fd, walk->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fstat(fd, ret_stat) < 0)
        return reject_errno(walk->why, errno);
    int r = check_file(fd, ret_stat, is_secret, walk->why);
    if (r == 0)
        *ret_fd = gt_steal_fd(&fd);
    return r;
}

int gt_protectedfile_open(const char *path, bool is_secret, int *ret_fd, struct stat *ret_stat,
                          char ret_why[static GT_PROTECTEDFILE_WHY])
{
    struct walk walk = {0};
    bool is_folder = false;

    int r = walk_start(&walk, path, "", ret_why);
    if (r == 0)
        r = walk_run(&walk, &is_folder);
    if (r == 0)
        r = is_folder ? reject(ret_why, "not a regular file")
                      : open_file(&walk, is_secret, ret_fd, ret_stat);
    gt_close(&walk.fd);
    return r;
}

int gt_protectedfile_open_folder(const char *path, int *ret_fd,
                                 char ret_why[static GT_PROTECTEDFILE_WHY])
{
    struct walk walk = {0};
    bool is_folder = false;

    int r = walk_start(&walk, path, "/", ret_why);
    if (r == 0)
        r = walk_run(&walk, &is_folder);
    if (r == 0)
        *ret_fd = gt_steal_fd(&walk.fd);
    gt_close(&walk.fd);
    return r;
}

int gt_protectedfile_check_own_folder(const char *path, char ret_why[static GT_PROTECTEDFILE_WHY])
{
    gt_cleanup(gt_close) int fd = -1;
    struct stat status;
    const char *why = NULL;

    if (gt_protectedfile_open_folder(path, &fd, ret_why) != 0)
        return GT_PROTECTEDFILE_E_UNUSABLE;
    if (fstat(fd, &status) < 0 || status.st_uid != geteuid())
        why = "owned by another user";
    else if (status.st_mode & (S_IWGRP | S_IWOTH))
        why = "writable by other users";
    if (why)
        snprintf(ret_why, GT_PROTECTEDFILE_WHY, "%s", why);
    return why ? GT_PROTECTEDFILE_E_UNUSABLE : 0;
}

bool gt_protectedfile_is_absent(const char *path)
{
    struct stat st;

    return lstat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

time_t gt_protectedfile_time(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_mtime : 0;
}
