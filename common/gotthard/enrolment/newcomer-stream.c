/* SPDX-License-Identifier: ISC */
/*
 * The stream of a newcomer: the request, the answer, and the result of its installation. Must never
 * hand over an answer that does not open, and never a second one.
 */
#include <stdio.h>
#include <sys/socket.h>

#include "gotthard/enrolment/newcomer-internal.h"

/* --- the stream: output ----------------------------------------------------------------------- */

static void newcomer_watch(struct gt_newcomer *newcomer)
{
    int events = EV_READ | (newcomer->n_sent < newcomer->n_out ? EV_WRITE : 0);

    if ((newcomer->state != NEWCOMER_ASKING && newcomer->state != NEWCOMER_REPORTING) ||
        events == (newcomer->io.events & ~EV__IOFDSET))
        return;
    ev_io_stop(newcomer->loop, &newcomer->io);
    ev_io_set(&newcomer->io, newcomer->fd, events);
    ev_io_start(newcomer->loop, &newcomer->io);
}

void newcomer_queue(struct gt_newcomer *newcomer, enum gt_enrolment_frame type, size_t n)
{
    gt_enrolment_write_head(type, n, newcomer->out);
    newcomer->n_out = GT_ENROLMENT_HEAD + n;
    newcomer->n_sent = 0;
}

static void newcomer_on_sent(struct gt_newcomer *newcomer)
{
    if (newcomer->state == NEWCOMER_ASKING)
        newcomer->events.on_requested(newcomer->userdata);
    else
        shutdown(newcomer->fd, SHUT_WR); /* and wait for the operator to end the stream */
}

static void newcomer_write(struct gt_newcomer *newcomer)
{
    ssize_t n = send(newcomer->fd, newcomer->out + newcomer->n_sent,
                     newcomer->n_out - newcomer->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) /* a broken stream is reported by a read */
        return;
    newcomer->n_sent += (size_t)n;
    if (newcomer->n_sent == newcomer->n_out)
        newcomer_on_sent(newcomer);
}

/* --- the stream: input ------------------------------------------------------------------------ */

static bool newcomer_open(struct gt_newcomer *newcomer, uint8_t *plain, struct gt_bundle *ret,
                          char *ret_why)
{
    size_t n = 0;
    int r = gt_enrolment_answer_open(&newcomer->pending, gt_span(newcomer->body, newcomer->n_body),
                                     plain, &n);

    newcomer->end = r < 0 ? GT_NEWCOMER_INTERNAL : GT_NEWCOMER_FORGED;
    if (r)
        return false;
    newcomer->end = GT_NEWCOMER_NOT_INSTALLED;
    return gt_bundle_decode(gt_span(plain, n), ret, ret_why) == 0 &&
           gt_bundle_check(ret, false, ret_why) == 0;
}

static void newcomer_report(struct gt_newcomer *newcomer)
{
    size_t n = gt_enrolment_write_result(newcomer->end == GT_NEWCOMER_INSTALLED, newcomer->why,
                                         newcomer->out + GT_ENROLMENT_HEAD);

    newcomer_queue(newcomer, GT_ENROLMENT_RESULT, n);
    newcomer_enter(newcomer, NEWCOMER_REPORTING);
}

static void newcomer_on_answer(struct gt_newcomer *newcomer)
{
    size_t n = newcomer->n_body;
    uint8_t *plain = malloc(GT_MAX(n, (size_t)1));
    char why[GT_ENROLMENT_TEXT_MAX + 1] = "";
    struct gt_bundle bundle = {0};

    newcomer_set_end(newcomer, GT_NEWCOMER_INTERNAL, "");
    if (plain && newcomer_open(newcomer, plain, &bundle, why)) {
        bool is_of_kind = bundle.kind == newcomer->kind;

        if (!is_of_kind)
            snprintf(why, sizeof(why), "the bundle is for a new %s",
                     gt_token_kind_text(bundle.kind));
        else if (newcomer->events.on_bundle(newcomer->userdata, &bundle, why))
            newcomer->end = GT_NEWCOMER_INSTALLED;
    }
    if (plain)
        gt_wipe(plain, n);
    free(plain);
    snprintf(newcomer->why, sizeof(newcomer->why), "%s", why);
    if (newcomer->end == GT_NEWCOMER_INSTALLED || newcomer->end == GT_NEWCOMER_NOT_INSTALLED)
        newcomer_report(newcomer);
    else
        newcomer_close(newcomer);
}

