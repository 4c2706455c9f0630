/* SPDX-License-Identifier: ISC */
/*
 * A list that cannot be stored is in force nevertheless, because it may be a revocation. The folder
 * is written by the control thread: only the authority can cause that, by signing another list.
 */
#include "limits/access.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "gotthard/config/protected-file.h"

#define ASSEMBLY_MS 60000u /* without a further part */

/* --- the list in force ------------------------------------------------------------------------ */

/* Returns false, with a reason, if another user could replace the files. */
static bool is_own_folder(const char *folder, char ret_why[static GT_PROTECTEDFILE_WHY])
{
    gt_cleanup(gt_close) int fd = -1;
    struct stat status;
    const char *why = NULL;

    if (gt_protectedfile_open_folder(folder, &fd, ret_why) != 0)
        return false;
    if (fstat(fd, &status) < 0 || status.st_uid != geteuid())
        why = "owned by another user";
    else if (status.st_mode & (S_IWGRP | S_IWOTH))
        why = "writable by other users";
    if (why)
        snprintf(ret_why, GT_PROTECTEDFILE_WHY, "%s", why);
    return !why;
}

/* Returns @folder if it can be used, else NULL. */
static const char *usable_folder(const char *folder)
{
    char why[GT_PROTECTEDFILE_WHY];

    if (!folder || is_own_folder(folder, why))
        return folder;
    gt_error("relay.access_list: %s: %s; the access list is kept in memory only", folder, why);
    return NULL;
}

static void access_store_list(struct access *access)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    unsigned n_suppressed;

    if (gt_access_store_save(&access->store, why) != 0 &&
        gt_log_is_allowed(&access->unstored, 1, &n_suppressed))
        gt_error("the access list is in force, but not stored: a restart returns to an older one: "
                 "%s",
                 why);
}

/* By the hash, a repeated list is distinguished from another one with its serial. */
static void access_hash(struct access *access)
{
    const struct gt_span text = gt_access_store_text(&access->store);

    memset(access->hash, 0, sizeof(access->hash));
    if (text.n > 0 && gt_sha256(&text, 1, access->hash) != 0)
        gt_error("cannot hash the access list");
}

static void access_open(struct access *access, const uint8_t *authority, const char *folder)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    int r = gt_access_store_init(&access->store, usable_folder(folder), authority, why);

    access->is_open = r >= 0;
    if (r < 0)
        gt_error_errno(r, "cannot read the access list");
    if (r > 0)
        gt_error("the stored access list is not used, its revocations have no effect until a "
                 "client sends it again, and no older one is accepted: %s",
                 why);
    access_hash(access);
    if (access->store.list)
        gt_info("access list serial=%llu entries=%zu read from relay.access_list",
                (unsigned long long)gt_access_store_serial(&access->store),
                gt_access_list_count(access->store.list));
}

/* Puts a list in force that was so before: in other settings, or in the previous image. */
static void access_keep(struct access *access, struct gt_span text)
{
    char why[GT_ACCESS_STORE_WHY] = "";

    if (!access->is_open || text.n == 0)
        return;
    int r = gt_access_store_take(&access->store, text, why);
    access_hash(access);
    if (r == 0)
        access_store_list(access);
    else if (r != GT_ACCESS_STORE_E_OLD)
        gt_warn("the access list that was in force is not used: %s", r > 0 ? why : strerror(-r));
}

