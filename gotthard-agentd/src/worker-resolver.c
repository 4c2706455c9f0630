/* SPDX-License-Identifier: ISC */
/* Forking the resolver; see the header. The worker has one thread then, and no key. */
#include "worker-resolver.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "confinement.h"
#include "gotthard/base/exit-status.h"
#include "gotthard/base/hardening.h"
#include "gotthard/base/log.h"
#include "gotthard/net/resolve.h"
#include "gotthard/net/resolver.h"

#define QUERIES_FD (STDERR_FILENO + 1) /* the only descriptor that it keeps, apart from the log */

/* A service manager, or a terminal, may signal all processes. The worker still needs names then. */
static void ignore_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};

    for (size_t i = 0; i < GT_ARRAY_SIZE(numbers); i++)
        signal(numbers[i], SIG_IGN);
}

/* In the child. It must not keep the session file, whose lock means that the worker is alive. */
static _Noreturn void resolver_main(int queries)
{
    prctl(PR_SET_NAME, "gotthard-names");
    ignore_signals();
    if (dup2(queries, QUERIES_FD) < 0)
        _exit(GT_EXIT_INTERNAL);
    gt_hardening_close_from(QUERIES_FD + 1);
    int r = confinement_enter(CONFINEMENT_RESOLVER);
    if (r < 0) {
        gt_error_errno(r, "cannot confine the resolver");
        _exit(GT_EXIT_INTERNAL);
    }
    gt_resolver_serve(QUERIES_FD);
    _exit(GT_EXIT_SUCCESS);
}

int worker_resolver_start(pid_t *ret_pid)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    pid_t pid = fork();
    int r = pid < 0 ? -errno : 0;
    if (pid == 0)
        resolver_main(ends[1]);
    close(ends[1]);
    if (r < 0) {
        close(ends[0]);
        return r;
    }
    gt_resolve_use_process(ends[0]);
    *ret_pid = pid;
    return 0;
}
