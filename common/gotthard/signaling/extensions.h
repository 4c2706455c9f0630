/* SPDX-License-Identifier: ISC */
/*
 * The optional part of the messages STATE and ACK: typed values, of which a decoder skips those
 * that it does not know. See docs/protocol.md, section 2.
 */
#pragma once

#include "gotthard/base/bytes.h"
#include "gotthard/signaling/tag.h"

#define GT_SERVICES_MAX  64
#define GT_HOST_KEYS_MAX 8
#define GT_FAULT_TEXT    201 /* bytes of a fault with its NUL */

/* How the two ends of a session carry its streams: as docs/protocol.md, section 4, describes it.
 * 0.1.0 knew no number, and had a data connection for each stream. */
#define GT_SESSION_VERSION 2

/* Absent extensions are empty or 0. */
struct gt_extensions {
    struct gt_span version;                   /* 1: software version */
    struct gt_span services[GT_SERVICES_MAX]; /* 2: names this operator may use */
    size_t n_services;
    struct gt_span host_keys[GT_HOST_KEYS_MAX]; /* 3: "ssh-ed25519 AAAA...", public key lines */
    size_t n_host_keys;
    uint16_t n_sessions;  /* 4: open sessions */
    uint64_t since;       /* 5: Unix time of going online or offline; for display only */
    struct gt_span limit; /* 6: the limit that refuses a session; for display only */
    struct gt_span tags[GT_TAGS_MAX]; /* 7: "KEY=VALUE", printable; tag.h has the form */
    size_t n_tags;
    struct gt_span status;    /* 8: device-status.h; the answer to a query */
    struct gt_span fault;     /* 9: why the device's files are not in use; for display only */
    uint16_t session_version; /* 10: ACK: the device's GT_SESSION_VERSION */
};

/* Appends those that are not absent to @w, which fails as it does. */
void gt_extensions_encode(const struct gt_extensions *x, struct gt_writer *w);
/* Reads up to the last extension. @x: zeroed; its spans point into the buffer of @r. @r fails if a
 * known extension occurs twice or is ill-formed. */
void gt_extensions_decode(struct gt_reader *r, struct gt_extensions *x);
