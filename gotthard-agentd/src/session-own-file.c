/* SPDX-License-Identifier: ISC */
/*
 * The file of one session, in the listener: in the folder of the service manager, or anonymous,
 * or none where neither is permitted.
 */
#include <stdio.h>

#include "gotthard/base/log.h"
#include "session-private.h"

static void session_warn_no_file(const struct session *session, int r)
{
    gt_warn_errno(r,
                  "session=%s device=%s cannot write the session file: this session ends with the "
                  "agent",
                  session->id, session->info.device);
}

/* A session can do without a folder: then it ends with this process. The file is written in full
 * now, so that its place on the disk is certain. */
static bool session_open_file_in(struct session *session, const char *folder)
{
    char path[SESSION_FILE_PATH_MAX];

    int fd = session_file_create(folder, path);
    int r = fd < 0 ? fd : session_file_write(fd, &session->info);
    char *path_copy = r ? NULL : strdup(path);
    if (path_copy) {
        session->session_file = fd;
        session->session_file_path = path_copy;
        return true;
    }
    session_warn_no_file(session, r ? r : -ENOMEM);
    if (fd >= 0)
        unlink(path);
    gt_close(&fd);
    return false;
}

void session_open_file(struct session *session, const char *folder)
{
    if (folder && session_open_file_in(session, folder))
        return;
    session->session_file = session_file_create_anonymous();
    if (session->session_file < 0)
        gt_warn_errno(session->session_file,
                      "session=%s device=%s has no session file: it ends when its grant changes",
                      session->id, session->info.device);
}

int session_write_file(struct session *session)
{
    if (session->session_file < 0)
        return 0;
    int r = session_file_write(session->session_file, &session->info);
    if (session->session_file_path)
        gt_close(&session->session_file);
    return r;
}

int session_rewrite_file(const struct session *session)
{
    if (!session->session_file_path && session->session_file < 0)
        return -ENOENT;
    return session->session_file_path
               ? session_file_write_at(session->session_file_path, &session->info)
               : session_file_write(session->session_file, &session->info);
}

void session_remove_file(struct session *session)
{
    if (session->session_file_path)
        session_file_unlink(session->session_file_path);
    free(gt_steal(&session->session_file_path));
}
