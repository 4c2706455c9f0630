/* SPDX-License-Identifier: ISC */
/*
 * `audit DEVICE`, `audit --file PATH`: prints the audit of a device, or of a relay, and verifies
 * the chain of its lines. The exit status is 76 if it is broken.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "audit-download.h"
#include "audit-view.h"
#include "command-line.h"
#include "gotthard/state/audit-files.h"

/* The audit of a folder, or one file of it. */
static int open_files(const char *path, struct gt_audit_files *ret, struct failure *ret_failure)
{
    struct stat status;
    bool is_folder = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    int r = is_folder ? gt_audit_files_open(path, ret) : gt_audit_files_open_one(path, ret);

    if (r)
        return failure_set(ret_failure, FAILURE_AUDIT_UNREADABLE, NULL, "%s: %s", path,
                           strerror(-r));
    return 0;
}

static int view_files(struct audit_view *view, struct gt_audit_files *files,
                      struct failure *ret_failure)
{
    uint8_t bytes[4096];
    ssize_t n;

    while ((n = gt_audit_files_read(files, bytes, sizeof(bytes))) > 0) {
        int r = audit_view_feed(view, gt_span(bytes, (size_t)n));

        if (r)
            return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
    }
    if (n < 0)
        return failure_set(ret_failure, FAILURE_AUDIT_UNREADABLE, NULL, "%s: %s", view->name,
                           strerror((int)-n));
    return audit_view_end(view, ret_failure);
}

/* Returns the exit status of a wrong command line, or 0. */
static int check_arguments(struct context *context, char *ret_since,
                           uint8_t ret_known[static GT_KEY_SIZE])
{
    const char *const *given = context->line->given;
    const char *since = given[OPTION_SINCE];

    if (context->n_arguments == 0 && !given[OPTION_FILE])
        return command_misused(context, "give a device or --file");
    if (since && !audit_view_parse_since(since, time(NULL), ret_since))
        return command_misused(context, "--since: must be a time as 2h or 2026-11-30T14:05:00Z");
    if (given[OPTION_KNOWN] && gt_text_unhex(given[OPTION_KNOWN], ret_known, GT_KEY_SIZE) != 0)
        return command_misused(context, "--known: must be a SHA-256 of 64 hex digits");
    return context->n_arguments > 0 && !command_cut_device(context, 0) ? GT_EXIT_USAGE : 0;
}

/* Returns as audit_download(). */
static int read_device(struct context *context, const char *device, struct gt_audit_files *ret,
                       struct failure *ret_failure)
{
    int fd;
    int r = audit_download(context, device, &fd, ret_failure);

    if (r == 0)
        gt_audit_files_use(fd, ret);
    return r;
}

int cmd_audit(struct context *context)
{
    const char *const *given = context->line->given;
    char since[sizeof("2026-11-30T14:05:00.123Z")] = "";
    struct gt_audit_files files = {.n = 0};
    struct audit_view view;
    struct failure failure;
    uint8_t known[GT_KEY_SIZE];
    int code = check_arguments(context, since, known);

    if (code)
        return code;
    const char *path = given[OPTION_FILE],
               *name = context->n_arguments > 0 ? context->arguments[0] : path;
    audit_view_init(&view, &context->print, name, since, given[OPTION_VERIFY] != NULL);
    if (given[OPTION_KNOWN])
        audit_view_require(&view, known);
    int r =
        path ? open_files(path, &files, &failure) : read_device(context, name, &files, &failure);
    if (r == 0)
        r = view_files(&view, &files, &failure);
    gt_audit_files_close(&files);
    if (r == AUDIT_DOWNLOAD_E_INTERRUPTED)
        return GT_EXIT_INTERRUPTED;
    return r == 0 ? GT_EXIT_SUCCESS : print_failure(&context->print, &failure);
}
