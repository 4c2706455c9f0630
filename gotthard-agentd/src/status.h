/* SPDX-License-Identifier: ISC */
/*
 * The agent's status, apart from its formats: the log lines of SIGUSR1 and the text that the
 * service manager shows (systemctl status).
 */
#pragma once

#include <sys/types.h>

#include "gotthard/base/base.h"

struct agent_status { /* borrows its strings */
    const char *device;
    const char *broker_host;
    uint16_t broker_port;
    bool is_connected;   /* to the broker */
    bool is_online;      /* the broker has acknowledged STATE */
    const char *refusal; /* what the broker refuses, and why; or NULL */
    const char *fault;   /* why the present configuration files are not in use; or NULL */
    unsigned n_sessions;
    size_t n_services, n_pins;
    const char *policy; /* static */
};

struct session_status { /* borrows its strings */
    const char *id, *operator_, *state;
    pid_t pid;
    double age_s;
};

void agent_status_log(const struct agent_status *status);
/* Notifies the service manager; see sd_notify(3). */
void agent_status_notify(const struct agent_status *status);
void session_status_log(const struct session_status *status);
