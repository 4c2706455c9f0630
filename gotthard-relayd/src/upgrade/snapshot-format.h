/* SPDX-License-Identifier: ISC */
/*
 * The format of a snapshot: a head with a version, then records in one order (snapshot-format.c).
 * One image of the relay writes it into memory that only the next one shares. It is checked like
 * input from a peer nevertheless, because another version may have written it.
 *
 * Pure. Everything is checked twice: when the next image rehearses, where a rejection costs
 * nothing, and when it takes over.
 */
#pragma once

#include "control/main-listener.h"
#include "control/registry-snapshot.h"
#include "control/session-snapshot.h"
#include "data/pair-snapshot.h"
#include "limits/seen-binders.h"

/* To be raised with every change of a record or of its meaning. After an installation with another
 * version the relay is restarted instead, see debian/gotthard-relayd.postinst. */
#ifndef SNAPSHOT_FORMAT_VERSION
#define SNAPSHOT_FORMAT_VERSION 2
#endif

struct saved_relay {
    uint64_t stopped_at; /* when the data threads paused, by gt_clock_ms */
    uint8_t boot_id[16];
    uint64_t n_bytes; /* transferred by all data threads */
};

struct saved_secret {
    char variable[128], text[4097];
};

extern const struct saved_layout relay_layout, secret_layout, end_layout;

struct saved_record {
    enum saved_kind kind;
    union {
        struct saved_relay relay;
        struct saved_secret secret;
        struct saved_main_listener main_listener;
        struct saved_registry registry;
        struct saved_ports ports;
        struct saved_cooldown cooldown;
        struct saved_quota quota;
        struct seen_binder binder;
        struct tombstone tombstone;
        struct saved_session session;
        struct stream stream;
        struct saved_pair pair;
        struct saved_ticket ticket;
    };
};

enum {
    SNAPSHOT_FORMAT_E_VERSION = 1, /* written by another version */
    SNAPSHOT_FORMAT_E_BAD,
};

/* These fail as writers and readers of base/bytes.h: once and for all. */
void snapshot_format_write_head(struct gt_writer *writer);
void snapshot_format_write_record(struct gt_writer *writer, const struct saved_record *record);
void snapshot_format_read_record(struct gt_reader *reader, struct saved_record *ret);

/* Checks a whole snapshot. E_VERSION, E_BAD, -ENOMEM. */
int snapshot_format_check(struct gt_span state) GT_MUST_CHECK;
/* Calls @on_record for each record of a checked snapshot. Returns the first result that is not
 * 0. */
typedef int (*snapshot_format_fn)(void *userdata, const struct saved_record *record);
int snapshot_format_read(struct gt_span state, snapshot_format_fn on_record,
                         void *userdata) GT_MUST_CHECK;
/* Calls @on_fd for each descriptor of a checked snapshot. Returns the first result that is not
 * 0. */
int snapshot_format_each_fd(struct gt_span state, saved_fd_fn on_fd, void *userdata) GT_MUST_CHECK;
