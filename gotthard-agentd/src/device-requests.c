/* SPDX-License-Identifier: ISC */
/* Connects the request handler with presence and sessions; see device.h. */
#include "device-private.h"
#include "gotthard/base/clock.h"
#include "gotthard/tunnel/tunnel.h"

static unsigned device_count_sessions(void *userdata, const char *operator_)
{
    const struct device *device = userdata;

    return sessions_count(&device->sessions, operator_);
}

static int device_prepare_session(void *userdata, const struct request_handler_offer *offer)
{
    struct device *device = userdata;

    return device->is_accepting ? sessions_prepare(&device->sessions, offer) : -ESHUTDOWN;
}

static int device_start_session(void *userdata, const struct request_handler_offer *offer,
                                const struct gt_session_keys *keys)
{
    struct device *device = userdata;

    return sessions_start(&device->sessions, offer, keys);
}

static void device_cancel_session(void *userdata)
{
    struct device *device = userdata;

    sessions_cancel(&device->sessions);
}

static bool device_replace_session(void *userdata, const char *operator_)
{
    struct device *device = userdata;

    return sessions_replace(&device->sessions, operator_);
}

static int device_close_sessions(void *userdata, const struct gt_close *close, bool is_admin)
{
    struct device *device = userdata;

    return sessions_close(&device->sessions, close, is_admin);
}

static void device_fill_status(void *userdata, const char *operator_, bool sees_all,
                               struct gt_device_status *ret)
{
    const struct device *device = userdata;

    sessions_fill_status(&device->sessions, operator_, sees_all, ret);
}

static void device_on_note(void *userdata, const struct request_handler_note *note)
{
    struct device *device = userdata;

    audit_write(&device->audit, &(struct gt_audit_event){
                                    .kind = note->is_refused ? GT_AUDIT_REFUSED : GT_AUDIT_ASKED,
                                    .operator_ = note->operator_,
                                    .key = note->fingerprint,
                                    .service = note->service,
                                    .purpose = note->purpose,
                                    .reason = note->reason,
                                });
}

static void device_publish(void *userdata, const char *topic, struct gt_span payload)
{
    struct device *device = userdata;

    presence_publish_reply(&device->presence, topic, payload);
}

void device_publish_report(void *userdata, const char *topic, struct gt_span payload)
{
    struct device *device = userdata;

    if (presence_is_up(&device->presence)) /* else it is repeated later */
        presence_publish_reply(&device->presence, topic, payload);
}

static void device_on_state_due(void *userdata)
{
    struct device *device = userdata;

    presence_changed(&device->presence);
}

static struct request_handler_settings
request_handler_settings(const struct device *device, const struct setup *setup,
                         const struct credentials *credentials)
{
    return (struct request_handler_settings){
        .prefix = setup->settings->mqtt_prefix,
        .device = setup->settings->device_name,
        .signer = credentials->signer,
        .trust = &setup->trust,
        .policy = &setup->policy,
        .host_keys = setup->host_keys.spans,
        .n_host_keys = setup->host_keys.n,
        .tags = &setup->tags,
        .fault = device->fault,
        .access_serial = setup->trust.list ? gt_access_list_serial(setup->trust.list) : 0,
        .stream_window = (uint32_t)gt_tunnel_ring_size(setup->settings->stream_buffer),
    };
}

/* The connection in use determines the certificate that signs: that of its TLS. */
void device_set_request_handlers(struct device *device)
{
    struct request_handler_settings settings =
        request_handler_settings(device, device->setup, presence_credentials(&device->presence));

    request_handler_set(device->request_handler, &settings);
    settings.signer = device->setup->credentials->signer;
    if (device->renamed)
        request_handler_set(device->renamed, &settings);
}

int device_new_request_handler(struct device *device, const struct setup *setup,
                               struct request_handler **ret)
{
    static const struct request_handler_events events = {
        .count_sessions = device_count_sessions,
        .replace_session = device_replace_session,
        .prepare_session = device_prepare_session,
        .start_session = device_start_session,
        .cancel_session = device_cancel_session,
        .close_sessions = device_close_sessions,
        .fill_status = device_fill_status,
        .publish = device_publish,
        .on_note = device_on_note,
        .on_state_due = device_on_state_due,
    };
    struct request_handler_settings settings =
        request_handler_settings(device, setup, setup->credentials);

    return request_handler_new(&settings, setup->of_device,
                               setup->has_previous ? setup->previous : NULL, gt_clock_ms(), &events,
                               device, ret);
}
