/* SPDX-License-Identifier: ISC */
/* The file of the last good configuration; see the header. */
#include "last-good.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "gotthard/base/log.h"
#include "gotthard/config/config-file.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/crypto/key.h"

#define NAME      "last-good.conf"
#define MARK      "# sha256 "
#define MARK_SIZE (sizeof(MARK) - 1 + 2 * GT_KEY_SIZE + 1) /* with the newline */

struct text {
    char *data; /* owned; secret */
    size_t n;
};

static void text_deinit(struct text *text)
{
    if (text->data)
        gt_wipe(text->data, text->n);
    free(text->data);
    *text = (struct text){0};
}

/* Writes the first of the directories, which systemd separates by colons. Returns false if there is
 * none. */
static bool find_folder(char ret[static PATH_MAX])
{
    const char *folders = getenv("STATE_DIRECTORY");
    size_t n = folders ? strcspn(folders, ":") : 0;

    return n > 0 && snprintf(ret, PATH_MAX, "%.*s", (int)n, folders) < PATH_MAX - 32;
}

/* --- the text and its checksum ---------------------------------------------------------------- */

/* Writes the last line of a file that begins with @text, MARK_SIZE bytes and a NUL. */
static int make_mark(struct gt_span text, char *ret)
{
    uint8_t digest[GT_KEY_SIZE];
    int r = gt_sha256(&text, 1, digest);

    if (r)
        return r;
    memcpy(ret, MARK, sizeof(MARK) - 1);
    gt_text_hex(digest, sizeof(digest), ret + sizeof(MARK) - 1);
    memcpy(ret + MARK_SIZE - 1, "\n", 2);
    return 0;
}

/* The text is written to memory first, where a full disk does not truncate it. */
static int read_memory(int fd, struct text *ret)
{
    off_t n = lseek(fd, 0, SEEK_END);

    if (n < 0)
        return -errno;
    if (n > (off_t)(GT_CONFIG_FILE_MAX - MARK_SIZE))
        return -EFBIG;
    struct text text = {.data = malloc((size_t)n + MARK_SIZE + 1), .n = (size_t)n};
    if (!text.data)
        return -ENOMEM;
    if (pread(fd, text.data, text.n, 0) != (ssize_t)text.n) {
        text_deinit(&text);
        return -EIO;
    }
    *ret = text;
    return 0;
}

static int compose(const struct gt_config *config, struct text *ret)
{
    gt_cleanup(gt_close) int fd = memfd_create("gotthard-last-good", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    gt_config_save(config, fd);
    int r = read_memory(fd, ret);
    if (r == 0)
        r = make_mark(gt_span(ret->data, ret->n), ret->data + ret->n);
    if (r == 0)
        ret->n += MARK_SIZE;
    return r;
}

/* Removes the checksum from @text. Returns false if it is wrong. */
static bool check_mark(struct text *text)
{
    char mark[MARK_SIZE + 1];

    if (text->n < MARK_SIZE)
        return false;
    struct gt_span content = gt_span(text->data, text->n - MARK_SIZE);
    if (make_mark(content, mark) || memcmp(text->data + content.n, mark, MARK_SIZE) != 0)
        return false;
    text->n = content.n;
    return true;
}

/* --- the file --------------------------------------------------------------------------------- */

/* Returns the content, or GT_CONFIG_E_FILE with a reason. A file with a hole of NULs, as a power
 * cut leaves it, is not readable either. */
static int read_file(const char *path, struct text *ret, const char **ret_why)
{
    int r = gt_config_read_file(path, GT_CONFIG_FILE_MAX, true, &ret->data, &ret->n, ret_why);

    return r > 0 ? GT_CONFIG_E_FILE : r;
}

static bool has_content(const char *path, const struct text *wanted)
{
    struct text present = {0};
    const char *why;
    bool is_same = read_file(path, &present, &why) == 0 && present.n == wanted->n &&
                   memcmp(present.data, wanted->data, wanted->n) == 0;

    text_deinit(&present);
    return is_same;
}

static int write_new(const char *path, const struct text *text)
{
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text->data, text->n);
    if (n < 0 || fsync(fd) < 0)
        return -errno;
    return (size_t)n == text->n ? 0 : -ENOSPC;
}

