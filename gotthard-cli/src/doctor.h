/* SPDX-License-Identifier: ISC */
/*
 * The parts of `doctor`, each of which adds rows to one list. Only cmd-doctor.c and doctor-*.c
 * include this header. Causes and hints are those of the commands: each failure comes from the
 * function that a command would have called (mqtt-connect.h, diagnosis.h).
 */
#pragma once

#include "commands.h"
#include "connect-progress.h"
#include "gotthard/doctor/certificate-check.h"
#include "gotthard/doctor/checkup.h"
#include "identity.h"

struct doctor {
    struct context *context;
    const char *device;   /* NULL: without a device */
    struct print silence; /* for functions that would print warnings, which are rows here */
    struct gt_checkup checkup;
    struct connect_progress progress; /* of the row that is being checked */
    struct identity identity;
    bool has_key;
    struct gt_certificate_facts certificate;
    bool has_certificate;
    bool is_broker_usable, is_relay_usable;
    struct { /* the device's state at the broker, authentic */
        bool is_known, is_online;
        uint64_t since;
        char service[GT_SERVICE_MAX + 1]; /* one that it offers; "" if it names none */
        char fault[GT_FAULT_TEXT];        /* why it does not use its present files; or empty */
    } state;
};

/* Adds a failed row. */
void doctor_fail(struct doctor *doctor, const char *name, const struct failure *failure);
/* Returns the hint and the exit status of a failure without a text. */
struct gt_check_fault doctor_fault(enum failure_id id, struct failure *failure);

/* configuration, key, trust, certificate, clock */
void doctor_check_local(struct doctor *doctor);
/* Returns the words of the rows about the certificate; @failures: storage for two. */
struct gt_certificate_words doctor_certificate_words(const struct doctor *doctor,
                                                     struct failure failures[static 2]);
/* broker name ... receive */
void doctor_check_broker(struct doctor *doctor);
/* relay name ... large packets */
void doctor_check_relay(struct doctor *doctor);
/* device ... services */
void doctor_check_device(struct doctor *doctor);
