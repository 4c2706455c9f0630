/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "holder-status.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/clock.h"

static enum holder_state state_of(enum session_state state)
{
    switch (state) {
    case SESSION_NEW:
    case SESSION_REQUESTING:
    case SESSION_JOINING: return HOLDER_STATE_CONNECTING;
    case SESSION_UP: return HOLDER_STATE_UP;
    case SESSION_AWAY: return HOLDER_STATE_AWAY;
    case SESSION_CLOSING:
    case SESSION_ENDED: return HOLDER_STATE_CLOSING;
    }
    return HOLDER_STATE_CLOSING;
}

void holder_status_fill(const struct session *session, const char *device, const char *operator_,
                        uint64_t started_ms, struct holder_status *ret)
{
    ret->state = (uint8_t)state_of(session ? session_state(session) : SESSION_NEW);
    ret->pid = (uint32_t)getpid();
    ret->age_ms = gt_clock_ms() - started_ms;
    snprintf(ret->device, sizeof(ret->device), "%s", device);
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", operator_);
    if (!session)
        return;
    const struct gt_host_port *relay = session_relay(session);
    bool is_ipv6 = strchr(relay->host, ':') != NULL;
    snprintf(ret->relay, sizeof(ret->relay), is_ipv6 ? "[%s]:%u" : "%s:%u", relay->host,
             relay->port);
    ret->n_streams = (uint16_t)session_n_streams(session);
    session_byte_counts(session, &ret->n_up, &ret->n_down);
}
