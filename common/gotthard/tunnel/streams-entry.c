/* SPDX-License-Identifier: ISC */
/*
 * One stream in the table: its creation, the events of its channel, and its end. Must never report
 * an end twice.
 */
#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "gotthard/tunnel/streams-internal.h"

void gt_streams_entry_remove(struct streams_entry *entry)
{
    gt_channel_free(entry->channel);
    HASH_DEL(entry->streams->entries, entry);
    free(entry);
}

/* The relay knows only the streams that had, or requested, a data connection of their own. */
void gt_streams_entry_report_end(const struct streams_entry *entry, enum gt_rst code)
{
    const struct gt_streams *streams = entry->streams;
    uint64_t n_up, n_down;

    gt_channel_byte_counts(entry->channel, &n_up, &n_down);
    if (gt_channel_is_known_to_relay(entry->channel) &&
        gt_control_connection_stream_end(
            streams->control, entry->number, gt_channel_attempt(entry->channel),
            code == GT_RST_NONE ? GT_CODE_NONE : GT_CODE_BYE, n_up, n_down))
        gt_debug("stream=%u end not reported to the relay", entry->number);
    streams->events.on_end(streams->userdata, gt_channel_service(entry->channel), entry->number,
                           code, n_up, n_down);
}

static void entry_on_end(struct gt_channel *channel, void *userdata, enum gt_rst code)
{
    struct streams_entry *entry = userdata;
    struct gt_streams *streams = entry->streams;

    gt_streams_entry_report_end(entry, code);
    gt_streams_entry_remove(entry);
    gt_streams_report_load(streams);
    if (!streams->entries)
        streams->events.on_empty(streams);
}

static bool entry_on_ticket_needed(struct gt_channel *channel, void *userdata, uint32_t attempt)
{
    const struct streams_entry *entry = userdata;

    return !entry->streams->is_paused &&
           gt_control_connection_request_ticket(entry->streams->control, entry->number, attempt,
                                                entry->streams->path.segment) == 0;
}

static void entry_on_connection_lost(struct gt_channel *channel, void *userdata, uint32_t attempt,
                                     bool is_black_hole)
{
    const struct streams_entry *entry = userdata;

    if (entry->streams->is_paused)
        return; /* gt_streams_resume reports all */
    if (gt_control_connection_stream_end(entry->streams->control, entry->number, attempt,
                                         is_black_hole ? GT_CODE_LARGE_LOST : GT_CODE_LOST, 0, 0))
        gt_debug("stream=%u loss not reported, trying again later", entry->number);
}

/* The channels that ask do so together, in one sweep: one PING is for all of them. */
static void entry_on_ask(struct gt_channel *channel, void *userdata)
{
    struct gt_streams *streams = ((const struct streams_entry *)userdata)->streams;
    double now = gt_clock();

    if (now - streams->asked_at < GT_SWEEP_S / 2)
        return;
    streams->asked_at = now;
    gt_control_connection_ping(streams->control);
}

static double entry_relay_at(struct gt_channel *channel, void *userdata)
{
    const struct streams_entry *entry = userdata;

    return gt_control_connection_received_at(entry->streams->control);
}

static void entry_on_service(struct gt_channel *channel, void *userdata, const char *service)
{
    const struct streams_entry *entry = userdata;

    entry->streams->events.on_service(entry->streams->userdata, channel, service);
}

static void entry_on_connected(struct gt_channel *channel, void *userdata)
{
    const struct streams_entry *entry = userdata;

    if (entry->streams->events.on_connected)
        entry->streams->events.on_connected(entry->streams->userdata, entry->number);
}

/* Takes @local, also on failure. */
int gt_streams_entry_new(struct gt_streams *streams, uint32_t number, struct gt_endpoint_fds local,
                         const char *service, struct streams_entry **ret)
{
    static const struct gt_channel_events events = {
        .on_ticket_needed = entry_on_ticket_needed,
        .on_connection_lost = entry_on_connection_lost,
        .on_ask = entry_on_ask,
        .relay_at = entry_relay_at,
        .on_service = entry_on_service,
        .on_connected = entry_on_connected,
        .on_end = entry_on_end,
    };
    struct streams_entry *entry = calloc(1, sizeof(*entry));

    if (entry) {
        entry->number = number;
        entry->streams = streams;
        HASH_ADD(hh, streams->entries, number, sizeof(entry->number), entry);
    }
    if (!entry || !entry->hh.tbl) {
        free(entry);
        gt_endpoint_fds_reset(local);
        return -ENOMEM;
    }
    int r =
        gt_channel_new(&streams->channels, number, local, service, &events, entry, &entry->channel);
    if (r) {
        gt_streams_entry_remove(entry);
        return r;
    }
    *ret = entry;
    gt_streams_report_load(streams);
    return 0;
}
