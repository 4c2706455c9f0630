/* SPDX-License-Identifier: ISC */
/*
 * The two buffers of a control connection. Frames carry tickets: what has been sent is wiped.
 */
#include "wire.h"

#include <sys/socket.h>

#define OUT_MIN 512 /* nearly every answer fits */

static void wire_give_up_in(struct wire *wire)
{
    if (wire->in)
        gt_wipe(wire->in, WIRE_IN);
    free(wire->in);
    wire->in = NULL;
    wire->n_in = 0;
}

static void wire_give_up_out(struct wire *wire)
{
    if (wire->out)
        gt_wipe(wire->out, wire->n_out);
    free(wire->out);
    wire->out = NULL;
    wire->n_out = wire->n_room = 0;
}

void wire_deinit(struct wire *wire)
{
    wire->tls = gt_tls_free(wire->tls);
    gt_close(&wire->fd);
    wire_give_up_in(wire);
    wire_give_up_out(wire);
}

/* The queue goes into one record, once the one before it is out. */
int wire_flush(struct wire *wire)
{
    int r = gt_tls_flush(wire->tls);

    if (r == 0 && wire->n_out) {
        r = gt_tls_write(wire->tls, wire->out, wire->n_out);
        if (r == 0) {
            wire_give_up_out(wire);
            r = gt_tls_flush(wire->tls);
        }
    }
    return r == 0 || r == GT_TLS_E_AGAIN ? 0 : WIRE_E_BROKEN;
}

/* Room for @n bytes more in the queue, or none. */
static bool wire_make_room(struct wire *wire, size_t n)
{
    size_t n_room = GT_MAX(wire->n_room, (size_t)OUT_MIN);

    while (n_room < wire->n_out + n)
        n_room *= 2;
    if (n_room == wire->n_room)
        return true;
    uint8_t *out = n_room <= WIRE_OUT ? malloc(n_room) : NULL;
    if (!out)
        return false;
    size_t n_out = wire->n_out;
    if (n_out)
        memcpy(out, wire->out, n_out);
    wire_give_up_out(wire);
    wire->out = out;
    wire->n_out = n_out;
    wire->n_room = n_room;
    return true;
}

int wire_send(struct wire *wire, const struct gt_control_frame *frame)
{
    uint8_t bytes[GT_CONTROL_FRAME_MAX];
    size_t n = gt_control_encode(frame, bytes);

    /* One turn may have more to say than the queue holds: TLS has room for eight of them. */
    bool is_room = wire_make_room(wire, n) || (!wire_flush(wire) && wire_make_room(wire, n));
    if (is_room) {
        memcpy(wire->out + wire->n_out, bytes, n);
        wire->n_out += n;
    }
    gt_wipe(bytes, n);
    return is_room ? 0 : WIRE_E_FULL;
}

bool wire_wants_write(const struct wire *wire)
{
    return wire->tls && gt_tls_wants_write(wire->tls);
}

bool wire_has_room(struct wire *wire)
{
    if (wire->n_out < WIRE_OUT_STOP)
        return true;
    return wire_flush(wire) == 0 && wire->n_out < WIRE_OUT_STOP;
}

int wire_decode(struct wire *wire, struct gt_control_frame *ret)
{
    int r = wire->n_in ? GT_CONTROL_E_UNKNOWN : GT_CONTROL_E_SHORT;

    while (r == GT_CONTROL_E_UNKNOWN) {
        size_t used = 0;
        r = gt_control_decode(wire->in, wire->n_in, ret, &used);
        wire->n_in -= used;
        memmove(wire->in, wire->in + used, wire->n_in);
    }
    if (r == GT_CONTROL_E_SHORT)
        return WIRE_E_AGAIN;
    return r ? WIRE_E_BAD : 0;
}

int wire_read(struct wire *wire)
{
    size_t n = 0;

    if (!wire->in && !(wire->in = malloc(WIRE_IN)))
        return WIRE_E_BROKEN;
    int r = gt_tls_read(wire->tls, wire->in + wire->n_in, WIRE_IN - wire->n_in, &n);
    if (r && !wire->n_in)
        wire_give_up_in(wire);
    if (r == GT_TLS_E_AGAIN)
        return WIRE_E_AGAIN;
    if (r)
        return r == GT_TLS_E_CLOSED ? WIRE_E_CLOSED : WIRE_E_BROKEN;
    wire->n_in += n;
    return 0;
}

int wire_finish(struct wire *wire)
{
    if (wire_flush(wire))
        return WIRE_E_BROKEN;
    if (wire->n_out || wire_wants_write(wire))
        return 0;
    gt_tls_close(wire->tls);
    if (!wire_wants_write(wire))
        shutdown(wire->fd, SHUT_WR);
    return 0;
}

int wire_linger(struct wire *wire)
{
    uint8_t waste[4096];
    ssize_t n = recv(wire->fd, waste, sizeof(waste), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return WIRE_E_CLOSED;
    return WIRE_E_AGAIN;
}
