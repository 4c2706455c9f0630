/* SPDX-License-Identifier: ISC */
/* One connection after another to the service's socket, until there is a result; see the header. */
#include "gotthard/base/reload-client.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/format.h"
#include "gotthard/base/reload-socket.h"
#include "gotthard/base/text.h"

#define SOCKET_MS 2000 /* for a service that starts */
#define RETRY_MS  50

struct reload {
    const char *program;
    struct sockaddr_un addr;
    uint64_t deadline_ms;
    bool was_connected, has_begun;
    char answer[GT_RELOAD_ANSWER_MAX];
    size_t n;
};

static void print(const struct reload *reload, const char *text)
{
    char line[GT_RELOAD_ANSWER_MAX + 64];

    gt_format(GT_FORMAT_TEXT, line, sizeof(line), "%s: %s\n", reload->program, text);
    dprintf(STDERR_FILENO, "%s", line);
}

/* Returns the connected socket, or -1. */
static int reload_connect(const struct reload *reload)
{
    gt_cleanup(gt_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const char *request = reload->has_begun ? GT_RELOAD_STATE "\n" : GT_RELOAD_REQUEST "\n";

    if (fd < 0 || connect(fd, (const struct sockaddr *)&reload->addr, sizeof(reload->addr)) < 0 ||
        send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        return -1;
    return gt_steal_fd(&fd);
}

/* Reads until the service closes. Returns false at the deadline. */
static bool reload_read(struct reload *reload, int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};

    reload->n = 0;
    while (gt_clock_ms() < reload->deadline_ms) {
        if (poll(&readable, 1, RETRY_MS) <= 0)
            continue;
        ssize_t n = recv(fd, reload->answer + reload->n, sizeof(reload->answer) - 1 - reload->n, 0);
        if (n <= 0)
            return true;
        reload->n += (size_t)n;
        reload->has_begun = reload->has_begun || memchr(reload->answer, '\n', reload->n);
    }
    return false;
}

/* Removes "begun" before the result. Returns the exit status, or -1 if there is no result. */
static int reload_result(struct reload *reload)
{
    static const char begun[] = GT_RELOAD_BEGUN "\n";
    uint64_t status;

    reload->answer[reload->n] = 0;
    char *result = reload->answer;
    if (strncmp(result, begun, sizeof(begun) - 1) == 0)
        result += sizeof(begun) - 1;
    char *end = strchr(result, '\n'), *blank = strchr(result, ' ');
    if (!end || !blank)
        return -1;
    *blank = *end = 0;
    if (gt_text_number(result, 0, 255, &status))
        return -1;
    print(reload, blank + 1);
    return (int)status;
}

/* Returns the exit status, or -1 if the service has closed without a result, or has no socket. */
static int reload_try(struct reload *reload)
{
    gt_cleanup(gt_close) int fd = reload_connect(reload);

    if (fd < 0)
        return -1;
    reload->was_connected = true;
    return reload_read(reload, fd) ? reload_result(reload) : -1;
}

static int reload_ask(struct reload *reload)
{
    uint64_t socket_ms = gt_clock_ms() + SOCKET_MS;

    while (gt_clock_ms() < (reload->was_connected ? reload->deadline_ms : socket_ms)) {
        int status = reload_try(reload);

        if (status >= 0)
            return status;
        poll(NULL, 0, RETRY_MS);
    }
    return -1;
}

static const char *signal_name(int number)
{
    return number == SIGHUP ? "SIGHUP" : number == SIGUSR1 ? "SIGUSR1" : "SIGUSR2";
}

static int reload_by_signal(const struct reload *reload, int number)
{
    const char *text = getenv("MAINPID");
    char why[256];
    uint64_t pid;

    if (!text || gt_text_number(text, 1, INT32_MAX, &pid))
        snprintf(why, sizeof(why),
                 "no running service found: use 'systemctl reload %s', or set "
                 "RUNTIME_DIRECTORY=/run/%s for this command",
                 reload->program, reload->program);
    else if (kill((pid_t)pid, number) < 0)
        snprintf(why, sizeof(why), "process %d: %s", (int)pid, strerror(errno));
    else
        snprintf(why, sizeof(why),
                 "sent %s to process %d, which has no socket for the result: "
                 "see its log; it has one after a restart",
                 signal_name(number), (int)pid);
    print(reload, why);
    return GT_EXIT_UNAVAILABLE;
}

int gt_reload_client_run(const char *program, int signal, uint64_t deadline_ms)
{
    struct reload reload = {.program = program, .deadline_ms = gt_clock_ms() + deadline_ms};
    int status = gt_reload_socket_address(&reload.addr) ? reload_ask(&reload) : -1;

    if (status >= 0)
        return status;
    if (!reload.was_connected)
        return reload_by_signal(&reload, signal);
    print(&reload, "no answer from the running service; see its log");
    return GT_EXIT_UNAVAILABLE;
}
