/* SPDX-License-Identifier: ISC */
/*
 * The port allocator: one slot a port and a cursor that goes round, so that the port given out is
 * nearly always the one that has been free for longest. It must never give one port to two
 * sessions.
 */
#include "ports.h"

#define PORTS_SKIP_MS 1000ull /* what others hold they mostly hold for long */

static struct port *ports_slot(const struct ports *ports, uint16_t port)
{
    if (port < ports->from || port > ports->to)
        return NULL;
    return &ports->slots[port - ports->from];
}

static bool port_is_free(const struct port *slot, uint64_t now)
{
    return slot->state == PORT_FREE && slot->rests_until <= now;
}

static bool port_rests_after(const struct port *slot, const uint8_t *rid)
{
    return slot->state == PORT_FREE && slot->is_known && !memcmp(slot->of, rid, GT_RID_SIZE);
}

size_t ports_n(const struct ports *ports)
{
    return (size_t)(ports->to - ports->from) + 1;
}

int ports_init(struct ports *ports, uint16_t from, uint16_t to, uint64_t rest_ms)
{
    *ports = (struct ports){.from = from, .to = to, .rest_ms = rest_ms};
    ports->slots = calloc(ports_n(ports), sizeof(*ports->slots));
    return ports->slots ? 0 : -ENOMEM;
}

void ports_deinit(struct ports *ports)
{
    free(ports->slots);
    ports->slots = NULL;
}

int ports_change(struct ports *ports, uint16_t from, uint16_t to, uint64_t rest_ms)
{
    struct ports changed;
    int r = ports_init(&changed, from, to, rest_ms);

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

/* The next one round the range. NULL: each is taken, or rests. */
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

/* Of those that were given back, the one that has rested longest: if a rest could keep others out,
 * whoever begins and ends sessions quickly would keep out everybody. */
static struct port *ports_most_rested(struct ports *ports)
{
    struct port *best = NULL;

    for (size_t i = 0; i < ports_n(ports); i++) {
        struct port *slot = &ports->slots[i];
        if (slot->state == PORT_FREE && slot->is_known &&
            (!best || slot->rests_until < best->rests_until))
            best = slot;
    }
    return best;
}

int ports_take(struct ports *ports, uint16_t hint, const uint8_t rid[static GT_RID_SIZE],
               uint64_t now, uint16_t *ret_port)
{
    struct port *slot = ports_slot(ports, hint);

    if (!slot || !(port_is_free(slot, now) || port_rests_after(slot, rid)))
        slot = ports_next(ports, now);
    if (!slot)
        slot = ports_most_rested(ports);
    if (!slot)
        return PORTS_E_NONE;
    slot->state = PORT_TAKEN;
    *ret_port = (uint16_t)(ports->from + (slot - ports->slots));
    return 0;
}

void ports_give_back(struct ports *ports, uint16_t port, const uint8_t rid[static GT_RID_SIZE],
                     uint64_t now)
{
    struct port *slot = ports_slot(ports, port);

    if (!slot)
        return;
    *slot =
        (struct port){.state = PORT_FREE, .rests_until = now + ports->rest_ms, .is_known = true};
    memcpy(slot->of, rid, GT_RID_SIZE);
}

void ports_skip(struct ports *ports, uint16_t port, uint64_t now)
{
    struct port *slot = ports_slot(ports, port);

    if (slot)
        *slot = (struct port){.state = PORT_FREE,
                              .rests_until = now + GT_MAX(ports->rest_ms, PORTS_SKIP_MS)};
}

void ports_adopt(struct ports *ports, uint16_t port, const struct port *slot)
{
    struct port *own = ports_slot(ports, port);

    if (own)
        *own = *slot;
}

size_t ports_n_taken(const struct ports *ports)
{
    size_t n_taken = 0;

    for (size_t i = 0; i < ports_n(ports); i++)
        n_taken += ports->slots[i].state == PORT_TAKEN;
    return n_taken;
}
