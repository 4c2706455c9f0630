/* SPDX-License-Identifier: ISC */
/*
 * What a hostile peer may send to one end of a stream. The first byte chooses the end and what it
 * has behind it; the rest is its carrier's bytes. They are read twice, at once and in pieces, and
 * where they are cut must make no difference. Whatever comes, buffers stay within their limits and
 * an end that is over stays quiet.
 */
#include <assert.h>

#include "gotthard/stream.h"

static void prepare(struct gt_stream *s, uint8_t how)
{
    uint8_t buf[16384];
    bool is_device = how & 1;
    gt_stream_init(s, is_device ? GT_ROLE_DEVICE : GT_ROLE_OPERATOR, 1,
                   is_device   ? NULL
                   : (how & 2) ? ""
                               : "ssh",
                   GT_RING_MIN);
    gt_stream_attach(s, 1);
    if (how & 4) { /* greeted */
        struct gt_writer w = gt_writer(buf, sizeof(buf));
        gt_frame_write(&w, &(struct gt_frame){.type = GT_FRAME_HELLO,
                                              .version = 1,
                                              .stream = 1,
                                              .attempt = 1,
                                              .window = 1000,
                                              .service = gt_span_text(is_device ? "ssh" : "")});
        assert(gt_stream_consume(s, buf, w.n) == 0 && s->state == GT_STREAM_OPEN);
    }
    if (how & 8) { /* something was sent, and lost */
        assert(gt_ring_write(&s->tx, "0123456789", 10) == 0);
        assert(gt_stream_produce(s, buf, sizeof(buf)) > 0);
        gt_stream_park(s);
        gt_stream_attach(s, 2);
    }
    if (how & 16)
        gt_stream_finish(s);
    if (how & 32)
        assert(gt_stream_produce(s, buf, sizeof(buf)) > 0);
}

static void check(struct gt_stream *s)
{
    uint8_t buf[16384];
    size_t total = 0;
    assert(gt_ring_used(&s->rx) <= s->rx.capacity && gt_ring_used(&s->tx) <= s->tx.capacity);
    assert(s->tx_sent >= s->tx.head && s->tx_sent <= s->tx.tail);
    assert((s->state == GT_STREAM_BROKEN) == (s->code != GT_RST_NONE));
    for (size_t n; (n = gt_stream_produce(s, buf, sizeof(buf))) > 0; total += n)
        assert(n <= sizeof(buf));
    assert(!gt_stream_wants_carrier(s));
    assert(total < 1024 + GT_RING_MIN); /* whatever was asked, the answer is bounded */
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
    if (whole.state != GT_STREAM_BROKEN) /* data beyond the window may have come in part */
        assert(whole.rx.tail == cut.rx.tail);
    assert(whole.tx.head == cut.tx.head);
    assert(whole.carrier.due == cut.carrier.due && whole.tx_limit == cut.tx_limit);
    assert(strcmp(whole.service, cut.service) == 0);
    check(&whole);
    check(&cut);
    gt_stream_deinit(&whole);
    gt_stream_deinit(&cut);
    return 0;
}
