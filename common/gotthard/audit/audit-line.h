/* SPDX-License-Identifier: ISC */
/*
 * A line of the audit: one event as a JSON object, with the SHA-256 of the line before it. The
 * line is printable ASCII, whatever its values have: every other byte of a value is written as
 * \u00XX, so that a reader gets back the bytes exactly (as code points below 256).
 *
 *     {"seq":7,"time":"2026-11-30T14:05:00.123Z","event":"granted","session":"7f3a9c21",
 *      "operator":"alice", ... ,"prev":"<64 hex digits>"}
 *
 * "prev" is the hash of the whole line before, with its newline, so that `head -n 1 FILE |
 * sha256sum` prints that of the second line. The first line of all has zeros. seq counts the lines
 * from 1. Which members a line has follows from its event; see docs/audit.md. Pure.
 */
#pragma once

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto.h"

#define GT_AUDIT_LINE_MAX  4096 /* bytes of a line with its newline */
#define GT_AUDIT_VALUE_MAX 300  /* bytes of a value in a line; a longer one ends in "..." */
#define GT_AUDIT_NAME_MAX  15   /* bytes of the name of an event */

enum gt_audit_kind {
    GT_AUDIT_START,       /* the program has started */
    GT_AUDIT_STOP,        /* it ends */
    GT_AUDIT_RELOAD,      /* it was asked to load its configuration again */
    GT_AUDIT_UPGRADE,     /* the relay continues as a newly installed program */
    GT_AUDIT_ACCESS_LIST, /* another access list is in force */
    GT_AUDIT_ASKED,       /* an operator requests a session, or the status of the device */
    GT_AUDIT_REFUSED,     /* a request, or an identity, was refused */
    GT_AUDIT_GRANTED,     /* a session was granted */
    GT_AUDIT_RESTORED,    /* a session of an earlier process of the agent continues */
    GT_AUDIT_CHANGED,     /* a session continues with another grant */
    GT_AUDIT_DIALLED,     /* a connection of a session has reached its target */
    GT_AUDIT_ENDED,       /* a connection of a session has ended, or was refused */
    GT_AUDIT_WAITING,     /* a session at the relay waits for its other side */
    GT_AUDIT_PAIRED,      /* both sides of a session are at the relay */
    GT_AUDIT_CLOSED,      /* a session has ended */
    GT_AUDIT_CLIENT_UP,   /* a client of the relay has authenticated */
    GT_AUDIT_CLIENT_DOWN, /* its control connection has ended */
    GT_AUDIT_LOST,        /* events are missing before this line */
    GT_AUDIT_TORN,        /* the bytes before this line are no line: a power cut */
};
#define GT_AUDIT_N_KINDS 19

/* NULL or "": the line does not have it. A kind determines which numbers its line has. */
struct gt_audit_event {
    enum gt_audit_kind kind;
    const char *client;    /* identity at the relay: "g1:o:alice" */
    const char *address;   /* of the client */
    const char *session;   /* first digits of the rid, as in the log */
    const char *device;    /* of the session, at the relay */
    const char *operator_; /* likewise, and at the device */
    const uint8_t *key;    /* GT_KEY_SIZE; SHA-256 of the SPKI of the operator's certificate */
    const char *service, *target, *source;
    const char *purpose, *software, *reason;
    uint32_t stream, n_streams;
    uint16_t port;         /* of the relay, for the session; 0: the line does not have it */
    uint64_t n_up, n_down; /* bytes, from and to the operator */
    uint64_t seconds;
    uint64_t serial; /* of the access list in force; 0: none, and the line does not have it */
    uint64_t n_lost;
    uint16_t code; /* of the protocol; 0: none, and the line does not have it */
};

/* A place in the chain: the next line has this seq + 1 and this hash. Zeros: the beginning. */
struct gt_audit_head {
    uint64_t seq;
    uint8_t hash[GT_KEY_SIZE];
};

/* Returns the name of an event as lines have it. Static. */
const char *gt_audit_kind_name(enum gt_audit_kind kind);
/* Returns true if the events of this kind may be limited in number, since clients and operators
 * cause them as they like. */
bool gt_audit_kind_is_limited(enum gt_audit_kind kind);
/* Writes the line after @head with its newline and a NUL to @ret, and returns its length without
 * the NUL: at most GT_AUDIT_LINE_MAX. @time_ms: Unix time. */
size_t gt_audit_line_encode(const struct gt_audit_event *event, const struct gt_audit_head *head,
                            uint64_t time_ms, char ret[static GT_AUDIT_LINE_MAX + 1]);

/* The members that every line has. */
struct gt_audit_line {
    uint64_t seq;
    char time[sizeof("2026-11-30T14:05:00.123Z")];
    char event[GT_AUDIT_NAME_MAX + 1];
    uint8_t prev[GT_KEY_SIZE];
};

enum { GT_AUDIT_LINE_E_BAD = 1 };
/* Reads them from @line, which has its newline. E_BAD: it has not the form of a line. The members
 * between are not parsed: they are printable ASCII. */
int gt_audit_line_decode(struct gt_span line, struct gt_audit_line *ret) GT_MUST_CHECK;
