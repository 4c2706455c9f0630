/* SPDX-License-Identifier: ISC */
/*
 * The socket is bound and listens under a temporary name and gets its own name by link(2), which
 * replaces nothing: a file at the path always accepts connections, or is unused. Two programs that
 * find the same unused file may both move it away; each compares what it has moved, so that neither
 * removes the other's new one.
 */
#include "local-socket.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "gotthard/base/text.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/net/sock.h"

_Static_assert(LOCAL_SOCKET_PATH_MAX + sizeof(".012345") <=
                   sizeof(((struct sockaddr_un *)NULL)->sun_path),
               "a temporary name fits");

static int unusable(char *ret_why, const char *path, const char *reason)
{
    char shown[2 * LOCAL_SOCKET_PATH_MAX];

    gt_text_shorten(path, shown, sizeof(shown));
    snprintf(ret_why, LOCAL_SOCKET_WHY, "cannot listen on %s: %s", shown, reason);
    return LOCAL_SOCKET_E_UNUSABLE;
}

static int unusable_errno(char *ret_why, const char *path, int err)
{
    return unusable(ret_why, path, strerror(err));
}

/* Other users can replace the file of a folder that they can write. */
static int check_folder(const char *path, char *ret_why)
{
    char copy[LOCAL_SOCKET_PATH_MAX + 1], why[GT_PROTECTEDFILE_WHY];
    gt_cleanup(gt_close) int folder = -1;

    memcpy(copy, path, strlen(path) + 1);
    if (gt_protectedfile_open_folder(dirname(copy), &folder, why) == 0)
        return 0;
    return unusable(ret_why, path, why);
}

/* Another name in the same folder. */
static struct sockaddr_un name_beside(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    uint32_t number = (uint32_t)getpid();

    (void)!getrandom(&number, sizeof(number), GRND_NONBLOCK);
    snprintf(name.sun_path, sizeof(name.sun_path), "%.*s.%06x", LOCAL_SOCKET_PATH_MAX, path,
             number & 0xffffff);
    return name;
}

/* --- a file at the path ----------------------------------------------------------------------- */

static bool is_same_file(const char *path, dev_t device, ino_t inode)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* Returns true if a program has the socket open. Only a refusal proves that none has. */
static bool is_in_use(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    return connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0 || errno != ECONNREFUSED;
}

/* Removes the unused socket @st at @path. A new one that took its place meanwhile is put back. */
static int remove_unused(const char *path, const struct stat *st, char *ret_why)
{
    struct sockaddr_un aside = name_beside(path);

    if (rename(path, aside.sun_path) < 0)
        return errno == ENOENT ? 0 : unusable_errno(ret_why, path, errno);
    if (!is_same_file(aside.sun_path, st->st_dev, st->st_ino))
        (void)!link(aside.sun_path, path);
    unlink(aside.sun_path);
    return 0;
}

int local_socket_clear(const char *path, char ret_why[static LOCAL_SOCKET_WHY])
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : unusable_errno(ret_why, path, errno);
    if (!S_ISSOCK(st.st_mode))
        return unusable(ret_why, path, "the file there is no socket");
    if (st.st_uid != geteuid())
        return unusable(ret_why, path, "the socket there belongs to another user");
    if (!is_in_use(path))
        return remove_unused(path, &st, ret_why);
    (void)unusable(ret_why, path, "another program listens there");
    return LOCAL_SOCKET_E_BUSY;
}

/* --- the new socket ----------------------------------------------------------------------------
 */

/* fchmod(2) before bind(2) is the mode that the file gets, less the umask. chmod(2) completes it
 * before the socket listens. Returns a descriptor or a negative errno. */
static int listen_at(const struct sockaddr_un *name, int type, mode_t mode)
{
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || fchmod(fd, mode) < 0 ||
        bind(fd, (const struct sockaddr *)name, sizeof(*name)) < 0)
        return -errno;
    if (chmod(name->sun_path, mode) < 0 || listen(fd, GT_SOCK_BACKLOG) < 0) {
        int err = errno;

        unlink(name->sun_path);
        return -err;
    }
    return gt_steal_fd(&fd);
}

/* Gives the socket with the name @temporary its own name @path. */
static int publish(const char *temporary, const char *path, struct local_socket *ret, char *ret_why)
{
    struct stat st;

    if (lstat(temporary, &st) < 0)
        return unusable_errno(ret_why, path, errno);
    int r = local_socket_clear(path, ret_why);
    if (r != 0)
        return r;
    if (link(temporary, path) < 0)
        return unusable_errno(ret_why, path, errno);
    *ret = (struct local_socket){.device = st.st_dev, .inode = st.st_ino};
    snprintf(ret->path, sizeof(ret->path), "%s", path);
    return 0;
}

int local_socket_listen(const char *path, int type, bool is_shared, struct local_socket *ret,
                        int *ret_fd, char ret_why[static LOCAL_SOCKET_WHY])
{
    struct sockaddr_un temporary;

    if (strlen(path) > LOCAL_SOCKET_PATH_MAX)
        return unusable(ret_why, path, "the path of a socket is too long, at most 100 bytes");
    int r = check_folder(path, ret_why);
    if (r != 0)
        return r;
    temporary = name_beside(path);
    gt_cleanup(gt_close) int fd = listen_at(&temporary, type, is_shared ? 0666 : 0600);
    if (fd < 0)
        return unusable_errno(ret_why, path, -fd);
    r = publish(temporary.sun_path, path, ret, ret_why);
    unlink(temporary.sun_path);
    if (r == 0)
        *ret_fd = gt_steal_fd(&fd);
    return r;
}

void local_socket_remove(struct local_socket *socket)
{
    if (socket->path[0] && is_same_file(socket->path, socket->device, socket->inode))
        unlink(socket->path);
    socket->path[0] = 0;
}
