/* SPDX-License-Identifier: ISC */
/*
 * `gotthard-agentd --doctor`: each hop from this device to its operators, as `gotthard-cli doctor`
 * shows them from the other side. It reads and connects, and changes nothing; the running agent and
 * its sessions are left alone.
 */
#pragma once

#include <ev.h>

#include "gotthard/doctor/certificate-check.h"
#include "gotthard/doctor/checkup.h"
#include "setup.h"

struct doctor_options {
    bool is_json, is_plain_color;
};

/* Prints the rows to standard output. Returns the exit status: of the first failure, or 0. */
int doctor_run(const struct gt_config_args *args, const struct doctor_options *options);

/* The rest is for doctor-*.c and their tests only. */

/* The proxy variables of the running agent, and which of them this process has. */
enum doctor_variables {
    DOCTOR_VARIABLES_SAME,
    DOCTOR_VARIABLES_OTHER,       /* it had others, and has the agent's now */
    DOCTOR_VARIABLES_UNREADABLE,  /* not permitted: its own */
    DOCTOR_VARIABLES_NOT_TRUSTED, /* its own */
};

struct doctor {
    struct doctor_options options;
    struct gt_checkup checkup;
    struct ev_loop *loop;
    const struct setup *setup;
    struct gt_certificate_facts certificate;
    bool has_certificate;
    int pid;         /* of the running agent; 0: none */
    bool is_trusted; /* it is of the service or of our user */
    enum doctor_variables variables;
};

/* Finds the running agent. If it is a service, this process gets its proxy variables: call it
 * before the settings are loaded. */
void doctor_find_process(struct doctor *doctor);
/* Returns true if @text of /proc/PID/cgroup (cgroups(7)) is of the system's unit gotthard-agentd.
 */
bool doctor_is_unit_cgroup(const char *text);
/* The row of the running agent. */
void doctor_check_process(struct doctor *doctor);

/* Returns the words of the rows about the certificate. */
struct gt_certificate_words doctor_certificate_words(const struct doctor *doctor);
/* broker name ... receive */
void doctor_check_broker(struct doctor *doctor);
/* The rows of each relay. */
void doctor_check_relays(struct doctor *doctor);
/* A row for each service. */
void doctor_check_services(struct doctor *doctor);
