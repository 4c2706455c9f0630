/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "ca.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "gotthard/config/config.h"
#include "new-file.h"

#define ROOT_NAME    "Gotthard authority" /* as make-certificate-example has it */
#define ROOT_DAYS    7300
#define PEM_MAX      (64 * 1024)
#define LOCK_TRIES   100
#define LOCK_STEP_US 20000

static int fail_file(const char *path, const char *why, struct failure *ret_failure)
{
    return failure_set(ret_failure, FAILURE_CA, NULL, "%s: %s", path, why);
}

static int find_folder(const struct settings *settings, struct failure *ret_failure)
{
    if (settings->enroll_ca)
        return 0;
    return failure_set(ret_failure, FAILURE_CA,
                       "set {+enroll.ca} to the folder of the certificate authority, or "
                       "{+enroll.sign_command} to a command that signs",
                       "enroll.ca is not set");
}

static int path_of(const char *folder, const char *name, char ret[static PATH_MAX],
                   struct failure *ret_failure)
{
    if ((size_t)snprintf(ret, PATH_MAX, "%s/%s", folder, name) < PATH_MAX)
        return 0;
    return fail_file(folder, "the path is too long", ret_failure);
}

/* --- creation --------------------------------------------------------------------------------- */

static int write_new(const char *path, mode_t mode, const char *text, struct failure *ret_failure)
{
    int r = new_file_write(path, mode, gt_span_text(text));

    if (r == 0)
        r = new_file_sync_folder(path);
    if (r == -EEXIST)
        return failure_set(ret_failure, FAILURE_CA,
                           "keep it: it has issued the certificates of your fleet. Another "
                           "authority needs another folder, set {enroll.ca} to it",
                           "%s exists, and is never overwritten", path);
    return r == 0 ? 0 : fail_file(path, strerror(-r), ret_failure);
}

/* The key comes last: with it the authority is complete. */
static int write_files(const char *folder, const char *key, const char *certificate,
                       struct failure *ret_failure)
{
    char key_path[PATH_MAX], certificate_path[PATH_MAX];

    if (path_of(folder, "ca.key", key_path, ret_failure) != 0 ||
        path_of(folder, "ca.crt", certificate_path, ret_failure) != 0)
        return 1;
    if (access(key_path, F_OK) == 0)
        return write_new(key_path, 0600, key, ret_failure); /* fails */
    if (write_new(certificate_path, 0644, certificate, ret_failure) != 0)
        return 1;
    if (write_new(key_path, 0600, key, ret_failure) == 0)
        return 0;
    unlink(certificate_path);
    return 1;
}

int ca_create(const struct settings *settings, struct failure *ret_failure)
{
    char *key = NULL, *certificate = NULL;

    if (find_folder(settings, ret_failure) != 0)
        return 1;
    if (mkdir(settings->enroll_ca, 0700) < 0 && errno != EEXIST)
        return fail_file(settings->enroll_ca, strerror(errno), ret_failure);
    int r = gt_issuer_create(ROOT_NAME, time(NULL), ROOT_DAYS, &key, &certificate);
    if (r != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot make a key");
    r = write_files(settings->enroll_ca, key, certificate, ret_failure);
    gt_wipe(key, strlen(key));
    free(key);
    free(certificate);
    return r;
}

/* --- loading ---------------------------------------------------------------------------------- */

static int read_file(const char *folder, const char *name, bool is_secret, char **ret,
                     size_t *ret_n, struct failure *ret_failure)
{
    char path[PATH_MAX];
    const char *why = "cannot be read";

    if (path_of(folder, name, path, ret_failure) != 0)
        return 1;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return failure_set(ret_failure, FAILURE_CA,
                           "make the authority: gotthard-cli ca init; or set {enroll.ca} to the "
                           "folder that has it",
                           "%s does not exist", path);
    if (gt_config_read_file(path, PEM_MAX, is_secret, ret, ret_n, &why) == 0)
        return 0;
    return fail_file(path, why, ret_failure);
}

int ca_load(const struct settings *settings, struct ca *ret, struct failure *ret_failure)
{
    char why[GT_ISSUER_WHY] = "";
    char *key = NULL;
    gt_cleanup(gt_free) char *certificate = NULL;
    size_t n_key = 0, n_certificate = 0;

    *ret = (struct ca){.folder = settings->enroll_ca, .validity_ms = settings->enroll_validity_ms};
    if (find_folder(settings, ret_failure) != 0)
        return 1;
    int r = read_file(ret->folder, "ca.crt", false, &certificate, &n_certificate, ret_failure);
    if (r == 0)
        r = read_file(ret->folder, "ca.key", true, &key, &n_key, ret_failure);
    if (r == 0) {
        r = gt_issuer_load(gt_span(certificate, n_certificate), gt_span(key, n_key), &ret->issuer,
                           why);
        if (r != 0)
            r = fail_file(ret->folder, r > 0 ? why : strerror(-r), ret_failure);
    }
    if (key)
        gt_wipe(key, n_key);
    free(key);
    return r;
}

void ca_deinit(struct ca *ca)
{
    ca->issuer = gt_issuer_free(ca->issuer);
}

/* --- the record ------------------------------------------------------------------------------- */

/* The lock of make-certificate-example, which holds it for a moment. Returns a descriptor or a
 * negative errno. */
static int lock_folder(const char *folder)
{
    gt_cleanup(gt_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int i = 0; fd >= 0; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return gt_steal_fd(&fd);
        if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_TRIES)
            break;
        usleep(LOCK_STEP_US);
    }
    return -errno;
}

