/* SPDX-License-Identifier: ISC */
/*
 * handover.c and records.c: a state of every record comes back as it was; one that is cut, of
 * another version, out of order or lies about anything is refused, whatever byte it is that lies.
 */
#include "handover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

static uint8_t bytes[1 << 16];

static const struct handover relay = {
    .kind = HANDOVER_RELAY,
    .relay = {.stopped_at = 77,
              .boot_id = "boot id",
              .bind = {.n = sizeof(struct sockaddr_in), .v4 = {.sin_family = AF_INET}},
              .cursor = 3,
              .serial = 4,
              .n_born = 5,
              .n_unlisted = 6,
              .n_refused = 7,
              .n_bytes = 8},
};
static const struct handover secret = {.kind = HANDOVER_SECRET, .secret = {"GOTTHARD_X", "sesame"}};
static const struct handover door = {.kind = HANDOVER_DOOR, .door = 10};
static const struct handover rest = {.kind = HANDOVER_REST,
                                     .rest = {7001, {.rests_until = 9, .is_known = true}}};
static const struct handover penalty = {.kind = HANDOVER_PENALTY, .penalty = {"source", 9}};
static const struct handover tomb = {.kind = HANDOVER_TOMB, .tomb = {"rid", 9, GT_CODE_BYE}};
static const struct handover session = {
    .kind = HANDOVER_SESSION,
    .session = {.state = SESSION_PAIRED,
                .rid = "rid",
                .serial = 1,
                .born_at = 2,
                .entered_at = 3,
                .active_at = 4,
                .expires_at = NEVER,
                .port = 7002,
                .fd = 11,
                .slots = {{"alice", 1}, {"oli", 2}},
                .streams_serial = 5,
                .n_streams = 6,
                .n_up = 7,
                .n_down = 8,
                .n_slots = 2},
};
static const struct handover stream = {
    .kind = HANDOVER_STREAM,
    .stream = {STREAM_TICKETED, 1, {1, 1, "an id", "a secret", 30}, 99, 1, true}};
static const struct handover splicing = {
    .kind = HANDOVER_PAIR,
    .pair =
        {.state = PAIR_SPLICING,
         .stream = 1,
         .attempt = 2,
         .deadline = NEVER,
         .sides = {{.fd = 12,
                    .n_bytes = 5,
                    .pipe = {.kind = HANDOVER_SPLICED, .fds = {14, 15}, .n = 4, .capacity = 65536}},
                   {.fd = 13,
                    .source = "other",
                    .pipe = {HANDOVER_COPIED, {-1, -1}, .bytes = {(const uint8_t *)"abc", 3}}}}},
};
static const struct handover waiting = {
    .kind = HANDOVER_PAIR,
    .pair = {.state = PAIR_ONE_JOINED,
             .stream = 2,
             .attempt = 1,
             .deadline = 1000,
             .sides = {{.fd = -1, .pipe.fds = {-1, -1}}, {.fd = 16, .pipe.fds = {-1, -1}}}},
};
static const struct handover used = {
    .kind = HANDOVER_TICKET, .ticket = {TICKET_BY_DEVICE, {2, 1, "used", "a secret", 30}, 99}};
static const struct handover unused = {
    .kind = HANDOVER_TICKET, .ticket = {TICKET_UNUSED, {1, 1, "unused", "a secret", 30}, 99}};
static const struct handover end = {.kind = HANDOVER_END};

static const struct handover *const good[] = {&relay,    &secret,  &door,    &door,   &rest,
                                              &penalty,  &tomb,    &session, &stream, &stream,
                                              &splicing, &waiting, &used,    &unused, &end};
#define N_GOOD GT_ARRAY_SIZE(good)

/* The second door needs a number of its own. */
static struct gt_span state_of(const struct handover *const *records, size_t n)
{
    struct gt_writer writer = gt_writer(bytes, sizeof(bytes));
    unsigned n_doors = 0;

