/* SPDX-License-Identifier: ISC */
/*
 * A list of refused calls, not of allowed ones: which calls a C library makes differs by version
 * and architecture, and a session must not end because of an update of it. Calls that are newer
 * than this list seem not to exist: libseccomp may not know their names, and a C library does
 * without them.
 *
 * Only a constant answer for a call, or a test of its arguments' low 32 bits, keeps the filter
 * cheap: the kernel does not run it for calls that it always allows (Linux 5.11).
 */
#include "confinement-calls.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "gotthard/base/heap.h"

/* The newest call that the list considers is mseal, 462 where landlock_create_ruleset is 444. Since
 * number 424 the calls have the same distances on all architectures. ARM's own are far above. */
#define NEWEST     (SYS_landlock_create_ruleset + 462 - 444)
#define NEWER_LAST (NEWEST + 500)

#define TREE 2 /* libseccomp sorts the calls: a binary search, not a list */

/* Neither process of a session needs these. A name that libseccomp, or the architecture, does not
 * have is skipped. */
static const char *const refused[] = {
    /* other programs, other processes */
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
    "process_mrelease", "kcmp", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kill", "tkill",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setpriority", "ioprio_set", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "migrate_pages", "move_pages",
    /* changes of the file system */
    "creat", "truncate", "truncate64", "mkdir", "mkdirat", "mknod", "mknodat", "rmdir", "link",
    "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rename", "renameat", "renameat2",
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32", "lchown",
    "lchown32", "fchownat", "utime", "utimes", "utimensat", "utimensat_time64", "futimesat",
    "setxattr", "setxattrat", "lsetxattr", "fsetxattr", "removexattr", "removexattrat",
    "lremovexattr", "fremovexattr", "name_to_handle_at", "open_by_handle_at", "file_setattr",
    "fallocate", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct",
    /* mounts and namespaces */
    "mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
    "fsopen", "fsconfig", "fsmount", "fspick", "pivot_root", "chroot", "unshare", "setns",
    /* identity */
    "setuid", "setuid32", "setgid", "setgid32", "setreuid", "setreuid32", "setregid", "setregid32",
    "setresuid", "setresuid32", "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid",
    "setfsgid32", "setgroups", "setgroups32", "capset", "setsid", "setpgid", "personality",
    /* the kernel and the machine */
    "bpf", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "userfaultfd", "fanotify_init", "init_module", "finit_module", "delete_module", "kexec_load",
    "kexec_file_load", "reboot", "syslog", "sethostname", "setdomainname", "settimeofday", "stime",
    "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex", "iopl",
    "ioperm", "modify_ldt", "vm86", "vm86old", "vhangup", "uselib", "nfsservctl", "lookup_dcookie",
    "add_key", "request_key", "keyctl", "landlock_create_ruleset", "landlock_add_rule",
    /* memory and queues that are shared by name, or by a number that can be guessed */
    "shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semtimedop_time64", "semctl",
    "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"};

/* The worker needs these neither. */
static const char *const refused_to_worker[] = {
    "open",   "openat", "openat2", "inotify_init", "inotify_init1", "inotify_add_watch",
    "chdir",  "fchdir", "fork",    "vfork",        "clone",         "clone3",
    "listen", "accept", "accept4", "memfd_create"};

#define REFUSE        SCMP_ACT_ERRNO(EPERM)
#define LOW(n, value) SCMP_CMP(n, SCMP_CMP_MASKED_EQ, UINT32_MAX, (scmp_datum_t)(value))
#define HAS(n, bit)   SCMP_CMP(n, SCMP_CMP_MASKED_EQ, (scmp_datum_t)(bit), (scmp_datum_t)(bit))

/* Refuses the call of that name if its argument is as @test says. NULL: always. */
static int refuse(scmp_filter_ctx filter, const char *name, const struct scmp_arg_cmp *test)
{
    int call = seccomp_syscall_resolve_name(name);

    if (call == __NR_SCMP_ERROR)
        return 0;
    return seccomp_rule_add_array(filter, REFUSE, call, test ? 1 : 0, test);
}

static int refuse_all(scmp_filter_ctx filter, const char *const *names, size_t n)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        r = refuse(filter, names[i], NULL);
    return r;
}

/* Calls whose second argument is the command. */
static int refuse_commands(scmp_filter_ctx filter, const char *name, const int *commands, size_t n)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct scmp_arg_cmp is_command = LOW(1, commands[i]);

        r = refuse(filter, name, &is_command);
    }
    return r;
}

/* The kernel signals the owner of a descriptor when there is something to read, with any signal.
 * The keys are those of the terminal that the log may go to. */
