/* SPDX-License-Identifier: ISC */
/*
 * confinement.c: what a confined process can no longer do, and what it still can. Each case runs in
 * a child. Landlock and seccomp are also tried alone: the test hides one by a filter of its own, or
 * makes the kernel seem older.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "confinement.h"

static char folder[] = "/tmp/test-confinement.XXXXXX";
static char key[64], session_file[64]; /* files in it */
static int session_fd;

/* --- attempts: each returns 0 if it was possible, or the errno */

static int errno_of(long r)
{
    return r < 0 ? errno : 0;
}

static int try_read_key(void)
{
    return errno_of(open(key, O_RDONLY));
}

static int try_read_key_by_descriptor(void)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", session_fd);
    return errno_of(open(path, O_RDONLY));
}

static int try_read_folder(void)
{
    return errno_of(open(folder, O_RDONLY | O_DIRECTORY));
}

static int try_write(void)
{
    return errno_of(open(session_file, O_WRONLY));
}

static int try_create(void)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/new", folder);
    return errno_of(open(path, O_WRONLY | O_CREAT, 0600));
}

static int try_temporary(void)
{
    return errno_of(open(folder, O_RDWR | O_TMPFILE, 0600));
}

static int try_unlink(void)
{
    return errno_of(unlink(session_file));
}

static int try_rename(void)
{
    return errno_of(rename(session_file, key));
}

static int try_mkdir(void)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/folder", folder);
    return errno_of(mkdir(path, 0700));
}

static int try_truncate(void)
{
    return errno_of(truncate(session_file, 0));
}

static int try_chmod(void)
{
    return errno_of(chmod(key, 0644));
}

/* Calls that are newer than some versions of libseccomp, with the same number everywhere. A kernel
 * without them is no failure. */
static int errno_of_new_call(long r)
{
    return r < 0 && errno == ENOSYS ? EPERM : errno_of(r);
}

static int try_new_chmod(void)
{
    return errno_of_new_call(syscall(452, AT_FDCWD, key, 0644, 0)); /* fchmodat2 */
}

static int try_new_xattr(void)
{
    const struct {
        uint64_t value;
        uint32_t n, flags;
    } args = {(uintptr_t) "x", 1, 0};

    return errno_of_new_call(syscall(463, AT_FDCWD, key, 0, "user.x", &args, sizeof(args)));
}

static int try_exec(void)
{
    static const char *const args[] = {"false", NULL};

    return errno_of(execv("/bin/false", (char *const *)args));
}

static int try_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return errno_of(pid);
}

static void *nothing(void *arg)
{
    return arg;
}

static int try_thread(void)
{
    pthread_t thread;
    int err = pthread_create(&thread, NULL, nothing, NULL);

    if (err == 0)
        pthread_join(thread, NULL);
    return err;
}

static int try_signal(void)
{
    return errno_of(kill(getppid(), 0));
}