/* A line of the database of openssl-ca(1): state, end, time of revocation, serial, file, subject.
 */
static void format_line(const struct gt_issued *issued, const char *subject, char *ret, size_t cap)
{
    char end[24] = "";
    struct tm tm = {0};
    bool is_short = gmtime_r(&issued->not_after, &tm) && tm.tm_year < 150; /* UTCTime */

    (void)!strftime(end, sizeof(end), "%Y%m%d%H%M%SZ", &tm);
    snprintf(ret, cap, "V\t%s\t\t%s\tunknown\t/CN=%s\n", end + (is_short ? 2 : 0), issued->serial,
             subject);
}

static int append(const char *path, const char *line)
{
    gt_cleanup(gt_close) int fd =
        open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t n = strlen(line);

    if (fd < 0)
        return -errno;
    ssize_t n_written = write(fd, line, n);
    if (n_written != (ssize_t)n)
        return n_written < 0 ? -errno : -EIO;
    return fsync(fd) == 0 ? 0 : -errno;
}

/* The copy comes first: what the index lists can be revoked. */
static int record(const struct ca *ca, const struct gt_issued *issued, const char *subject,
                  struct failure *ret_failure)
{
    char name[GT_CERTIFICATE_SERIAL_TEXT + 16], path[PATH_MAX], line[256];
    gt_cleanup(gt_close) int lock = lock_folder(ca->folder);

    if (lock < 0)
        return fail_file(ca->folder, strerror(-lock), ret_failure);
    if (path_of(ca->folder, "ca.issued", path, ret_failure) != 0)
        return 1;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail_file(path, strerror(errno), ret_failure);
    snprintf(name, sizeof(name), "ca.issued/%s.pem", issued->serial);
    if (path_of(ca->folder, name, path, ret_failure) != 0)
        return 1;
    int r = new_file_write(path, 0644, gt_span_text(issued->pem));
    if (r == 0 && path_of(ca->folder, "ca.index", path, ret_failure) != 0)
        return 1;
    if (r == 0) {
        format_line(issued, subject, line, sizeof(line));
        r = append(path, line);
    }
    return r == 0 ? 0 : fail_file(path, strerror(-r), ret_failure);
}

int ca_issue(const struct ca *ca, bool is_operator, const char *name, struct gt_span request,
             char **ret, struct failure *ret_failure)
{
    char subject[sizeof("operator ") + GT_NAME_MAX], why[GT_ISSUER_WHY] = "";
    struct gt_issued issued = {0};
    time_t now = time(NULL);

    snprintf(subject, sizeof(subject), "%s%s", is_operator ? "operator " : "", name);
    int r = gt_issuer_issue(ca->issuer, request, subject, now,
                            now + (time_t)(ca->validity_ms / 1000), &issued, why);
    if (r != 0)
        return fail_file(ca->folder, r > 0 ? why : strerror(-r), ret_failure);
    if (record(ca, &issued, subject, ret_failure) == 0) {
        *ret = issued.pem;
        return 0;
    }
    free(issued.pem);
    return 1;
}
