/* SPDX-License-Identifier: ISC */
/*
 * snapshot-format.c and the layouts of all records: a snapshot with every record is read as it was
 * written; one that is cut, of another version, out of order or invalid in any value is rejected.
 */
#include "upgrade/snapshot-format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

static uint8_t bytes[1 << 16];

static const struct saved_record relay = {
    .kind = SAVED_RELAY, .relay = {.stopped_at = 77, .boot_id = "boot id", .n_bytes = 8}};
static const struct saved_record secret = {.kind = SAVED_SECRET,
                                           .secret = {"GOTTHARD_X", "sesame"}};
static const struct saved_record main_listener = {.kind = SAVED_MAIN_LISTENER,
                                                  .main_listener = {10}};
static const struct saved_record registry = {
    .kind = SAVED_REGISTRY,
    .registry = {.bind = {.n = sizeof(struct sockaddr_in), .v4 = {.sin_family = AF_INET}},
                 .serial = 4,
                 .n_created = 5,
                 .n_unexpected = 6}};
static const struct saved_record ports = {.kind = SAVED_PORTS, .ports = {3}};
static const struct saved_record cooldown = {
    .kind = SAVED_COOLDOWN, .cooldown = {7001, .free_at = 9, .has_last_rid = true, "rid"}};
static const struct saved_record quota = {.kind = SAVED_QUOTA, .quota = {7}};
static const struct saved_record binder = {.kind = SAVED_BINDER, .binder = {"a binder"}};
static const struct saved_record tombstone = {.kind = SAVED_TOMBSTONE,
                                              .tombstone = {"rid", 9, GT_CODE_BYE}};
static const struct saved_record session = {
    .kind = SAVED_SESSION,
    .session = {.state = RENDEZVOUS_PAIRED,
                .rid = "rid",
                .serial = 1,
                .created_at = 2,
                .entered_at = 3,
                .active_at = 4,
                .expires_at = GT_CLOCK_NEVER,
                .port = 7002,
                .fd = 11,
                .slots = {{"alice", "its key", 1}, {"oli", "another key", 2}},
                .streams_serial = 5,
                .n_connections = 6,
                .n_up = 7,
                .n_down = 8,
                .n_slots = 2},
};
static const struct saved_record stream = {
    .kind = SAVED_STREAM,
    .stream = {STREAM_SLOT_TICKETED, 1, {1, 1, "an id", "a secret", 30, 1160}, 99, 1}};
static const struct saved_record shared = {
    .kind = SAVED_STREAM, .stream = {STREAM_SLOT_JOINED, 1, {0, 1, "an id", "", 30, 0}, 99, 0}};
static const struct saved_record splicing = {
    .kind = SAVED_PAIR,
    .pair =
        {.state = PAIR_SPLICING,
         .stream = 1,
         .attempt = 2,
         .deadline = GT_CLOCK_NEVER,
         .sides = {{.fd = 12,
                    .n_bytes = 5,
                    .pipe = {.kind = SAVED_SPLICED, .fds = {14, 15}, .n = 4, .capacity = 65536}},
                   {.fd = 13,
                    .source = "other",
                    .pipe = {SAVED_COPIED, {-1, -1}, .bytes = {(const uint8_t *)"abc", 3}}}}},
};
static const struct saved_record waiting = {
    .kind = SAVED_PAIR,
    .pair = {.state = PAIR_ONE_JOINED,
             .stream = 2,
             .attempt = 1,
             .deadline = 1000,
             .sides = {{.fd = -1, .pipe.fds = {-1, -1}}, {.fd = 16, .pipe.fds = {-1, -1}}}},
};
static const struct saved_record used = {
    .kind = SAVED_TICKET, .ticket = {TICKET_BY_DEVICE, {2, 1, "used", "a secret", 30, 536}, 99}};
static const struct saved_record unused = {
    .kind = SAVED_TICKET, .ticket = {TICKET_UNUSED, {1, 1, "unused", "a secret", 30, 0}, 99}};
static const struct saved_record end = {.kind = SAVED_END};

static const struct saved_record *const good[] = {
    &relay,    &secret,   &main_listener, &main_listener, &registry, &ports,
    &cooldown, &quota,    &binder,        &tombstone,     &session,  &shared,
    &stream,   &splicing, &waiting,       &used,          &unused,   &end};
#define N_GOOD GT_ARRAY_SIZE(good)

/* The second main listener needs a descriptor of its own. */
static struct gt_span state_of(const struct saved_record *const *records, size_t n)
{
    struct gt_writer writer = gt_writer(bytes, sizeof(bytes));
    unsigned n_main_listeners = 0;

    snapshot_format_write_head(&writer);
    for (size_t i = 0; i < n; i++) {
        struct saved_record record = *records[i];

        if (record.kind == SAVED_MAIN_LISTENER)
            record.main_listener.fd += 100 * (int)n_main_listeners++;
        snapshot_format_write_record(&writer, &record);
    }
    assert_false(writer.failed);
    return gt_span(bytes, writer.n);
}

