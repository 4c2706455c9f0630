/* SPDX-License-Identifier: ISC */
/*
 * The head, the order of records (records.c), and what must not come twice. A state is taken only
 * as a whole.
 */
#include "handover.h"

#include <sys/stat.h>

static const char magic[] = "gotthard-relayd hand-over";

#define HEAD_SIZE (sizeof(magic) + 4)

void handover_write_head(struct gt_writer *writer)
{
    gt_write_bytes(writer, magic, sizeof(magic));
    gt_write_u32(writer, HANDOVER_VERSION);
}

int handover_read(struct gt_span state, handover_fn on_record, void *userdata)
{
    struct gt_reader reader = gt_reader(state.data, state.n);
    struct handover record = {0};
    int r = 0;

    gt_read_bytes(&reader, HEAD_SIZE);
    while (!r && record.kind != HANDOVER_END) {
        handover_read_record(&reader, &record);
        r = reader.failed ? HANDOVER_E_BAD : on_record(userdata, &record);
    }
    if (!r && !gt_reader_is_done(&reader))
        r = HANDOVER_E_BAD;
    gt_wipe(&record, sizeof(record));
    return r;
}

/* What is known of a state while it is read. */
struct order {
    enum handover_kind last;
    size_t n_doors;
    uint64_t n_slots;             /* streams still to come in this session */
    struct handover_pair waiting; /* ONE_JOINED: the next is its ticket; else CLOSED */
    uint8_t ports[(UINT16_MAX + 1) / 8], fds[HANDOVER_FD_MAX / 8];
};

/* True the first time. */
static bool is_new(uint8_t *bits, unsigned i)
{
    bool is_set = bits[i / 8] >> i % 8 & 1;

    bits[i / 8] |= (uint8_t)(1 << i % 8);
    return !is_set;
}

/* What may follow what: a bit a kind. */
#define BIT(kind)  (1 << HANDOVER_##kind)
#define GENERAL    (BIT(DOOR) | BIT(REST) | BIT(PENALTY) | BIT(TOMB))
#define IN_SESSION (BIT(SESSION) | BIT(STREAM) | BIT(PAIR) | BIT(TICKET))

static const uint16_t may_follow[HANDOVER_N_KINDS] = {
    [HANDOVER_RELAY] = 1,
    [HANDOVER_SECRET] = BIT(RELAY) | BIT(SECRET),
    [HANDOVER_DOOR] = BIT(RELAY) | BIT(SECRET) | BIT(DOOR),
    [HANDOVER_REST] = GENERAL,
    [HANDOVER_PENALTY] = GENERAL,
    [HANDOVER_TOMB] = GENERAL,
    [HANDOVER_SESSION] = GENERAL | IN_SESSION,
    [HANDOVER_STREAM] = BIT(SESSION) | BIT(STREAM),
    [HANDOVER_PAIR] = IN_SESSION,
    [HANDOVER_TICKET] = IN_SESSION,
    [HANDOVER_END] = GENERAL | IN_SESSION,
};

/* The ticket of a pair that waits comes right after it, and its state says who is there. */
static bool order_is_its_ticket(const struct handover_pair *pair, const struct handover *record)
{
    enum ticket_state state = pair->sides[0].fd >= 0 ? TICKET_BY_OPERATOR : TICKET_BY_DEVICE;

    return record->kind == HANDOVER_TICKET && record->ticket.state == state &&
           record->ticket.given.stream == pair->stream &&
           record->ticket.given.attempt == pair->attempt;
}

static int order_on_record(void *userdata, const struct handover *record)
{
    struct order *order = userdata;
    bool is_waited_for = order->waiting.state == PAIR_ONE_JOINED;
    bool is_used = record->kind == HANDOVER_TICKET && record->ticket.state != TICKET_UNUSED;

    if (!(may_follow[record->kind] >> order->last & 1) || is_waited_for != is_used ||
        (is_waited_for && !order_is_its_ticket(&order->waiting, record)))
        return HANDOVER_E_BAD;
    if (record->kind == HANDOVER_STREAM ? order->n_slots-- == 0 : order->n_slots != 0)
        return HANDOVER_E_BAD;
    if (record->kind == HANDOVER_SESSION) {
        order->n_slots = record->session.n_slots;
        if (!is_new(order->ports, record->session.port))
            return HANDOVER_E_BAD;
    }
    order->waiting.state = PAIR_CLOSED;
    if (record->kind == HANDOVER_PAIR)
        order->waiting = record->pair;
    order->last = record->kind;
    return 0;
}

static int order_on_fd(void *userdata, int fd, unsigned type)
{
    struct order *order = userdata;

    return is_new(order->fds, (unsigned)fd) ? 0 : HANDOVER_E_BAD;
}

int handover_check(struct gt_span state)
{
    struct gt_reader reader = gt_reader(state.data, state.n);
    struct gt_span head = gt_read_bytes(&reader, sizeof(magic));
    uint32_t version = gt_read_u32(&reader);

    if (reader.failed || memcmp(head.data, magic, sizeof(magic)) != 0)
        return HANDOVER_E_BAD;
    if (version != HANDOVER_VERSION)
        return HANDOVER_E_VERSION;
    struct order *order = calloc(1, sizeof(*order));
    if (!order)
        return -ENOMEM;
    order->waiting.state = PAIR_CLOSED;
    int r = handover_read(state, order_on_record, order);
    if (!r)
        r = handover_each_fd(state, order_on_fd, order);
    free(order);
    return r;
}

/* --- descriptors ------------------------------------------------------------------------------ */

struct fds {
    handover_fd_fn on_fd;
    void *userdata;
};

static int fds_of_side(const struct fds *fds, const struct handover_side *side)
{
    const struct handover_pipe *pipe = &side->pipe;
    int r = 0;

    if (side->fd >= 0)
        r = fds->on_fd(fds->userdata, side->fd, S_IFSOCK);
    for (size_t i = 0; i < 2 && !r && pipe->kind == HANDOVER_SPLICED; i++)
        r = fds->on_fd(fds->userdata, pipe->fds[i], S_IFIFO);
    return r;
}

static int fds_on_record(void *userdata, const struct handover *record)
{
    const struct fds *fds = userdata;
    int r = 0;

    switch (record->kind) {
    case HANDOVER_DOOR: return fds->on_fd(fds->userdata, record->door, S_IFSOCK);
    case HANDOVER_SESSION: return fds->on_fd(fds->userdata, record->session.fd, S_IFSOCK);
    case HANDOVER_PAIR:
        r = fds_of_side(fds, &record->pair.sides[0]);
        return r ? r : fds_of_side(fds, &record->pair.sides[1]);
    case HANDOVER_RELAY:
    case HANDOVER_SECRET:
    case HANDOVER_REST:
    case HANDOVER_PENALTY:
    case HANDOVER_TOMB:
    case HANDOVER_STREAM:
    case HANDOVER_TICKET:
    case HANDOVER_END: return 0;
    }
    return 0;
}

int handover_each_fd(struct gt_span state, handover_fd_fn on_fd, void *userdata)
{
    struct fds fds = {on_fd, userdata};

    return handover_read(state, fds_on_record, &fds);
}
