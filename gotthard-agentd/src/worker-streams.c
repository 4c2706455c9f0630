/* SPDX-License-Identifier: ISC */
/*
 * Streams and the dials of their targets; see the header.
 */
#include "worker-streams.h"

#include <stdio.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "gotthard/base/clock.h"
#include "gotthard/base/log.h"
#include "policy.h"
#include "service.h"
#include "udp-target.h"

/* A stream with a target, from its request to its end. */
struct worker_stream {
    UT_hash_handle hh;
    struct worker_streams *streams;
    struct gt_channel *channel;            /* the tunnel's */
    struct service *service;               /* owned, until it is connected or refused */
    struct udp_target *udp;                /* owned: once it is connected, of UDP */
    char service_name[GT_SERVICE_MAX + 1]; /* "": a permitted target */
    struct permit_target to;
    struct gt_addr addr; /* connected to, if ->source is not "" */
    uint32_t number;
    double begun_at;           /* seconds of gt_clock() */
    char source[GT_ADDR_TEXT]; /* "": not connected */
    char *why;                 /* owned: of a failure, or NULL */
};

/* --- the log ---------------------------------------------------------------------------------- */

static void worker_streams_log_sum(void *userdata, const struct gt_stream_sum *sum)
{
    const struct worker_streams *streams = userdata;

    gt_info("%-s streams=%u ended up=%llu down=%llu failed=%u reason=\"over 20 a second\"",
            streams->log_prefix, sum->n_streams, (unsigned long long)sum->n_up,
            (unsigned long long)sum->n_down, sum->n_failed);
}

static void log_connected(const struct worker_streams *streams, const struct worker_stream *stream,
                          const char *service, enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    char target[GT_ADDR_TEXT];

    gt_log(gt_stream_log_is_failure(code) ? GT_LOG_WARN : GT_LOG_INFO, 0,
           "%-s stream=%u service=%s ended target=%s source=%s up=%llu down=%llu seconds=%.1f "
           "reason=\"%s\"",
           streams->log_prefix, stream->number, service, gt_addr_text(&stream->addr, target),
           stream->source, (unsigned long long)n_up, (unsigned long long)n_down,
           gt_clock() - stream->begun_at, code == GT_RST_NONE ? "closed" : gt_rst_text(code));
}

/* @stream: NULL if the service has no target. */
static void log_unconnected(const struct worker_streams *streams, uint32_t number,
                            const struct worker_stream *stream, const char *service,
                            enum gt_rst code)
{
    char target[GT_HOST_MAX + 8] = "-";

    if (stream)
        snprintf(target, sizeof(target), "%s:%u", stream->to.to.host, stream->to.to.port);
    gt_log(gt_stream_log_is_failure(code) ? GT_LOG_WARN : GT_LOG_INFO, 0,
           "%-s stream=%u service=%s not connected target=%s seconds=%.1f reason=\"%s\" "
           "details=\"%s\"",
           streams->log_prefix, number, service, target,
           stream ? gt_clock() - stream->begun_at : 0., gt_rst_text(code),
           stream && stream->why ? stream->why : "");
}

void worker_streams_flush_log(struct worker_streams *streams)
{
    gt_stream_log_flush(&streams->log);
}

/* --- the audit -------------------------------------------------------------------------------- */

/* @stream: NULL if the service has no target. */
static void fill_event(const struct worker_stream *stream, const char *service,
                       struct worker_event *ret)
{
    gt_text_shorten(service, ret->service, sizeof(ret->service));
    if (!stream)
        return;
    ret->seconds = (uint32_t)(gt_clock() - stream->begun_at);
    snprintf(ret->source, sizeof(ret->source), "%s", stream->source);
    if (stream->source[0])
        gt_addr_text(&stream->addr, ret->target);
    else
        snprintf(ret->target, sizeof(ret->target), "%s:%u", stream->to.to.host, stream->to.to.port);
}

static void send_dialled(const struct worker_stream *stream)
{
    struct worker_event event = {.kind = WORKER_STREAM_DIALLED, .stream = stream->number};

    fill_event(stream, gt_channel_service(stream->channel), &event);
    worker_events_send(stream->streams->events, &event);
}

