/* SPDX-License-Identifier: ISC */
/* Two ends of a stream without a network between them, for unit tests. */
#pragma once

#include "gotthard/proto/stream.h"

/* Two connected ends: operator and device. */
struct pair {
    struct gt_stream o, d;
};

static inline void pair_init(struct pair *p, const char *service)
{
    gt_stream_init(&p->o, GT_ROLE_OPERATOR, 3, service, 64 * 1024);
    gt_stream_init(&p->d, GT_ROLE_DEVICE, 3, NULL, 64 * 1024);
    gt_stream_attach(&p->o, 1, GT_STREAM_OWN);
    gt_stream_attach(&p->d, 1, GT_STREAM_OWN);
}

static inline void pair_deinit(struct pair *p)
{
    gt_stream_deinit(&p->o);
    gt_stream_deinit(&p->d);
}

/* Transfers all output of @from to @to. Returns the number of bytes. */
static inline size_t transfer(struct gt_stream *from, struct gt_stream *to)
{
    uint8_t buf[16384];
    size_t total = 0;

    for (size_t n; (n = gt_stream_produce(from, buf, sizeof(buf))) > 0; total += n)
        assert_int_equal(gt_stream_consume(to, buf, n), 0);
    return total;
}

static inline void transfer_all(struct pair *p)
{
    while (transfer(&p->o, &p->d) + transfer(&p->d, &p->o) > 0)
        ;
}

static inline void local_write(struct gt_stream *s, const char *text)
{
    assert_int_equal(gt_ring_write(&s->tx, text, strlen(text)), 0);
}

static inline void assert_local_read(struct gt_stream *s, const char *text)
{
    char got[256] = {0};
    size_t n = gt_ring_copy(&s->rx, s->rx.head, got, sizeof(got) - 1);

    assert_string_equal(got, text);
    gt_stream_local_written(s, n);
}
