/* SPDX-License-Identifier: ISC */
/*
 * Makes one call of a program fail: the $FAIL_AT-th of the family that $FAIL_CALL names (malloc,
 * accept, socket, open, write, splice or SSL_write). It fails once: the file $FAIL_DONE is created
 * then, and no other process with the same file fails again. The number of calls is appended to
 * $FAIL_TALLY when a process exits. Calls before the constructor are not counted. Must never
 * allocate.
 */
#undef _FILE_OFFSET_BITS /* open() and open64() are two names here */
#undef _TIME_BITS        /* which needs that */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static struct {
    const char *_Atomic family; /* NULL before the constructor */
    unsigned long at;
    atomic_ulong n;
    const char *done, *tally; /* of the environment */
} fault;

static __thread bool is_looking_up __attribute__((tls_model("initial-exec")));

static bool is_first(void)
{
    long fd = fault.done
                  ? syscall(SYS_openat, AT_FDCWD, fault.done, O_WRONLY | O_CREAT | O_EXCL, 0666)
                  : -1;

    return fd >= 0 && syscall(SYS_close, fd) == 0;
}

static bool fails(const char *family)
{
    const char *chosen = fault.family;

    if (!chosen || is_looking_up || strcmp(chosen, family) != 0)
        return false;
    return atomic_fetch_add(&fault.n, 1) + 1 == fault.at && is_first();
}

__attribute__((constructor)) static void fault_begin(void)
{
    const char *at = getenv("FAIL_AT");

    fault.at = at ? strtoul(at, NULL, 10) : 0;
    fault.done = getenv("FAIL_DONE");
    fault.tally = getenv("FAIL_TALLY");
    fault.family = getenv("FAIL_CALL");
}

/* The next function of that name. It is looked up once, since dlsym allocates. */
#define NEXT(name)                                             \
    ({                                                         \
        static __typeof__(&name) _Atomic next;                 \
        if (!next)                                             \
            next = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
        (__typeof__(&name))next;                               \
    })

__attribute__((destructor)) static void fault_end(void)
{
    char line[64];

    fault.family = NULL;
    int fd = fault.tally ? open(fault.tally, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0)
        return;
    int n = snprintf(line, sizeof(line), "%lu\n", (unsigned long)fault.n);
    if (write(fd, line, (size_t)n) != n)
        unlink(fault.tally);
    close(fd);
}

/* --- memory: glibc's own names, since dlsym needs memory itself ------------------------------ */

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

EXPORT void *malloc(size_t n)
{
    return fails("malloc") ? no_memory() : __libc_malloc(n);
}

EXPORT void *calloc(size_t n, size_t size)
{
    return fails("malloc") ? no_memory() : __libc_calloc(n, size);
}

EXPORT void *realloc(void *p, size_t n)
{
    return n > 0 && fails("malloc") ? no_memory() : __libc_realloc(p, n);
}

EXPORT struct passwd *getpwuid(uid_t uid)
{
    is_looking_up = true;
    struct passwd *found = NEXT(getpwuid)(uid);
    is_looking_up = false;
    return found;
}

EXPORT int getaddrinfo(const char *restrict host, const char *restrict service,
                       const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    is_looking_up = true;
    int r = NEXT(getaddrinfo)(host, service, hints, ret);
    is_looking_up = false;
    return r;
}

/* --- descriptors ----------------------------------------------------------------------------- */

static int no_descriptor(void)
{
    errno = EMFILE;
    return -1;
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    return fails("accept") ? no_descriptor() : NEXT(accept4)(fd, addr, n, flags);
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *n)
{
    return fails("accept") ? no_descriptor() : NEXT(accept)(fd, addr, n);
}

EXPORT int socket(int domain, int type, int protocol)
{
    return fails("socket") ? no_descriptor() : NEXT(socket)(domain, type, protocol);
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define OPENS(name)                                                             \
    EXPORT int name(const char *path, int flags, ...)                           \
    {                                                                           \
        va_list args;                                                           \
        va_start(args, flags);                                                  \
        mode_t mode = mode_of(flags, args);                                     \
        va_end(args);                                                           \
        return fails("open") ? no_descriptor() : NEXT(name)(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                                  \
    EXPORT int name(int folder, const char *path, int flags, ...)                       \
    {                                                                                   \
        va_list args;                                                                   \
        va_start(args, flags);                                                          \
        mode_t mode = mode_of(flags, args);                                             \
        va_end(args);                                                                   \
        return fails("open") ? no_descriptor() : NEXT(name)(folder, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

EXPORT FILE *fopen(const char *path, const char *mode)
{
    return fails("open") ? (no_descriptor(), NULL) : NEXT(fopen)(path, mode);
}

/* --- bytes ----------------------------------------------------------------------------------- */

/* An eventfd, as of an event loop, accepts every write: a failure would not be realistic. */
static bool is_of_the_loop(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

EXPORT ssize_t write(int fd, const void *data, size_t n)
{
    if (is_of_the_loop(fd) || !fails("write"))
        return NEXT(write)(fd, data, n);
    errno = EIO;
    return -1;
}

EXPORT ssize_t splice(int from, off64_t *from_off, int to, off64_t *to_off, size_t n,
                      unsigned flags)
{
    if (!fails("splice"))
        return NEXT(splice)(from, from_off, to, to_off, n, flags);
    errno = ENOMEM;
    return -1;
}

struct ssl_st;
extern int SSL_write(struct ssl_st *ssl, const void *data, int n);
extern int SSL_write_ex(struct ssl_st *ssl, const void *data, size_t n, size_t *ret_n);

EXPORT int SSL_write(struct ssl_st *ssl, const void *data, int n)
{
    if (!fails("SSL_write"))
        return NEXT(SSL_write)(ssl, data, n);
    errno = EPIPE;
    return -1;
}

EXPORT int SSL_write_ex(struct ssl_st *ssl, const void *data, size_t n, size_t *ret_n)
{
    if (!fails("SSL_write"))
        return NEXT(SSL_write_ex)(ssl, data, n, ret_n);
    errno = EPIPE;
    return 0;
}