static int refuse_owners_and_keys(scmp_filter_ctx filter)
{
    static const int of_fcntl[] = {F_SETOWN, F_SETOWN_EX, F_SETSIG},
                     of_ioctl[] = {FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX};
    int r = refuse_commands(filter, "fcntl", of_fcntl, GT_ARRAY_SIZE(of_fcntl));

    if (r == 0)
        r = refuse_commands(filter, "fcntl64", of_fcntl, GT_ARRAY_SIZE(of_fcntl));
    return r == 0 ? refuse_commands(filter, "ioctl", of_ioctl, GT_ARRAY_SIZE(of_ioctl)) : r;
}

/* Signals to other processes (abort(3) signals the own one), and limits (getrlimit(3) is allowed).
 */
static int refuse_outside(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp is_other = {0, SCMP_CMP_NE, (scmp_datum_t)getpid(), 0},
                              is_set = {2, SCMP_CMP_NE, 0, 0};
    int r = refuse(filter, "tgkill", &is_other);

    if (r == 0)
        r = refuse(filter, "setrlimit", NULL);
    if (r == 0)
        r = refuse(filter, "prlimit64", &is_set);
    return r == 0 ? refuse_owners_and_keys(filter) : r;
}

/* Code that was not in the program when it started. */
static int refuse_code(scmp_filter_ctx filter)
{
    static const char *const names[] = {"mmap", "mmap2", "mprotect", "pkey_mprotect"};
    const struct scmp_arg_cmp is_code = HAS(2, PROT_EXEC);
    int r = 0;

    for (size_t i = 0; r == 0 && i < GT_ARRAY_SIZE(names); i++)
        r = refuse(filter, names[i], &is_code);
    return r;
}

/* Opening a file for anything but reading. The flags of openat2 are not in its arguments. */
static int refuse_writing(scmp_filter_ctx filter)
{
    static const int flags[] = {O_WRONLY, O_RDWR, O_CREAT};
    int r = refuse(filter, "openat2", NULL);

    for (size_t i = 0; r == 0 && i < GT_ARRAY_SIZE(flags); i++) {
        const struct scmp_arg_cmp of_open = HAS(1, flags[i]), of_openat = HAS(2, flags[i]);

        r = refuse(filter, "open", &of_open);
        if (r == 0)
            r = refuse(filter, "openat", &of_openat);
    }
    return r;
}

/* The worker connects over IP, asks the kernel for routes, and gets answers of the resolver. A
 * target of UDP has a pair of stream sockets. */
static int refuse_sockets(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp other_netlink[] = {LOW(0, AF_NETLINK),
                                                 {2, SCMP_CMP_NE, NETLINK_ROUTE, 0}};
    int r = seccomp_rule_add_array(filter, REFUSE, seccomp_syscall_resolve_name("socket"),
                                   GT_ARRAY_SIZE(other_netlink), other_netlink);

    for (int family = 0; r == 0 && family < 64; family++) {
        const struct scmp_arg_cmp is_family = LOW(0, family);

        if (family != AF_INET && family != AF_INET6 && family != AF_NETLINK)
            r = refuse(filter, "socket", &is_family);
    }
    for (int type = 0; r == 0 && type < 16; type++) {
        const struct scmp_arg_cmp is_type = SCMP_A1(SCMP_CMP_MASKED_EQ, 15, (scmp_datum_t)type);

        if (type != SOCK_SEQPACKET &&
            type != SOCK_STREAM) /* a pair of datagram sockets can send to others */
            r = refuse(filter, "socketpair", &is_type);
    }
    return r;
}

static int refuse_worker(scmp_filter_ctx filter)
{
    int r = refuse_all(filter, refused_to_worker, GT_ARRAY_SIZE(refused_to_worker));

    if (r == 0)
        r = refuse_code(filter);
    return r == 0 ? refuse_sockets(filter) : r;
}

/* A filter of its own, because libseccomp has no ranges. */
static int refuse_newer_calls(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWEST, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, NEWER_LAST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {GT_ARRAY_SIZE(filter), filter};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

/* Best effort: a binary search, and no change of the speculation of branches. (Linux before 5.16
 * slows down a process that has a filter.) */
static void tune(scmp_filter_ctx filter)
{
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, TREE);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
}

int confinement_refuse_calls(enum confinement confinement)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    if (!filter)
        return -ENOMEM;
    tune(filter);
    int r = refuse_all(filter, refused, GT_ARRAY_SIZE(refused));
    if (r == 0)
        r = refuse_outside(filter);
    if (r == 0)
        r = confinement == CONFINEMENT_WORKER ? refuse_worker(filter) : refuse_writing(filter);
    if (r == 0)
        r = seccomp_load(filter);
    if (r == 0)
        r = refuse_newer_calls();
    seccomp_release(filter);
    gt_heap_trim(); /* the filter took 300 KiB, in each process of a session */
    return r;
}
