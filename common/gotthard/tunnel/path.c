/* SPDX-License-Identifier: ISC */
/*
 * Decisions, and the line of text about each. Must never go back to the session's port on its own
 * once it was found to be unreachable: every new data connection would wait for it again.
 */
#include "gotthard/tunnel/path.h"

#include <stdio.h>

#define PATIENCE_S     1.5 /* TCP repeats a lost SYN after one second */
#define PATIENCE_TRIPS 6   /* round trips: connect and JOIN take two */
#define PATIENCE_MAX_S 8.0
#define UNANSWERED_MAX 2 /* handshakes at the session's port before a trial of the main port */

double gt_path_patience(const struct gt_path *path)
{
    return GT_MIN(GT_MAX(PATIENCE_S, PATIENCE_TRIPS * path->rtt_s), PATIENCE_MAX_S);
}

bool gt_path_skips_session_port(const struct gt_path *path)
{
    return path->main_port != 0 && (path->is_main_only || path->n_unanswered >= UNANSWERED_MAX);
}

static void path_notify(const struct gt_path *path, enum gt_path_notice notice, const char *text)
{
    if (path->on_notice)
        path->on_notice(path->userdata, notice, text);
}

static void path_fall_back(struct gt_path *path, uint16_t session_port, const char *why)
{
    char text[2 * GT_PATH_TEXT];

    path->is_main_only = true;
    snprintf(text, sizeof(text),
             "the relay's port %u is not usable from here (%s), data connections use its main port "
             "%u",
             session_port, why, path->main_port);
    path_notify(path, GT_PATH_MAIN_PORT, text);
}

void gt_path_on_success(struct gt_path *path, uint16_t port, uint16_t session_port, const char *why)
{
    bool is_main = port == path->main_port, is_first = !path->is_proven;

    path->is_proven = true;
    if (is_main && !path->is_main_only && why)
        path_fall_back(path, session_port, why);
    else if (is_main && !path->is_main_only && path->n_unanswered > 0)
        path_fall_back(path, path->failed_port, path->why);
    path->n_unanswered = 0;
    if (is_first && path->on_proven)
        path->on_proven(path->userdata);
}

void gt_path_on_failure(struct gt_path *path, uint16_t port, enum gt_path_stage stage,
                        const char *why)
{
    bool is_first = path->why[0] == '\0';
    bool is_unanswered = stage == GT_PATH_JOINED && port != path->main_port;

    path->n_unanswered = is_unanswered ? path->n_unanswered + 1 : 0;
    path->failed_port = port;
    snprintf(path->why, sizeof(path->why), "%s", why);
    if (is_first && !path->is_proven)
        path_notify(path, stage == GT_PATH_RECEIVED ? GT_PATH_NO_PEER_DATA : GT_PATH_NO_DATA,
                    path->why);
}

static void path_set_segment(struct gt_path *path, uint16_t segment)
{
    char text[GT_PATH_TEXT];

    path->segment = segment;
    snprintf(text, sizeof(text),
             "large packets are lost between here and the other side (MTU), data connections use "
             "segments of %u bytes",
             segment);
    path_notify(path, GT_PATH_SMALL_SEGMENTS, text);
}

bool gt_path_on_black_hole(struct gt_path *path, uint16_t segment)
{
    if (segment != path->segment || segment == GT_PATH_SEGMENT_LEAST)
        return false;
    path_set_segment(path, segment == 0 ? GT_PATH_SEGMENT_SMALL : GT_PATH_SEGMENT_LEAST);
    return true;
}

void gt_path_limit_segment(struct gt_path *path, uint16_t segment)
{
    uint16_t limited = GT_MAX(segment, (uint16_t)GT_PATH_SEGMENT_LEAST);

    if (segment != 0 && (path->segment == 0 || limited < path->segment))
        path_set_segment(path, limited);
}
