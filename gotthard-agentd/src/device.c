/* SPDX-License-Identifier: ISC */
/*
 * Connects presence and sessions, and reloads; see the header. The request handler is connected in
 * device-requests.c.
 */
#include "device-private.h"

#include <stdio.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/base/notify.h"
#include "setup-summary.h"

#define DAY_MS (24 * 3600 * 1000)

const char *device_name(const struct device *device)
{
    return device->setup->settings->device_name;
}

struct agent_status device_status(const struct device *device)
{
    const struct presence *presence = &device->presence;
    const struct setup *setup = device->setup;

    return (struct agent_status){
        .device = device_name(device),
        .broker_host = presence_broker(presence)->host,
        .broker_port = presence_broker(presence)->port,
        .is_connected = presence_is_up(presence),
        .is_online = presence->standing == PRESENCE_ONLINE,
        .refusal = presence->standing == PRESENCE_REFUSED ? presence->refusal : NULL,
        .n_sessions = device->sessions.n,
        .n_services = setup->policy.services.n,
        .n_pins = gt_trust_count(&setup->trust),
        .policy = setup_policy_name(setup),
        .fault = *device->fault ? device->fault : NULL,
    };
}

void device_note(struct device *device, enum gt_audit_kind kind, const char *reason)
{
    audit_note(&device->audit, kind, reason);
}

/* --- presence and sessions */

/* Certificates are renewed in their files without a signal to this process. TLS and signatures
 * change together, when a connection with the new ones is up. A pair that does not match, half
 * written, is read again later. */
static void device_renew_credentials(struct device *device)
{
    char error[GT_CONFIG_ERROR_MAX] = "out of memory";
    bool is_renewed;
    int r = setup_renew_credentials(device->setup, &is_renewed, error);

    if (r == 0)
        device_set_request_handlers(device);
    if (r == 0 && is_renewed) {
        gt_info("device=%s certificates renewed", device_name(device));
        r = presence_replace(&device->presence,
                             device->renamed ? device->renamed : device->request_handler);
    }
    if (r == 0)
        *error = 0;
    if (r && strcmp(error, device->renewal_error) != 0)
        gt_warn("device=%s changed certificates are not used yet: %s", device_name(device), error);
    snprintf(device->renewal_error, sizeof(device->renewal_error), "%s", error);
}

static void device_on_message(void *userdata, const char *topic, bool is_retained,
                              struct gt_span payload)
{
    struct device *device = userdata;

    if (device_receive_access(device, topic, payload))
        return;
    if (hostkeys_renew(device->setup->settings->host_keys, &device->setup->host_keys))
        device_set_request_handlers(device);
    int r = request_handler_receive(device->request_handler, gt_clock_ms(),
                                    sessions_now(&device->sessions), topic, is_retained, payload);
    if (r)
        gt_error_errno(r, "device=%s cannot handle a message", device_name(device));
}

static void device_on_presence_change(void *userdata)
{
    struct device *device = userdata;

    if (presence_is_up(&device->presence))
        reports_repeat(&device->sessions.reports);
    else
        device_renew_credentials(device);
    device->events->on_change(device->userdata);
}

static void device_on_replaced(void *userdata)
{
    struct device *device = userdata;

    if (device->renamed) {
        request_handler_free(device->request_handler);
        device->request_handler = gt_steal(&device->renamed);
    }
    device_set_request_handlers(device);
}

static void device_on_offline(void *userdata)
{
    struct device *device = userdata;

    device->events->on_offline(device->userdata);
}

static bool device_is_awaited(void *userdata)
{
    const struct device *device = userdata;

    return sessions_are_awaited(&device->sessions);
}

void device_recheck(struct device *device)
{
    time_t expiry = sessions_recheck(&device->sessions, sessions_now(&device->sessions));

    ev_periodic_stop(device->loop, &device->expiry);
    ev_periodic_set(&device->expiry, (ev_tstamp)expiry, 0., NULL);
    if (expiry)
        ev_periodic_start(device->loop, &device->expiry);
}

