/* SPDX-License-Identifier: ISC */
/*
 * registry.c and session.c with clients that have no connection: frames for them stay in their send
 * queues. A data thread of the test runs beside.
 */
#include "control/registry.h"

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
    struct data_thread *data_thread;
    struct registry registry;
    struct client_host clients;
    struct gt_tls_context *tls;
} env;

static const uint8_t rid[GT_RID_SIZE] = "rid of a session";

static void on_message(void *userdata, struct message *message)
{
    registry_on_message(&env.registry, message);
    message_free(message);
}

static void on_frame(void *userdata, struct client *client, const struct gt_control_frame *frame)
{
    registry_on_frame(&env.registry, client, frame);
}

static void on_client_end(void *userdata, struct client *client)
{
    registry_on_client_end(&env.registry, client);
}

static int set_up(void **state)
{
    memset(&env, 0, sizeof(env));
    env.loop = ev_loop_new(EVFLAG_AUTO);
    quota_init(&env.quota, &(struct quota_limits){0}, 100);
    mailbox_init(&env.inbox, env.loop, on_message, NULL);
    client_host_init(&env.clients, env.loop);
    assert_int_equal(gt_tls_context_new(GT_TLS_SERVER, GT_CONTROL_ALPN, &env.tls), 0);
    client_host_set_limits(&env.clients, &(struct client_limits){.heartbeat_timeout_ms = 45000,
                                                                 .heartbeat_ms = 15000});
    env.clients.on_frame = on_frame;
    env.clients.on_end = on_client_end;
    struct data_thread_settings settings = {.outbox = &env.inbox, .quota = &env.quota};
    assert_int_equal(data_thread_new(&settings, &env.data_thread), 0);
    assert_int_equal(data_thread_start(env.data_thread), 0);
    assert_int_equal(registry_init(&env.registry, env.loop, &env.quota, 20000, 30000, 0), 0);
    assert_int_equal(gt_addr_parse("127.0.0.1", 0, &env.registry.bind), 0);
    registry_set_data_threads(&env.registry, &env.data_thread, 1);
    env.registry.limits = (struct registry_limits){.n_sessions = 10, .n_sessions_per_identity = 10};
    env.registry.sessions.limits = (struct session_limits){.rendezvous = {30000, 30000, 30000},
                                                           .lifetime_ms = 60000,
                                                           .ticket_ms = 30000,
                                                           .n_streams = 8,
                                                           .n_tickets = 4};
    return 0;
}

static int tear_down(void **state)
{
    struct quota_counts counts;

    registry_deinit(&env.registry);
    client_host_deinit(&env.clients);
    data_thread_free(env.data_thread);
    mailbox_drain(&env.inbox);
    mailbox_deinit(&env.inbox);
    quota_count(&env.quota, &counts);
    assert_int_equal(counts.n_fds, 0);
    quota_deinit(&env.quota);
    gt_tls_context_free(env.tls);
    ev_loop_destroy(env.loop);
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

/* A client after HELLO, whose connection is blocked. */
static struct client *ready_client(enum gt_role role, const char *name)
{
    struct client *client = calloc(1, sizeof(*client));

    assert_non_null(client);
    client->host = &env.clients;
    client->state = CLIENT_READY;
    client->role = role;
    gt_framed_connection_init(&client->framed);
    client->received_at = client->without_session_since = gt_clock_ms();
    snprintf(client->name, sizeof(client->name), "%s", name);
    gt_key_identity(role, name, client->identity);
    ev_io_init(&client->io, on_io, -1, 0);
    ev_init(&client->timer, on_timer);
    assert_int_equal(gt_tls_new_server(env.tls, -1, psk, NULL, &client->framed.tls), 0);
    gt_list_init(&client->slots_held);
    gt_list_init(&client->to_flush);
    gt_list_append(&env.clients.open, &client->of_host);
    env.clients.n_clients++;
    return client;
}

static void rendezvous(struct client *client, uint32_t generation)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RENDEZVOUS};

    memcpy(frame.rid, rid, sizeof(rid));
    frame.rendezvous.generation = generation;
    registry_on_frame(&env.registry, client, &frame);
}

static struct client *registered_client(enum gt_role role, const char *name, uint32_t generation)
{
    struct client *client = ready_client(role, name);

    rendezvous(client, generation);
    return client;
}

static void open_stream(struct client *client, uint32_t stream)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_OPEN};

    memcpy(frame.rid, rid, sizeof(rid));
    frame.open.stream = stream;
    frame.open.attempt = 1;
    registry_on_frame(&env.registry, client, &frame);
}