static int try_signal_by_thread(void)
{
    return errno_of(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

/* The kernel signals the owner of a descriptor when it becomes readable, with any signal. */
static int try_signal_by_descriptor(void)
{
    return errno_of(fcntl(session_fd + 1, F_SETOWN, getppid()));
}

static int try_signal_by_owner(void)
{
    const struct f_owner_ex owner = {F_OWNER_PID, getppid()};

    return errno_of(fcntl(session_fd + 1, F_SETOWN_EX, &owner));
}

static int try_signal_by_ioctl(void)
{
    int pid = getppid();

    return errno_of(ioctl(session_fd + 1, FIOSETOWN, &pid));
}

static int try_signal_by_socket(void)
{
    int pid = getppid();

    return errno_of(ioctl(session_fd + 1, SIOCSPGRP, &pid));
}

/* Such a number can be guessed. There is no object of this one: EINVAL. */
static int errno_of_guess(long r)
{
    int err = errno_of(r);

    return err == EINVAL ? 0 : err;
}

static int try_queue_of_another(void)
{
    char text[64];

    return errno_of_guess(msgrcv(INT_MAX, text, 8, 0, IPC_NOWAIT));
}

static int try_remove_queue(void)
{
    return errno_of_guess(msgctl(INT_MAX, IPC_RMID, NULL));
}

static int try_remove_memory(void)
{
    return errno_of_guess(shmctl(INT_MAX, IPC_RMID, NULL));
}

static int try_remove_semaphore(void)
{
    return errno_of_guess(semctl(INT_MAX, 0, IPC_RMID));
}

static int try_ptrace(void)
{
    return errno_of(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL));
}

static int try_memory_of_another(void)
{
    char byte;
    struct iovec iov = {&byte, 1};

    return errno_of(process_vm_readv(getppid(), &iov, 1, &iov, 1, 0));
}

static int try_unshare(void)
{
    return errno_of(unshare(CLONE_NEWUSER));
}

static int try_keyring(void)
{
    return errno_of(syscall(SYS_keyctl, 0, -3, 0)); /* KEYCTL_GET_KEYRING_ID of the session */
}

static int try_ring(void)
{
    return errno_of(syscall(SYS_io_uring_setup, 1, NULL)) == EFAULT ? 0 : errno;
}

static int try_local_socket(void)
{
    return errno_of(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_packet_socket(void)
{
    return errno_of(socket(AF_PACKET, SOCK_DGRAM, 0));
}

/* It gets a copy of what others receive. Only root may. */
static int try_raw_socket(void)
{
    return errno_of(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
}

static int try_firewall(void)
{
    return errno_of(socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
}

/* The kernel takes an int: the other half of the register must not hide the family. */
static int try_local_socket_in_disguise(void)
{
#if __SIZEOF_LONG__ == 8
    return errno_of(syscall(SYS_socket, 0x100000000L + AF_UNIX, SOCK_STREAM, 0));
#else
    return try_local_socket();
#endif
}

static int try_pair_that_sends_to_others(void)
{
    int fds[2];

    return errno_of(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds));
}

static int try_listen(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
        return errno;
    return errno_of(listen(fd, 1));
}

static int try_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return errno_of(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static int try_limit(void)
{
    static const struct rlimit more = {64, 64};

    return errno_of(setrlimit(RLIMIT_CORE, &more));
}

static int try_keystroke(void)
{
    int err = errno_of(ioctl(session_fd, TIOCSTI, "x"));

    return err == ENOTTY ? 0 : err;
}

/* --- needs: each returns 0 */

static int need_own_file(void)
{
    return errno_of(ftruncate(session_fd, 0)) || errno_of(pwrite(session_fd, "x", 1, 0));
}

static int need_connection(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(to);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (getsockname(session_fd + 1, (struct sockaddr *)&to, &n) < 0)
        return errno;
    return listener < 0 ? errno : errno_of(connect(listener, (struct sockaddr *)&to, n));
}

static int need_route(void)
{
    struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = 1};
    struct ifaddrs *all;
    int fd = socket(AF_NETLINK, SOCK_RAW, 0), udp = socket(AF_INET6, SOCK_DGRAM, 0);

    if (fd < 0 || (udp < 0 && errno != EAFNOSUPPORT) ||
        bind(fd, (struct sockaddr *)&groups, sizeof(groups)) < 0 || getifaddrs(&all) < 0)
        return errno;
    freeifaddrs(all);
    return 0;
}

static int need_interface(void)
{
    return if_nametoindex("lo") > 0 ? 0 : errno;
}

static int need_pair(void)
{
    int fds[2];

    return errno_of(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
}

static int need_timer(void)
{
    return errno_of(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
}

static int need_memory(void)
{
    char *big = malloc(64 << 20);
    struct rlimit limit;

    if (!big)
        return ENOMEM;
    big[1 << 20] = 1;
    free(big);
    return errno_of(getrlimit(RLIMIT_NOFILE, &limit));
}

static int need_own_signal(void)
{
    signal(SIGUSR2, SIG_IGN);
    return raise(SIGUSR2) ? errno : 0;
}

static int need_files(void)
{
    return try_read_key() || try_read_folder();
}

static int need_thread(void)
{
    return try_thread();
}

static int need_lookup(void)
{
    struct addrinfo *found;

    return getaddrinfo("localhost", "http", NULL, &found);
}

static int need_local_socket(void)
{
    return try_local_socket();
}

struct attempt {
    const char *name;
    int (*run)(void);
    bool is_landlock; /* Landlock of version 1 refuses it too */
};

#define ATTEMPT(name, is_landlock)     \
    {                                  \
#name, try_##name, is_landlock \
    }
#define NEED(name)                \
    {                             \
#name, need_##name, false \
    }

static const struct attempt refused[] = {
    ATTEMPT(write, true),
    ATTEMPT(create, true),
    ATTEMPT(temporary, true),
    ATTEMPT(unlink, true),
    ATTEMPT(rename, true),
    ATTEMPT(mkdir, true),
    ATTEMPT(truncate, false),
    ATTEMPT(chmod, false),
    ATTEMPT(new_chmod, false),
    ATTEMPT(new_xattr, false),
    ATTEMPT(exec, true),
    ATTEMPT(signal, false),
    ATTEMPT(signal_by_thread, false),
    ATTEMPT(signal_by_descriptor, false),
    ATTEMPT(signal_by_owner, false),
    ATTEMPT(signal_by_ioctl, false),
    ATTEMPT(signal_by_socket, false),
    ATTEMPT(queue_of_another, false),
    ATTEMPT(remove_queue, false),
    ATTEMPT(remove_memory, false),
    ATTEMPT(remove_semaphore, false),
    ATTEMPT(ptrace, true),
    ATTEMPT(memory_of_another, true),
    ATTEMPT(unshare, false),
    ATTEMPT(keyring, false),
    ATTEMPT(ring, false),
    ATTEMPT(limit, false),
    ATTEMPT(keystroke, false),
};

static const struct attempt refused_to_worker[] = {
    ATTEMPT(read_key, true),
    ATTEMPT(read_key_by_descriptor, true),
    ATTEMPT(read_folder, true),
    ATTEMPT(fork, false),
    ATTEMPT(thread, false),
    ATTEMPT(local_socket, false),
    ATTEMPT(local_socket_in_disguise, false),
    ATTEMPT(packet_socket, false),
    ATTEMPT(raw_socket, false),
    ATTEMPT(firewall, false),
    ATTEMPT(pair_that_sends_to_others, false),
    ATTEMPT(listen, false),
    ATTEMPT(code, false),
};

static const struct attempt needed[] = {
    NEED(own_file), NEED(connection), NEED(route),  NEED(interface),
    NEED(pair),     NEED(timer),      NEED(memory), NEED(own_signal),
};

static const struct attempt needed_by_resolver[] = {
    NEED(files),
    NEED(thread),
    NEED(lookup),
    NEED(local_socket),
};

/* --- children */

/* A result of a child: the number of wrong results. */
static int count_possible(const struct attempt *attempts, size_t n, bool is_landlock_only)
{
    int n_wrong = 0;

    for (size_t i = 0; i < n; i++) {
        if (is_landlock_only && !attempts[i].is_landlock)
            continue;
        int err = attempts[i].run();
        if (err == EPERM || err == EACCES)
            continue;
        print_message("was not refused: %s (%s)\n", attempts[i].name, strerror(err));
        n_wrong++;
    }
    return n_wrong;
}

static int count_impossible(const struct attempt *attempts, size_t n)
{
    int n_wrong = 0;

    for (size_t i = 0; i < n; i++) {
        int err = attempts[i].run();

        if (err == 0)
            continue;
        print_message("is needed: %s (%s)\n", attempts[i].name, strerror(err));
        n_wrong++;
    }
    return n_wrong;
}

/* Makes the kernel seem to have no @call. */
static void hide(const char *call)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_hidden = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS),
                                      seccomp_syscall_resolve_name(call), 0) == 0 &&
                     seccomp_load(filter) == 0;

    seccomp_release(filter);
    if (!is_hidden)
        _exit(100);
}

static int as_worker(void)
{
    if (confinement_enter(CONFINEMENT_WORKER) < 0)
        return 101;
    return count_impossible(needed, GT_ARRAY_SIZE(needed)) +
           count_possible(refused, GT_ARRAY_SIZE(refused), false) +
           count_possible(refused_to_worker, GT_ARRAY_SIZE(refused_to_worker), false);
}

static int as_resolver(void)
{
    if (confinement_enter(CONFINEMENT_RESOLVER) < 0)
        return 101;
    return count_impossible(needed, GT_ARRAY_SIZE(needed)) +
           count_impossible(needed_by_resolver, GT_ARRAY_SIZE(needed_by_resolver)) +
           count_possible(refused, GT_ARRAY_SIZE(refused), false);
}

static int as_worker_without_landlock(void)
{
    hide("landlock_create_ruleset");
    return confinement_support().landlock == 0 ? as_worker() : 102;
}

static int as_resolver_without_landlock(void)
{
    hide("landlock_create_ruleset");
    return as_resolver();
}

static int as_worker_without_seccomp(void)
{
    hide("seccomp");
    if (confinement_support().has_seccomp || confinement_enter(CONFINEMENT_WORKER) < 0)
        return 102;
    return count_impossible(needed, GT_ARRAY_SIZE(needed)) +
           count_possible(refused, GT_ARRAY_SIZE(refused), true) +
           count_possible(refused_to_worker, GT_ARRAY_SIZE(refused_to_worker), true);
}

static int as_worker_without_either(void)
{
    hide("landlock_create_ruleset");
    hide("seccomp");
    return confinement_enter(CONFINEMENT_WORKER) == 0
               ? count_impossible(needed, GT_ARRAY_SIZE(needed))
               : 101;
}

static int as_worker_that_landlock_fails(void)
{
    hide("landlock_restrict_self");
    return confinement_enter(CONFINEMENT_WORKER) == -ENOSYS ? 0 : 101;
}

static int unconfined(void)
{
    return count_impossible(needed, GT_ARRAY_SIZE(needed));
}

static int run_child(int (*child)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(child());
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void need(bool is_supported)
{
    if (!is_supported) {
        print_message("skipped: not in this kernel, or a sanitizer\n");
        skip();
    }
}

static void test_confinement_attempts_and_needs_are_possible_without_it(void **state)
{
    assert_int_equal(try_read_key(), 0);
    assert_int_equal(try_write(), 0);
    assert_int_equal(try_fork(), 0);
    assert_int_equal(try_local_socket(), 0);
    assert_int_equal(run_child(unconfined), 0);
}

static void test_confinement_of_worker(void **state)
{
    need(confinement_support().has_seccomp);
    assert_int_equal(run_child(as_worker), 0);
}

static void test_confinement_of_resolver(void **state)
{
    need(confinement_support().has_seccomp);
    assert_int_equal(run_child(as_resolver), 0);
}

static void test_confinement_by_one_of_two(void **state)
{
    need(confinement_support().has_seccomp && confinement_support().landlock > 0);
    assert_int_equal(run_child(as_worker_without_landlock), 0);
    assert_int_equal(run_child(as_resolver_without_landlock), 0);
    assert_int_equal(run_child(as_worker_without_seccomp), 0);
}

static void test_confinement_without_support_is_no_error(void **state)
{
    need(confinement_support().has_seccomp);
    assert_int_equal(run_child(as_worker_without_either), 0);
}

static void test_confinement_that_fails_is_an_error(void **state)
{
    need(confinement_support().has_seccomp && confinement_support().landlock > 0);
    assert_int_equal(run_child(as_worker_that_landlock_fails), 0);
}

/* --- older kernels */

static int landlock_version;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

/* The kernel accepts what an older one does, and refuses rights that the older one does not have.
 */
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (number == SYS_landlock_create_ruleset && landlock_version > 0 && c != 0)
        return landlock_version;
    return __real_syscall(number, a, b, c, d, e, f);
}

static int as_worker_of_an_older_kernel(void)
{
    hide("seccomp");
    if (confinement_enter(CONFINEMENT_WORKER) < 0)
        return 101;
    return count_possible(refused_to_worker, GT_ARRAY_SIZE(refused_to_worker), true) +
           (landlock_version >= 3 && try_truncate() != EACCES) +
           (landlock_version >= 4 && try_listen() != EACCES) +
           (landlock_version >= 6 && try_signal() != EPERM);
}

static void test_confinement_by_older_landlocks(void **state)
{
    int newest = confinement_support().landlock;

    need(confinement_support().has_seccomp && newest > 0);
    for (landlock_version = 1; landlock_version <= newest; landlock_version++)
        assert_int_equal(run_child(as_worker_of_an_older_kernel), 0);
    landlock_version = 0;
}

/* --- the files and the listener that the children find */

static int make_file(const char *name, char ret_path[64])
{
    snprintf(ret_path, 64, "%s/%s", folder, name);
    return open(ret_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static int setup(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    close(make_file("key", key));
    session_fd = fcntl(make_file("a.session", session_file), F_DUPFD, 100);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || listen(listener, 64) < 0)
        return -1;
    return dup2(listener, session_fd + 1) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    unlink(key);
    unlink(session_file);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confinement_attempts_and_needs_are_possible_without_it),
        cmocka_unit_test(test_confinement_of_worker),
        cmocka_unit_test(test_confinement_of_resolver),
        cmocka_unit_test(test_confinement_by_one_of_two),
        cmocka_unit_test(test_confinement_without_support_is_no_error),
        cmocka_unit_test(test_confinement_that_fails_is_an_error),
        cmocka_unit_test(test_confinement_by_older_landlocks),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