static void send_ended(const struct worker_streams *streams, uint32_t number,
                       const struct worker_stream *stream, const char *service, enum gt_rst code,
                       uint64_t n_up, uint64_t n_down)
{
    struct worker_event event = {
        .kind = WORKER_STREAM_ENDED, .stream = number, .n_up = n_up, .n_down = n_down};
    const char *why = code == GT_RST_NONE ? "closed" : gt_rst_text(code);

    fill_event(stream, service, &event);
    gt_text_shorten(stream && stream->why ? stream->why : why, event.why, sizeof(event.why));
    worker_events_send(streams->events, &event);
}

/* --- life ------------------------------------------------------------------------------------- */

void worker_streams_init(struct worker_streams *streams, struct ev_loop *loop,
                         const char *log_prefix, const struct worker_grant *grant,
                         struct worker_events *events, unsigned dial_timeout_ms)
{
    *streams = (struct worker_streams){.loop = loop,
                                       .log_prefix = log_prefix,
                                       .grant = grant,
                                       .events = events,
                                       .audit = -1,
                                       .dial_timeout_ms = dial_timeout_ms};
    gt_stream_log_init(&streams->log, loop, worker_streams_log_sum, streams);
}

static void worker_stream_free(struct worker_stream *stream)
{
    HASH_DEL(stream->streams->open, stream);
    service_free(stream->service);
    udp_target_free(stream->udp);
    free(stream->why);
    free(stream);
}

void worker_streams_deinit(struct worker_streams *streams)
{
    struct worker_stream *stream, *next;

    worker_streams_flush_log(streams);
    gt_close(&streams->audit);
    HASH_ITER (hh, streams->open, stream, next)
        worker_stream_free(stream);
}

static struct worker_stream *worker_streams_find(const struct worker_streams *streams,
                                                 uint32_t number)
{
    struct worker_stream *stream;

    HASH_FIND(hh, streams->open, &number, sizeof(number), stream);
    return stream;
}

/* --- the beginning and the end ---------------------------------------------------------------- */

static void worker_stream_note_result(struct worker_stream *stream,
                                      const struct service_result *result)
{
    struct gt_addr local;

    if (result->fd < 0) {
        stream->why = strdup(result->why); /* without memory the line lacks it */
        return;
    }
    stream->addr = *result->addr;
    snprintf(stream->source, sizeof(stream->source), "?");
    if (gt_sock_local(result->fd, &local) == 0)
        gt_addr_text(&local, stream->source);
}

/* The stream ends by itself when its socket is closed; a refusal resets it. */
static void worker_stream_on_udp_end(void *userdata, bool is_refused)
{
    struct worker_stream *stream = userdata;

    stream->udp = udp_target_free(stream->udp);
    if (is_refused)
        gt_channel_reject(stream->channel, GT_RST_REFUSED);
}

/* Takes @fd. */
static void worker_stream_serve_udp(struct worker_stream *stream, int fd)
{
    int end;

    if (udp_target_new(stream->streams->loop, fd, worker_stream_on_udp_end, stream, &stream->udp,
                       &end) != 0)
        gt_channel_reject(stream->channel, GT_RST_INTERNAL);
    else
        gt_channel_serve(stream->channel, end);
}

static bool worker_stream_is_granted(const struct worker_stream *stream)
{
    struct target service = {.address = stream->to.to};

    memcpy(service.name, stream->service_name, sizeof(service.name));
    if (service.name[0])
        return worker_grant_has_service(stream->streams->grant, &service);
    return worker_grant_has_target(stream->streams->grant, &stream->to,
                                   stream->source[0] ? &stream->addr : NULL);
}

static void worker_stream_on_dial_done(void *userdata, struct service *service,
                                       const struct service_result *result)
{
    struct worker_stream *stream = userdata;
    int fd = result->fd;
    enum gt_rst code = result->code;

    worker_stream_note_result(stream, result);
    stream->service = service_free(service);
    if (fd >= 0 && !worker_stream_is_granted(stream)) {
        close(fd);
        gt_channel_reject(stream->channel, GT_RST_WITHDRAWN);
        return;
    }
    if (fd >= 0)
        send_dialled(stream);
    if (fd < 0)
        gt_channel_reject(stream->channel, code);
    else if (stream->to.is_udp)
        worker_stream_serve_udp(stream, fd);
    else
        gt_channel_serve(stream->channel, fd);
}

