/* SPDX-License-Identifier: ISC */
/* Bundle files; see the header. */
#include "gotthard/enrolment/bundle-file.h"

#include <stdio.h>

#include "gotthard/config/protected-file.h"

static int fail(const char *path, const char *why, char *ret_why)
{
    snprintf(ret_why, GT_BUNDLEFILE_WHY, "%.160s: %.320s", path, why);
    return GT_BUNDLEFILE_E_BAD;
}

/* Reads at most GT_BUNDLE_MAX + 1 bytes: one more is too many. */
static int read_all(int fd, struct gt_bundlefile *file)
{
    ssize_t r;

    while ((r = read(fd, file->bytes + file->n, GT_BUNDLE_MAX + 1 - file->n)) != 0) {
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errno;
        file->n += (size_t)r;
    }
    return 0;
}

static int read_file(const char *path, struct gt_bundlefile *file, char *ret_why)
{
    char why[GT_PROTECTEDFILE_WHY] = "";
    gt_cleanup(gt_close) int fd = -1;
    struct stat st;

    if (gt_protectedfile_open(path, true, &fd, &st, why) != 0)
        return fail(path, why, ret_why);
    file->bytes = malloc(GT_BUNDLE_MAX + 1);
    if (!file->bytes)
        return -ENOMEM;
    int error = read_all(fd, file);
    return error ? fail(path, strerror(error), ret_why) : 0;
}

static int check(enum gt_token_kind kind, struct gt_bundlefile *file, char *ret_why)
{
    int r = gt_bundle_decode(gt_span(file->bytes, file->n), &file->bundle, ret_why);

    if (r == 0 && file->bundle.kind != kind) {
        snprintf(ret_why, GT_BUNDLE_WHY, "a bundle for a new %s, not for this program",
                 gt_token_kind_text(file->bundle.kind));
        return GT_BUNDLE_E_BAD;
    }
    return r ? r : gt_bundle_check(&file->bundle, true, ret_why);
}

int gt_bundlefile_read(const char *path, enum gt_token_kind kind, struct gt_bundlefile *ret,
                       char ret_why[static GT_BUNDLEFILE_WHY])
{
    struct gt_bundlefile file = {0};
    char why[GT_BUNDLE_WHY] = "";

    int r = read_file(path, &file, ret_why);
    if (r == 0 && check(kind, &file, why) != 0)
        r = fail(path, why, ret_why);
    if (r)
        gt_bundlefile_deinit(&file);
    else
        *ret = file;
    return r;
}

void gt_bundlefile_deinit(struct gt_bundlefile *file)
{
    if (file->bytes)
        gt_wipe(file->bytes, file->n);
    free(file->bytes);
    *file = (struct gt_bundlefile){0};
}