static int sync_folder(const char *folder)
{
    gt_cleanup(gt_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* The former file stays until the new one is complete on disk. */
static int replace(const char *folder, const char *path, const struct text *text)
{
    char new[PATH_MAX];

    snprintf(new, sizeof(new), "%.4000s/" NAME ".new", folder);
    unlink(new); /* of a process that was killed */
    int r = write_new(new, text);
    if (r == 0 && rename(new, path) < 0)
        r = -errno;
    if (r)
        unlink(new);
    return r ? r : sync_folder(folder);
}

/* Makes the file useless where it cannot be removed: in a folder that is not writable. */
static int truncate_file(const char *path)
{
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Removes an older configuration. It may grant more than the one that is in use now. Returns 0 if
 * it is gone, also after a power cut. */
static int forget(const char *folder, const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return sync_folder(folder);
    return truncate_file(path);
}

static int keep(const struct gt_config *config, const char *folder, const char *path)
{
    struct text text = {0};
    int r = compose(config, &text);

    if (r == 0 && !has_content(path, &text)) {
        r = replace(folder, path, &text);
        if (r && forget(folder, path) == 0) /* its blocks are free now */
            r = replace(folder, path, &text);
    }
    text_deinit(&text);
    return r;
}

void last_good_save(const struct gt_config *config)
{
    char folder[PATH_MAX], path[PATH_MAX], why[GT_PROTECTEDFILE_WHY];
    int r = LAST_GOOD_E_NONE;

    if (!find_folder(folder))
        return;
    snprintf(path, sizeof(path), "%.4000s/" NAME, folder);
    if (gt_protectedfile_check_own_folder(folder, why))
        gt_warn("%s: %s: the last good configuration is not kept", folder, why);
    else
        r = keep(config, folder, path);
    if (r < 0)
        gt_warn_errno(r, "%s: the last good configuration is not kept", path);
    if (r == 0)
        return;
    r = forget(folder, path);
    if (r)
        gt_error_errno(
            r,
            "%s: remove it: it is older than the configuration in use, and a start with an error "
            "would use it",
            path);
}

static int fail(char *ret_error, const char *path, const char *why)
{
    snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%.200s is not usable: %.250s", path, why);
    return LAST_GOOD_E_NONE;
}

/* A fault in the text is one of another version of this program. */
static int parse(const struct gt_config_program *program, const char *path, struct text *text,
                 struct gt_config **ret, char *ret_error)
{
    char error[GT_CONFIG_ERROR_MAX];

    if (!check_mark(text))
        return fail(ret_error, path, "wrong checksum");
    int r = gt_config_load_saved(program, path, gt_span(text->data, text->n), ret, error);
    if (r == GT_CONFIG_E_BAD)
        return fail(ret_error, path, error);
    if (r == GT_CONFIG_E_FILE)
        snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s", error);
    return r;
}

int last_good_load(const struct gt_config_program *program, struct gt_config **ret,
                   char ret_error[static GT_CONFIG_ERROR_MAX])
{
    char folder[PATH_MAX], path[PATH_MAX];
    struct text text = {0};
    const char *why;

    *ret_error = 0;
    if (!find_folder(folder))
        return LAST_GOOD_E_NONE;
    snprintf(path, sizeof(path), "%.4000s/" NAME, folder);
    if (gt_protectedfile_is_absent(path))
        return LAST_GOOD_E_NONE;
    int r = read_file(path, &text, &why);
    if (r == 0)
        r = parse(program, path, &text, ret, ret_error);
    else if (r > 0)
        r = fail(ret_error, path, why);
    text_deinit(&text);
    return r;
}
