/* SPDX-License-Identifier: ISC */
/*
 * registry.c with members that have no connection: what is sent to them stays in their queue. A
 * plane of its own runs beside.
 */
#include "registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "memory.h"

static struct {
    struct ev_loop *loop;
    struct quota quota;
    struct mailbox inbox;
    struct plane *plane;
    struct registry registry;
    struct member_host members;
    struct gt_tls_context *tls;
} world;

static const uint8_t rid[GT_RID_SIZE] = "rid of a session";

static void on_letter(void *userdata, struct letter *letter)
{
    registry_on_letter(&world.registry, letter);
    letter_free(letter);
}

static void on_frame(void *userdata, struct member *member, const struct gt_control_frame *frame)
{
    registry_on_frame(&world.registry, member, frame);
}

static void on_gone(void *userdata, struct member *member)
{
    registry_on_gone(&world.registry, member);
}

static int begin(void **state)
{
    memset(&world, 0, sizeof(world));
    world.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&world.quota, &(struct quota_limits){0}, 100, 1);
    mailbox_init(&world.inbox, world.loop, on_letter, NULL);
    member_host_init(&world.members, world.loop);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &world.tls), 0);
    world.members.limits = (struct member_limits){.dead_ms = 45000, .heartbeat_ms = 15000};
    world.members.on_frame = on_frame;
    world.members.on_gone = on_gone;
    struct plane_settings settings = {.outbox = &world.inbox, .quota = &world.quota};
    assert_int_equal(plane_new(&settings, &world.plane), 0);
    assert_int_equal(plane_start(world.plane), 0);
    assert_int_equal(registry_init(&world.registry, world.loop, &world.quota, 20000, 30000, 0), 0);
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &world.registry.bind), 0);
    registry_set_planes(&world.registry, &world.plane, 1);
    world.registry.limits =
        (struct registry_limits){.n_sessions = 10, .n_sessions_per_identity = 10};
    world.registry.entries.limits = (struct entry_limits){.session = {30000, 30000, 30000},
                                                          .lifetime_ms = 60000,
                                                          .ticket_ms = 30000,
                                                          .n_streams = 8,
                                                          .n_tickets = 4};
    return 0;
}

static int end(void **state)
{
    struct quota_counts counts;
    registry_deinit(&world.registry);
    member_host_deinit(&world.members);
    plane_free(world.plane);
    mailbox_drain(&world.inbox);
    mailbox_deinit(&world.inbox);
    quota_count(&world.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    quota_deinit(&world.quota);
    gt_tls_context_free(world.tls);
    ev_loop_destroy(world.loop);
    return 0;
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
}

static bool psk(void *userdata, struct gt_span identity, uint8_t *ret_psk)
{
    return false;
}

/* One that has said HELLO, and whose connection takes nothing for the moment. */
static struct member *member_unregistered(enum gt_role role, const char *name)
{
    struct member *member = calloc(1, sizeof(*member));
    assert_non_null(member);
    member->host = &world.members;
    member->state = MEMBER_READY;
    member->role = role;
    member->wire.fd = -1;
    member->heard_at = member->unseated_at = now_ms();
    snprintf(member->name, sizeof(member->name), "%s", name);
    gt_key_identity(role, name, member->identity);
    ev_io_init(&member->io, on_io, -1, 0);
    ev_init(&member->timer, on_timer);
    assert_int_equal(gt_tls_new_server(world.tls, -1, psk, NULL, &member->wire.tls), 0);
    gt_list_init(&member->seats);
    gt_list_init(&member->dirty);
    gt_list_append(&world.members.living, &member->of_host);
    world.members.n_members++;
    return member;
}

static void rendezvous(struct member *member, uint32_t generation)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RENDEZVOUS};
    memcpy(frame.rid, rid, sizeof(rid));
    frame.rendezvous.generation = generation;
    registry_on_frame(&world.registry, member, &frame);
}

static struct member *member_of(enum gt_role role, const char *name, uint32_t generation)
{
    struct member *member = member_unregistered(role, name);
    rendezvous(member, generation);
    return member;
}

