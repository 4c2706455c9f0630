/* SPDX-License-Identifier: ISC */
/*
 * Keeps the local address of each connection until its end, for its line.
 */
#include "connect-streams.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "diagnosis.h"
#include "gotthard/base/clock.h"

#define WARNINGS_A_SECOND 5
#define FULL_AGAIN_S      60.
#define TURNED_AWAY_S     10. /* between two lines */

struct open_stream {
    UT_hash_handle hh; /* connect_streams.open */
    uint32_t number;
    double begun_at; /* seconds of gt_clock() */
    char peer[GT_ADDR_TEXT];
};

static void on_sum(void *userdata, const struct gt_stream_sum *sum)
{
    struct connect_streams *streams = userdata;

    print_fact(streams->print,
               "streams=%u ended up=%" PRIu64 " down=%" PRIu64
               " failed=%u reason=\"over 20 a second\"",
               sum->n_streams, sum->n_up, sum->n_down, sum->n_failed);
    if (sum->n_failed > 0)
        print_warning(streams->print, "%u more connections failed", sum->n_failed);
}

void connect_streams_flush(struct connect_streams *streams)
{
    gt_stream_log_flush(&streams->log);
}

void connect_streams_init(struct connect_streams *streams, struct ev_loop *loop,
                          struct print *print, const char *device)
{
    *streams = (struct connect_streams){.print = print, .device = device};
    gt_stream_log_init(&streams->log, loop, on_sum, streams);
}

static void connect_streams_remove(struct connect_streams *streams, struct open_stream *stream)
{
    HASH_DEL(streams->open, stream);
    free(stream);
}

void connect_streams_deinit(struct connect_streams *streams)
{
    struct open_stream *stream, *next;

    connect_streams_flush(streams);
    HASH_ITER (hh, streams->open, stream, next)
        connect_streams_remove(streams, stream);
}

static struct open_stream *connect_streams_find(const struct connect_streams *streams,
                                                uint32_t number)
{
    struct open_stream *stream;

    HASH_FIND(hh, streams->open, &number, sizeof(number), stream);
    return stream;
}

static bool is_udp(const char *service)
{
    return strncmp(service, "udp:", 4) == 0;
}

/* Returns a new reference, or NULL: no member. */
static json_t *json_of_uid(const struct local_peer *peer)
{
    return peer->is_uid_known ? json_integer(peer->uid) : NULL;
}

/* Without memory the line of the stream lacks the address. */
static void connect_streams_add(struct connect_streams *streams, uint32_t number, const char *peer)
{
    struct open_stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        return;
    stream->number = number;
    stream->begun_at = gt_clock();
    snprintf(stream->peer, sizeof(stream->peer), "%s", peer);
    HASH_ADD(hh, streams->open, number, sizeof(stream->number), stream);
    if (!stream->hh.tbl)
        free(stream);
}

void connect_streams_opened(struct connect_streams *streams, const char *service, uint32_t number,
                            const struct local_peer *peer)
{
    char text[GT_ADDR_TEXT];

    streams->n_udp += is_udp(service);
    connect_streams_add(streams, number, gt_addr_text(&peer->addr, text));
    print_event(streams->print, "stream-opened", "{s:I, s:s, s:s, s:o*}", "stream",
                (json_int_t)number, "service", service, "peer", text, "uid", json_of_uid(peer));
}

/* Returns the number of lines since the last printed one in @ret, or false if none is due. */
static bool is_turned_away_due(struct connect_streams *streams, unsigned *ret_n_before)
{
    double now = gt_clock();

    if (streams->turned_away_noted_at > 0 && now < streams->turned_away_noted_at + TURNED_AWAY_S) {
        streams->n_turned_away++;
        return false;
    }
    *ret_n_before = streams->n_turned_away;
    streams->turned_away_noted_at = now;
    streams->n_turned_away = 0;
    return true;
}

