/* SPDX-License-Identifier: ISC */
/* The end of a request without an answer, or its wait for the device. */
#include <string.h>

#include "broker-rights.h"
#include "mqtt-connect.h"
#include "request-internal.h"

void request_fail(struct request *request)
{
    if (request->state == REQUEST_DONE)
        return;
    request->is_early = false;
    if (request_wait(request)) {
        request_enter(request, REQUEST_WAITING);
        request_set_deadline(request, request_wait_s(request));
        return;
    }
    request->is_failed = true;
    request_enter(request, REQUEST_DONE);
}

void request_fail_broker_timeout(struct request *request)
{
    if (request->is_early)
        request_withdraw_unanswered(request, true);
    mqtt_connect_failure(request->settings.settings, NULL, "no answer in time", &request->failure);
    request_fail(request);
}

/* Under another name than the one in the certificate a broker delivers neither state nor answer. */
static void request_diagnose_silence(struct request *request)
{
    const struct request_settings *settings = &request->settings;
    enum device_state state = request->device_state;

    diagnosis_of_silence(settings->device, state, request->since, request->is_will,
                         request_answer_timeout_s(request), &request->failure);
    if (!identity_has_other_name(settings->identity, settings->settings) ||
        (state != DEVICE_UNKNOWN && state != DEVICE_ONLINE))
        return;
    failure_set(&request->failure, FAILURE_BROKER_REFUSED, NULL,
                "the broker delivers no answer of %s: the certificate is for \"%s\", and "
                "client.name is %s",
                settings->device, settings->identity->own.name, settings->settings->client_name);
    broker_rights_hint(settings->settings, settings->identity, &request->failure);
}

void request_fail_silence(struct request *request)
{
    if (!request->is_noted)
        request_diagnose_silence(request);
    if (request_opens_session(request) && request->n_undelivered < REQUEST_UNDELIVERED_MAX)
        request_withdraw_unanswered(request, true);
    request_fail(request);
}

/* ENOTCONN is not an internal error: the broker has closed the connection, and the loop does not
 * know yet. */
void request_fail_with(struct request *request, int err)
{
    if (err == -ENOTCONN)
        mqtt_connect_failure(request->settings.settings, NULL, "the connection was lost",
                             &request->failure);
    else if (err == -EOPNOTSUPP)
        failure_set(&request->failure, FAILURE_BROKER_REFUSED,
                    "configure the broker to accept messages of 8192 bytes and QoS 1",
                    "the broker does not accept a request of this size or QoS");
    else
        failure_set(&request->failure, FAILURE_INTERNAL, NULL, "request to %s: %s",
                    request->settings.device, err < 0 ? strerror(-err) : "not possible");
    request_fail(request);
}