static void open_stream(struct member *member, uint32_t stream)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_OPEN};
    memcpy(frame.rid, rid, sizeof(rid));
    frame.open.stream = stream;
    frame.open.attempt = 1;
    registry_on_frame(&world.registry, member, &frame);
}

/* What is in a member's queue, type by type; forgets it. */
static unsigned n_queued(struct member *member, enum gt_control_type type)
{
    struct gt_control_frame frame;
    unsigned n = 0;
    size_t used;
    for (size_t at = 0; at < member->wire.n_out; at += used) {
        assert_int_equal(
            gt_control_decode(member->wire.out + at, member->wire.n_out - at, &frame, &used), 0);
        n += frame.type == type;
    }
    member->wire.n_out = 0;
    gt_list_unlink(&member->dirty); /* there is no connection to flush to */
    return n;
}

static void make_room(struct member *member)
{
    member->wire.out = realloc(member->wire.out, WIRE_OUT);
    assert_non_null(member->wire.out);
    member->wire.n_room = WIRE_OUT;
}

static void fill(struct member *member)
{
    make_room(member);
    memset(member->wire.out, 0, WIRE_OUT);
    member->wire.n_out = WIRE_OUT - 10;
}

static void test_a_session_and_its_end(void **state)
{
    struct member *operator= member_of(GT_ROLE_OPERATOR, "alice", 1);
    struct member *device = member_of(GT_ROLE_DEVICE, "oli", 1);
    assert_int_equal(registry_n_sessions(&world.registry), 1);
    assert_int_equal(n_queued(operator, GT_CONTROL_PEER), 1);
    open_stream(operator, 1);
    assert_int_equal(n_queued(operator, GT_CONTROL_TICKET), 1);
    assert_int_equal(n_queued(device, GT_CONTROL_TICKET), 1);
    registry_close(&world.registry, GT_CODE_SHUTDOWN);
    assert_int_equal(n_queued(operator, GT_CONTROL_BYE), 1);
    assert_int_equal(n_queued(device, GT_CONTROL_BYE), 1);
    assert_int_equal(registry_n_sessions(&world.registry), 0);
}

/* The last word does not fit into its queue: the session ends once all the same. */
static void test_the_end_reaches_nobody(void **state)
{
    struct member *operator= member_of(GT_ROLE_OPERATOR, "alice", 1);
    struct member *device = member_of(GT_ROLE_DEVICE, "oli", 1);
    fill(operator);
    fill(device);
    registry_close(&world.registry, GT_CODE_SHUTDOWN);
    assert_int_equal(registry_n_sessions(&world.registry), 0);
    assert_int_equal(operator->state, MEMBER_STUCK);
    assert_int_equal(device->state, MEMBER_STUCK);
    registry_bury(&world.registry);
    member_host_settle(&world.members);
    assert_int_equal(world.members.n_members, 0);
    assert_int_equal(world.registry.entries.n_unlisted, 0);
}

/* A ticket does not fit: the member is lost, and with it its session, but not at once. */
static void test_tickets_for_one_who_does_not_read(void **state)
{
    struct member *operator= member_of(GT_ROLE_OPERATOR, "alice", 1);
    fill(operator);
    for (uint32_t stream = 1; stream <= 8; stream++)
        open_stream(operator, stream);
    assert_int_equal(operator->state, MEMBER_STUCK);
    assert_int_equal(registry_n_sessions(&world.registry), 1);
    member_host_settle(&world.members);
    assert_int_equal(registry_n_sessions(&world.registry), 0);
    assert_int_equal(world.members.n_members, 0);
    assert_int_equal(world.registry.entries.n_unlisted, 0);
}

/* No memory for a session is no reason for the relay to go, whichever part of it was refused. */
static void test_no_memory(void **state)
{
    struct member *device = member_unregistered(GT_ROLE_DEVICE, "oli");
    struct quota_counts counts;

    make_room(device);
    for (int n = 0; !registry_n_sessions(&world.registry); n++) {
        quota_count(&world.quota, &counts);
        assert_int_equal(counts.n_fds, 0);
        assert_int_equal(ports_n_taken(&world.registry.ports), 0);
        memory_left = n;
        rendezvous(device, 1);
        memory_left = MEMORY_ENDLESS;
        assert_true(n < 20);
    }
    assert_true(n_queued(device, GT_CONTROL_ERROR) > 4);
}

