/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "operator-access.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "gotthard/base/log.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/state/access-store.h"
#include "gotthard/trust/access-parts.h"
#include "state-folder.h"

#define N_ID 8 /* bytes of the authority in the name of the folder */

struct operator_access {
    struct gt_access_store store;
    struct gt_access_assembly assembly;
    struct gt_trust *trust; /* keeps */
    char folder[PATH_MAX];  /* empty: the list is not stored */
};

/* --- the folder ------------------------------------------------------------------------------- */

/* Writes the path of the folder, and creates it; empty if no folder can be used. */
static void find_folder(const uint8_t *authority, char *ret, size_t cap)
{
    char base[PATH_MAX], id[2 * N_ID + 1], why[GT_PROTECTEDFILE_WHY];
    gt_cleanup(gt_close) int fd = -1;

    *ret = 0;
    if (!state_folder_find(base, sizeof(base)))
        return;
    gt_text_hex(authority, N_ID, id);
    int n = snprintf(ret, cap, "%s/access-%s/", base, id);
    if (n < 0 || (size_t)n >= cap) {
        *ret = 0;
        return;
    }
    state_folder_make(ret);
    ret[n - 1] = 0;
    if (gt_protectedfile_open_folder(ret, &fd, why) == 0)
        return;
    gt_warn("the access list is not stored: %s", why);
    *ret = 0;
}

/* --- storing ---------------------------------------------------------------------------------- */

/* Returns true if another command has stored this list, or a newer one. */
static bool is_stored(const struct operator_access *access)
{
    struct gt_access_store stored;
    char why[GT_ACCESS_STORE_WHY] = "";

    if (gt_access_store_init(&stored, access->folder, access->store.authority, why) < 0)
        return false;
    bool is_newer =
        gt_access_store_floor(&stored) >= gt_access_store_serial(&access->store) && stored.list;
    gt_access_store_deinit(&stored);
    return is_newer;
}

/* A list that cannot be stored is in force nevertheless. */
static void save(struct operator_access *access)
{
    char why[GT_ACCESS_STORE_WHY] = "";

    if (!*access->folder)
        return;
    gt_cleanup(gt_close) int fd = open(access->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        return;
    if (!is_stored(access) && gt_access_store_save(&access->store, why) != 0)
        gt_warn("the access list is not stored: %s", why);
}

/* --- the list --------------------------------------------------------------------------------- */

int operator_access_new(const uint8_t authority[static GT_KEY_SIZE], uint64_t max_age_s,
                        struct gt_trust *trust, struct operator_access **ret)
{
    struct operator_access *access = calloc(1, sizeof(*access));
    char why[GT_ACCESS_STORE_WHY] = "";

    if (!access)
        return -ENOMEM;
    find_folder(authority, access->folder, sizeof(access->folder));
    int r = gt_access_store_init(&access->store, *access->folder ? access->folder : NULL, authority,
                                 why);
    if (r < 0) {
        free(access);
        return r;
    }
    if (r > 0)
        gt_warn("the stored access list is not used, the broker has to send it: %s", why);
    gt_access_assembly_init(&access->assembly);
    gt_trust_init_list(trust, NULL, max_age_s);
    trust->list = access->store.list;
    access->trust = trust;
    *ret = access;
    return 0;
}

void operator_access_take(struct operator_access *access, struct gt_span text)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    int r = gt_access_store_take(&access->store, text, why);

    access->trust->list = access->store.list;
    if (r == GT_ACCESS_STORE_E_BAD)
        gt_warn("access list rejected: %s", why);
    if (r != 0)
        return;
    gt_debug("access list serial=%llu in force",
             (unsigned long long)gt_access_store_serial(&access->store));
    save(access);
}

void operator_access_receive(struct operator_access *access, struct gt_span payload)
{
    uint8_t *text = NULL;
    size_t n = 0;

    if (payload.n == 0) /* removes a retained part */
        return;
    int r = gt_access_assembly_add(&access->assembly, payload, access->store.authority,
                                   gt_access_store_floor(&access->store), &text, &n);
    if (r == 0)
        operator_access_take(access, gt_span(text, n));
    else if (r == GT_ACCESS_PART_E_BAD)
        gt_debug("a part of an access list is malformed, damaged or of another authority");
    free(text);
}

bool operator_access_is_awaited(const struct operator_access *access)
{
    return !access->store.list || access->assembly.n_missing > 0;
}

size_t operator_access_parts(const struct operator_access *access)
{
    return access->assembly.serial > 0 ? access->assembly.parts : 0;
}

bool operator_access_has_list(const struct operator_access *access)
{
    return access->store.list != NULL;
}

struct operator_access *operator_access_free(struct operator_access *access)
{
    if (!access)
        return NULL;
    access->trust->list = NULL;
    gt_access_assembly_deinit(&access->assembly);
    gt_access_store_deinit(&access->store);
    free(access);
    return NULL;
}
