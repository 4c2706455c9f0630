/* SPDX-License-Identifier: ISC */
/*
 * A socket at the path leads to a holder that is READY, that is not to be used for a new command
 * (STALE, see holder-message.h), that does not answer (SILENT), or that is about to end (GONE).
 * Only the first one is used. No descriptor is sent before READY: a stopped holder must not receive
 * the terminal of a command that has gone.
 */
#include "holder-reach.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "gotthard/base/clock.h"
#include "gotthard/net/peer-uid.h"
#include "gotthard/net/sock.h"
#include "holder-path.h"
#include "holder-spawn.h"
#include "holder-wire.h"

#define ATTEMPTS 5   /* each finds a holder that is about to end */
#define LOCK_S   10. /* it is held for milliseconds */

enum greeting { READY, STALE, SILENT, GONE };

struct reach {
    const struct holder_settings *settings;
    const char *service;
    const struct gt_endpoint_fds *fds;
    char path[LOCAL_SOCKET_PATH_MAX + 1];
    char lock_path[LOCAL_SOCKET_PATH_MAX + 1];
    int fd;            /* owned */
    struct stat found; /* the socket that the last dial has found */
};

/* --- one connection -----------------------------------------------------------------------------
 */

/* Returns a connected descriptor, or a negative errno. */
static int dial(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    uid_t uid;

    if (fd < 0)
        return -errno;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    if (connect(fd, (const struct sockaddr *)&name, sizeof(name)) < 0)
        return -errno;
    if (gt_peer_uid(fd, &uid) != 0 || uid != geteuid())
        return -EPERM;
    return gt_steal_fd(&fd);
}

/* Waits for a message. E_AGAIN: none within HOLDER_REACH_S. */
static int receive(int fd, struct holder_message *ret)
{
    struct gt_endpoint_fds fds = gt_endpoint_fds(-1);
    uint64_t until = gt_clock_ms() + (uint64_t)(1000 * HOLDER_REACH_S);
    int r;

    while ((r = holder_wire_receive(fd, ret, &fds)) == HOLDER_WIRE_E_AGAIN) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        uint64_t now = gt_clock_ms();

        if (now >= until)
            return r;
        (void)poll(&readable, 1, (int)(until - now));
    }
    gt_endpoint_fds_reset(fds);
    return r;
}

static enum greeting greeting_of(int r, const struct holder_message *answer,
                                 enum holder_message_type wanted)
{
    if (r == HOLDER_WIRE_E_AGAIN)
        return SILENT;
    if (r != 0)
        return GONE;
    return answer->type == wanted ? READY : answer->type == HOLDER_STALE ? STALE : GONE;
}

static enum greeting greet(const struct reach *reach)
{
    struct holder_message hello = {.type = HOLDER_HELLO}, answer;

    memcpy(hello.check, reach->settings->check, sizeof(hello.check));
    int r = holder_wire_send(reach->fd, &hello, NULL);
    if (r == 0)
        r = receive(reach->fd, &answer);
    return greeting_of(r, &answer, HOLDER_READY);
}

/* Until it has accepted them, a holder that ends has not used the descriptors. */
static enum greeting request(const struct reach *reach)
{
    struct holder_message message = {.type = HOLDER_OPEN}, answer;

    snprintf(message.service, sizeof(message.service), "%s", reach->service);
    int r = holder_wire_send(reach->fd, &message, reach->fds);
    if (r == 0)
        r = receive(reach->fd, &answer);
    return greeting_of(r, &answer, HOLDER_ACCEPTED);
}

/* Connects to the socket at the path. Returns a negative errno, -EAGAIN for a full backlog. */
static int reach_dial(struct reach *reach)
{
    if (lstat(reach->path, &reach->found) < 0)
        return -errno;
    int fd = dial(reach->path);
    if (fd < 0)
        return fd;
    reach->fd = fd;
    return 0;
}

/* --- a new holder -------------------------------------------------------------------------------
 */

/* Returns a descriptor whose close releases the lock, or a negative errno. */
static int take_lock(const char *path)
{
    gt_cleanup(gt_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    uint64_t until = gt_clock_ms() + (uint64_t)(1000 * LOCK_S);

    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (gt_clock_ms() >= until)
            return -ETIMEDOUT;
        (void)poll(NULL, 0, 5);
    }
    return gt_steal_fd(&fd);
}

static int start(struct reach *reach, int listener, const struct local_socket *file,
                 struct failure *ret_failure)
{
    int r = holder_spawn(reach->settings, listener, file, &reach->fd);

    if (r == 0)
        return 0;
    failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot start a process for the session: %s",
                strerror(-r));
    return HOLDER_REACH_E_FAILED;
}

/* For this command alone. */
static int start_unshared(struct reach *reach, struct print *print, const char *why,
                          struct failure *ret_failure)
{
    const struct local_socket none = {.path = ""};