static void device_on_expiry(struct ev_loop *loop, ev_periodic *watcher, int revents)
{
    device_recheck(watcher->data);
}

static void device_on_sessions_change(void *userdata)
{
    struct device *device = userdata;

    device_recheck(device);
    presence_changed(&device->presence);
    device->events->on_change(device->userdata);
}

void device_publish_offline(struct device *device)
{
    presence_publish_offline(&device->presence);
}

void device_stop_accepting(struct device *device)
{
    device->is_accepting = false;
}

/* The wall clock may have jumped, as after a boot without a battery. */
static void device_tick_presence(struct device *device)
{
    const char *why = presence_tick(&device->presence);

    if (!why)
        return;
    gt_info("device=%s connecting again: %s", device_name(device), why);
    int r = presence_replace(&device->presence, device->request_handler);
    if (r)
        gt_warn_errno(r, "device=%s cannot connect again", device_name(device));
}

/* Once a day; at the start, and at a reload, setup_warn() does it. */
static void device_warn_expiry(struct device *device)
{
    uint64_t now = gt_clock_ms();

    if (now < device->expiry_due_ms)
        return;
    if (device->expiry_due_ms > 0)
        setup_warn_expiry(device->setup);
    device->expiry_due_ms = now + DAY_MS;
}

/* --- reload: a new setup, as a whole or not at all */

/* Everything that can fail because of the configuration fails here, before anything is changed.
 * @ret_request_handler: for new names or keys, else NULL. */
static int device_prepare_reload(struct device *device, struct setup **ret_setup,
                                 struct request_handler **ret_request_handler, char *ret_error)
{
    struct request_handler *request_handler = NULL;
    struct setup *setup = NULL;

    snprintf(ret_error, GT_CONFIG_ERROR_MAX, "cannot load the configuration");
    int r = setup_new(device->args, &setup, ret_error);
    if (r == 0)
        r = setup_check_reload(device->setup, setup, ret_error);
    if (r == 0 && !setup_has_same_identity(device->setup, setup))
        r = device_new_request_handler(device, setup, &request_handler);
    if (r) {
        gt_error_errno(r < 0 ? r : 0, "device=%s not reloaded, the configuration in use stays: %s",
                       device_name(device), ret_error);
        setup_free(setup);
        device_change_fault(device, ret_error);
        device_note(device, GT_AUDIT_RELOAD, ret_error);
        return DEVICE_E_UNCHANGED;
    }
    *ret_setup = setup;
    *ret_request_handler = request_handler;
    return 0;
}

/* @request_handler: takes; for new keys or names. New keys apply at once. New names apply when the
 * broker has accepted a connection with them. */
static void device_take_request_handler(struct device *device,
                                        struct request_handler *request_handler)
{
    bool is_renamed = strcmp(request_handler_req_topic(device->request_handler),
                             request_handler_req_topic(request_handler)) != 0;

    device->renamed = request_handler_free(device->renamed);
    if (is_renamed) {
        device->renamed = request_handler;
        return;
    }
    presence_set_request_handler(&device->presence, request_handler);
    request_handler_free(device->request_handler);
    device->request_handler = request_handler;
}

/* @setup, @request_handler: takes. */
static int device_apply_reload(struct device *device, struct setup *setup,
                               struct request_handler *request_handler)
{
    bool is_same_broker = !request_handler && setup_has_same_broker(device->setup, setup);

    if (!is_same_broker)
        presence_cancel_replacement(&device->presence);
    if (request_handler)
        device_take_request_handler(device, request_handler);
    struct setup *old = device->setup;
    device->sessions.setup = device->setup = setup;
    presence_set(&device->presence, setup);
    device_use_access(device);
    device_set_request_handlers(device);
    setup_free(old);
    device_recheck(device);
    presence_request_access(&device->presence);
    if (is_same_broker)
        return 0;
    return presence_replace(&device->presence,
                            device->renamed ? device->renamed : device->request_handler);
}

