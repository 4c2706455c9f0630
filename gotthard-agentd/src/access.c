/* SPDX-License-Identifier: ISC */
/* The access list at this device; see the header. */
#include "access.h"

#include <stdio.h>

/* --- the list in force ------------------------------------------------------------------------ */

void access_open(struct access *access, const char *device, const char *folder,
                 const uint8_t authority[static GT_KEY_SIZE])
{
    char why[GT_ACCESS_STORE_WHY] = "";

    *access = (struct access){.device = device};
    message_budget_init(&access->budget);
    gt_access_assembly_init(&access->assembly);
    int r = gt_access_store_init(&access->store, folder, authority, why);
    access->is_open = r >= 0;
    if (r < 0)
        gt_error_errno(r, "device=%s cannot read the access list", device);
    if (r > 0)
        gt_error("device=%s the stored access list is not used, no operator is granted anything "
                 "until the broker sends it: %s",
                 device, why);
    if (access->store.list)
        gt_info("device=%s access list serial=%llu entries=%zu read from the state directory",
                device, (unsigned long long)gt_access_store_serial(&access->store),
                gt_access_list_count(access->store.list));
}

void access_close(struct access *access)
{
    gt_access_assembly_deinit(&access->assembly);
    gt_access_store_deinit(&access->store);
    access->is_open = false;
}

bool access_has_authority(const struct access *access, const uint8_t authority[static GT_KEY_SIZE])
{
    return access->is_open && memcmp(access->store.authority, authority, GT_KEY_SIZE) == 0;
}

const struct gt_access_list *access_list(const struct access *access)
{
    return access->is_open ? access->store.list : NULL;
}

/* A list that cannot be stored is in force nevertheless: it may be a revocation. */
static void access_save(struct access *access)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    unsigned n_suppressed;

    if (gt_access_store_save(&access->store, why) != 0 &&
        gt_log_is_allowed(&access->unstored, 1, &n_suppressed))
        gt_error("device=%s the access list is in force, but not stored: a restart returns to an "
                 "older one: %s",
                 access->device, why);
}

/* --- parts ------------------------------------------------------------------------------------ */

static void access_log_rejected(struct access *access, const char *why)
{
    unsigned n_suppressed;

    if (gt_log_is_allowed(&access->rejected, 1, &n_suppressed))
        gt_warn("device=%s access list rejected, the one in force stays serial=%llu reason=\"%s\" "
                "suppressed=%u",
                access->device, (unsigned long long)gt_access_store_serial(&access->store), why,
                n_suppressed);
}

/* The broker repeats the parts of the list in force at each subscription, which is no fault. */
static void access_log_old(struct access *access, struct gt_span payload)
{
    uint64_t in_force = gt_access_store_serial(&access->store);
    struct gt_access_part part;
    unsigned n_suppressed;

    if (gt_access_part_decode(payload, &part) != 0 || part.serial == in_force ||
        !gt_log_is_allowed(&access->old, 1, &n_suppressed))
        return;
    gt_warn("device=%s access list rejected, a newer one is known serial=%llu received=%llu "
            "suppressed=%u",
            access->device, (unsigned long long)gt_access_store_floor(&access->store),
            (unsigned long long)part.serial, n_suppressed);
}

/* Returns true if the text is in force now. */
static bool access_take(struct access *access, struct gt_span text)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    int r = gt_access_store_take(&access->store, text, why);

    if (r != 0) {
        access_log_rejected(access, r == GT_ACCESS_STORE_E_BAD   ? why
                                    : r == GT_ACCESS_STORE_E_OLD ? "the serial in its text is old"
                                                                 : strerror(-r));
        return false;
    }
    gt_info("device=%s access list serial=%llu entries=%zu in force", access->device,
            (unsigned long long)gt_access_store_serial(&access->store),
            gt_access_list_count(access->store.list));
    access_save(access);
    return true;
}

static bool access_add(struct access *access, struct gt_span payload, uint64_t now_ms)
{
    uint8_t *text = NULL;
    size_t n = 0;
    int r = gt_access_assembly_add(&access->assembly, payload, access->store.authority,
                                   gt_access_store_floor(&access->store), &text, &n);
    bool is_taken = r == 0 && access_take(access, gt_span(text, n));

    free(text);
    if (r == GT_ACCESS_PART_E_OLD)
        access_log_old(access, payload);
    else if (r == GT_ACCESS_PART_E_BAD)
        access_log_rejected(access, "a part is malformed, damaged or of another authority");
    else if (r < 0)
        gt_error_errno(r, "device=%s cannot receive an access list", access->device);
    if (r == GT_ACCESS_PART_E_BAD)
        message_budget_end(&access->budget, now_ms);
    return is_taken;
}

/* Only rejected parts are charged: those of the authority are limited by its lists. */
bool access_receive(struct access *access, struct gt_span payload, uint64_t now_ms)
{
    if (!access->is_open || payload.n == 0) /* an empty message removes a retained part */
        return false;
    if (message_budget_begin(&access->budget, now_ms))
        return access_add(access, payload, now_ms);
    access->is_incomplete = true;
    access_log_rejected(access, "more rejected parts than half of a CPU can verify");
    return false;
}

size_t access_parts(const struct access *access)
{
    return access->is_open && access->assembly.serial > 0 ? access->assembly.parts : 0;
}

bool access_tick(struct access *access)
{
    if (!access->is_open)
        return false;
    bool is_incomplete = access->is_incomplete || access->assembly.serial > 0;
    access->is_incomplete = false;
    access_save(access);
    return is_incomplete;
}
