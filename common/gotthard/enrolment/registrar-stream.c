/* SPDX-License-Identifier: ISC */
/*
 * The stream of a registrar ends at a pair of sockets in this process, so that the exchange is
 * plain reads and writes. Must never hand over a request that was not checked, nor answer twice.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/enrolment/registrar-internal.h"

/* --- output ----------------------------------------------------------------------------------- */

static void registrar_watch(struct gt_registrar *registrar)
{
    bool is_sending = registrar->state == REGISTRAR_SENDING;
    int events = EV_READ | (is_sending ? EV_WRITE : 0);

    if (registrar->state >= REGISTRAR_CLOSING || registrar->fd < 0)
        return;
    ev_io_stop(registrar->loop, &registrar->io);
    ev_io_set(&registrar->io, registrar->fd, events);
    ev_io_start(registrar->loop, &registrar->io);
}

static int registrar_send(struct gt_registrar *registrar, enum gt_enrolment_frame type, size_t n)
{
    registrar->out = malloc(GT_ENROLMENT_HEAD + n);
    if (!registrar->out)
        return -ENOMEM;
    gt_enrolment_write_head(type, n, registrar->out);
    registrar->n_out = GT_ENROLMENT_HEAD + n;
    registrar->is_answer = type == GT_ENROLMENT_ANSWER;
    return 0;
}

static void registrar_write(struct gt_registrar *registrar)
{
    ssize_t n = send(registrar->fd, registrar->out + registrar->n_sent,
                     registrar->n_out - registrar->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) /* a broken stream is reported by a read */
        return;
    registrar->n_sent += (size_t)n;
    if (registrar->n_sent < registrar->n_out)
        return;
    registrar->n_head = registrar->n_read = 0;
    registrar_enter(registrar, REGISTRAR_RESULT);
    if (!registrar->is_answer)
        shutdown(registrar->fd, SHUT_WR); /* the newcomer ends the stream */
}

int gt_registrar_answer(struct gt_registrar *registrar, uint8_t private_key[static GT_KEY_SIZE],
                        struct gt_span bundle)
{
    if (registrar->state != REGISTRAR_DECIDING)
        return 0;
    int r = registrar_send(registrar, GT_ENROLMENT_ANSWER, bundle.n + GT_SEAL_OVERHEAD);
    if (r == 0)
        r = gt_enrolment_answer_make(&registrar->token, private_key, &registrar->request, bundle,
                                     registrar->out + GT_ENROLMENT_HEAD);
    gt_wipe(private_key, GT_KEY_SIZE);
    if (r != 0) {
        free(gt_steal(&registrar->out));
        return r;
    }
    registrar_enter(registrar, REGISTRAR_SENDING);
    registrar_watch(registrar);
    return 0;
}

void gt_registrar_reject(struct gt_registrar *registrar, const char *why)
{
    size_t n = GT_MIN(strlen(why), (size_t)GT_ENROLMENT_TEXT_MAX);

    if (registrar->state != REGISTRAR_DECIDING)
        return;
    snprintf(registrar->why, sizeof(registrar->why), "%s", why);
    if (registrar_send(registrar, GT_ENROLMENT_REJECTION, n) != 0) {
        registrar_close(registrar, GT_REGISTRAR_REJECTED, NULL);
        return;
    }
    memcpy(registrar->out + GT_ENROLMENT_HEAD, why, n);
    registrar_enter(registrar, REGISTRAR_SENDING);
    registrar_watch(registrar);
}

/* --- input ------------------------------------------------------------------------------------ */

static void registrar_on_request(struct gt_registrar *registrar)
{
    char why[GT_ENROLMENT_WHY] = "";
    int r = gt_enrolment_request_open(&registrar->token, gt_span(registrar->in, registrar->n_body),
                                      &registrar->request, why);

    if (r != 0) {
        registrar_close(registrar, r < 0 ? GT_REGISTRAR_INTERNAL : GT_REGISTRAR_MALFORMED,
                        r < 0 ? strerror(-r) : why);
        return;
    }
    registrar_enter(registrar, REGISTRAR_DECIDING);
    registrar->events.on_request(registrar->userdata, &registrar->request);
}