/* Returns NULL without memory. */
static struct worker_stream *worker_streams_add(struct worker_streams *streams, uint32_t number)
{
    struct worker_stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        return NULL;
    stream->streams = streams;
    stream->number = number;
    HASH_ADD(hh, streams->open, number, sizeof(stream->number), stream);
    if (stream->hh.tbl)
        return stream;
    free(stream);
    return NULL;
}

/* @service: NULL for a permitted target. */
static int worker_streams_dial(struct worker_streams *streams, struct gt_channel *channel,
                               const struct permit_target *target, const struct target *service)
{
    struct service_settings settings = {.target = target,
                                        .permit = service ? NULL : &streams->grant->permit,
                                        .timeout_ms = streams->dial_timeout_ms};
    struct worker_stream *stream = worker_streams_add(streams, gt_channel_number(channel));

    if (!stream)
        return -ENOMEM;
    stream->channel = channel;
    stream->to = *target;
    if (service)
        snprintf(stream->service_name, sizeof(stream->service_name), "%s", service->name);
    stream->begun_at = gt_clock();
    int r =
        service_new(streams->loop, &settings, worker_stream_on_dial_done, stream, &stream->service);
    if (r)
        stream->why = strdup(strerror(-r));
    return r;
}

void worker_streams_open(struct worker_streams *streams, struct gt_channel *channel,
                         const char *text)
{
    const struct worker_grant *grant = streams->grant;
    const struct target *service = targets_resolve(&grant->services, text);
    struct permit_target target;
    int r;

    streams->n_streams++;
    if (service && strcmp(service->name, POLICY_AUDIT) == 0) {
        if (streams->audit >= 0)
            gt_channel_serve(channel, gt_steal_fd(&streams->audit));
        else
            gt_channel_reject(channel, GT_RST_DENIED); /* it can be read once */
        return;
    }
    if (service) {
        target = (struct permit_target){service->address, target_udp(service->name) != NULL};
        r = worker_streams_dial(streams, channel, &target, service);
    } else if (permit_split(text, &target) && worker_grant_has_target(grant, &target, NULL)) {
        r = worker_streams_dial(streams, channel, &target, NULL);
    } else {
        gt_channel_reject(channel, targets_resolve(&grant->withdrawn, text) ? GT_RST_WITHDRAWN
                                                                            : GT_RST_DENIED);
        return;
    }
    if (r)
        gt_channel_reject(channel, GT_RST_INTERNAL);
}

void worker_streams_recheck(struct worker_streams *streams)
{
    struct worker_stream *stream, *next;

    HASH_ITER (hh, streams->open, stream, next) {
        if (worker_stream_is_granted(stream))
            continue;
        stream->service = service_free(stream->service);
        gt_channel_abort(stream->channel, GT_RST_WITHDRAWN);
    }
}

/* A stream whose HELLO was rejected has no service, and no line. */
static void worker_streams_log_end(struct worker_streams *streams, uint32_t number,
                                   const struct worker_stream *stream, const char *service,
                                   enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    if (strcmp(service, POLICY_AUDIT) == 0) {
        gt_info("%-s stream=%u service=%s ended down=%llu", streams->log_prefix, number, service,
                (unsigned long long)n_down);
        return;
    }
    if (!*service || !gt_stream_log_end(&streams->log, code, n_up, n_down))
        return;
    if (stream && stream->source[0])
        log_connected(streams, stream, service, code, n_up, n_down);
    else
        log_unconnected(streams, number, stream, service, code);
}

void worker_streams_end(struct worker_streams *streams, const char *service, uint32_t number,
                        enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct worker_stream *stream = worker_streams_find(streams, number);

    streams->n_up += n_up;
    streams->n_down += n_down;
    if (service && *service)
        send_ended(streams, number, stream, service, code, n_up, n_down);
    worker_streams_log_end(streams, number, stream, service ? service : "", code, n_up, n_down);
    if (stream)
        worker_stream_free(stream);
}
