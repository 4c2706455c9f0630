/* SPDX-License-Identifier: ISC */
/* Opening the audit, and its events of the device as a whole; see the header. */
#include "audit.h"

void audit_open(struct audit *audit, const char *folder, const struct settings *settings)
{
    *audit = (struct audit){0};
    int r = gt_audit_log_init(&audit->log, folder, AUDIT_PER_S, AUDIT_BURST);
    if (r)
        gt_error_errno(r, "cannot open the audit");
    if (!folder && settings->audit_files > 0)
        gt_info("device=%s no audit is written: there is no state directory",
                settings->device_name);
    audit_configure(audit, settings);
}

void audit_configure(struct audit *audit, const struct settings *settings)
{
    gt_audit_log_configure(&audit->log, settings->audit_size, (unsigned)settings->audit_files);
}

void audit_close(struct audit *audit)
{
    gt_audit_log_deinit(&audit->log);
}

bool audit_is_on(const struct audit *audit)
{
    return audit && gt_audit_log_is_on(&audit->log);
}

void audit_write(struct audit *audit, const struct gt_audit_event *event)
{
    struct gt_audit_event written = *event;

    if (!audit_is_on(audit))
        return;
    written.serial = audit->serial;
    gt_audit_log_write(&audit->log, &written);
}

void audit_note(struct audit *audit, enum gt_audit_kind kind, const char *reason)
{
    audit_write(audit, &(struct gt_audit_event){
                           .kind = kind, .software = GOTTHARD_VERSION, .reason = reason});
}
