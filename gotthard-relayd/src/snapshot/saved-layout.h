/* SPDX-License-Identifier: ISC */
/*
 * The records of a snapshot: their kinds, and the layout from which a record is written, read and
 * checked. Each module defines the layout of its own records beside its state. This file knows no
 * module, and never interprets a value.
 *
 * Pure. A record is checked when it is read, because another version of the relay may have written
 * it: sizes and descriptors here, values by the layout's is_valid.
 */
#pragma once

#include <sys/stat.h>

#include "gotthard/base/fields.h"

#define SAVED_SIZE_MAX ((size_t)1 << 30) /* of a snapshot, in bytes */
#define SAVED_FD_MAX   (1 << 20)         /* descriptors are below it */

/* In the order in which a snapshot holds them; see upgrade/snapshot-format.c. */
enum saved_kind {
    SAVED_RELAY = 1,     /* once, first */
    SAVED_SECRET,        /* a setting that was removed from the environment */
    SAVED_MAIN_LISTENER, /* a listening socket of the main port */
    SAVED_REGISTRY,      /* once */
    SAVED_PORTS,         /* once */
    SAVED_COOLDOWN,      /* an unused port that is reserved for its last session */
    SAVED_QUOTA,         /* once */
    SAVED_BINDER,        /* of a ClientHello that was admitted */
    SAVED_TOMBSTONE,     /* of a session that was ended */
    SAVED_SESSION,       /* its streams, pairs and tickets follow */
    SAVED_STREAM,
    SAVED_PAIR,   /* ONE_JOINED: its ticket follows */
    SAVED_TICKET, /* valid in the data thread */
    SAVED_END,    /* once, last */
};
#define SAVED_N_KINDS 15

/* An int member that is a descriptor. */
struct saved_fd {
    size_t offset;
    unsigned type;    /* S_IFSOCK, S_IFIFO (stat(2)) */
    bool is_optional; /* -1 is valid */
};

struct saved_layout {
    enum saved_kind kind;
    const struct gt_field *fields;
    size_t n_fields;
    const struct saved_fd *fds; /* written after the fields */
    size_t n_fds;
    bool (*is_valid)(const void *record); /* NULL: all values are valid */
};

/* The members that every layout has; @rows is its array of fields. */
#define SAVED_LAYOUT(kind_, rows) \
    .kind = SAVED_##kind_, .fields = rows, .n_fields = GT_ARRAY_SIZE(rows)
#define SAVED_LAYOUT_FDS(rows) .fds = rows, .n_fds = GT_ARRAY_SIZE(rows)

#define SAVED_SOCKET(type, member)              \
    {                                           \
        offsetof(type, member), S_IFSOCK, false \
    }
#define SAVED_OPTIONAL_SOCKET(type, member)    \
    {                                          \
        offsetof(type, member), S_IFSOCK, true \
    }
#define SAVED_OPTIONAL_PIPE(type, member)     \
    {                                         \
        offsetof(type, member), S_IFIFO, true \
    }

/* The rows of a struct gt_ticket (proto/join.h) in a record. */
#define SAVED_TICKET_FIELDS(type, member)                                                   \
    GT_FIELD_U32(type, member.stream), GT_FIELD_ORDINAL32(type, member.attempt),            \
        GT_FIELD_BYTES(type, member.id, GT_TICKET_ID_SIZE),                                 \
        GT_FIELD_BYTES(type, member.secret, GT_KEY_SIZE), GT_FIELD_U16(type, member.ttl_s), \
        GT_FIELD_U16(type, member.segment)

/* Appends the kind and the members of @record. Fails as @writer does. */
void saved_layout_write(const struct saved_layout *layout, struct gt_writer *writer,
                        const void *record);
/* Reads the members of @ret_record; the caller has read the kind. Fails as @reader does, and if a
 * descriptor or a value is invalid. */
void saved_layout_read(const struct saved_layout *layout, struct gt_reader *reader,
                       void *ret_record);

typedef int (*saved_fd_fn)(void *userdata, int fd, unsigned type);
/* Calls @on_fd with each descriptor of @record and its type. Returns the first result that is not
 * 0. */
int saved_layout_each_fd(const struct saved_layout *layout, const void *record, saved_fd_fn on_fd,
                         void *userdata) GT_MUST_CHECK;
