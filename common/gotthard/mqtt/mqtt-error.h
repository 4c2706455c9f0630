/* SPDX-License-Identifier: ISC */
/*
 * The end of a connection or of an attempt: the facts, and the table of outcomes, which has the
 * words for each in a log line and its effect on the next attempt (docs/broker-outcomes.md). Pure:
 * no descriptor, no thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "gotthard/net/proxy-handshake.h"
#include "gotthard/signaling/message.h"
#include "gotthard/tls/verification.h"

enum gt_mqtt_late { /* the answer that did not come in time */
                    GT_MQTT_LATE_NONE,
                    GT_MQTT_LATE_NAME,
                    GT_MQTT_LATE_CONNECTION,
                    GT_MQTT_LATE_TLS,
                    GT_MQTT_LATE_CONNACK,
                    GT_MQTT_LATE_SUBACK,
};

#define GT_MQTT_WHY 700 /* of words, with the NUL */

struct gt_mqtt_error {
    int rc, err;   /* the library's last result (mosquitto.h), and errno */
    int reason;    /* of a rejecting CONNACK or of a DISCONNECT, NO_ROUTE, or 0 */
    int start_err; /* a negative errno: the attempt could not begin */
    int name_err;  /* EAI_x of the resolver, or 0 */
    double name_s; /* until its answer */
    enum gt_mqtt_late late;
    unsigned limit_s; /* of late, or of the keep-alive */
    bool is_filter_refused;
    bool is_proxy_denial;                   /* the proxy does not permit the connection */
    bool is_at_proxy;                       /* the proxy of that name was not passed */
    char proxy[GT_PROXY_NAME];              /* "host:port"; "": none */
    char proxy_why[GT_PROXY_HANDSHAKE_WHY]; /* its answer, which names it; or "" */
    bool is_v5;                             /* the protocol version of the attempt */
    bool is_tls;
    bool was_up;                         /* an accepting CONNACK was received */
    bool is_aborted;                     /* the library failed an assertion */
    bool is_packet_large;                /* rc: no memory for the size that a packet announces */
    char client_id[GT_NAME_MAX + 1];     /* truncated */
    char server[64], remark[96];         /* Server Reference and Reason String of the CONNACK */
    char last_error[160];                /* the last error that the library logged, or empty */
    struct gt_verification verification; /* of the broker's certificate */
    struct gt_own_certificate own;       /* this side's certificate */
};

enum gt_mqtt_effect {
    GT_MQTT_EFFECT_RETRY,  /* after a wait that grows with each failure */
    GT_MQTT_EFFECT_SPREAD, /* the same, spread: the broker lost all its clients, or is overloaded */
    GT_MQTT_EFFECT_NETWORK,    /* RETRY; sooner if this machine's network changes */
    GT_MQTT_EFFECT_QUICK,      /* soon: only this machine's network is the cause */
    GT_MQTT_EFFECT_SILENT,     /* QUICK after a long connection; else the broker is busy: SPREAD */
    GT_MQTT_EFFECT_RIVAL,      /* after a long wait: another client uses our client id */
    GT_MQTT_EFFECT_V3,         /* at once with version 3.1.1 (after MQTT 5), else RETRY */
    GT_MQTT_EFFECT_V3_GUESS,   /* V3 at a broker that has never answered MQTT 5, else RETRY */
    GT_MQTT_EFFECT_UNRETAINED, /* at once with a will that is not retained, else RETRY */
};

enum gt_mqtt_kind {                           /* of the cause, for the ids of errors */
                    GT_MQTT_KIND_UNREACHABLE, /* the broker, its name, or the network */
                    GT_MQTT_KIND_PROXY,       /* the proxy does not permit it */
                    GT_MQTT_KIND_REFUSED,     /* the broker refuses this client */
                    GT_MQTT_KIND_UNTRUSTED, /* this side does not trust the server's certificate */
                    GT_MQTT_KIND_FOREIGN,   /* another kind of server answers, or with another
                                               protocol */
                    GT_MQTT_KIND_CERTIFICATE, /* this side's own certificate */
                    GT_MQTT_KIND_CLOCK,       /* of this machine */
                    GT_MQTT_KIND_SETTINGS,
                    GT_MQTT_KIND_INTERNAL,
};

struct gt_mqtt_outcome {
    const char *name; /* of the row in docs/broker-outcomes.md */
    bool (*is)(const struct gt_mqtt_error *end);
    /* Writes the words; NULL: words. */
    void (*describe)(const struct gt_mqtt_error *end, char *ret, size_t cap);
    const char *words;
    int reason, reason_v3;               /* a row for these reasons of the broker; 0: none */
    enum gt_mqtt_effect attempt, was_up; /* the effect on an attempt, and on a connection */
    enum gt_mqtt_kind kind;
    /* What to do, in clauses; "{mqtt.endpoint}" stands for a setting (config-mention.h). Each
     * setting that is named exists in both programs. */
    const char *hint;
};

/* Returns the row for @end: the first that matches. The last row matches all. */
const struct gt_mqtt_outcome *gt_mqtt_error_outcome(const struct gt_mqtt_error *end);
/* Writes the reason for a log line, truncated to @cap bytes with its NUL. */
void gt_mqtt_error_describe(const struct gt_mqtt_error *end, char *ret, size_t cap);
enum gt_mqtt_effect gt_mqtt_error_effect(const struct gt_mqtt_error *end);
/* Returns true for a row of TLS, including certificates and the clock. */
bool gt_mqtt_outcome_is_of_tls(const struct gt_mqtt_outcome *outcome);
/* Returns row @i of the table, or NULL behind the last one. */
const struct gt_mqtt_outcome *gt_mqtt_outcome_at(size_t i);
