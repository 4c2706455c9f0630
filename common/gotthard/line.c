/* SPDX-License-Identifier: ISC */
/* Frames in place: nothing is allocated, and a ticket's secret does not outlive its callback. */
#include "gotthard/line.h"

#define READ_BUDGET (64 * 1024)

void gt_line_disconnect(struct gt_line *line)
{
    if (line->tls)
        gt_tls_close(line->tls);
    line->tls = gt_tls_free(line->tls);
}

void gt_line_deinit(struct gt_line *line)
{
    gt_line_disconnect(line);
    gt_wipe(line->in, sizeof line->in);
}

/* The two return values of TLS that a line knows. */
static int condition_of(int tls_result)
{
    switch (tls_result) {
    case 0: return 0;
    case GT_TLS_E_AGAIN: return GT_LINE_E_AGAIN;
    case GT_TLS_E_CLOSED: return GT_LINE_E_CLOSED;
    default: return GT_LINE_E_BROKEN;
    }
}

int gt_line_send(struct gt_line *line)
{
    if (line->n_out > 0) {
        int r = gt_tls_write(line->tls, line->out, line->n_out);
        if (r)
            return condition_of(r);
        line->n_out = 0;
    }
    return condition_of(gt_tls_flush(line->tls));
}

int gt_line_queue(struct gt_line *line, const struct gt_control_frame *frame, size_t spare)
{
    uint8_t encoded[GT_CONTROL_FRAME_MAX];
    size_t n = gt_control_encode(frame, encoded);
    if (n + spare > sizeof line->out - line->n_out)
        return GT_LINE_E_FULL;
    memcpy(line->out + line->n_out, encoded, n);
    line->n_out += n;
    return 0;
}

/* Keeps what follows the first @n bytes. */
static void line_consume(struct gt_line *line, size_t n)
{
    line->n_in -= n;
    memmove(line->in, line->in + n, line->n_in);
    gt_wipe(line->in + line->n_in, n);
}

static int line_parse(struct gt_line *line, gt_line_frame_fn on_frame, void *userdata)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_PONG};
    bool is_heard = true;
    size_t at = 0, used;
    int r = 0;
    while (is_heard && (r == 0 || r == GT_CONTROL_E_UNKNOWN)) {
        r = gt_control_decode(line->in + at, line->n_in - at, &frame, &used);
        if (r == 0 || r == GT_CONTROL_E_UNKNOWN)
            at += used;
        if (r == 0)
            is_heard = on_frame(userdata, &frame);
    }
    gt_wipe(&frame, sizeof frame);
    line_consume(line, at);
    if (!is_heard)
        return GT_LINE_E_HUNG_UP;
    return r == GT_CONTROL_E_BAD ? GT_LINE_E_BAD : 0;
}

int gt_line_receive(struct gt_line *line, gt_line_frame_fn on_frame, void *userdata)
{
    int r = 0;
    for (size_t n_read = 0, n; r == 0 && n_read < READ_BUDGET; n_read += n) {
        r = gt_tls_read(line->tls, line->in + line->n_in, sizeof line->in - line->n_in, &n);
        if (r)
            return condition_of(r);
        line->n_in += n;
        line->n_received += n;
        r = line_parse(line, on_frame, userdata);
        /* Answers leave as fast as questions come; a socket that is full is the watcher's. */
        if (r == 0 && line->n_out > sizeof line->out / 2 && gt_line_send(line) == GT_LINE_E_AGAIN)
            r = gt_line_wants_read(line) ? 0 : GT_LINE_E_AGAIN;
    }
    return r;
}

bool gt_line_has_pending(const struct gt_line *line)
{
    return line->tls && gt_tls_has_pending(line->tls);
}

bool gt_line_is_stuck(const struct gt_line *line)
{
    return line->tls && gt_tls_wants_write(line->tls);
}

bool gt_line_wants_write(const struct gt_line *line)
{
    return line->n_out > 0 || gt_line_is_stuck(line);
}

bool gt_line_wants_read(const struct gt_line *line)
{
    /* One reading's worth of PINGs must find room for its PONGs. */
    return line->n_out + sizeof line->in <= sizeof line->out;
}