    print_warning(print,
                  "the session is not shared with other commands, and ssh cannot verify the host "
                  "key: %s; set XDG_RUNTIME_DIR to a folder of your own",
                  why);
    return start(reach, -1, &none, ret_failure);
}

/* Connects to a holder that another command has started meanwhile, or starts one. @is_replaced: the
 * socket that was found before is not to be used. */
static int start_shared(struct reach *reach, struct print *print, bool is_replaced,
                        struct failure *ret_failure)
{
    char why[LOCAL_SOCKET_WHY];
    struct local_socket file;
    struct stat before = reach->found, now;
    gt_cleanup(gt_close) int lock = take_lock(reach->lock_path);
    int listener;

    if (lock < 0) {
        snprintf(why, sizeof(why), "%s: %s", reach->lock_path, strerror(-lock));
        return start_unshared(reach, print, why, ret_failure);
    }
    if (is_replaced && lstat(reach->path, &now) == 0 && now.st_ino == before.st_ino &&
        now.st_dev == before.st_dev)
        unlink(reach->path);
    if (reach_dial(reach) == 0)
        return 0;
    if (local_socket_listen(reach->path, SOCK_SEQPACKET, false, &file, &listener, why) != 0)
        return start_unshared(reach, print, why, ret_failure);
    int r = start(reach, listener, &file, ret_failure);
    if (r != 0)
        local_socket_remove(&file);
    return r;
}

static int reach_once(struct reach *reach, struct print *print, bool is_replaced,
                      struct failure *ret_failure)
{
    int r = is_replaced ? -ENOENT : reach_dial(reach);

    if (r == 0)
        return 0;
    return start_shared(reach, print, is_replaced || r == -EAGAIN, ret_failure);
}

static int reach_find(struct reach *reach, char ret_why[static RUNTIME_FOLDER_WHY])
{
    const struct holder_settings *settings = reach->settings;
    char folder[RUNTIME_FOLDER_MAX + 1];

    if (runtime_folder_find(folder, ret_why) != 0)
        return HOLDER_REACH_E_FAILED;
    snprintf(reach->lock_path, sizeof(reach->lock_path), "%s/" HOLDER_LOCK, folder);
    int r = holder_path(gt_config_settings(settings->config), settings->device, settings->purpose,
                        folder, reach->path);
    if (r == 0)
        return 0;
    snprintf(ret_why, RUNTIME_FOLDER_WHY, "%s", strerror(-r));
    return HOLDER_REACH_E_FAILED;
}

/* Returns 0, or E_FAILED with @ret_failure; *ret_greeting is the answer of the holder. */
static int reach_try(struct reach *reach, struct print *print, const char *unshared_why,
                     enum greeting *greeting, struct failure *ret_failure)
{
    bool is_replaced = *greeting == STALE || *greeting == SILENT;
    int r = unshared_why ? start_unshared(reach, print, unshared_why, ret_failure)
                         : reach_once(reach, print, is_replaced, ret_failure);

    if (r != 0)
        return r;
    *greeting = greet(reach);
    if (*greeting != READY)
        return 0;
    *greeting = request(reach);
    return *greeting != SILENT ? 0 : HOLDER_REACH_E_FAILED; /* it may have used the descriptors */
}

int holder_reach(const struct holder_settings *settings, const char *service,
                 const struct gt_endpoint_fds *fds, struct print *print, int *ret_fd,
                 struct failure *ret_failure)
{
    struct reach reach = {.settings = settings, .service = service, .fds = fds, .fd = -1};
    enum greeting greeting = GONE;
    char why[RUNTIME_FOLDER_WHY];
    bool is_shared = reach_find(&reach, why) == 0;
    int r = 0;

    failure_set(ret_failure, FAILURE_INTERNAL, NULL,
                "the process that holds the session with %s does not answer", settings->device);
    for (int i = 0; i < ATTEMPTS && r == 0; i++) {
        r = reach_try(&reach, print, is_shared ? NULL : why, &greeting, ret_failure);
        if (r == 0 && greeting == READY) {
            *ret_fd = reach.fd;
            return 0;
        }
        gt_close(&reach.fd);
    }
    return HOLDER_REACH_E_FAILED;
}

int holder_query(const char *path, enum holder_message_type query, enum holder_message_type wanted,
                 struct holder_message *ret, bool *ret_is_unused)
{
    const struct holder_message message = {.type = query};
    gt_cleanup(gt_close) int fd = dial(path);

    *ret_is_unused = fd == -ECONNREFUSED;
    if (fd < 0 || holder_wire_send(fd, &message, NULL) != 0 || receive(fd, ret) != 0)
        return HOLDER_REACH_E_FAILED;
    return ret->type == wanted ? 0 : HOLDER_REACH_E_FAILED;
}
