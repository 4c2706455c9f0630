/* SPDX-License-Identifier: ISC */
/*
 * The two files of the state folder with any content: up to the first NUL that of access.serial,
 * behind it that of access.list, signed if it can be. The store starts or states a reason, and has
 * no list with a smaller serial than the file's.
 */
#include "gotthard/state/access-store.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t key[GT_KEY_SIZE] = "fuzz";

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void write_file(const char *folder, const char *name, struct gt_span text)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    gt_cleanup(gt_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && write(fd, text.data, text.n) == (ssize_t)text.n);
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"access.list", "access.serial"};
    char path[PATH_MAX];

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void start(const char *folder)
{
    char why[GT_ACCESS_STORE_WHY] = "";
    uint8_t authority[GT_KEY_SIZE];
    struct gt_access_store store;

    must(gt_ed25519_public(key, authority) == 0);
    int r = gt_access_store_init(&store, folder, authority, why);
    must(r == 0 || (r == GT_ACCESS_STORE_E_FILE && *why));
    must(!store.list || gt_access_store_serial(&store) >= store.serial_min);
    gt_access_store_deinit(&store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char folder[] = "/tmp/gotthard-fuzz-XXXXXX", why[GT_ACCESS_WHY], *whole = NULL;
    size_t n_serial = strnlen((const char *)data, n), n_whole = 0;
    struct gt_span list = gt_span(data + GT_MIN(n_serial + 1, n), n - GT_MIN(n_serial + 1, n));

    must(mkdtemp(folder));
    if (gt_access_list_sign(list, key, &whole, &n_whole, why) == 0)
        list = gt_span(whole, n_whole);
    write_file(folder, "access.serial", gt_span(data, n_serial));
    write_file(folder, "access.list", list);
    start(folder);
    remove_folder(folder);
    free(whole);
    return 0;
}
