/* SPDX-License-Identifier: ISC */
/* The encoding of extensions: a table with a row for each, which drives both directions. */
#include "gotthard/signaling/extensions.h"

#include "gotthard/base/fields.h"
#include "gotthard/base/text.h"

enum extension_kind {
    EXTENSION_TEXT,    /* one printable text; absent: empty */
    EXTENSION_BYTES,   /* an encoding of its own, which its reader checks; absent: empty */
    EXTENSION_LIST,    /* lp of each printable text; absent: no items */
    EXTENSION_INTEGER, /* absent: 0 */
};

/* How one extension is stored in struct gt_extensions. */
struct extension {
    uint8_t type; /* on the wire */
    enum extension_kind kind;
    size_t offset;         /* TEXT, BYTES: of the span; LIST: of the array of spans */
    size_t n_offset, max;  /* LIST: of the number of items; the largest number */
    struct gt_field field; /* INTEGER */
};

#define TEXT(type_, member_)                                                                     \
    {                                                                                            \
        .type = type_, .kind = EXTENSION_TEXT, .offset = offsetof(struct gt_extensions, member_) \
    }
#define BYTES(type_, member_)                                                                     \
    {                                                                                             \
        .type = type_, .kind = EXTENSION_BYTES, .offset = offsetof(struct gt_extensions, member_) \
    }
#define LIST(type_, member_)                                                                      \
    {                                                                                             \
        .type = type_, .kind = EXTENSION_LIST, .offset = offsetof(struct gt_extensions, member_), \
        .n_offset = offsetof(struct gt_extensions, n_##member_),                                  \
        .max = GT_ARRAY_SIZE(((struct gt_extensions *)0)->member_)                                \
    }
#define INTEGER(type_, field_)                                    \
    {                                                             \
        .type = type_, .kind = EXTENSION_INTEGER, .field = field_ \
    }

static const struct extension extensions[] = {
    TEXT(1, version),
    LIST(2, services),
    LIST(3, host_keys),
    INTEGER(4, GT_FIELD_U16(struct gt_extensions, n_sessions)),
    INTEGER(5, GT_FIELD_U64(struct gt_extensions, since)),
    TEXT(6, limit),
    LIST(7, tags),
    BYTES(8, status),
    TEXT(9, fault),
    INTEGER(10, GT_FIELD_U16(struct gt_extensions, session_version)),
};

static const void *extension_member(const struct gt_extensions *x, size_t offset)
{
    return (const char *)x + offset;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

static bool extension_is_present(const struct extension *extension, const struct gt_extensions *x)
{
    switch (extension->kind) {
    case EXTENSION_TEXT:
    case EXTENSION_BYTES:
        return ((const struct gt_span *)extension_member(x, extension->offset))->n > 0;
    case EXTENSION_LIST: return *(const size_t *)extension_member(x, extension->n_offset) > 0;
    case EXTENSION_INTEGER:
        return !is_zero(extension_member(x, extension->field.offset), extension->field.size);
    }
    return false;
}

static void write_list(struct gt_writer *w, const struct gt_span *items, size_t n)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++)
        length += 2 + items[i].n;
    if (length > UINT16_MAX)
        w->failed = true;
    gt_write_u16(w, (uint16_t)length);
    for (size_t i = 0; i < n; i++)
        gt_write_lp(w, items[i]);
}

/* Type, lp of the value. */
static void extension_write(const struct extension *extension, const struct gt_extensions *x,
                            struct gt_writer *w)
{
    const struct gt_span *spans = extension_member(x, extension->offset);

    gt_write_u8(w, extension->type);
    switch (extension->kind) {
    case EXTENSION_TEXT:
    case EXTENSION_BYTES: gt_write_lp(w, *spans); break;
    case EXTENSION_LIST:
        write_list(w, spans, *(const size_t *)extension_member(x, extension->n_offset));
        break;
    case EXTENSION_INTEGER:
        gt_write_u16(w, (uint16_t)extension->field.size);
        gt_fields_write(w, &extension->field, 1, x);
        break;
    }
}

void gt_extensions_encode(const struct gt_extensions *x, struct gt_writer *w)
{
    uint8_t n = 0;

    for (size_t i = 0; i < GT_ARRAY_SIZE(extensions); i++)
        n = (uint8_t)(n + extension_is_present(&extensions[i], x));
    gt_write_u8(w, n);
    for (size_t i = 0; i < GT_ARRAY_SIZE(extensions); i++)
        if (extension_is_present(&extensions[i], x))
            extension_write(&extensions[i], x, w);
}

static bool read_list(struct gt_span value, struct gt_span *items, size_t max, size_t *n_items)
{
    struct gt_reader r = gt_reader(value.data, value.n);

    while (!r.failed && r.left) {
        struct gt_span item = gt_read_lp(&r);

        if (*n_items == max || !item.n || !gt_text_is_ascii(item))
            return false;
        items[(*n_items)++] = item;
    }
    return !r.failed;
}

static bool extension_read(const struct extension *extension, struct gt_span value,
                           struct gt_extensions *x)
{
    struct gt_reader r = gt_reader(value.data, value.n);
    struct gt_span *spans = (void *)((char *)x + extension->offset);

    switch (extension->kind) {
    case EXTENSION_TEXT: *spans = value; return value.n > 0 && gt_text_is_ascii(value);
    case EXTENSION_BYTES: *spans = value; return value.n > 0;
    case EXTENSION_LIST:
        return read_list(value, spans, extension->max, (void *)((char *)x + extension->n_offset));
    case EXTENSION_INTEGER:
        gt_fields_read(&r, &extension->field, 1, x);
        return gt_reader_is_done(&r);
    }
    return false;
}

/* NULL: an extension of a later version, which is skipped. */
static const struct extension *extension_find(uint8_t type)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(extensions); i++)
        if (extensions[i].type == type)
            return &extensions[i];
    return NULL;
}

/* Each known extension at most once. */
void gt_extensions_decode(struct gt_reader *r, struct gt_extensions *x)
{
    bool is_seen[GT_ARRAY_SIZE(extensions)] = {false};

    for (size_t n = gt_read_u8(r); n && !r->failed; n--) {
        const struct extension *extension = extension_find(gt_read_u8(r));
        struct gt_span value = gt_read_lp(r);

        if (!extension || r->failed)
            continue;
        if (is_seen[extension - extensions] || !extension_read(extension, value, x))
            r->failed = true;
        is_seen[extension - extensions] = true;
    }
}
