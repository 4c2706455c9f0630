/* SPDX-License-Identifier: ISC */
/*
 * A hostile peer of one end of a stream. The first byte selects the end and its history, the other
 * bytes arrive on its data connection. They are processed twice, at once and in pieces, and the
 * cuts must make no difference. The buffers stay within their limits, and an end that is over
 * produces no more output.
 */
#include <assert.h>

#include "gotthard/proto/stream.h"

static void prepare(struct gt_stream *s, uint8_t how)
{
    uint8_t buf[16384];
    bool is_device = how & 1;
    enum gt_stream_kind kind = how & 128 ? GT_STREAM_SHARED : GT_STREAM_OWN;

    gt_stream_init(s, is_device ? GT_ROLE_DEVICE : GT_ROLE_OPERATOR, 1, is_device ? NULL : "ssh",
                   GT_RING_MIN);
    gt_stream_attach(s, 1, kind);
    if (how & 4) { /* HELLO was exchanged */
        struct gt_writer w = gt_writer(buf, sizeof(buf));
        gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_HELLO,
                                              .version = 1,
                                              .stream = 1,
                                              .attempt = 1,
                                              .window = 1000,
                                              .service = gt_span_text(is_device ? "ssh" : "")});
        assert(gt_stream_consume(s, buf, w.n) == 0 && s->state == GT_STREAM_OPEN);
    }
    if (how & 8) { /* data was sent and lost */
        assert(gt_ring_write(&s->tx, "0123456789", 10) == 0);
        assert(gt_stream_produce(s, buf, sizeof(buf)) > 0);
        gt_stream_park(s);
        gt_stream_attach(s, 2, kind);
    }
    if (how & 16)
        gt_stream_local_end(s, GT_RST_NONE);
    if (how & 64) { /* the local socket was reset */
        gt_stream_local_stop(s, GT_RST_LOCAL);
        gt_stream_local_end(s, GT_RST_LOCAL);
    }
    if (how & 32)
        assert(gt_stream_produce(s, buf, sizeof(buf)) > 0);
}

static void check(struct gt_stream *s)
{
    uint8_t buf[16384];
    size_t total = 0;

    assert(gt_ring_used(&s->rx) <= s->rx.capacity && gt_ring_used(&s->tx) <= s->tx.capacity);
    assert(!(s->rx_stop != GT_RST_NONE && gt_ring_used(&s->rx) > 0));
    assert(s->tx_sent >= s->tx.head && s->tx_sent <= s->tx.tail);
    assert(s->state != GT_STREAM_RESET || s->code != GT_RST_NONE);
    assert(gt_stream_is_over(s) || s->code == GT_RST_NONE);
    assert(!s->is_peer_done || gt_stream_is_over(s));
    for (size_t n; (n = gt_stream_produce(s, buf, sizeof(buf))) > 0; total += n)
        assert(n <= sizeof(buf));
    assert(!gt_stream_has_output(s));
    assert(total < 1024 + GT_RING_MIN); /* the output is bounded for any input */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_stream whole, cut;

    if (n == 0)
        return 0;
    prepare(&whole, data[0]);
    prepare(&cut, data[0]);
    assert(gt_stream_consume(&whole, data + 1, n - 1) == 0);
    for (size_t at = 1, piece = 1; at < n; at += piece, piece = piece % 13 + 1)
        assert(gt_stream_consume(&cut, data + at, GT_MIN(piece, n - at)) == 0);
    assert(whole.state == cut.state && whole.code == cut.code);
    assert(whole.is_peer_done == cut.is_peer_done);
    if (whole.state != GT_STREAM_RESET) /* data beyond the window may be accepted in part */
        assert(whole.rx.tail == cut.rx.tail);
    assert(whole.tx.head == cut.tx.head);
    assert(whole.connection.due == cut.connection.due && whole.tx_limit == cut.tx_limit);
    assert(whole.tx.tail == cut.tx.tail && whole.tx_stop == cut.tx_stop);
    assert(strcmp(whole.service, cut.service) == 0);
    check(&whole);
    check(&cut);
    gt_stream_deinit(&whole);
    gt_stream_deinit(&cut);
    return 0;
}
