/* SPDX-License-Identifier: ISC */
/*
 * Why there is no session, in the operator's terms: turns a missing answer, an answer that refuses
 * and the end of a tunnel into a failure with its id and its hint. It decides nothing and sends
 * nothing.
 */
#pragma once

#include "failure.h"
#include "gotthard/signaling/exchange.h"
#include "gotthard/signaling/report.h"
#include "gotthard/tunnel/tunnel.h"

/* What the device's retained state message shows. */
enum device_state {
    DEVICE_UNKNOWN, /* there is no such message */
    DEVICE_FOREIGN, /* it is encrypted with another key */
    DEVICE_OFFLINE,
    DEVICE_ONLINE,
};

/* No answer came within @timeout_s seconds. @since: of the device's state, unix time, 0 if unknown.
 * @is_will: that is when the device came online, before it was lost. */
void diagnosis_of_silence(const char *device, enum device_state state, uint64_t since, bool is_will,
                          unsigned timeout_s, struct failure *ret);

/* An authentic answer refuses the request for @service at the relay named @relay. */
void diagnosis_of_refusal(const char *device, const struct gt_answer *answer, const char *service,
                          const char *relay, struct failure *ret);

/* Returns true, and sets @ret, if the device, which has sent @extensions in its ACK, carries
 * streams in another way than this version. */
bool diagnosis_of_version(const char *device, const struct gt_extensions *extensions,
                          struct failure *ret);

/* The device offers this operator no such service. */
void diagnosis_of_service(const char *device, const char *service, struct failure *ret);

struct tunnel_end {
    const char *device;
    const struct gt_host_port *relay;
    bool was_up;
    const struct gt_report *report; /* the device's latest one before the tunnel was up, or NULL */
    bool is_offline;                /* its agent left the broker before the tunnel was up */
    double age_s, granted_s, requested_s; /* of the lifetime: passed; by the device; by this side */
    enum gt_end_reason cause;             /* these three as in on_down of gt_tunnel_events */
    enum gt_code code;
    const char *why;
    bool has_proxy; /* on this side's way to the relay */
};
/* The device has reported the end of its side before the tunnel was up, or it waits at another
 * relay. @relay: this side's. */
void diagnosis_of_report(const char *device, const struct gt_host_port *relay,
                         const struct gt_report *report, struct failure *ret);
/* Returns true if @report names another relay than @relay, this side's. */
bool diagnosis_is_elsewhere(const struct gt_host_port *relay, const struct gt_report *report);
/* A stream to @service ended with @code. Returns false, and leaves @ret, unless the device could
 * not connect the target. */
bool diagnosis_of_target(const char *device, const char *service, enum gt_rst code,
                         struct failure *ret);
/* Returns true if @service, of a forward, is a port or HOST:PORT and no name. */
bool diagnosis_is_target(const char *service);
/* Writes @why for a use inside a sentence: "connection refused". Returns @ret. */
const char *diagnosis_reason(const char *why, char *ret, size_t cap);
/* A tunnel ended that neither side closed after it was up. */
void diagnosis_of_tunnel_end(const struct tunnel_end *end, struct failure *ret);
