/* SPDX-License-Identifier: ISC */
/*
 * The two parts of the table of streams: the table (streams.c), and one stream in it
 * (streams-entry.c). Only these files include this header.
 */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gotthard/tunnel/streams.h"

struct streams_entry {
    uint32_t number;
    struct gt_streams *streams;
    struct gt_channel *channel; /* owned */
    UT_hash_handle hh;
};

/* Adds a stream. Takes @local, also on failure. -ENOMEM. */
int gt_streams_entry_new(struct gt_streams *streams, uint32_t number, struct gt_endpoint_fds local,
                         const char *service, struct streams_entry **ret) GT_MUST_CHECK;
/* Removes and frees it at once, without on_end. */
void gt_streams_entry_remove(struct streams_entry *entry);
/* Reports the end to the relay and to the tunnel. */
void gt_streams_entry_report_end(const struct streams_entry *entry, enum gt_rst code);
/* Operator: informs the relay whether the session carries streams, if that has changed. */
void gt_streams_report_load(struct gt_streams *streams);
