/* SPDX-License-Identifier: ISC */
/*
 * The connection to the relay that is begun while the device's answer is awaited: TCP, TLS and
 * HELLO take two round trips that the answer takes as well. The tunnel takes it over with the keys
 * of the answer, as the first of its attempts, whose time limit it has. Nothing about it is
 * reported: without an answer the relay does not matter, and after it the tunnel finds out for
 * itself.
 */
#include "session-internal.h"

#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/relay/reconnect.h"

int session_relay_key(const struct session *session, uint8_t ret[static GT_KEY_SIZE],
                      struct failure *ret_failure)
{
    const struct settings *settings = gt_config_settings(session->settings.config);

    if (gt_key_client(&session->identity.key, GT_ROLE_OPERATOR, settings->client_name, ret) != 0)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "cannot derive the relay's key");
    return 0;
}

/* The relay sends no session's frames before RENDEZVOUS. An ended connection stays where it is: it
 * must not be freed inside its callback. */
static void prepared_on_restart_notice(void *userdata, uint32_t reconnect_in_ms,
                                       uint32_t try_for_ms)
{
}

static void prepared_on_down(void *userdata, enum gt_end_reason reason, enum gt_code code,
                             const char *why)
{
    const struct session *session = userdata;

    gt_debug("device=%s relay not prepared reason=\"%s\"", session->settings.device, why);
}

static const struct gt_control_connection_events prepared_events = {
    .on_restart_notice = prepared_on_restart_notice,
    .on_down = prepared_on_down,
};

void session_prepare_relay(struct session *session)
{
    const struct settings *settings = gt_config_settings(session->settings.config);
    uint8_t client_key[GT_KEY_SIZE];
    struct failure ignored;
    struct gt_control_connection_settings control = {
        .relay = &session->relay,
        .proxy = session->proxy.kind == GT_PROXY_NONE ? NULL : &session->proxy,
        .role = GT_ROLE_OPERATOR,
        .name = settings->client_name,
        .client_key = client_key,
        .connect_timeout_ms = gt_reconnect_attempt_ms((double)settings->peer_timeout_ms / 1000),
    };

    if (session->prepared || session_relay_key(session, client_key, &ignored) != 0)
        return;
    if (gt_control_connection_new(session->settings.loop, &control, &prepared_events, session,
                                  &session->prepared) != 0)
        session->prepared = NULL;
    gt_wipe(client_key, sizeof(client_key));
}

void session_drop_prepared(struct session *session)
{
    session->prepared = gt_control_connection_free(session->prepared);
}