static int check(const struct saved_record *const *records, size_t n)
{
    return snapshot_format_check(state_of(records, n));
}

static int write_again(void *userdata, const struct saved_record *record)
{
    snapshot_format_write_record(userdata, record);
    return 0;
}

static void test_snapshot_format_reads_all_records_as_written(void **state)
{
    static uint8_t copy[sizeof(bytes)];
    struct gt_span span = state_of(good, N_GOOD);
    struct gt_writer writer = gt_writer(copy, sizeof(copy));

    assert_int_equal(snapshot_format_check(span), 0);
    snapshot_format_write_head(&writer);
    assert_int_equal(snapshot_format_read(span, write_again, &writer), 0);
    assert_int_equal(writer.n, span.n);
    assert_memory_equal(copy, bytes, span.n);
}

struct fds {
    size_t n;
    unsigned types[16];
};

static int on_fd(void *userdata, int fd, unsigned type)
{
    struct fds *fds = userdata;

    assert_true(fds->n < GT_ARRAY_SIZE(fds->types));
    fds->types[fds->n++] = type;
    return 0;
}

static void test_snapshot_format_lists_descriptors_with_types(void **state)
{
    static const unsigned types[] = {S_IFSOCK, S_IFSOCK, S_IFSOCK, S_IFSOCK,
                                     S_IFIFO,  S_IFIFO,  S_IFSOCK, S_IFSOCK};
    struct fds fds = {0};

    assert_int_equal(snapshot_format_each_fd(state_of(good, N_GOOD), on_fd, &fds), 0);
    assert_int_equal(fds.n, GT_ARRAY_SIZE(types));
    assert_memory_equal(fds.types, types, sizeof(types));
}

static void test_snapshot_format_rejects_every_truncation(void **state)
{
    struct gt_span span = state_of(good, N_GOOD);

    for (size_t n = 0; n < span.n; n++) {
        uint8_t *copy = malloc(n + 1);

        memcpy(copy, span.data, n);
        assert_int_equal(snapshot_format_check(gt_span(copy, n)), SNAPSHOT_FORMAT_E_BAD);
        free(copy);
    }
    bytes[span.n] = 0;
    assert_int_equal(snapshot_format_check(gt_span(bytes, span.n + 1)), SNAPSHOT_FORMAT_E_BAD);
}

static void test_snapshot_format_rejects_other_magic_and_version(void **state)
{
    struct gt_span span = state_of(good, N_GOOD);
    size_t n_magic = sizeof("gotthard-relayd snapshot");

    for (size_t i = 0; i < n_magic; i++) {
        bytes[i] ^= 1;
        assert_int_equal(snapshot_format_check(span), SNAPSHOT_FORMAT_E_BAD);
        bytes[i] ^= 1;
    }
    for (size_t i = n_magic; i < n_magic + 4; i++) {
        bytes[i] ^= 1;
        assert_int_equal(snapshot_format_check(span), SNAPSHOT_FORMAT_E_VERSION);
        bytes[i] ^= 1;
    }
    assert_int_equal(snapshot_format_check(span), 0);
}

/* Each record omitted, duplicated, and moved to the front: few of those snapshots are valid. */
static void test_snapshot_format_rejects_wrong_order(void **state)
{
    const struct saved_record *records[N_GOOD + 1];

    for (size_t i = 0; i < N_GOOD; i++) {
        memcpy(records, good, sizeof(good));
        memmove(records + i, records + i + 1, (N_GOOD - i - 1) * sizeof(*records));
        bool may_miss = good[i] == &secret || good[i] == &main_listener || good[i] == &cooldown ||
                        good[i] == &binder || good[i] == &tombstone || good[i] == &splicing ||
                        good[i] == &unused;
        assert_int_equal(check(records, N_GOOD - 1), may_miss ? 0 : SNAPSHOT_FORMAT_E_BAD);

        memcpy(records, good, sizeof(good));
        memmove(records + i + 1, records + i, (N_GOOD - i) * sizeof(*records));
        bool may_be_twice = good[i] == &secret || good[i] == &main_listener ||
                            good[i] == &cooldown || good[i] == &binder || good[i] == &tombstone ||
                            good[i] == &unused;
        assert_int_equal(check(records, N_GOOD + 1), may_be_twice ? 0 : SNAPSHOT_FORMAT_E_BAD);

        memcpy(records, good, sizeof(good));
        memmove(records + 1, records, i * sizeof(*records));
        records[0] = good[i];
        assert_int_equal(check(records, N_GOOD), i == 0 ? 0 : SNAPSHOT_FORMAT_E_BAD);
    }
}

/* Checks the snapshot with one record replaced by another of its kind. */
static int check_with(const struct saved_record *old, const struct saved_record *new)
{
    const struct saved_record *records[N_GOOD];

    for (size_t i = 0; i < N_GOOD; i++)
        records[i] = good[i] == old ? new : good[i];
    return check(records, N_GOOD);
}

