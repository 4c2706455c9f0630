/* SPDX-License-Identifier: ISC */
/*
 * The formats of the agent's status; see the header.
 */
#include "status.h"

#include "gotthard/base/log.h"
#include "gotthard/base/notify.h"

void agent_status_log(const struct agent_status *status)
{
    gt_info(
        "status device=%s broker=%s:%u connected=%d sessions=%u services=%zu policy=%s pins=%zu "
        "state=%s",
        status->device, status->broker_host, status->broker_port, status->is_connected,
        status->n_sessions, status->n_services, status->policy, status->n_pins,
        status->refusal     ? "refused"
        : status->is_online ? "acknowledged"
                            : "pending");
}

void agent_status_notify(const struct agent_status *status)
{
    const char *tunnels = status->n_sessions == 1 ? "tunnel" : "tunnels";
    const char *fault = status->fault ? status->fault : "";
    const char *comma = status->fault ? "; not using the present configuration: " : "";

    if (status->refusal)
        gt_notify("STATUS=offline for operators: the broker refuses %s, %u %s%s%s", status->refusal,
                  status->n_sessions, tunnels, comma, fault);
    else
        gt_notify("STATUS=broker %s, %u %s%s%s",
                  status->is_online      ? "connected"
                  : status->is_connected ? "connected, not online yet"
                                         : "not reachable",
                  status->n_sessions, tunnels, comma, fault);
}

void session_status_log(const struct session_status *status)
{
    gt_info("status session=%s operator=%s state=%s pid=%d seconds=%.0f", status->id,
            status->operator_, status->state, (int)status->pid, status->age_s);
}
