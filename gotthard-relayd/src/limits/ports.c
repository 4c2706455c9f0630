/* SPDX-License-Identifier: ISC */
/*
 * One slot for each port, and a cursor that moves round the range, so that the allocated port is
 * nearly always the one that has been free for longest. No port may ever be allocated to two
 * sessions.
 */
#include "limits/ports.h"

#define PORTS_SKIP_MS 1000ull /* at least; other programs mostly keep their ports for long */

static struct port *ports_slot(const struct ports *ports, uint16_t port)
{
    if (port < ports->from || port > ports->to)
        return NULL;
    return &ports->slots[port - ports->from];
}

static bool port_is_free(const struct port *slot, uint64_t now)
{
    return slot->state == PORT_FREE && slot->free_at <= now;
}

static bool port_was_released_by(const struct port *slot, const uint8_t *rid)
{
    return slot->state == PORT_FREE && slot->has_last_rid &&
           memcmp(slot->last_rid, rid, GT_RID_SIZE) == 0;
}

size_t ports_n(const struct ports *ports)
{
    return (size_t)(ports->to - ports->from) + 1;
}

int ports_init(struct ports *ports, uint16_t from, uint16_t to, uint64_t cooldown_ms)
{
    *ports = (struct ports){.from = from, .to = to, .cooldown_ms = cooldown_ms};
    ports->slots = calloc(ports_n(ports), sizeof(*ports->slots));
    return ports->slots ? 0 : -ENOMEM;
}

void ports_deinit(struct ports *ports)
{
    free(ports->slots);
    ports->slots = NULL;
}

int ports_change(struct ports *ports, uint16_t from, uint16_t to, uint64_t cooldown_ms)
{
    struct ports changed;
    int r = ports_init(&changed, from, to, cooldown_ms);

    if (r)
        return r;
    for (size_t i = 0; i < ports_n(&changed); i++) {
        const struct port *old = ports_slot(ports, (uint16_t)(from + i));

        if (old)
            changed.slots[i] = *old;
    }
    ports_deinit(ports);
    *ports = changed;
    return 0;
}

/* Returns the next free port from the cursor on; NULL if all are in use or in their cool-down. */
static struct port *ports_next(struct ports *ports, uint64_t now)
{
    for (size_t i = 0; i < ports_n(ports); i++) {
        size_t at = (ports->cursor + i) % ports_n(ports);

        if (port_is_free(&ports->slots[at], now)) {
            ports->cursor = at + 1;
            return &ports->slots[at];
        }
    }
    return NULL;
}

/* Returns the port that a session released first, in its cool-down; NULL if all are in use. Without
 * this, a client that starts and ends sessions quickly could block the whole range. */
static struct port *ports_released_first(struct ports *ports)
{
    struct port *best = NULL;

    for (size_t i = 0; i < ports_n(ports); i++) {
        struct port *slot = &ports->slots[i];

        if (slot->state == PORT_FREE && slot->has_last_rid &&
            (!best || slot->free_at < best->free_at))
            best = slot;
    }
    return best;
}

int ports_acquire(struct ports *ports, uint16_t hint, const uint8_t rid[static GT_RID_SIZE],
                  uint64_t now, uint16_t *ret_port)
{
    struct port *slot = ports_slot(ports, hint);

    if (!slot || !(port_is_free(slot, now) || port_was_released_by(slot, rid)))
        slot = ports_next(ports, now);
    if (!slot)
        slot = ports_released_first(ports);
    if (!slot)
        return PORTS_E_NONE;
    slot->state = PORT_IN_USE;
    *ret_port = (uint16_t)(ports->from + (slot - ports->slots));
    return 0;
}

void ports_release(struct ports *ports, uint16_t port, const uint8_t rid[static GT_RID_SIZE],
                   uint64_t now)
{
    struct port *slot = ports_slot(ports, port);

    if (!slot)
        return;
    *slot = (struct port){
        .state = PORT_FREE, .free_at = now + ports->cooldown_ms, .has_last_rid = true};
    memcpy(slot->last_rid, rid, GT_RID_SIZE);
}

void ports_skip(struct ports *ports, uint16_t port, uint64_t now)
{
    struct port *slot = ports_slot(ports, port);

    if (slot)
        *slot = (struct port){.state = PORT_FREE,
                              .free_at = now + GT_MAX(ports->cooldown_ms, PORTS_SKIP_MS)};
}

void ports_mark_in_use(struct ports *ports, uint16_t port)
{
    struct port *slot = ports_slot(ports, port);

    if (slot)
        *slot = (struct port){.state = PORT_IN_USE};
}

size_t ports_n_in_use(const struct ports *ports)
{
    size_t n_in_use = 0;

    for (size_t i = 0; i < ports_n(ports); i++)
        n_in_use += ports->slots[i].state == PORT_IN_USE;
    return n_in_use;
}

/* --- snapshot --------------------------------------------------------------------------------- */

static const struct gt_field ports_fields[] = {GT_FIELD_U16(struct saved_ports, cursor)};

const struct saved_layout ports_layout = {SAVED_LAYOUT(PORTS, ports_fields)};

static const struct gt_field cooldown_fields[] = {
    GT_FIELD_U16(struct saved_cooldown, port),
    GT_FIELD_U64(struct saved_cooldown, free_at),
    GT_FIELD_FLAG(struct saved_cooldown, has_last_rid),
    GT_FIELD_BYTES(struct saved_cooldown, last_rid, GT_RID_SIZE),
};

const struct saved_layout ports_cooldown_layout = {SAVED_LAYOUT(COOLDOWN, cooldown_fields)};

void ports_save(const struct ports *ports, uint64_t now, struct gt_writer *writer)
{
    struct saved_ports saved = {(uint16_t)(ports->cursor % ports_n(ports))};

    saved_layout_write(&ports_layout, writer, &saved);
    for (size_t i = 0; i < ports_n(ports); i++) {
        const struct port *slot = &ports->slots[i];
        struct saved_cooldown cooldown = {(uint16_t)(ports->from + i), slot->free_at,
                                          slot->has_last_rid, ""};

        memcpy(cooldown.last_rid, slot->last_rid, GT_RID_SIZE);
        if (slot->state == PORT_FREE && (slot->has_last_rid || slot->free_at > now))
            saved_layout_write(&ports_cooldown_layout, writer, &cooldown);
    }
}

void ports_restore(struct ports *ports, const struct saved_ports *saved)
{
    ports->cursor = saved->cursor % ports_n(ports);
}

void ports_restore_cooldown(struct ports *ports, const struct saved_cooldown *saved)
{
    struct port *slot = ports_slot(ports, saved->port);

    if (!slot)
        return;
    *slot = (struct port){
        .state = PORT_FREE, .free_at = saved->free_at, .has_last_rid = saved->has_last_rid};
    memcpy(slot->last_rid, saved->last_rid, GT_RID_SIZE);
}
