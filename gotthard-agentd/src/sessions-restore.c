/* SPDX-License-Identifier: ISC */
/*
 * Restoring the sessions of an earlier listener from the folders of the service manager; see
 * sessions.h. The state directory survives a reboot, the runtime directory a restart of the agent.
 */
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "sessions-private.h"
#include "setup-summary.h"

/* The sessions of one folder. */
struct restore {
    struct sessions *sessions;
    bool is_trusted; /* the folder */
};

/* Its grant is rechecked with those of all sessions, after the scan. */
static void restore_on_alive(void *userdata, struct session_info *info, int pidfd, const char *path)
{
    const struct restore *restore = userdata;
    struct sessions *sessions = restore->sessions;
    struct session *session;

    int r = session_restore(sessions->loop, info, pidfd, path, sessions_on_session_end,
                            audit_is_on(sessions->audit) ? sessions_on_worker_event : NULL,
                            sessions, &session);
    if (r) {
        gt_warn_errno(r, "%s cannot be restored", path);
        return;
    }
    sessions_add(sessions, session);
    gt_info("session=%s device=%s operator=%s restored pid=%d", session->id, session->info.device,
            session->info.operator_, (int)session->info.pid);
    sessions_audit(sessions, session, GT_AUDIT_RESTORED, NULL);
    if (!restore->is_trusted)
        session_withdraw(session, "other users can write the folder of its file");
}

/* The listener and its workers were killed together, or the device lost its power. */
static void restore_on_killed(void *userdata, struct session_info *info, const char *path)
{
    const struct restore *restore = userdata;
    struct sessions *sessions = restore->sessions;
    char id[9];

    gt_text_hex(info->rid, 4, id);
    if (restore->is_trusted) {
        gt_info("session=%s device=%s operator=%s worker was killed; notifying the operator", id,
                info->device, info->operator_);
        audit_write(sessions->audit,
                    &(struct gt_audit_event){
                        .kind = GT_AUDIT_CLOSED,
                        .session = id,
                        .operator_ = info->operator_,
                        .key = info->is_signed ? info->fingerprint : NULL,
                        .purpose = info->purpose,
                        .reason = "its process was killed while no agent was running",
                    });
        late_byes_send(&sessions->late_byes, sessions->setup, info, GT_CODE_NEW_PROCESS, path);
    }
    session_info_deinit(info);
}

/* The first folder that is trusted. */
static void use_folder(struct sessions *sessions, const char *folder)
{
    sessions->folder = strdup(folder);
    if (!sessions->audit || !sessions->folder)
        return;
    audit_open(sessions->audit, sessions->folder, sessions->setup->settings);
    audit_note(sessions->audit, GT_AUDIT_START, setup_policy_name(sessions->setup));
}

/* A folder that is not trusted is read only to end sessions in it: each is proven by its locks. */
static void restore_folder(struct sessions *sessions, const char *variable, const char *folder)
{
    static const struct session_file_events events = {
        .on_alive = restore_on_alive,
        .on_killed = restore_on_killed,
    };
    char why[GT_PROTECTEDFILE_WHY];
    struct restore restore = {.sessions = sessions,
                              .is_trusted = gt_protectedfile_check_own_folder(folder, why) == 0};

    if (!restore.is_trusted)
        gt_error("%s (%s) is not used: %s; a restart of the agent will end all sessions", folder,
                 variable, why);
    else if (!sessions->folder)
        use_folder(sessions, folder);
    (void)session_file_scan(folder, &events, &restore);
}

/* systemd separates several directories by colons; see systemd.exec(5). The first is used. */
static void restore_from_variable(struct sessions *sessions, const char *variable)
{
    const char *folders = getenv(variable);

    if (!folders || !*folders)
        return;
    gt_cleanup(gt_free) char *first = strndup(folders, strcspn(folders, ":"));
    if (first)
        restore_folder(sessions, variable, first);
}

int sessions_open(struct sessions *sessions, unsigned n_passed, bool is_kept)
{
    restore_from_variable(sessions, "STATE_DIRECTORY");
    restore_from_variable(sessions, "RUNTIME_DIRECTORY");
    if (sessions->audit && !sessions->folder)
        audit_open(sessions->audit, NULL, sessions->setup->settings);
    expiry_clock_init(&sessions->clock, sessions->folder, time(NULL), gt_clock_ms());
    return lifelines_open(&sessions->lifelines, n_passed, is_kept && sessions->folder);
}