static void newcomer_on_frame(struct gt_newcomer *newcomer)
{
    char text[GT_ENROLMENT_TEXT_MAX + 1];

    if (newcomer->type == GT_ENROLMENT_ANSWER) {
        newcomer_on_answer(newcomer);
        return;
    }
    gt_text_escape(gt_span(newcomer->body, newcomer->n_body), text, sizeof(text));
    newcomer_finish(newcomer, GT_NEWCOMER_REJECTED, text);
}

/* A head is complete: makes room for its body. */
static bool newcomer_on_head(struct gt_newcomer *newcomer)
{
    if (gt_enrolment_read_head(newcomer->head, &newcomer->type, &newcomer->n_body) != 0 ||
        (newcomer->type != GT_ENROLMENT_ANSWER && newcomer->type != GT_ENROLMENT_REJECTION)) {
        newcomer_finish(newcomer, GT_NEWCOMER_FORGED, "malformed answer");
        return false;
    }
    newcomer->body = malloc(GT_MAX(newcomer->n_body, (size_t)1));
    if (newcomer->body)
        return true;
    newcomer_finish(newcomer, GT_NEWCOMER_INTERNAL, "out of memory");
    return false;
}

/* Returns where the next bytes go. */
static uint8_t *newcomer_room(struct gt_newcomer *newcomer, size_t *ret_n)
{
    if (!newcomer->body) {
        *ret_n = GT_ENROLMENT_HEAD - newcomer->n_head;
        return newcomer->head + newcomer->n_head;
    }
    *ret_n = newcomer->n_body - newcomer->n_read;
    return newcomer->body + newcomer->n_read;
}

/* @n more bytes were read into the room. */
static void newcomer_advance(struct gt_newcomer *newcomer, size_t n)
{
    if (!newcomer->body) {
        newcomer->n_head += n;
        if (newcomer->n_head < GT_ENROLMENT_HEAD || !newcomer_on_head(newcomer))
            return;
    } else {
        newcomer->n_read += n;
    }
    if (newcomer->n_read == newcomer->n_body)
        newcomer_on_frame(newcomer);
}

/* Without an answer the end of the session has the reason, and comes soon. */
static void newcomer_on_stream_over(struct gt_newcomer *newcomer)
{
    if (newcomer->state == NEWCOMER_REPORTING)
        newcomer_close(newcomer);
    else
        newcomer_enter(newcomer, NEWCOMER_HUNG_UP);
}

/* After the answer only the end of the stream is awaited. */
static void newcomer_read(struct gt_newcomer *newcomer)
{
    uint8_t ignored[64];
    size_t n_room = sizeof(ignored);
    bool is_asking = newcomer->state == NEWCOMER_ASKING;
    uint8_t *room = is_asking ? newcomer_room(newcomer, &n_room) : ignored;
    ssize_t n = recv(newcomer->fd, room, n_room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        newcomer_on_stream_over(newcomer);
    else if (is_asking)
        newcomer_advance(newcomer, (size_t)n);
}

static void newcomer_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
    struct gt_newcomer *newcomer = io->data;

    if (revents & EV_WRITE)
        newcomer_write(newcomer);
    if (revents & EV_READ)
        newcomer_read(newcomer);
    newcomer_watch(newcomer);
}

void newcomer_start_stream(struct gt_newcomer *newcomer, int fd)
{
    newcomer->fd = fd;
    newcomer_enter(newcomer, NEWCOMER_ASKING);
    ev_io_set(&newcomer->io, fd, EV_READ | EV_WRITE);
    ev_io_start(newcomer->loop, &newcomer->io);
}

void newcomer_init_stream(struct gt_newcomer *newcomer)
{
    newcomer->fd = -1;
    ev_init(&newcomer->io, newcomer_on_io);
    newcomer->io.data = newcomer;
}
