/* SPDX-License-Identifier: ISC */
/*
 * The session of `doctor DEVICE`, and one stream to each service of the device. A stream whose
 * target sends something, or closes the connection in order, has reached it; the device resets one
 * whose target it cannot reach, with the reason. Only doctor-device.c and doctor-services.c include
 * this header.
 */
#pragma once

#include "doctor.h"
#include "gotthard/signaling/message.h"
#include "session.h"

#define DOCTOR_SERVICES_MAX GT_SERVICES_MAX
#define DOCTOR_SERVICES_S   12. /* longer than the device's default limit for a target */
#define DOCTOR_BANNER_MAX   80

struct doctor_service {
    char name[GT_SERVICE_MAX + 1];
    char row[GT_SERVICE_MAX + 16];
    struct doctor_session *run;
    int fd; /* owned; this side's end; -1: closed */
    ev_io readable;
    uint32_t stream;   /* 0: not opened */
    bool is_connected; /* the device has connected the target */
    bool is_ended;     /* with ->code */
    bool has_answered;
    enum gt_rst code;
    size_t n;
    char banner[DOCTOR_BANNER_MAX];
};

struct doctor_session {
    struct doctor *doctor;
    struct session *session; /* owned */
    struct gt_host_port relay;
    bool is_agreed, is_up, is_over;
    double began_at, agreed_at, up_at; /* by gt_clock() */
    uint16_t port;
    char version[40], notice[GT_PATH_TEXT];
    struct gt_report report; /* seq 0: none */
    struct failure failure;  /* of the end */
    struct doctor_service services[DOCTOR_SERVICES_MAX];
    size_t n_services;
};

/* Opens a stream to each service, as far as the device permits. */
void doctor_services_open(struct doctor_session *run);
void doctor_services_on_connected(struct doctor_session *run, uint32_t stream);
void doctor_services_on_end(struct doctor_session *run, uint32_t stream, enum gt_rst code);
bool doctor_services_are_done(const struct doctor_session *run);
/* Adds a row for each service. */
void doctor_services_report(struct doctor_session *run);
void doctor_services_close(struct doctor_session *run);