/* Returns the number of frames of @type in the send queue of @client, and empties it. */
static unsigned n_queued(struct client *client, enum gt_control_type type)
{
    struct gt_control_frame frame;
    unsigned n = 0;
    size_t used;

    for (size_t at = 0; at < client->framed.n_out; at += used) {
        assert_int_equal(
            gt_control_decode(client->framed.out + at, client->framed.n_out - at, &frame, &used),
            0);
        n += frame.type == type;
    }
    client->framed.n_out = 0;
    gt_list_unlink(&client->to_flush); /* there is no connection to flush */
    return n;
}

static void make_room(struct client *client)
{
    client->framed.out = realloc(client->framed.out, GT_FRAMED_CONNECTION_OUT);
    assert_non_null(client->framed.out);
    client->framed.out_size = GT_FRAMED_CONNECTION_OUT;
}

static void fill(struct client *client)
{
    make_room(client);
    memset(client->framed.out, 0, GT_FRAMED_CONNECTION_OUT);
    client->framed.n_out = GT_FRAMED_CONNECTION_OUT - 10;
}

static struct client *token_client(unsigned seconds)
{
    char name[GT_TOKEN_NAME_SIZE];

    snprintf(name, sizeof(name), "enroll-%08x-01234567", (unsigned)time(NULL) + seconds);
    return ready_client(GT_ROLE_DEVICE, name);
}

/* A token is good for one session with few streams, which ends with it. */
static void test_registry_limits_a_token(void **state)
{
    struct client *operator= registered_client(GT_ROLE_OPERATOR, "alice", 1);
    struct client *device = token_client(10);
    struct gt_control_frame second = {.type = GT_CONTROL_RENDEZVOUS, .rid = "another rid"};

    rendezvous(device, 1);
    assert_int_equal(registry_n_sessions(&env.registry), 1);
    struct session *session = session_of_client(device);
    assert_true(session->rendezvous.expires_at <= gt_clock_ms() + 10000);
    second.rendezvous.generation = 1;
    registry_on_frame(&env.registry, device, &second);
    assert_int_equal(registry_n_sessions(&env.registry), 1);
    assert_int_equal(n_queued(device, GT_CONTROL_ERROR), 1);
    for (uint32_t stream = 0; stream <= ADMISSION_TOKEN_STREAMS; stream++)
        open_stream(operator, stream);
    assert_int_equal(n_queued(operator, GT_CONTROL_STREAM_END), 0);
    open_stream(operator, ADMISSION_TOKEN_STREAMS + 1);
    assert_int_equal(n_queued(operator, GT_CONTROL_STREAM_END), 1);
}

static void test_registry_session_end_reaches_both_sides(void **state)
{
    struct client *operator= registered_client(GT_ROLE_OPERATOR, "alice", 1);
    struct client *device = registered_client(GT_ROLE_DEVICE, "oli", 1);

    assert_int_equal(registry_n_sessions(&env.registry), 1);
    assert_int_equal(n_queued(operator, GT_CONTROL_PEER), 1);
    open_stream(operator, 1);
    assert_int_equal(n_queued(operator, GT_CONTROL_TICKET), 1);
    assert_int_equal(n_queued(device, GT_CONTROL_TICKET), 1);
    registry_close(&env.registry, GT_CODE_SHUTDOWN);
    assert_int_equal(n_queued(operator, GT_CONTROL_BYE), 1);
    assert_int_equal(n_queued(device, GT_CONTROL_BYE), 1);
    assert_int_equal(registry_n_sessions(&env.registry), 0);
}

/* The BYE does not fit into the queues: the session ends all the same, once. */
static void test_registry_session_ends_with_full_send_queues(void **state)
{
    struct client *operator= registered_client(GT_ROLE_OPERATOR, "alice", 1);
    struct client *device = registered_client(GT_ROLE_DEVICE, "oli", 1);

    fill(operator);
    fill(device);
    registry_close(&env.registry, GT_CODE_SHUTDOWN);
    assert_int_equal(registry_n_sessions(&env.registry), 0);
    assert_int_equal(operator->state, CLIENT_SEND_QUEUE_FULL);
    assert_int_equal(device->state, CLIENT_SEND_QUEUE_FULL);
    registry_reap(&env.registry);
    client_host_flush(&env.clients);
    client_host_reap(&env.clients);
    assert_int_equal(env.clients.n_clients, 0);
    assert_int_equal(env.registry.sessions.n_unexpected, 0);
}

/* A ticket does not fit: the client is closed, and with it its session, but not within the request.
 */
static void test_registry_ticket_for_a_client_that_does_not_read(void **state)
{
    struct client *operator= registered_client(GT_ROLE_OPERATOR, "alice", 1);

    fill(operator);
    for (uint32_t stream = 1; stream <= 8; stream++)
        open_stream(operator, stream);
    assert_int_equal(operator->state, CLIENT_SEND_QUEUE_FULL);
    assert_int_equal(registry_n_sessions(&env.registry), 1);
    client_host_flush(&env.clients);
    client_host_reap(&env.clients);
    assert_int_equal(registry_n_sessions(&env.registry), 0);
    assert_int_equal(env.clients.n_clients, 0);
    assert_int_equal(env.registry.sessions.n_unexpected, 0);
}

