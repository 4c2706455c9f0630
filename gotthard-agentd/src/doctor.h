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

/* The rest is for doctor-*.c only. */
struct doctor {
    struct doctor_options options;
    struct gt_checkup checkup;
    struct ev_loop *loop;
    const struct setup *setup;
    struct gt_certificate_facts certificate;
    bool has_certificate;
    int pid;              /* of the running agent; 0: none */
    bool has_other_proxy; /* it has other proxy variables than this process had */
};

/* Finds the running agent. If it is a service, this process gets its proxy variables: call it
 * before the settings are loaded. */
void doctor_find_process(struct doctor *doctor);
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
