/* SPDX-License-Identifier: ISC */
/* The access list in force and its two files; see the header. */
#include "gotthard/state/access-store.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "gotthard/config/config.h"
#include "gotthard/config/protected-file.h"

#define LIST_NAME   "access.list"
#define SERIAL_NAME "access.serial"
#define SERIAL_MAX  128 /* bytes of the serial's file */

/* --- files ------------------------------------------------------------------------------------ */

static void make_path(const struct gt_access_store *store, const char *name, char *ret)
{
    snprintf(ret, PATH_MAX, "%s/%s", store->folder, name); /* init checked the length */
}

static int fail(const struct gt_access_store *store, const char *name, const char *why,
                char *ret_why)
{
    snprintf(ret_why, GT_ACCESS_STORE_WHY, "%.200s/%s: %.160s", store->folder, name, why);
    return GT_ACCESS_STORE_E_FILE;
}

static int write_all(int fd, struct gt_span text)
{
    for (ssize_t n; text.n; text = gt_span(text.data + n, text.n - (size_t)n)) {
        n = write(fd, text.data, text.n);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static int write_file(const char *path, struct gt_span text)
{
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd < 0 ? -errno : write_all(fd, text);
}

/* The folder's entry must survive a power cut as well. */
static int sync_folder(const char *folder)
{
    gt_cleanup(gt_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int replace_file(const struct gt_access_store *store, const char *name, struct gt_span text,
                        char *ret_why)
{
    char path[PATH_MAX], temporary[PATH_MAX + 8];

    make_path(store, name, path);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    unlink(temporary); /* of a save that was interrupted */
    int r = write_file(temporary, text);
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r == 0)
        r = sync_folder(store->folder);
    if (r == 0)
        return 0;
    unlink(temporary);
    return fail(store, name, strerror(-r), ret_why);
}

/* Returns 0 with a text that the caller frees, empty if there is no file; E_FILE; or -ENOMEM. */
static int read_file(const struct gt_access_store *store, const char *name, size_t max,
                     char **ret_text, size_t *ret_n, char *ret_why)
{
    char path[PATH_MAX];
    const char *why = "";

    make_path(store, name, path);
    if (gt_protectedfile_is_absent(path)) {
        *ret_text = NULL;
        *ret_n = 0;
        return 0;
    }
    int r = gt_config_read_file(path, max, false, ret_text, ret_n, &why);
    return r > 0 ? fail(store, name, why, ret_why) : r;
}

/* --- the serial ------------------------------------------------------------------------------- */

/* Parses "SERIAL AUTHORITY\n"; the serial of another authority counts for nothing. Returns false if
 * it is malformed. */
static bool parse_serial(char *text, const uint8_t *authority, uint64_t *ret)
{
    uint8_t of[GT_KEY_SIZE];
    uint64_t serial;
    const char *why;
    char *blank = strchr(text, ' '), *end = blank ? strchr(blank, '\n') : NULL;

    if (!end || end[1])
        return false;
    *blank = *end = 0;
    if (gt_text_number(text, 1, GT_ACCESS_SERIAL_MAX, &serial) != 0 ||
        gt_authority_parse_public(blank + 1, of, &why) != 0)
        return false;
    *ret = memcmp(of, authority, sizeof(of)) == 0 ? serial : 0;
    return true;
}

static int load_serial(struct gt_access_store *store, char *ret_why)
{
    gt_cleanup(gt_free) char *text = NULL;
    size_t n = 0;
    int r = read_file(store, SERIAL_NAME, SERIAL_MAX, &text, &n, ret_why);

    if (r == 0 && n > 0 && !parse_serial(text, store->authority, &store->serial_min))
        return fail(store, SERIAL_NAME, "damaged", ret_why);
    return r;
}

static int save_serial(const struct gt_access_store *store, char *ret_why)
{
    char authority[GT_AUTHORITY_TEXT_MAX], text[SERIAL_MAX];

    gt_authority_format_public(store->authority, authority);
    snprintf(text, sizeof(text), "%llu %s\n",
             (unsigned long long)gt_access_list_serial(store->list), authority);
    return replace_file(store, SERIAL_NAME, gt_span_text(text), ret_why);
}

/* --- the list --------------------------------------------------------------------------------- */

static void forget_list(struct gt_access_store *store)
{
    store->list = gt_access_list_free(store->list);
    free(gt_steal(&store->text));
    store->n_text = 0;
    store->is_stored = false;
}

static int load_list(struct gt_access_store *store, char *ret_why)
{
    gt_cleanup(gt_free) char *text = NULL;
    char why[GT_ACCESS_WHY];
    size_t n = 0;
    int r = read_file(store, LIST_NAME, GT_ACCESS_TEXT_MAX, &text, &n, ret_why);

    if (r || n == 0)
        return r;
    r = gt_access_list_open(gt_span(text, n), store->authority, &store->list, why);
    if (r)
        return r > 0 ? fail(store, LIST_NAME, why, ret_why) : r;
    store->text = gt_steal(&text);
    store->n_text = n;
    store->is_stored = true;
    return 0;
}

/* An older list than the last one was put in its place, or there is none. */
static int check_serial(struct gt_access_store *store, char *ret_why)
{
    char why[80];

    if (gt_access_store_serial(store) >= store->serial_min)
        return 0;
    snprintf(why, sizeof(why), "serial %llu was in force, and %s",
             (unsigned long long)store->serial_min,
             store->list ? "this list is older" : "there is no list");
    forget_list(store);
    return fail(store, LIST_NAME, why, ret_why);
}

int gt_access_store_init(struct gt_access_store *store, const char *folder,
                         const uint8_t authority[static GT_KEY_SIZE],
                         char ret_why[static GT_ACCESS_STORE_WHY])
{
    *store = (struct gt_access_store){0};
    memcpy(store->authority, authority, GT_KEY_SIZE);
    if (!folder)
        return 0;
    if (strlen(folder) > PATH_MAX - 32)
        return -ENAMETOOLONG;
    store->folder = strdup(folder);
    if (!store->folder)
        return -ENOMEM;
    int serial = load_serial(store, ret_why);
    int r = serial < 0 ? serial : load_list(store, ret_why);
    if (r == 0)
        r = check_serial(store, ret_why);
    if (r < 0)
        gt_access_store_deinit(store);
    return r ? r : serial;
}

void gt_access_store_deinit(struct gt_access_store *store)
{
    forget_list(store);
    free(store->folder);
    *store = (struct gt_access_store){0};
}

uint64_t gt_access_store_serial(const struct gt_access_store *store)
{
    return store->list ? gt_access_list_serial(store->list) : 0;
}

struct gt_span gt_access_store_text(const struct gt_access_store *store)
{
    return gt_span(store->text, store->n_text);
}

bool gt_access_store_is_unsaved(const struct gt_access_store *store)
{
    return store->list && store->folder && !store->is_stored;
}

/* Without the list, the same one is accepted once more. */
uint64_t gt_access_store_floor(const struct gt_access_store *store)
{
    if (store->list)
        return gt_access_list_serial(store->list);
    return store->serial_min ? store->serial_min - 1 : 0;
}

int gt_access_store_take(struct gt_access_store *store, struct gt_span text,
                         char ret_why[static GT_ACCESS_STORE_WHY])
{
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY];
    int r = gt_access_list_open(text, store->authority, &list, why);

    if (r > 0) {
        snprintf(ret_why, GT_ACCESS_STORE_WHY, "%s", why);
        return GT_ACCESS_STORE_E_BAD;
    }
    if (r == 0 && gt_access_list_serial(list) <= gt_access_store_floor(store))
        r = GT_ACCESS_STORE_E_OLD;
    char *copy = r == 0 ? malloc(text.n) : NULL;
    if (r || !copy) {
        gt_access_list_free(list);
        return r ? r : -ENOMEM;
    }
    memcpy(copy, text.data, text.n);
    forget_list(store);
    store->text = copy;
    store->n_text = text.n;
    store->list = list;
    return 0;
}

int gt_access_store_save(struct gt_access_store *store, char ret_why[static GT_ACCESS_STORE_WHY])
{
    if (!gt_access_store_is_unsaved(store))
        return 0;
    int r = save_serial(store, ret_why);
    if (r == 0)
        r = replace_file(store, LIST_NAME, gt_span(store->text, store->n_text), ret_why);
    if (r == 0) {
        store->is_stored = true;
        store->serial_min = gt_access_list_serial(store->list);
    }
    return r;
}