static bool text_equals(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

void access_configure(struct access *access, const uint8_t *authority, const char *folder)
{
    struct access before = *access;
    bool is_same =
        authority && before.is_open && memcmp(before.store.authority, authority, GT_KEY_SIZE) == 0;

    if (is_same && text_equals(before.store.folder, folder))
        return;
    *access = (struct access){0};
    if (authority)
        access_open(access, authority, folder);
    if (is_same)
        access_keep(access, gt_access_store_text(&before.store));
    access_deinit(&before);
}

void access_deinit(struct access *access)
{
    gt_access_assembly_deinit(&access->assembly);
    gt_access_store_deinit(&access->store);
    access->is_open = false;
}

uint64_t access_serial(const struct access *access)
{
    uint64_t floor = access->is_open ? gt_access_store_floor(&access->store) : 0;

    return floor + (floor > 0 && !access->store.list);
}

const struct gt_access_list *access_list(const struct access *access)
{
    return access->store.list;
}

/* --- parts ------------------------------------------------------------------------------------ */

static void log_rejected(struct access *access, const char *client, const char *why)
{
    unsigned n_suppressed;

    if (gt_log_is_allowed(&access->rejected, 1, &n_suppressed))
        gt_warn("client=%s access list rejected, the one in force stays serial=%llu reason=\"%s\" "
                "suppressed=%u",
                client, (unsigned long long)gt_access_store_serial(&access->store), why,
                n_suppressed);
}

/* Clients repeat the list in force, which is no fault. */
static enum access_result access_handle_old(struct access *access, const char *client,
                                            struct gt_span payload)
{
    uint64_t serial = access_serial(access);
    struct gt_access_part part;
    unsigned n_suppressed;

    if (gt_access_part_decode(payload, &part) != 0)
        return ACCESS_OTHER;
    if (part.serial == serial && memcmp(part.hash, access->hash, sizeof(part.hash)) == 0)
        return ACCESS_KNOWN;
    if (gt_log_is_allowed(&access->old, 1, &n_suppressed))
        gt_warn("client=%s access list rejected, %s is known serial=%llu received=%llu "
                "suppressed=%u",
                client, part.serial == serial ? "another one" : "a newer one",
                (unsigned long long)serial, (unsigned long long)part.serial, n_suppressed);
    return ACCESS_OTHER;
}

/* Takes a text whose parts are complete. */
static enum access_result access_take(struct access *access, const char *client,
                                      struct gt_span text)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    int r = gt_access_store_take(&access->store, text, why);

    if (r != 0) {
        log_rejected(access, client,
                     r == GT_ACCESS_STORE_E_BAD   ? why
                     : r == GT_ACCESS_STORE_E_OLD ? "the serial in its text is old"
                                                  : strerror(-r));
        return ACCESS_LIST_REJECTED;
    }
    access_hash(access);
    gt_info("client=%s access list serial=%llu entries=%zu in force", client,
            (unsigned long long)gt_access_store_serial(&access->store),
            gt_access_list_count(access->store.list));
    access_store_list(access);
    return ACCESS_IN_FORCE;
}

enum access_result access_receive(struct access *access, const char *client, struct gt_span part,
                                  uint64_t now_ms)
{
    gt_cleanup(gt_free) uint8_t *text = NULL;
    size_t n = 0;

    if (!access->is_open)
        return ACCESS_UNUSED;
    int r = gt_access_assembly_add(&access->assembly, part, access->store.authority,
                                   gt_access_store_floor(&access->store), &text, &n);
    if (r == 0)
        return access_take(access, client, gt_span(text, n));
    if (r == GT_ACCESS_PART_E_MORE) {
        access->part_at = now_ms;
        return ACCESS_ADDED;
    }
    if (r == GT_ACCESS_PART_E_TWICE)
        return ACCESS_REPEATED;
    if (r == GT_ACCESS_PART_E_OLD)
        return access_handle_old(access, client, part);
    log_rejected(access, client,
                 r > 0 ? "a part is malformed, damaged or of another authority" : strerror(-r));
    return ACCESS_REJECTED;
}

bool access_is_pending(const struct access *access)
{
    return access->assembly.serial > 0 || gt_access_store_is_unsaved(&access->store);
}

void access_tick(struct access *access, uint64_t now_ms)
{
    access_store_list(access);
    if (access->assembly.serial == 0 || now_ms < access->part_at + ASSEMBLY_MS)
        return;
    gt_warn("access list serial=%llu is incomplete, its parts are dropped",
            (unsigned long long)access->assembly.serial);
    gt_access_assembly_deinit(&access->assembly);
}

/* --- snapshot --------------------------------------------------------------------------------- */

static const struct gt_field access_fields[] = {GT_FIELD_LONG_SPAN(struct saved_access, text)};

/* Its signature is verified when it is restored. */
static bool saved_access_is_valid(const void *record)
{
    const struct saved_access *saved = record;

    return saved->text.n > 0 && saved->text.n <= GT_ACCESS_TEXT_MAX;
}

const struct saved_layout access_layout = {SAVED_LAYOUT(ACCESS, access_fields),
                                           .is_valid = saved_access_is_valid};

void access_save(const struct access *access, struct gt_writer *writer)
{
    if (access->store.list)
        saved_layout_write(&access_layout, writer,
                           &(struct saved_access){gt_access_store_text(&access->store)});
}

void access_restore(struct access *access, const struct saved_access *saved)
{
    access_keep(access, saved->text);
}
