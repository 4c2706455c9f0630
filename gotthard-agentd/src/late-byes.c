/* SPDX-License-Identifier: ISC */
/* The list of late BYEs, and the check of the relay; see the header. */
#include "late-byes.h"

#include "gotthard/base/log.h"
#include "gotthard/config/config-proxy.h"
#include "session-file.h"

void late_byes_init(struct late_byes *late_byes, struct ev_loop *loop,
                    void (*on_change)(void *userdata), void *userdata)
{
    *late_byes = (struct late_byes){.loop = loop, .on_change = on_change, .userdata = userdata};
    gt_list_init(&late_byes->list);
}

void late_byes_deinit(struct late_byes *late_byes)
{
    gt_list_for_each_safe (at, next, &late_byes->list)
        late_bye_free(gt_list_entry(at, struct late_bye, link));
}

static void late_byes_on_end(void *userdata, struct late_bye *late_bye)
{
    struct late_byes *late_byes = userdata;

    late_bye_free(late_bye);
    late_byes->on_change(late_byes->userdata);
}

static bool is_configured(const struct policy *policy, const struct target *relay)
{
    const struct target *configured = targets_find(&policy->relays, relay->name);

    return configured && target_equals(configured, relay);
}

/* Without a late BYE the operator would wait for the resume window, as for a device that lost its
 * network. */
static int late_byes_add(struct late_byes *late_byes, const struct setup *setup,
                         const struct late_bye_settings *settings)
{
    struct late_bye_settings complete = *settings;
    uint8_t client_key[GT_KEY_SIZE];
    struct late_bye *late_bye;
    struct gt_proxy proxy;

    if (gt_config_proxy(&setup->settings->server_proxy, setup->settings->server_proxy_password,
                        settings->relay->address.host, &proxy))
        complete.proxy = &proxy;
    int r = setup_client_key(setup, settings->device, client_key);
    complete.client_key = client_key;
    if (r == 0)
        r = late_bye_new(late_byes->loop, &complete, late_byes_on_end, late_byes, &late_bye);
    gt_wipe(client_key, sizeof(client_key));
    gt_wipe(&proxy, sizeof(proxy));
    if (r == 0)
        gt_list_append(&late_byes->list, &late_bye->link);
    return r;
}

void late_byes_send(struct late_byes *late_byes, const struct setup *setup,
                    const struct session_info *info, enum gt_code code, const char *path)
{
    struct late_bye_settings settings = {
        .relay = &info->relay,
        .device = info->device,
        .rid = info->rid,
        .session_file_path = path,
        .code = code,
        .give_up_after_ms = (unsigned)setup->settings->resume_window_ms,
    };
    int r = is_configured(&setup->policy, &info->relay) ? late_byes_add(late_byes, setup, &settings)
                                                        : -EHOSTUNREACH;

    if (r == 0)
        return;
    gt_warn_errno(r < 0 ? r : 0, "device=%s cannot notify the operator of the end of a session",
                  info->device);
    if (path && r != -ENOMEM)
        session_file_unlink(path);
}