    handover_write_head(&writer);
    for (size_t i = 0; i < n; i++) {
        struct handover record = *records[i];
        if (record.kind == HANDOVER_DOOR)
            record.door += 100 * (int)n_doors++;
        handover_write_record(&writer, &record);
    }
    assert_false(writer.failed);
    return gt_span(bytes, writer.n);
}

static int check(const struct handover *const *records, size_t n)
{
    return handover_check(state_of(records, n));
}

static int again(void *userdata, const struct handover *record)
{
    handover_write_record(userdata, record);
    return 0;
}

static void test_round_trip(void **state)
{
    static uint8_t copy[sizeof(bytes)];
    struct gt_span span = state_of(good, N_GOOD);
    struct gt_writer writer = gt_writer(copy, sizeof(copy));

    assert_int_equal(handover_check(span), 0);
    handover_write_head(&writer);
    assert_int_equal(handover_read(span, again, &writer), 0);
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

static void test_descriptors(void **state)
{
    static const unsigned types[] = {S_IFSOCK, S_IFSOCK, S_IFSOCK, S_IFSOCK,
                                     S_IFIFO,  S_IFIFO,  S_IFSOCK, S_IFSOCK};
    struct fds fds = {0};

    assert_int_equal(handover_each_fd(state_of(good, N_GOOD), on_fd, &fds), 0);
    assert_int_equal(fds.n, GT_ARRAY_SIZE(types));
    assert_memory_equal(fds.types, types, sizeof(types));
}

static void test_truncations(void **state)
{
    struct gt_span span = state_of(good, N_GOOD);

    for (size_t n = 0; n < span.n; n++) {
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, span.data, n);
        assert_int_equal(handover_check(gt_span(copy, n)), HANDOVER_E_BAD);
        free(copy);
    }
    bytes[span.n] = 0;
    assert_int_equal(handover_check(gt_span(bytes, span.n + 1)), HANDOVER_E_BAD);
}

static void test_head(void **state)
{
    struct gt_span span = state_of(good, N_GOOD);
    size_t n_magic = sizeof("gotthard-relayd hand-over");

    for (size_t i = 0; i < n_magic; i++) {
        bytes[i] ^= 1;
        assert_int_equal(handover_check(span), HANDOVER_E_BAD);
        bytes[i] ^= 1;
    }
    for (size_t i = n_magic; i < n_magic + 4; i++) {
        bytes[i] ^= 1;
        assert_int_equal(handover_check(span), HANDOVER_E_VERSION);
        bytes[i] ^= 1;
    }
    assert_int_equal(handover_check(span), 0);
}

/* Any record left out, twice, or moved to the front or to the end: few of those are right. */
static void test_order(void **state)
{
    const struct handover *records[N_GOOD + 1];

    for (size_t i = 0; i < N_GOOD; i++) {
        memcpy(records, good, sizeof(good));
        memmove(records + i, records + i + 1, (N_GOOD - i - 1) * sizeof(*records));
        bool may_miss = good[i] == &secret || good[i] == &door || good[i] == &rest ||
                        good[i] == &penalty || good[i] == &tomb || good[i] == &splicing ||
                        good[i] == &unused;
        assert_int_equal(check(records, N_GOOD - 1), may_miss ? 0 : HANDOVER_E_BAD);

        memcpy(records, good, sizeof(good));
        memmove(records + i + 1, records + i, (N_GOOD - i) * sizeof(*records));
        bool may_be_twice = good[i] == &secret || good[i] == &door || good[i] == &rest ||
                            good[i] == &penalty || good[i] == &tomb || good[i] == &unused;
        assert_int_equal(check(records, N_GOOD + 1), may_be_twice ? 0 : HANDOVER_E_BAD);

        memcpy(records, good, sizeof(good));
        memmove(records + 1, records, i * sizeof(*records));
        records[0] = good[i];
        assert_int_equal(check(records, N_GOOD), i == 0 ? 0 : HANDOVER_E_BAD);
    }
}