/* A session without memory is rejected, whichever allocation fails, and leaves nothing behind. */
static void test_registry_new_session_fails_without_memory(void **state)
{
    struct client *device = ready_client(GT_ROLE_DEVICE, "oli");
    struct quota_counts counts;

    make_room(device);
    for (int n = 0; !registry_n_sessions(&env.registry); n++) {
        quota_count(&env.quota, &counts);
        assert_int_equal(counts.n_fds, 0);
        assert_int_equal(ports_n_in_use(&env.registry.ports), 0);
        memory_left = n;
        rendezvous(device, 1);
        memory_left = MEMORY_UNLIMITED;
        assert_true(n < 20);
    }
    assert_true(n_queued(device, GT_CONTROL_ERROR) > 4);
}

static void rendezvous_at(struct client *client, uint8_t number)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RENDEZVOUS};

    frame.rid[0] = number;
    frame.rendezvous.generation = 1;
    registry_on_frame(&env.registry, client, &frame);
}

static void bye_to_all(struct client *client)
{
    registry_on_frame(&env.registry, client,
                      &(struct gt_control_frame){.type = GT_CONTROL_BYE, .code = GT_CODE_BYE});
}

/* Sessions of an identity are counted from creation to end, whether it is connected or absent. */
static void test_registry_counts_the_sessions_of_an_identity(void **state)
{
    struct session_host *sessions = &env.registry.sessions;
    struct client *oli = ready_client(GT_ROLE_DEVICE, "oli");
    struct client *other = ready_client(GT_ROLE_DEVICE, "other");
    struct client *operator= ready_client(GT_ROLE_OPERATOR, "oli");

    operator->framed.fd = socket(AF_UNIX, SOCK_STREAM, 0); /* for the close in order */
    env.registry.limits.n_sessions_per_identity = 3;
    for (uint8_t i = 1; i <= 4; i++)
        rendezvous_at(oli, i);
    rendezvous_at(other, 9);
    rendezvous_at(operator, 1);
    assert_int_equal(session_n_held(sessions, GT_ROLE_DEVICE, "oli"), 3);
    assert_int_equal(session_n_held(sessions, GT_ROLE_DEVICE, "other"), 1);
    assert_int_equal(session_n_held(sessions, GT_ROLE_OPERATOR, "oli"), 1);
    assert_int_equal(n_queued(oli, GT_CONTROL_ERROR), 1);
    registry_on_client_end(&env.registry, oli); /* the PAIRED session continues, WAITING ones end */
    assert_false(client_has_slot(oli));
    assert_int_equal(session_n_held(sessions, GT_ROLE_DEVICE, "oli"), 1);
    assert_int_equal(registry_n_sessions(&env.registry), 2);
    bye_to_all(operator);
    assert_int_equal(session_n_held(sessions, GT_ROLE_DEVICE, "oli"), 0);
    assert_int_equal(session_n_held(sessions, GT_ROLE_OPERATOR, "oli"), 0);
    registry_close(&env.registry, GT_CODE_SHUTDOWN);
    assert_null(sessions->holders[0].by_name);
    assert_null(sessions->holders[1].by_name);
}

/* A STREAM_END for an unknown stream is dropped. */
static void test_registry_stream_end_is_forwarded_once_per_side(void **state)
{
    struct client *operator= registered_client(GT_ROLE_OPERATOR, "alice", 1);
    struct client *device = registered_client(GT_ROLE_DEVICE, "oli", 1);
    struct gt_control_frame frame = {.type = GT_CONTROL_STREAM_END};

    memcpy(frame.rid, rid, sizeof(rid));
    frame.stream_end.stream = frame.stream_end.attempt = 1;
    for (unsigned i = 0; i < 1000; i++)
        registry_on_frame(&env.registry, device, &frame);
    assert_int_equal(n_queued(operator, GT_CONTROL_STREAM_END), 0);
    open_stream(operator, 1);
    for (unsigned i = 0; i < 1000; i++)
        registry_on_frame(&env.registry, device, &frame);
    assert_int_equal(n_queued(operator, GT_CONTROL_STREAM_END), 2); /* at most one per side */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registry_limits_a_token, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_registry_session_end_reaches_both_sides, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_registry_session_ends_with_full_send_queues, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_registry_ticket_for_a_client_that_does_not_read,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_registry_new_session_fails_without_memory, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_registry_counts_the_sessions_of_an_identity, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_registry_stream_end_is_forwarded_once_per_side, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
