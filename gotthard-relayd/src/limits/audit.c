/* SPDX-License-Identifier: ISC */
/* The folder of the audit, and its events of the relay as a whole; see the header. */
#include "limits/audit.h"

#include <string.h>

#include "gotthard/config/protected-file.h"

/* systemd separates several directories by colons; see systemd.exec(5). Returns a text to free, or
 * NULL. */
static char *state_folder(void)
{
    const char *folders = getenv("STATE_DIRECTORY");
    char why[GT_PROTECTEDFILE_WHY];

    if (!folders || !*folders) {
        gt_info("no audit is written: there is no state directory");
        return NULL;
    }
    char *folder = strndup(folders, strcspn(folders, ":"));
    if (!folder || gt_protectedfile_check_own_folder(folder, why) == 0)
        return folder;
    gt_error("%s (STATE_DIRECTORY) is not used, no audit is written: %s", folder, why);
    free(folder);
    return NULL;
}

void audit_open(struct audit *audit)
{
    gt_cleanup(gt_free) char *folder = state_folder();

    *audit = (struct audit){0};
    int r = gt_audit_log_init(&audit->log, folder, AUDIT_PER_S, AUDIT_BURST);
    if (r)
        gt_error_errno(r, "cannot open the audit");
}

void audit_configure(struct audit *audit, uint64_t size, uint64_t n_files)
{
    gt_audit_log_configure(&audit->log, size, (unsigned)n_files);
}

void audit_close(struct audit *audit)
{
    gt_audit_log_deinit(&audit->log);
}

void audit_write(struct audit *audit, const struct gt_audit_event *event)
{
    struct gt_audit_event written = *event;

    if (!audit)
        return;
    written.serial = audit->serial;
    gt_audit_log_write(&audit->log, &written);
}

void audit_note(struct audit *audit, enum gt_audit_kind kind, const char *reason)
{
    audit_write(audit, &(struct gt_audit_event){
                           .kind = kind, .software = GOTTHARD_VERSION, .reason = reason});
}
