/* SPDX-License-Identifier: ISC */
/*
 * The head, the order of the records, and values that must be unique. A snapshot is accepted only
 * as a whole.
 */
#include "upgrade/snapshot-format.h"

static const char magic[] = "gotthard-relayd snapshot";

#define HEAD_SIZE (sizeof(magic) + 4)

/* --- records ---------------------------------------------------------------------------------- */

static const struct gt_field relay_fields[] = {
    GT_FIELD_U64(struct saved_relay, stopped_at),
    GT_FIELD_BYTES(struct saved_relay, boot_id, 16),
    GT_FIELD_U64(struct saved_relay, n_bytes),
};
const struct saved_layout relay_layout = {SAVED_LAYOUT(RELAY, relay_fields)};

static const struct gt_field secret_fields[] = {
    GT_FIELD_STRING(struct saved_secret, variable),
    GT_FIELD_STRING(struct saved_secret, text),
};
const struct saved_layout secret_layout = {SAVED_LAYOUT(SECRET, secret_fields)};

const struct saved_layout end_layout = {.kind = SAVED_END};

static const struct saved_layout *const layouts[SAVED_N_KINDS] = {
    [SAVED_RELAY] = &relay_layout,         [SAVED_SECRET] = &secret_layout,
    [SAVED_REGISTRY] = &registry_layout,   [SAVED_MAIN_LISTENER] = &main_listener_layout,
    [SAVED_PORTS] = &ports_layout,         [SAVED_COOLDOWN] = &ports_cooldown_layout,
    [SAVED_QUOTA] = &quota_layout,         [SAVED_BINDER] = &seen_binder_layout,
    [SAVED_TOMBSTONE] = &tombstone_layout, [SAVED_SESSION] = &session_layout,
    [SAVED_STREAM] = &stream_layout,       [SAVED_PAIR] = &pair_layout,
    [SAVED_TICKET] = &ticket_layout,       [SAVED_END] = &end_layout,
};

void snapshot_format_write_head(struct gt_writer *writer)
{
    gt_write_bytes(writer, magic, sizeof(magic));
    gt_write_u32(writer, SNAPSHOT_FORMAT_VERSION);
}

/* All members of the union begin at the address of the first. */
void snapshot_format_write_record(struct gt_writer *writer, const struct saved_record *record)
{
    saved_layout_write(layouts[record->kind], writer, &record->relay);
}

void snapshot_format_read_record(struct gt_reader *reader, struct saved_record *ret)
{
    unsigned kind = gt_read_u8(reader);

    *ret = (struct saved_record){.kind = SAVED_END};
    if (kind < SAVED_RELAY || kind > SAVED_END)
        reader->failed = true;
    if (reader->failed)
        return;
    ret->kind = (enum saved_kind)kind;
    saved_layout_read(layouts[kind], reader, &ret->relay);
}

int snapshot_format_read(struct gt_span state, snapshot_format_fn on_record, void *userdata)
{
    struct gt_reader reader = gt_reader(state.data, state.n);
    struct saved_record record = {0};
    int r = 0;

    gt_read_bytes(&reader, HEAD_SIZE);
    while (!r && record.kind != SAVED_END) {
        snapshot_format_read_record(&reader, &record);
        r = reader.failed ? SNAPSHOT_FORMAT_E_BAD : on_record(userdata, &record);
    }
    if (!r && !gt_reader_is_done(&reader))
        r = SNAPSHOT_FORMAT_E_BAD;
    gt_wipe(&record, sizeof(record));
    return r;
}

/* --- order ------------------------------------------------------------------------------------ */

/* The state of a check. */
struct order {
    enum saved_kind last;
    uint64_t n_slots;          /* streams of this session that are still to come */
    bool has_stream_0;         /* its record of this session has come */
    struct saved_pair waiting; /* ONE_JOINED: its ticket must come next; else CLOSED */
    uint8_t ports[(UINT16_MAX + 1) / 8], fds[SAVED_FD_MAX / 8]; /* bit sets */
};

/* Sets bit @i. Returns true if it was not set. */
static bool set_bit(uint8_t *bits, unsigned i)
{
    bool is_set = bits[i / 8] >> i % 8 & 1;

    bits[i / 8] |= (uint8_t)(1 << i % 8);
    return !is_set;
}

#define BIT(kind)   (1 << SAVED_##kind)
#define IN_SESSION  (BIT(SESSION) | BIT(STREAM) | BIT(PAIR) | BIT(TICKET))
#define BEFORE_THEM (BIT(QUOTA) | BIT(BINDER) | BIT(TOMBSTONE))