#define REJECTED(record, field, value)                                          \
    do {                                                                        \
        struct saved_record changed = record;                                   \
        changed.field = value;                                                  \
        assert_int_equal(check_with(&record, &changed), SNAPSHOT_FORMAT_E_BAD); \
    } while (0)

static void test_snapshot_format_rejects_invalid_values(void **state)
{
    struct saved_record misnamed = session;

    REJECTED(registry, registry.bind.any.sa_family, AF_UNIX);
    REJECTED(registry, registry.bind.n, sizeof(struct sockaddr_in6));
    REJECTED(registry, registry.bind.n, 0);
    REJECTED(main_listener, main_listener.fd, -1);
    REJECTED(tombstone, tombstone.code, 99);
    REJECTED(session, session.state, RENDEZVOUS_ENDED);
    REJECTED(session, session.state, 17);
    REJECTED(session, session.port, 0);
    REJECTED(session, session.fd, -1);
    REJECTED(session, session.fd, 2);
    REJECTED(session, session.fd, 10);
    REJECTED(session, session.fd, SAVED_FD_MAX);
    REJECTED(session, session.n_slots, 1);
    REJECTED(session, session.n_slots, 3);
    REJECTED(session, session.n_slots, 0);
    REJECTED(session, session.n_slots, UINT32_MAX);
    snprintf(misnamed.session.slots[1].name, sizeof(misnamed.session.slots[1].name), "not a name");
    assert_int_equal(check_with(&session, &misnamed), SNAPSHOT_FORMAT_E_BAD);
    REJECTED(stream, stream.state, STREAM_SLOT_FREE);
    REJECTED(stream, stream.state, 9);
    REJECTED(stream, stream.n_end_notices, 3);
    REJECTED(stream, stream.ticket.attempt, 0);
    REJECTED(stream, stream.ticket.stream, 0); /* a second one */
    REJECTED(splicing, pair.state, PAIR_CLOSED);
    REJECTED(splicing, pair.state, PAIR_ONE_JOINED);
    REJECTED(splicing, pair.state, PAIR_HALF_CLOSED);
    REJECTED(splicing, pair.sides[0].fd, -1);
    REJECTED(splicing, pair.sides[0].fd, 13);
    REJECTED(splicing, pair.sides[0].flow, FLOW_SHUT);
    REJECTED(splicing, pair.sides[0].pipe.kind, 3);
    REJECTED(splicing, pair.sides[0].pipe.n, 0);
    REJECTED(splicing, pair.sides[0].pipe.n, 65537);
    REJECTED(splicing, pair.sides[0].pipe.capacity, UINT32_MAX);
    REJECTED(splicing, pair.sides[0].pipe.fds[1], 14);
    REJECTED(splicing, pair.sides[0].pipe.fds[1], -1);
    REJECTED(splicing, pair.sides[1].pipe.bytes.n, 0);
    REJECTED(waiting, pair.state, PAIR_SPLICING);
    REJECTED(waiting, pair.stream, 3);
    REJECTED(waiting, pair.sides[0].fd, 17);
    REJECTED(waiting, pair.sides[1].fd, -1);
    REJECTED(used, ticket.state, TICKET_BY_OPERATOR);
    REJECTED(used, ticket.state, TICKET_UNUSED);
    REJECTED(used, ticket.state, TICKET_BY_BOTH);
    REJECTED(used, ticket.given.attempt, 2);
    REJECTED(unused, ticket.state, TICKET_BY_DEVICE);
}

/* Random changes may give any result, but no read beyond the end (sanitizers). */
static void test_snapshot_format_survives_random_bytes(void **state)
{
    const char *given = getenv("GOTTHARD_SEED");
    unsigned seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL);
    struct gt_span span = state_of(good, N_GOOD);
    uint8_t *copy = malloc(span.n);

    print_message("GOTTHARD_SEED=%u\n", seed);
    srand(seed);
    for (unsigned round = 0; round < 20000; round++) {
        memcpy(copy, span.data, span.n);
        for (int i = rand() % 3; i >= 0; i--)
            copy[(size_t)rand() % span.n] = (uint8_t)rand();
        int r = snapshot_format_check(gt_span(copy, span.n));
        assert_true(r == 0 || r == SNAPSHOT_FORMAT_E_BAD || r == SNAPSHOT_FORMAT_E_VERSION);
    }
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_format_reads_all_records_as_written),
        cmocka_unit_test(test_snapshot_format_lists_descriptors_with_types),
        cmocka_unit_test(test_snapshot_format_rejects_every_truncation),
        cmocka_unit_test(test_snapshot_format_rejects_other_magic_and_version),
        cmocka_unit_test(test_snapshot_format_rejects_wrong_order),
        cmocka_unit_test(test_snapshot_format_rejects_invalid_values),
        cmocka_unit_test(test_snapshot_format_survives_random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