/* The line is written also if the audit begins or ends with it. */
static void device_reload_audit(struct device *device)
{
    const struct settings *settings = device->setup->settings;

    if (!audit_is_on(&device->audit))
        audit_configure(&device->audit, settings);
    device_note(device, GT_AUDIT_RELOAD,
                settings->audit_files > 0 ? "reloaded" : "reloaded, the audit ends");
    audit_configure(&device->audit, settings);
}

int device_reload(struct device *device, char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct request_handler *request_handler;
    char services[SETUP_SERVICES_TEXT];
    struct setup *setup;

    int r = device_prepare_reload(device, &setup, &request_handler, ret_error);
    if (r)
        return r;
    r = device_apply_reload(device, setup, request_handler);
    if (r) {
        gt_error_errno(r, "device=%s cannot connect after the reload", device_name(device));
        return r;
    }
    setup_apply_log_level(setup);
    setup_warn(setup);
    setup_remember(setup);
    device_reload_audit(device);
    device_change_fault(device, "");
    setup_services_text(setup, services, sizeof(services));
    gt_info("device=%s reloaded services=\"%s\" policy=%s pins=%zu permit=\"%s\"",
            device_name(device), services, setup_policy_name(setup), gt_trust_count(&setup->trust),
            setup_permit_text(setup));
    return 0;
}

int device_tick(struct device *device)
{
    request_handler_tick(device->request_handler, gt_clock_ms());
    device_renew_credentials(device);
    device_warn_expiry(device);
    device_tick_presence(device);
    expiry_clock_observe(&device->sessions.clock, time(NULL), gt_clock_ms(),
                         expiry_clock_is_synchronized());
    device_tick_access(device);
    gt_audit_log_tick(&device->audit.log);
    device_recheck(device);
    device_log_fault(device);
    return device_retry_files(device);
}

/* --- beginning and end */

/* The kernel ends all processes of a namespace together with its process 1. */
static bool device_is_ended_alone(const struct device *device)
{
    return device->setup->settings->keeps_sessions && getpid() != 1;
}

bool device_keeps_sessions(const struct device *device)
{
    return device_is_ended_alone(device) && device->sessions.folder;
}

void device_init(struct device *device, struct ev_loop *loop, struct setup *setup,
                 const struct gt_config_args *args, const struct device_events *events,
                 void *userdata)
{
    static const struct presence_events presence_events = {
        .on_message = device_on_message,
        .on_change = device_on_presence_change,
        .on_replaced = device_on_replaced,
        .on_offline = device_on_offline,
        .is_awaited = device_is_awaited,
    };

    *device = (struct device){
        .loop = loop,
        .events = events,
        .userdata = userdata,
        .args = args,
        .setup = setup,
        .is_accepting = true,
    };
    device->audit.log.fd = -1;
    ev_periodic_init(&device->expiry, device_on_expiry, 0., 0., NULL);
    device->expiry.data = device;
    presence_init(&device->presence, loop, &presence_events, device);
    sessions_init(&device->sessions, loop, setup, device_on_sessions_change, device_publish_report,
                  device);
    device->sessions.audit = &device->audit;
}

int device_start(struct device *device)
{
    int r = device_new_request_handler(device, device->setup, &device->request_handler);

    if (r == 0)
        r = sessions_open(&device->sessions, gt_notify_listen_fds(), device_is_ended_alone(device));
    if (r)
        return r;
    device_use_access(device);
    device_log_fault(device);
    device_recheck(device);
    r = presence_open(&device->presence, device->setup, device->request_handler);
    if (r == 0)
        device_set_request_handlers(device);
    return r;
}

void device_deinit(struct device *device)
{
    presence_close(&device->presence);
    ev_periodic_stop(device->loop, &device->expiry);
    sessions_deinit(&device->sessions);
    access_close(&device->access);
    audit_close(&device->audit);
    request_handler_free(device->request_handler);
    request_handler_free(device->renamed);
    setup_free(device->setup);
}
