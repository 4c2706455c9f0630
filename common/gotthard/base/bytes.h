/* SPDX-License-Identifier: ISC */
/*
 * Bounds-checked reader and writer for encoded bytes. Every access to received or sent bytes goes
 * through them. Once an operation fails, all later ones fail, so that a message is processed
 * without intermediate checks and judged at its end. Integers are big-endian; "lp" is a u16 length
 * and its bytes. A failed reader returns zeros and empty spans.
 */
#pragma once

#include <string.h>

#include "gotthard/base/base.h"

struct gt_span {
    const uint8_t *data; /* borrows */
    size_t n;
};

static inline struct gt_span gt_span(const void *data, size_t n)
{
    return (struct gt_span){data, n};
}

static inline struct gt_span gt_span_text(const char *text)
{
    return gt_span(text, strlen(text));
}

static inline bool gt_span_equals(struct gt_span a, struct gt_span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.data, b.data, a.n) == 0);
}

struct gt_reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static inline struct gt_reader gt_reader(const void *data, size_t n)
{
    return (struct gt_reader){data, n, false};
}

static inline struct gt_span gt_read_bytes(struct gt_reader *r, size_t n)
{
    if (r->failed || n > r->left) {
        r->failed = true;
        return gt_span("", 0);
    }
    struct gt_span span = {r->at, n};
    r->at += n;
    r->left -= n;
    return span;
}

static inline uint64_t gt_read_uint(struct gt_reader *r, size_t size)
{
    struct gt_span span = gt_read_bytes(r, size);
    uint64_t value = 0;

    for (size_t i = 0; i < span.n; i++)
        value = value << 8 | span.data[i];
    return value;
}

static inline uint8_t gt_read_u8(struct gt_reader *r)
{
    return (uint8_t)gt_read_uint(r, 1);
}

static inline uint16_t gt_read_u16(struct gt_reader *r)
{
    return (uint16_t)gt_read_uint(r, 2);
}

static inline uint32_t gt_read_u32(struct gt_reader *r)
{
    return (uint32_t)gt_read_uint(r, 4);
}

static inline uint64_t gt_read_u64(struct gt_reader *r)
{
    return gt_read_uint(r, 8);
}

static inline struct gt_span gt_read_lp(struct gt_reader *r)
{
    return gt_read_bytes(r, gt_read_u16(r));
}

/* Copies exactly @n bytes to @ret, or zeros if the reader has failed. */
static inline void gt_read_into(struct gt_reader *r, void *ret, size_t n)
{
    struct gt_span span = gt_read_bytes(r, n);

    memset(ret, 0, n);
    memcpy(ret, span.data, span.n);
}

/* Reads an lp string into @ret of capacity @cap bytes and terminates it. Fails if it does not fit
 * or contains a NUL. */
static inline void gt_read_string(struct gt_reader *r, char *ret, size_t cap)
{
    struct gt_span span = gt_read_lp(r);

    if (span.n >= cap || memchr(span.data, 0, span.n)) {
        r->failed = true;
        span.n = 0;
    }
    memcpy(ret, span.data, span.n);
    ret[span.n] = 0;
}

/* Returns true if no read failed and no byte is left. */
static inline bool gt_reader_is_done(const struct gt_reader *r)
{
    return !r->failed && r->left == 0;
}

struct gt_writer {
    uint8_t *data; /* borrows */
    size_t cap;
    size_t n;
    bool failed;
};

static inline struct gt_writer gt_writer(void *data, size_t cap)
{
    return (struct gt_writer){data, cap, 0, false};
}

/* Returns room for @n bytes, which the caller fills, or NULL if they do not fit. */
static inline uint8_t *gt_write_room(struct gt_writer *w, size_t n)
{
    if (w->failed || n > w->cap - w->n) {
        w->failed = true;
        return NULL;
    }
    uint8_t *room = w->data + w->n;
    w->n += n;
    return room;
}

static inline void gt_write_bytes(struct gt_writer *w, const void *data, size_t n)
{
    uint8_t *room = gt_write_room(w, n);

    if (room && n)
        memcpy(room, data, n);
}

static inline void gt_write_uint(struct gt_writer *w, uint64_t value, size_t size)
{
    uint8_t *room = gt_write_room(w, size);

    for (size_t i = 0; room && i < size; i++)
        room[i] = (uint8_t)(value >> 8 * (size - 1 - i));
}

static inline void gt_write_u8(struct gt_writer *w, uint8_t value)
{
    gt_write_uint(w, value, 1);
}

static inline void gt_write_u16(struct gt_writer *w, uint16_t value)
{
    gt_write_uint(w, value, 2);
}

static inline void gt_write_u32(struct gt_writer *w, uint32_t value)
{
    gt_write_uint(w, value, 4);
}

static inline void gt_write_u64(struct gt_writer *w, uint64_t value)
{
    gt_write_uint(w, value, 8);
}

static inline void gt_write_span(struct gt_writer *w, struct gt_span span)
{
    gt_write_bytes(w, span.data, span.n);
}

static inline void gt_write_lp(struct gt_writer *w, struct gt_span span)
{
    if (span.n > UINT16_MAX)
        w->failed = true;
    gt_write_u16(w, (uint16_t)span.n);
    gt_write_span(w, span);
}

static inline void gt_write_string(struct gt_writer *w, const char *text)
{
    gt_write_lp(w, gt_span_text(text));
}
