/* SPDX-License-Identifier: ISC */
/*
 * Saves and restores the registry; see the header. The address is saved as this kernel has it,
 * because a snapshot never leaves the machine.
 */
#include "control/registry-snapshot.h"

#include "control/session-snapshot.h"

static bool registry_is_valid(const void *record)
{
    const struct gt_addr *bind = &((const struct saved_registry *)record)->bind;

    return (bind->any.sa_family == AF_INET && bind->n == sizeof(bind->v4)) ||
           (bind->any.sa_family == AF_INET6 && bind->n == sizeof(bind->v6));
}

static const struct gt_field registry_fields[] = {
    GT_FIELD_U32(struct saved_registry, bind.n),
    GT_FIELD_BYTES(struct saved_registry, bind.v6, sizeof(struct sockaddr_in6)),
    GT_FIELD_U64(struct saved_registry, serial),
    GT_FIELD_U64(struct saved_registry, n_created),
    GT_FIELD_U64(struct saved_registry, n_unexpected),
};

const struct saved_layout registry_layout = {SAVED_LAYOUT(REGISTRY, registry_fields),
                                             .is_valid = registry_is_valid};

void registry_save(const struct registry *registry, struct gt_writer *writer)
{
    struct saved_registry saved = {
        .bind = registry->bind,
        .serial = registry->serial,
        .n_created = registry->n_created,
        .n_unexpected = registry->sessions.n_unexpected,
    };

    saved_layout_write(&registry_layout, writer, &saved);
}

void registry_save_sessions(const struct registry *registry, struct gt_writer *writer)
{
    struct session *session, *next;

    HASH_ITER (by_serial, registry->by_serial, session, next)
        session_save(session, writer);
}

void registry_restore(struct registry *registry, const struct saved_registry *saved)
{
    registry->bind = saved->bind;
    registry->serial = saved->serial;
    registry->n_created = saved->n_created;
    registry->sessions.n_unexpected = saved->n_unexpected;
}
