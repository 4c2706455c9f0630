/* SPDX-License-Identifier: ISC */
/*
 * `audit --file PATH`: prints the audit of a device or a relay, and verifies the chain of its
 * lines. The exit status is 76 if it is broken.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

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

int cmd_audit(struct context *context)
{
    const char *const *given = context->line->given;
    const char *path = given[OPTION_FILE], *since = given[OPTION_SINCE];
    char from[sizeof("2026-11-30T14:05:00.123Z")] = "";
    struct gt_audit_files files = {.n = 0};
    struct audit_view view;
    struct failure failure;

    if (!path)
        return command_misused(context, "--file is missing");
    if (since && !audit_view_parse_since(since, time(NULL), from))
        return command_misused(context, "--since: must be a time as 2h or 2026-11-30T14:05:00Z");
    audit_view_init(&view, &context->print, path, from, given[OPTION_VERIFY] != NULL);
    int r = open_files(path, &files, &failure);
    if (r == 0)
        r = view_files(&view, &files, &failure);
    gt_audit_files_close(&files);
    return r == 0 ? GT_EXIT_SUCCESS : print_failure(&context->print, &failure);
}