/* For each kind, the kinds that may come directly before it. Bit 0: it is the first record. */
static const uint16_t predecessors[SAVED_N_KINDS] = {
    [SAVED_RELAY] = 1,
    [SAVED_SECRET] = BIT(RELAY) | BIT(SECRET),
    [SAVED_MAIN_LISTENER] = BIT(RELAY) | BIT(SECRET) | BIT(MAIN_LISTENER),
    [SAVED_REGISTRY] = BIT(MAIN_LISTENER),
    [SAVED_PORTS] = BIT(REGISTRY),
    [SAVED_COOLDOWN] = BIT(PORTS) | BIT(COOLDOWN),
    [SAVED_QUOTA] = BIT(PORTS) | BIT(COOLDOWN),
    [SAVED_BINDER] = BIT(QUOTA) | BIT(BINDER),
    [SAVED_TOMBSTONE] = BEFORE_THEM,
    [SAVED_SESSION] = BEFORE_THEM | IN_SESSION,
    [SAVED_STREAM] = BIT(SESSION) | BIT(STREAM),
    [SAVED_PAIR] = IN_SESSION,
    [SAVED_TICKET] = IN_SESSION,
    [SAVED_END] = BEFORE_THEM | IN_SESSION,
};

/* Returns true if @record is the ticket of a pair that waits for its second side: its state must
 * agree with the side that has joined. */
static bool is_ticket_of(const struct saved_record *record, const struct saved_pair *pair)
{
    enum ticket_state state = pair->sides[0].fd >= 0 ? TICKET_BY_OPERATOR : TICKET_BY_DEVICE;

    return record->kind == SAVED_TICKET && record->ticket.state == state &&
           record->ticket.given.stream == pair->stream &&
           record->ticket.given.attempt == pair->attempt;
}

static int order_on_record(void *userdata, const struct saved_record *record)
{
    struct order *order = userdata;
    bool has_waiting = order->waiting.state == PAIR_ONE_JOINED;
    bool is_used_ticket = record->kind == SAVED_TICKET && record->ticket.state != TICKET_UNUSED;

    if (!(predecessors[record->kind] >> order->last & 1) || has_waiting != is_used_ticket ||
        (has_waiting && !is_ticket_of(record, &order->waiting)))
        return SNAPSHOT_FORMAT_E_BAD;
    if (record->kind == SAVED_STREAM ? order->n_slots-- == 0 : order->n_slots != 0)
        return SNAPSHOT_FORMAT_E_BAD;
    if (record->kind == SAVED_STREAM && record->stream.ticket.stream == 0) {
        if (order->has_stream_0)
            return SNAPSHOT_FORMAT_E_BAD;
        order->has_stream_0 = true;
    }
    if (record->kind == SAVED_SESSION) {
        order->n_slots = record->session.n_slots;
        order->has_stream_0 = false;
        if (!set_bit(order->ports, record->session.port))
            return SNAPSHOT_FORMAT_E_BAD;
    }
    order->waiting.state = PAIR_CLOSED;
    if (record->kind == SAVED_PAIR)
        order->waiting = record->pair;
    order->last = record->kind;
    return 0;
}

static int order_on_fd(void *userdata, int fd, unsigned type)
{
    struct order *order = userdata;

    return set_bit(order->fds, (unsigned)fd) ? 0 : SNAPSHOT_FORMAT_E_BAD;
}

int snapshot_format_check(struct gt_span state)
{
    struct gt_reader reader = gt_reader(state.data, state.n);
    struct gt_span head = gt_read_bytes(&reader, sizeof(magic));
    uint32_t version = gt_read_u32(&reader);

    if (reader.failed || memcmp(head.data, magic, sizeof(magic)) != 0)
        return SNAPSHOT_FORMAT_E_BAD;
    if (version != SNAPSHOT_FORMAT_VERSION)
        return SNAPSHOT_FORMAT_E_VERSION;
    struct order *order = calloc(1, sizeof(*order));
    if (!order)
        return -ENOMEM;
    order->waiting.state = PAIR_CLOSED;
    int r = snapshot_format_read(state, order_on_record, order);
    if (!r)
        r = snapshot_format_each_fd(state, order_on_fd, order);
    free(order);
    return r;
}

/* --- descriptors ------------------------------------------------------------------------------ */

struct fd_visit {
    saved_fd_fn on_fd;
    void *userdata;
};

static int fd_visit_on_record(void *userdata, const struct saved_record *record)
{
    const struct fd_visit *visit = userdata;

    return saved_layout_each_fd(layouts[record->kind], &record->relay, visit->on_fd,
                                visit->userdata);
}

int snapshot_format_each_fd(struct gt_span state, saved_fd_fn on_fd, void *userdata)
{
    struct fd_visit visit = {on_fd, userdata};

    return snapshot_format_read(state, fd_visit_on_record, &visit);
}