/* One record in the place of another of its kind. */
static int check_with(const struct handover *old, const struct handover *new)
{
    const struct handover *records[N_GOOD];

    for (size_t i = 0; i < N_GOOD; i++)
        records[i] = good[i] == old ? new : good[i];
    return check(records, N_GOOD);
}

#define REFUSED(record, field, value)                                 \
    do {                                                              \
        struct handover liar = record;                                \
        liar.field = value;                                           \
        assert_int_equal(check_with(&record, &liar), HANDOVER_E_BAD); \
    } while (0)

static void test_lies(void **state)
{
    struct handover nameless = session;

    REFUSED(relay, relay.bind.any.sa_family, AF_UNIX);
    REFUSED(relay, relay.bind.n, sizeof(struct sockaddr_in6));
    REFUSED(relay, relay.bind.n, 0);
    REFUSED(tomb, tomb.code, 99);
    REFUSED(session, session.state, SESSION_GONE);
    REFUSED(session, session.state, 17);
    REFUSED(session, session.port, 0);
    REFUSED(session, session.fd, -1);
    REFUSED(session, session.fd, 2);
    REFUSED(session, session.fd, 10);
    REFUSED(session, session.fd, HANDOVER_FD_MAX);
    REFUSED(session, session.n_slots, 1);
    REFUSED(session, session.n_slots, 3);
    REFUSED(session, session.n_slots, 0);
    REFUSED(session, session.n_slots, UINT32_MAX);
    snprintf(nameless.session.slots[1].name, sizeof(nameless.session.slots[1].name), "not a name");
    assert_int_equal(check_with(&session, &nameless), HANDOVER_E_BAD);
    REFUSED(stream, stream.state, STREAM_FREE);
    REFUSED(stream, stream.state, 9);
    REFUSED(stream, stream.n_told, 3);
    REFUSED(stream, stream.ticket.stream, 0);
    REFUSED(splicing, pair.state, PAIR_CLOSED);
    REFUSED(splicing, pair.state, PAIR_ONE_JOINED);
    REFUSED(splicing, pair.state, PAIR_HALF_CLOSED);
    REFUSED(splicing, pair.sides[0].fd, -1);
    REFUSED(splicing, pair.sides[0].fd, 13);
    REFUSED(splicing, pair.sides[0].flow, FLOW_SHUT);
    REFUSED(splicing, pair.sides[0].pipe.kind, 3);
    REFUSED(splicing, pair.sides[0].pipe.n, 0);
    REFUSED(splicing, pair.sides[0].pipe.n, 65537);
    REFUSED(splicing, pair.sides[0].pipe.capacity, UINT32_MAX);
    REFUSED(splicing, pair.sides[0].pipe.fds[1], 14);
    REFUSED(splicing, pair.sides[0].pipe.fds[1], -1);
    REFUSED(splicing, pair.sides[1].pipe.bytes.n, 0);
    REFUSED(waiting, pair.state, PAIR_SPLICING);
    REFUSED(waiting, pair.stream, 3);
    REFUSED(waiting, pair.sides[0].fd, 17);
    REFUSED(waiting, pair.sides[1].fd, -1);
    REFUSED(used, ticket.state, TICKET_BY_OPERATOR);
    REFUSED(used, ticket.state, TICKET_UNUSED);
    REFUSED(used, ticket.state, TICKET_BY_BOTH);
    REFUSED(used, ticket.given.attempt, 2);
    REFUSED(unused, ticket.state, TICKET_BY_DEVICE);
}

/* What a byte more or less means: anything but a read beyond the end. */
static void test_random_bytes(void **state)
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
        int r = handover_check(gt_span(copy, span.n));
        assert_true(r == 0 || r == HANDOVER_E_BAD || r == HANDOVER_E_VERSION);
    }
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_truncations),  cmocka_unit_test(test_head),
        cmocka_unit_test(test_order),        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
