/* SPDX-License-Identifier: ISC */
/*
 * Resume policy of a stream: the meaning of the receive offset in the peer's HELLO or ACK for our
 * sending direction. It decides which bytes may be released, from where to send again, and whether
 * the two ends still agree. Pure decisions on numbers. See docs/protocol.md, section 4.
 *
 *    acked             sent         read
 *      |--- in flight ---|- unsent ---|        acked <= sent <= read
 *
 * The end of the direction takes one place in the sequence, as a FIN does in TCP (RFC 9293, section
 * 3.4): it is acknowledged by the offset after the last byte.
 */
#pragma once

#include "gotthard/base/base.h"

/* One sending direction. */
struct gt_resume {
    uint64_t acked;    /* offset of the first byte that the peer has not acknowledged */
    uint64_t sent;     /* offset of the next byte to send */
    uint64_t read;     /* end of the bytes read from the local socket */
    bool is_end_sent;  /* on this or an earlier data connection */
    bool is_end_acked; /* also all bytes are, then */
};

/* The consequences of an acknowledgement. */
struct gt_resume_ack {
    size_t n_released; /* oldest bytes, which need not be kept */
    bool is_end_acked;
    uint64_t send_from; /* after a HELLO: offset of the first byte to send again */
};

enum {
    GT_RESUME_E_LOST = 1, /* the peer lost bytes that it had acknowledged */
    GT_RESUME_E_UNSENT,   /* the peer claims bytes, or an END, that were never sent */
};

/* Returns the receive offset to announce for the other direction: @n_received bytes, and the END as
 * soon as the local socket got the end of file. */
static inline uint64_t gt_resume_offset(uint64_t n_received, bool is_end_delivered)
{
    return n_received + is_end_delivered;
}

/* Returns true if nothing may be sent on a new data connection before the peer's HELLO: something
 * was sent before, and only the peer knows how much of it arrived. */
bool gt_resume_must_wait(const struct gt_resume *resume);
/* Evaluates the receive offset @offset of a HELLO or ACK. Returns 0 or GT_RESUME_E_x. */
int gt_resume_evaluate(const struct gt_resume *resume, uint64_t offset,
                       struct gt_resume_ack *ret) GT_MUST_CHECK;