static void registrar_on_result(struct gt_registrar *registrar)
{
    char text[GT_ENROLMENT_TEXT_MAX + 1] = "";
    bool is_installed = false;
    int r = gt_enrolment_read_result(gt_span(registrar->result, registrar->n_body), &is_installed,
                                     text);

    registrar_close(registrar,
                    r != 0         ? GT_REGISTRAR_UNCONFIRMED
                    : is_installed ? GT_REGISTRAR_INSTALLED
                                   : GT_REGISTRAR_NOT_INSTALLED,
                    text);
}

/* Returns where the next bytes of a body go, for the only frame that this state expects. */
static uint8_t *registrar_room(struct gt_registrar *registrar, size_t *ret_n)
{
    if (registrar->n_head < GT_ENROLMENT_HEAD) {
        *ret_n = GT_ENROLMENT_HEAD - registrar->n_head;
        return registrar->head + registrar->n_head;
    }
    *ret_n = registrar->n_body - registrar->n_read;
    return (registrar->state == REGISTRAR_READING ? registrar->in : registrar->result) +
           registrar->n_read;
}

static bool registrar_on_head(struct gt_registrar *registrar)
{
    bool is_reading = registrar->state == REGISTRAR_READING;
    enum gt_enrolment_frame type = GT_ENROLMENT_ANSWER;

    if (gt_enrolment_read_head(registrar->head, &type, &registrar->n_body) == 0 &&
        type == (is_reading ? GT_ENROLMENT_REQUEST : GT_ENROLMENT_RESULT))
        return true;
    registrar_close(registrar, is_reading ? GT_REGISTRAR_MALFORMED : GT_REGISTRAR_UNCONFIRMED,
                    "a message of another kind");
    return false;
}

static void registrar_advance(struct gt_registrar *registrar, size_t n)
{
    if (registrar->n_head < GT_ENROLMENT_HEAD) {
        registrar->n_head += n;
        if (registrar->n_head < GT_ENROLMENT_HEAD || !registrar_on_head(registrar))
            return;
    } else {
        registrar->n_read += n;
    }
    if (registrar->n_read < registrar->n_body)
        return;
    if (registrar->state == REGISTRAR_READING)
        registrar_on_request(registrar);
    else
        registrar_on_result(registrar);
}

/* The stream is over before its last frame. */
static void registrar_on_stream_over(struct gt_registrar *registrar)
{
    bool is_decided = registrar->state > REGISTRAR_DECIDING;

    if (is_decided && !registrar->is_answer)
        registrar_close(registrar, GT_REGISTRAR_REJECTED, NULL);
    else if (is_decided)
        registrar_close(registrar, GT_REGISTRAR_UNCONFIRMED, "the newcomer broke off");
    else
        registrar_close(registrar, GT_REGISTRAR_BROKEN, "the newcomer broke off");
}

/* A request is read once: any byte behind it ends the session. */
static void registrar_read(struct gt_registrar *registrar)
{
    bool is_expecting = registrar->state == REGISTRAR_READING ||
                        (registrar->state == REGISTRAR_RESULT && registrar->is_answer);
    uint8_t extra[1];
    size_t n_room = sizeof(extra);
    uint8_t *room = is_expecting ? registrar_room(registrar, &n_room) : extra;
    ssize_t n = recv(registrar->fd, room, n_room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        registrar_on_stream_over(registrar);
    else if (is_expecting)
        registrar_advance(registrar, (size_t)n);
    else
        registrar_close(registrar, GT_REGISTRAR_MALFORMED, "a second request");
}

static void registrar_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
    struct gt_registrar *registrar = io->data;

    if (revents & EV_READ)
        registrar_read(registrar);
    if ((revents & EV_WRITE) && registrar->state == REGISTRAR_SENDING)
        registrar_write(registrar);
    registrar_watch(registrar);
}

void registrar_init_stream(struct gt_registrar *registrar)
{
    registrar->fd = -1;
    ev_init(&registrar->io, registrar_on_io);
    registrar->io.data = registrar;
}

void registrar_start_stream(struct gt_registrar *registrar, int fd)
{
    registrar->fd = fd;
    registrar_enter(registrar, REGISTRAR_READING);
    registrar_watch(registrar);
}

void registrar_stop_stream(struct gt_registrar *registrar)
{
    ev_io_stop(registrar->loop, &registrar->io);
}

void registrar_deinit_stream(struct gt_registrar *registrar)
{
    registrar_stop_stream(registrar);
    gt_close(&registrar->fd);
    free(registrar->out);
}