void connect_streams_turned_away(struct connect_streams *streams, const char *service,
                                 const struct local_peer *peer, enum local_refusal why)
{
    static const char *const reasons[] = {
        [LOCAL_REFUSED_USER] = "another user",
        [LOCAL_REFUSED_UID] = "unknown user",
        [LOCAL_REFUSED_CLOSED] = "closed by its program",
        [LOCAL_REFUSED_LATE] = "closed by its program before its user was known",
    };
    unsigned n_before;
    char text[64], more[48] = "";

    print_event(streams->print, "stream-refused", "{s:s, s:s, s:o*}", "service", service, "reason",
                reasons[why], "uid", json_of_uid(peer));
    if (why == LOCAL_REFUSED_CLOSED || !is_turned_away_due(streams, &n_before))
        return;
    if (n_before > 0)
        snprintf(more, sizeof(more), " (%u more suppressed)", n_before);
    if (why == LOCAL_REFUSED_USER)
        snprintf(text, sizeof(text), "it is of the user with uid %u", peer->uid);
    else if (why == LOCAL_REFUSED_UID)
        snprintf(text, sizeof(text), "this system does not report its user");
    else
        snprintf(text, sizeof(text), "its program sent bytes and closed it at once");
    print_warning(streams->print,
                  "connection to %s rejected: %s; --share admits every user of this machine%s",
                  service, text, more);
}

void connect_streams_refused(struct connect_streams *streams, const char *service, int err)
{
    const char *why = err > 0 ? "too many connections" : strerror(-err);
    unsigned n_suppressed;
    char more[48] = "";

    print_event(streams->print, "stream-refused", "{s:s, s:s}", "service", service, "reason", why);
    if (!gt_log_is_allowed(&streams->refused, WARNINGS_A_SECOND, &n_suppressed))
        return;
    if (n_suppressed)
        snprintf(more, sizeof(more), " (%u more suppressed)", n_suppressed);
    print_warning(streams->print, "connection to %s rejected: %s%s", service, why, more);
}

void connect_streams_answered(struct connect_streams *streams,
                              const struct gt_extensions *extensions)
{
    char *ret = streams->services;
    size_t n = 0, cap = sizeof(streams->services);

    ret[0] = 0;
    for (size_t i = 0; i < extensions->n_services; i++) {
        const struct gt_span *name = &extensions->services[i];

        if (n + name->n + 2 + sizeof(", ...") > cap) {
            snprintf(ret + n, cap - n, ", ...");
            return;
        }
        n += (size_t)snprintf(ret + n, cap - n, "%s%.*s", n > 0 ? ", " : "", (int)name->n,
                              (const char *)name->data);
    }
}

static void print_denied(struct connect_streams *streams, const char *service)
{
    bool is_target = diagnosis_is_target(service);

    print_warning(streams->print, "%s %s %s; services: %s%s", streams->device,
                  is_target ? "does not permit" : "has no service", service,
                  streams->services[0] ? streams->services : "none",
                  is_target ? "; agent.permit on the device permits further targets" : "");
}

static void print_end(struct connect_streams *streams, const struct open_stream *stream,
                      const char *service, uint32_t number, enum gt_rst code, uint64_t n_up,
                      uint64_t n_down)
{
    struct failure failure;

    if (code == GT_RST_DENIED)
        print_denied(streams, service);
    else if (diagnosis_of_target(streams->device, service, code, &failure))
        print_warning(streams->print, "%s; %s [GTD-E%d]", failure.message, failure.hint,
                      failure.id);
    else if (gt_stream_log_is_failure(code))
        print_warning(streams->print, "connection to %s failed: %s", service, gt_rst_text(code));
    else
        print_fact(streams->print,
                   "stream=%" PRIu32 " service=%s ended peer=%s up=%" PRIu64 " down=%" PRIu64
                   " seconds=%.1f reason=\"%s\"",
                   number, service, stream ? stream->peer : "?", n_up, n_down,
                   stream ? gt_clock() - stream->begun_at : 0.,
                   code == GT_RST_NONE ? "closed" : gt_rst_text(code));
}

void connect_streams_ended(struct connect_streams *streams, const char *service, uint32_t number,
                           enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct open_stream *stream = connect_streams_find(streams, number);

    streams->n_udp -= is_udp(service);
    print_event(streams->print, "stream-ended", "{s:I, s:s, s:i, s:I, s:I}", "stream",
                (json_int_t)number, "service", service, "code", (int)code, "up", (json_int_t)n_up,
                "down", (json_int_t)n_down);
    if (gt_stream_log_end(&streams->log, code, n_up, n_down))
        print_end(streams, stream, service, number, code, n_up, n_down);
    if (stream)
        connect_streams_remove(streams, stream);
}

void connect_streams_full(struct connect_streams *streams, unsigned max)
{
    double now = gt_clock();

    if (streams->full_noted_at > 0 && now < streams->full_noted_at + FULL_AGAIN_S)
        return;
    streams->full_noted_at = now;
    print_note(streams->print, "%u connections are open, the maximum of %s: further ones wait.",
               max, streams->device);
    print_event(streams->print, "streams-full", "{s:i}", "streams", (int)max);
}
