/* SPDX-License-Identifier: ISC */
/*
 * Applies the settings at the start and after SIGHUP. A reload is all or nothing: everything that
 * can fail is done before anything is changed.
 */
#include <stdio.h>

#include "gotthard/base/log.h"
#include "relayd.h"
#include "settings-limits.h"
#include "settings-warnings.h"

void relayd_apply_settings(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;
    struct quota_limits quota_limits = settings_quota_limits(s, relayd->quota.n_fds_max);
    struct client_limits client_limits = settings_client_limits(s);

    quota_change(&relayd->quota, &quota_limits);
    relayd->preauths.first_ms = s->handshake_ms;
    relayd->preauths.join_ms = s->join_ms;
    client_host_set_limits(&relayd->clients, &client_limits);
    relayd->registry.limits = settings_registry_limits(s);
    relayd->registry.sessions.limits = settings_session_limits(s);
    const struct admission *admission = &relayd->admission;
    audit_configure(&relayd->audit, s->audit_size, s->n_audit_files);
    access_configure(&relayd->access, admission->has_authority ? admission->authority : NULL,
                     s->access_list);
    relayd_apply_admission(relayd);
}

void relayd_apply_log_level(const struct relayd *relayd)
{
    enum gt_log_level level;

    if (!gt_log_parse_level(relayd->settings->level, &level))
        gt_log_open("gotthard-relayd", level);
}

/* Takes @config and the content of @admission. */
static void relayd_replace_settings(struct relayd *relayd, struct gt_config *config,
                                    struct admission *admission)
{
    gt_config_free(relayd->config);
    relayd->config = config;
    relayd->settings = gt_config_settings(config);
    admission_deinit(&relayd->admission);
    admission_move(admission, &relayd->admission);
}

/* Returns false, with the reason in @ret_error, if @new lacks the list of refused identities or the
 * authority. The absence of a setting never lowers a protection. */
static bool keeps_refused(const struct relayd *relayd, const struct settings *new, char *ret_error)
{
    const struct settings *old = relayd->settings;

    if (old->refused && !new->refused)
        snprintf(ret_error, GT_CONFIG_ERROR_MAX,
                 "relay.refused: missing, but was set; to refuse no identity, set it to a file "
                 "that lists none, or restart the relay");
    else if (old->authority && !new->authority)
        snprintf(ret_error, GT_CONFIG_ERROR_MAX,
                 "trust.authority: missing, but was set; restart the relay to use no access list");
    else
        return true;
    return false;
}

/* Makes the changes that can fail. Returns false, with the reason in @ret_error, if nothing was
 * changed. */
static bool relayd_change(struct relayd *relayd, const struct settings *new, char *ret_error)
{
    if (!keeps_refused(relayd, new, ret_error))
        return false;
    int r = ports_change(&relayd->registry.ports, (uint16_t) new->ports_from,
                         (uint16_t) new->ports_to, new->port_cooldown_ms);
    if (r)
        snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s", strerror(-r));
    return r == 0;
}

/* Loads the settings. Returns false, with the reason in @ret_error, if nothing was changed. */
static bool relayd_reload(struct relayd *relayd, char *ret_error)
{
    struct gt_config *config;
    struct admission admission;
    int r = settings_load(relayd->invocation->args, &config, &admission, ret_error);

    if (r < 0)
        snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s", strerror(-r));
    if (r)
        return false;
    const struct settings *new = gt_config_settings(config);
    if (!relayd_change(relayd, new, ret_error)) {
        gt_config_free(config);
        admission_deinit(&admission);
        return false;
    }
    settings_warnings_log_change(relayd->settings, new);
    relayd_replace_settings(relayd, config, &admission);
    return true;
}

/* The line is written also if the audit begins or ends with it. */
static void relayd_note_reload(struct relayd *relayd)
{
    const struct settings *s = relayd->settings;

    if (relayd->audit.log.n_files == 0)
        audit_configure(&relayd->audit, s->audit_size, s->n_audit_files);
    audit_note(&relayd->audit, GT_AUDIT_RELOAD,
               s->n_audit_files > 0 ? "reloaded" : "reloaded, the audit ends");
}

/* Applies the settings that relayd_reload() has loaded. */
static void relayd_finish_reload(struct relayd *relayd)
{
    relayd_apply_log_level(relayd);
    relayd_note_reload(relayd);
    relayd_apply_settings(relayd);
    struct data_thread_limits limits = settings_data_thread_limits(relayd->settings);
    data_threads_change(&relayd->data_threads, &limits);
    gt_info("configuration reloaded");
    settings_warnings_log(relayd->settings, &relayd->admission);
}

void relayd_on_reload(struct ev_loop *loop, ev_signal *signal, int revents)
{
    struct relayd *relayd = signal->data;
    char error[GT_CONFIG_ERROR_MAX];

    bool is_running = relayd->state == RELAYD_RUNNING;

    if (is_running)
        gt_notify_reloading();
    if (relayd_reload(relayd, error)) {
        relayd_finish_reload(relayd);
    } else {
        audit_note(&relayd->audit, GT_AUDIT_RELOAD, error);
        gt_error("configuration not reloaded, continuing with the old one: %s", error);
    }
    if (is_running)
        relayd_notify_ready(relayd);
}

bool relayd_reload_admission(struct relayd *relayd, char *ret_error)
{
    struct gt_config *config;
    struct admission admission;
    int r = settings_load(relayd->invocation->args, &config, &admission, ret_error);

    if (r) /* the other version may be able to read it */
        return true;
    bool is_kept = keeps_refused(relayd, gt_config_settings(config), ret_error);
    gt_config_free(config);
    if (is_kept) {
        admission_deinit(&relayd->admission);
        admission_move(&admission, &relayd->admission);
        relayd_apply_admission(relayd);
    }
    admission_deinit(&admission);
    return is_kept;
}
