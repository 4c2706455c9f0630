/* SPDX-License-Identifier: ISC */
/*
 * The Landlock half, and what both halves need; see the header. A ruleset names the rights that
 * are taken away, and rules restore some below a folder. The worker has no rule. The constants
 * are here because the headers of older systems have only those of the first versions.
 */
#include "confinement.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "confinement-calls.h"
#include "gotthard/base/hardening.h"

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

/* Rights of version N are below 1 << n_rights[N]. */
#define READ_FILE       (UINT64_C(1) << 2)
#define READ_DIR        (UINT64_C(1) << 3)
#define BIND_TCP        UINT64_C(1)
#define SCOPE_ALL       UINT64_C(3) /* abstract Unix sockets, signals */
#define VERSION_NETWORK 4
#define VERSION_SCOPES  6

static const uint8_t n_rights[] = {0, 13, 14, 15, 15, 16};

/* struct landlock_ruleset_attr of version 6. An older kernel accepts it if the end is zero. */
struct ruleset {
    uint64_t files, network, scopes;
};

/* struct landlock_path_beneath_attr */
struct beneath {
    uint64_t rights;
    int32_t folder;
} __attribute__((packed));

static int landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

    return version > 0 ? (int)version : 0;
}

/* Restores the right to read all files. */
static int allow_reading(int ruleset)
{
    gt_cleanup(gt_close) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct beneath all = {.rights = READ_FILE | READ_DIR, .folder = root};

    if (root < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &all, 0) < 0)
        return -errno;
    return 0;
}

static int restrict_files(enum confinement confinement, int version)
{
    size_t i = GT_MIN((size_t)version, GT_ARRAY_SIZE(n_rights) - 1);
    struct ruleset rights = {
        .files = (UINT64_C(1) << n_rights[i]) - 1,
        .network = version >= VERSION_NETWORK ? BIND_TCP : 0,
        .scopes = version >= VERSION_SCOPES ? SCOPE_ALL : 0,
    };
    gt_cleanup(gt_close) int ruleset =
        (int)syscall(SYS_landlock_create_ruleset, &rights, sizeof(rights), 0);

    if (ruleset < 0)
        return -errno;
    int r = confinement == CONFINEMENT_RESOLVER ? allow_reading(ruleset) : 0;
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    return r;
}

/* An agent of root has all of them: raw sockets, routes, the memory of others. A service manager
 * may refuse the call. */
static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    return syscall(SYS_capset, &header, none) < 0 && errno != EPERM ? -errno : 0;
}

struct confinement_support confinement_support(void)
{
    static const uint32_t action = SECCOMP_RET_ERRNO;

    if (gt_hardening_is_sanitized())
        return (struct confinement_support){0};
    return (struct confinement_support){
        .landlock = landlock_version(),
        .has_seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0,
    };
}

int confinement_enter(enum confinement confinement)
{
    struct confinement_support support = confinement_support();
    int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;

    if (r == 0 && !gt_hardening_is_sanitized())
        r = drop_capabilities();
    if (r == 0 && support.landlock > 0)
        r = restrict_files(confinement, support.landlock);
    if (r == 0 && support.has_seccomp)
        r = confinement_refuse_calls(confinement);
    return r;
}
