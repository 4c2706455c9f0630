/* SPDX-License-Identifier: ISC */
/* See the header. The private key must never pass through a format function. */
#include "authority.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "access-text.h"
#include "gotthard/config/config.h"
#include "new-file.h"

#define KEY_FILE_MAX 256 /* bytes */

/* --- files ------------------------------------------------------------------------------------ */

static int fail_file(const char *path, const char *why, struct failure *ret_failure)
{
    return failure_set(ret_failure, FAILURE_AUTHORITY, NULL, "%s: %s", path, why);
}

/* --- the key ---------------------------------------------------------------------------------- */

static int find_key(const struct settings *settings, struct failure *ret_failure)
{
    if (settings->trust_authority_key)
        return 0;
    return failure_set(ret_failure, FAILURE_AUTHORITY,
                       "run it on the machine that keeps the authority's key, and set "
                       "{+trust.authority_key} to its file; gotthard-cli access init makes it",
                       "trust.authority_key is not set");
}

int authority_create(const struct settings *settings, char ret_public[static GT_AUTHORITY_TEXT_MAX],
                     struct failure *ret_failure)
{
    const char *path = settings->trust_authority_key;
    char text[GT_AUTHORITY_TEXT_MAX + 1];
    uint8_t key[GT_KEY_SIZE], public_key[GT_KEY_SIZE];

    if (find_key(settings, ret_failure) != 0)
        return 1;
    if (gt_random(key, sizeof(key)) != 0 || gt_ed25519_public(key, public_key) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot make a key");
    gt_authority_format_private(key, text);
    size_t n = strlen(text);
    text[n] = '\n';
    int r = new_file_write(path, 0600, gt_span(text, n + 1));
    gt_wipe(text, sizeof(text));
    gt_wipe(key, sizeof(key));
    if (r == 0)
        r = new_file_sync_folder(path);
    if (r == -EEXIST)
        return failure_set(ret_failure, FAILURE_AUTHORITY,
                           "keep it: it signs the list of your fleet. Another fleet needs another "
                           "key, set {trust.authority_key} to a new path",
                           "%s exists, and is never overwritten", path);
    if (r != 0)
        return fail_file(path, strerror(-r), ret_failure);
    gt_authority_format_public(public_key, ret_public);
    return 0;
}

static int load_key(const char *path, struct authority *ret, struct failure *ret_failure)
{
    char *text = NULL;
    const char *why = "cannot be read";
    size_t n = 0;
    int r = gt_config_read_file(path, KEY_FILE_MAX, true, &text, &n, &why);

    if (r != 0)
        return fail_file(path, why, ret_failure);
    text[strcspn(text, "\r\n")] = 0;
    r = gt_authority_parse_private(text, ret->key, &why);
    gt_wipe(text, n);
    free(text);
    if (r != 0)
        return fail_file(path, why, ret_failure);
    if (gt_ed25519_public(ret->key, ret->public_key) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot use the authority's key");
    return 0;
}

/* Two commands that change the list at once would sign two lists with one serial. */
static int lock_key(const char *path, struct authority *ret, struct failure *ret_failure)
{
    ret->lock = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (ret->lock >= 0 && flock(ret->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return failure_set(ret_failure, FAILURE_AUTHORITY, "wait until it has ended", "%s: %s", path,
                       ret->lock >= 0 && errno == EWOULDBLOCK
                           ? "another command is changing the access list"
                           : strerror(errno));
}

/* --- the list --------------------------------------------------------------------------------- */

/* Takes @text, which is the callee's from now on. */
static int open_list(struct authority *authority, char *text, size_t n, const char *what,
                     struct failure *ret_failure)
{
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY] = "";
    int r = gt_access_list_open(gt_span(text, n), authority->public_key, &list, why);

    if (r != 0) {
        free(text);
        return r < 0 ? failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r))
                     : fail_file(what, why, ret_failure);
    }
    gt_access_list_free(authority->list);
    free(authority->text);
    authority->list = list;
    authority->text = text;
    authority->n_text = n;
    return 0;
}

static int load_list(struct authority *authority, struct failure *ret_failure)
{
    char *text = NULL;
    const char *why = "cannot be read";
    size_t n = 0;

    if (access(authority->list_path, F_OK) != 0 && errno == ENOENT)
        return 0;
    if (gt_config_read_file(authority->list_path, GT_ACCESS_TEXT_MAX, false, &text, &n, &why) != 0)
        return fail_file(authority->list_path, why, ret_failure);
    return open_list(authority, text, n, authority->list_path, ret_failure);
}

int authority_load(const struct settings *settings, bool is_locked, struct authority *ret,
                   struct failure *ret_failure)
{
    const char *path = settings->trust_authority_key;

    *ret = (struct authority){.lock = -1};
    if (find_key(settings, ret_failure) != 0 || load_key(path, ret, ret_failure) != 0 ||
        (is_locked && lock_key(path, ret, ret_failure) != 0))
        return 1;
    if (asprintf(&ret->list_path, "%s.list", path) < 0) {
        ret->list_path = NULL;
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    }
    return load_list(ret, ret_failure);
}

/* Devices never let their time go back: a list that seems to be issued before the present one would
 * be too old there. */
static time_t issue_time(const struct authority *authority)
{
    time_t now = time(NULL);

    return authority->list ? GT_MAX(now, gt_access_list_issued(authority->list)) : now;
}

int authority_sign(struct authority *authority, const char *body, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *unsigned_text =
        access_text_with_head(body, authority_serial(authority) + 1, issue_time(authority));
    char *text = NULL, why[GT_ACCESS_WHY] = "";
    size_t n = 0;

    if (!unsigned_text)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    int r = gt_access_list_sign(gt_span_text(unsigned_text), authority->key, &text, &n, why);
    if (r < 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    if (r > 0)
        return failure_set(ret_failure, FAILURE_AUTHORITY,
                           "lines are counted with the two lines of the head, serial and issued",
                           "the list would not be valid: %s", why);
    return open_list(authority, text, n, "the signed list", ret_failure);
}

int authority_take(struct authority *authority, struct gt_span text, struct failure *ret_failure)
{
    char *copy = malloc(text.n + 1);

    if (!copy)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    memcpy(copy, text.data, text.n);
    copy[text.n] = 0;
    return open_list(authority, copy, text.n, "the list at the broker", ret_failure);
}

int authority_store(const struct authority *authority, struct failure *ret_failure)
{
    const char *path = authority->list_path;
    int r = new_file_replace(path, 0600, gt_span(authority->text, authority->n_text));

    return r == 0 ? 0 : fail_file(path, strerror(-r), ret_failure);
}

uint64_t authority_serial(const struct authority *authority)
{
    return authority->list ? gt_access_list_serial(authority->list) : 0;
}

void authority_deinit(struct authority *authority)
{
    gt_wipe(authority->key, sizeof(authority->key));
    if (authority->lock >= 0)
        close(gt_steal_fd(&authority->lock));
    free(gt_steal(&authority->list_path));
    free(gt_steal(&authority->text));
    authority->list = gt_access_list_free(authority->list);
}