static void rendezvous_at(struct member *member, uint8_t number)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RENDEZVOUS};
    frame.rid[0] = number;
    frame.rendezvous.generation = 1;
    registry_on_frame(&world.registry, member, &frame);
}

static void bye_to_all(struct member *member)
{
    registry_on_frame(&world.registry, member,
                      &(struct gt_control_frame){.type = GT_CONTROL_BYE, .code = GT_CODE_BYE});
}

/* An identity's sessions are counted when they begin and end, whether it is here or away. */
static void test_the_sessions_of_an_identity_are_counted(void **state)
{
    struct entry_host *entries = &world.registry.entries;
    struct member *oli = member_unregistered(GT_ROLE_DEVICE, "oli");
    struct member *other = member_unregistered(GT_ROLE_DEVICE, "other");
    struct member *operator= member_unregistered(GT_ROLE_OPERATOR, "oli");

    operator->wire.fd = socket(AF_UNIX, SOCK_STREAM, 0); /* it is closed in order */
    world.registry.limits.n_sessions_per_identity = 3;
    for (uint8_t i = 1; i <= 4; i++)
        rendezvous_at(oli, i);
    rendezvous_at(other, 9);
    rendezvous_at(operator, 1);
    assert_int_equal(entry_n_held(entries, GT_ROLE_DEVICE, "oli"), 3);
    assert_int_equal(entry_n_held(entries, GT_ROLE_DEVICE, "other"), 1);
    assert_int_equal(entry_n_held(entries, GT_ROLE_OPERATOR, "oli"), 1);
    assert_int_equal(n_queued(oli, GT_CONTROL_ERROR), 1);
    registry_on_gone(&world.registry, oli); /* PAIRED goes on without it, HALF does not */
    assert_false(member_is_seated(oli));
    assert_int_equal(entry_n_held(entries, GT_ROLE_DEVICE, "oli"), 1);
    assert_int_equal(registry_n_sessions(&world.registry), 2);
    bye_to_all(operator);
    assert_int_equal(entry_n_held(entries, GT_ROLE_DEVICE, "oli"), 0);
    assert_int_equal(entry_n_held(entries, GT_ROLE_OPERATOR, "oli"), 0);
    registry_close(&world.registry, GT_CODE_SHUTDOWN);
    assert_null(entries->holders[0].by_name);
    assert_null(entries->holders[1].by_name);
}

/* What is not under way is not reported, however often it comes. */
static void test_ends_of_nothing(void **state)
{
    struct member *operator= member_of(GT_ROLE_OPERATOR, "alice", 1);
    struct member *device = member_of(GT_ROLE_DEVICE, "oli", 1);
    struct gt_control_frame frame = {.type = GT_CONTROL_STREAM_END};

    memcpy(frame.rid, rid, sizeof(rid));
    frame.stream_end.stream = frame.stream_end.attempt = 1;
    for (unsigned i = 0; i < 1000; i++)
        registry_on_frame(&world.registry, device, &frame);
    assert_int_equal(n_queued(operator, GT_CONTROL_STREAM_END), 0);
    open_stream(operator, 1);
    for (unsigned i = 0; i < 1000; i++)
        registry_on_frame(&world.registry, device, &frame);
    assert_int_equal(n_queued(operator, GT_CONTROL_STREAM_END), 2); /* perhaps one of each side */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_session_and_its_end, begin, end),
        cmocka_unit_test_setup_teardown(test_the_end_reaches_nobody, begin, end),
        cmocka_unit_test_setup_teardown(test_tickets_for_one_who_does_not_read, begin, end),
        cmocka_unit_test_setup_teardown(test_no_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_the_sessions_of_an_identity_are_counted, begin, end),
        cmocka_unit_test_setup_teardown(test_ends_of_nothing, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
