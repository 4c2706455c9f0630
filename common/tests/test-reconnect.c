/* SPDX-License-Identifier: ISC */
/*
 * Reconnecting: delays and windows by themselves, and a hundred tunnels in one loop whose relay
 * sends a restart notice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include <stdlib.h>

#include "gotthard/base/clock.h"
#include "gotthard/relay/reconnect.h"
#include "gotthard/tls/iobuf.h"
#include "gotthard/tunnel/tunnel.h"
#include "support/fake-clock.h"
#include "support/fake-relay.h"

#define N_TUNNELS 100

/* --- the arithmetic --------------------------------------------------------------------------- */

static void init(struct gt_reconnect *reconnect, unsigned window_ms)
{
    static const struct gt_host_port relay = {"localhost", 7000};
    const struct gt_control_connection_settings control = {
        .name = "alice", .client_key = fake_key, .rid = fake_rid};

    gt_reconnect_init(reconnect, &relay, 1, &control, window_ms);
}

/* The first delay after RESTARTING, and the window. */
static double first_wait(unsigned window_ms, uint32_t reconnect_in_ms, uint32_t try_for_ms,
                         double *ret_window)
{
    struct gt_reconnect reconnect;

    init(&reconnect, window_ms);
    gt_reconnect_on_restart_notice(&reconnect, reconnect_in_ms, try_for_ms);
    gt_reconnect_start(&reconnect);
    *ret_window = gt_reconnect_time_left(&reconnect);
    double wait = gt_reconnect_delay(&reconnect), second = gt_reconnect_delay(&reconnect);
    assert_true(second >= .39 && second <= .61); /* then the back-off */
    return wait;
}

/* A restart has a BYE. A notice counts for one loss. */
static void test_upgrade_is_a_loss_after_a_notice(void **state)
{
    struct gt_reconnect reconnect = {.window = 120};

    assert_false(gt_reconnect_is_upgrade(&reconnect, GT_CODE_NONE));
    gt_reconnect_on_restart_notice(&reconnect, 1000, 10000);
    assert_true(gt_reconnect_is_upgrade(&reconnect, GT_CODE_NONE));
    assert_true(gt_reconnect_is_upgrade(&reconnect, GT_CODE_LOST));
    assert_false(gt_reconnect_is_upgrade(&reconnect, GT_CODE_SHUTDOWN));
    gt_reconnect_start(&reconnect);
    (void)gt_reconnect_delay(&reconnect);
    assert_false(gt_reconnect_is_upgrade(&reconnect, GT_CODE_LOST));
}

static void test_restart_notice_is_limited(void **state)
{
    static const struct {
        unsigned window_ms;
        uint32_t reconnect_in_ms, try_for_ms;
        double most, window;
    } cases[] = {
        {120000, 5000, 20000, 5., 120.},
        {2000, 1000, 12000, 1., 12.}, /* longer than the own window */
        {120000, 0, 0, .2, 120.},
        {120000, UINT32_MAX, UINT32_MAX, 60., 300.},
        {10000, UINT32_MAX, 0, 5., 10.}, /* half of the window is left for attempts */
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        double least = 1e9, most = 0, window;

        for (int n = 0; n < 500; n++) {
            double wait = first_wait(cases[i].window_ms, cases[i].reconnect_in_ms,
                                     cases[i].try_for_ms, &window);

            assert_true(window > cases[i].window - .5 && window <= cases[i].window);
            least = GT_MIN(least, wait);
            most = GT_MAX(most, wait);
        }
        assert_true(least < cases[i].most * .05 && most <= cases[i].most);
        assert_true(most > cases[i].most * .95);
    }
}

static void test_delay_without_notice_is_the_back_off(void **state)
{
    struct gt_reconnect reconnect;

    init(&reconnect, 5000);
    gt_reconnect_start(&reconnect);
    double window = gt_reconnect_time_left(&reconnect), wait = gt_reconnect_delay(&reconnect);
    assert_true(window > 4.5 && window <= 5.);
    assert_true(wait >= .39 && wait <= .61);
}

static void test_window_can_be_shortened_and_restored(void **state)
{
    static const struct {
        unsigned window_ms;
        double shortened;
    } cases[] = {{120000, 40.}, {30000, 30.}};

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_reconnect reconnect;

        init(&reconnect, cases[i].window_ms);
        gt_reconnect_start(&reconnect);
        gt_reconnect_shorten(&reconnect);
        double left = gt_reconnect_time_left(&reconnect);
        assert_true(left > cases[i].shortened - .5 && left <= cases[i].shortened);
        gt_reconnect_start(&reconnect); /* it is open already */
        assert_true(gt_reconnect_time_left(&reconnect) <= cases[i].shortened);
        gt_reconnect_restore(&reconnect);
        left = gt_reconnect_time_left(&reconnect) * 1000;
        assert_true(left > cases[i].window_ms - 500 && left <= cases[i].window_ms);
        gt_reconnect_reset(&reconnect);
        gt_reconnect_restore(&reconnect);
        assert_true(gt_reconnect_time_left(&reconnect) < 0);
    }
}

/* --- a hundred tunnels ------------------------------------------------------------------------ */

#define WINDOW_MIN_MS 2000
#define WINDOW_MAX_MS 60000

struct crowd {
    struct ev_loop *loop;
    struct fake_relay relay;
    struct gt_tunnel *tunnels[N_TUNNELS];
    unsigned n_registered, n_lost, n_back;
    double back_at[N_TUNNELS]; /* of the second RENDEZVOUS */
    uint32_t window_ms;        /* of the relay's notice */
};

static void crowd_on_frame(struct fake_client *client, const struct gt_control_frame *frame)
{
    struct crowd *crowd = client->relay->userdata;

    if (frame->type == GT_CONTROL_HELLO)
        fake_client_welcome(client);
    if (frame->type != GT_CONTROL_RENDEZVOUS)
        return;
    crowd->n_registered += frame->rendezvous.generation == 1;
    if (frame->rendezvous.generation > 1 && crowd->n_back < N_TUNNELS)
        crowd->back_at[crowd->n_back++] = gt_clock();
    fake_client_session(client, 7001, true);
}

/* A slow machine: the first attempt was too late, and there is another. */
static void crowd_on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code,
                           const char *why)
{
}

static void crowd_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
}

static void crowd_on_waiting(void *userdata)
{
}

static void crowd_on_up(void *userdata, uint16_t port)
{
    fail_msg("no data connection was up");
}

static void crowd_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void crowd_on_control(void *userdata, enum gt_relay_change change, const char *why)
{
    struct crowd *crowd = userdata;

    crowd->n_lost += change == GT_RELAY_LOST;
}

static void crowd_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                          const char *why)
{
    fail_msg("a tunnel ended: %s", why);
}

static void crowd_init(struct crowd *crowd)
{
    static const struct gt_tunnel_events events = {
        .on_retry = crowd_on_retry,
        .on_waiting = crowd_on_waiting,
        .on_up = crowd_on_up,
        .on_notice = crowd_on_notice,
        .on_peer = crowd_on_peer,
        .on_relay_connection = crowd_on_control,
        .on_down = crowd_on_down,
    };
    struct gt_tunnel_settings settings = {
        .role = GT_ROLE_DEVICE,
        .relays = &crowd->relay.address,
        .n_relays = 1,
        .name = "GatewayOli",
        .client_key = fake_key,
        .session_key = fake_key,
        .rid = fake_rid,
        .max_streams = 1,
        .ring_size = 65536,
    };

    *crowd = (struct crowd){.loop = ev_loop_new(0)};
    fake_relay_init(&crowd->relay, crowd->loop);
    crowd->relay.on_frame = crowd_on_frame;
    crowd->relay.userdata = crowd;
    for (size_t i = 0; i < N_TUNNELS; i++)
        assert_int_equal(gt_tunnel_new(crowd->loop, &settings, &events, crowd, &crowd->tunnels[i]),
                         0);
}

static void crowd_deinit(struct crowd *crowd)
{
    for (size_t i = 0; i < N_TUNNELS; i++)
        gt_tunnel_free(crowd->tunnels[i]);
    fake_relay_deinit(&crowd->relay);
    ev_loop_destroy(crowd->loop);
}

static bool are_all_registered(void *userdata)
{
    return ((const struct crowd *)userdata)->n_registered == N_TUNNELS;
}

static bool are_all_lost(void *userdata)
{
    return ((const struct crowd *)userdata)->n_lost == N_TUNNELS;
}

static bool are_all_back(void *userdata)
{
    return ((const struct crowd *)userdata)->n_back == N_TUNNELS;
}

/* As a relay that restarts: RESTARTING, BYE, and the end of the connection. */
static void crowd_restart(struct crowd *crowd)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RESTARTING};

    frame.restarting.reconnect_in_ms = crowd->window_ms;
    frame.restarting.try_for_ms = 4 * crowd->window_ms;
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (crowd->relay.clients[i].fd < 0)
            continue;
        fake_client_send(&crowd->relay.clients[i], &frame);
        fake_client_code(&crowd->relay.clients[i], GT_CONTROL_BYE, GT_CODE_SHUTDOWN);
        fake_client_close(&crowd->relay.clients[i]);
    }
}

static void test_hundred_tunnels_return_spread_over_the_notice(void **state)
{
    struct crowd crowd;
    unsigned n_of_quarter[4] = {0};

    crowd_init(&crowd);
    double begun = gt_clock();
    assert_true(fake_run(crowd.loop, are_all_registered, &crowd, 30));
    /* Four times what a hundred take without a spread, as an emulated processor is slow. */
    double window_ms = (gt_clock() - begun) * 4000;
    crowd.window_ms = (uint32_t)GT_MIN(GT_MAX(window_ms, WINDOW_MIN_MS), WINDOW_MAX_MS);
    crowd_restart(&crowd);
    assert_true(fake_run(crowd.loop, are_all_lost, &crowd, 5));
    begun = gt_clock();
    assert_true(fake_run(crowd.loop, are_all_back, &crowd, 30 + WINDOW_MAX_MS / 1000));
    double spread = crowd.back_at[N_TUNNELS - 1] - crowd.back_at[0];
    for (size_t i = 0; i < N_TUNNELS; i++) {
        double at = (crowd.back_at[i] - begun) * 1000 / crowd.window_ms;

        n_of_quarter[at < 0 ? 0 : GT_MIN((unsigned)(at * 4), 3u)]++;
    }
    print_message("spread over %.0f %% of the window: %u %u %u %u\n",
                  spread * 1e5 / crowd.window_ms, n_of_quarter[0], n_of_quarter[1], n_of_quarter[2],
                  n_of_quarter[3]);
    assert_true(spread >= .8 * crowd.window_ms / 1000);
    for (size_t i = 0; i < 4; i++)
        assert_true(n_of_quarter[i] >= 5);
    crowd_deinit(&crowd);
}

/* --- several addresses ------------------------------------------------------------------------ */

struct turns {
    unsigned n_sessions, n_downs;
};

static void turns_on_session(void *userdata, const struct gt_addr *addr, uint16_t port,
                             bool is_peer_up)
{
    struct turns *turns = userdata;

    turns->n_sessions++;
}

static void turns_on_restart_notice(void *userdata, uint32_t reconnect_in_ms, uint32_t try_for_ms)
{
}

static void turns_on_down(void *userdata, enum gt_end_reason cause, enum gt_code code,
                          const char *why)
{
    struct turns *turns = userdata;

    assert_int_equal(cause, GT_END_UNREACHABLE);
    turns->n_downs++;
}

static bool turns_has_result(void *userdata)
{
    const struct turns *turns = userdata;

    return turns->n_sessions + turns->n_downs > 0;
}

static void turns_on_frame(struct fake_client *client, const struct gt_control_frame *frame)
{
    if (frame->type == GT_CONTROL_HELLO)
        fake_client_welcome(client);
    else if (frame->type == GT_CONTROL_RENDEZVOUS)
        fake_client_session(client, 7001, true);
}

/* The first address refuses connections, the second is the relay. */
static void test_reconnect_dials_its_addresses_in_turn(void **state)
{
    static const struct gt_control_connection_events events = {
        .on_session = turns_on_session,
        .on_restart_notice = turns_on_restart_notice,
        .on_down = turns_on_down,
    };
    const struct gt_control_connection_settings settings = {
        .name = "alice", .client_key = fake_key, .rid = fake_rid};
    struct gt_host_port relays[] = {{"127.0.0.1", 1}, {"127.0.0.1", 0}};
    struct ev_loop *loop = ev_loop_new(0);
    struct gt_reconnect reconnect;
    struct fake_relay relay;

    fake_relay_init(&relay, loop);
    relay.on_frame = turns_on_frame;
    relays[1].port = relay.port;
    gt_reconnect_init(&reconnect, relays, 2, &settings, 0);
    for (unsigned i = 0; i < 4; i++) {
        struct gt_control_connection *control;
        struct turns turns = {0};

        assert_int_equal(gt_reconnect_connect(&reconnect, loop, &events, &turns, &control), 0);
        assert_true(fake_run(loop, turns_has_result, &turns, 5));
        assert_int_equal(turns.n_downs, i % 2 == 0);
        assert_int_equal(turns.n_sessions, i % 2);
        gt_control_connection_free(control);
    }
    gt_reconnect_deinit(&reconnect);
    fake_relay_deinit(&relay);
    ev_loop_destroy(loop);
    gt_iobuf_trim();
}

/* The prepared connection serves as the first one, if it has not ended. */
static void test_reconnect_uses_a_prepared_connection_once(void **state)
{
    static const struct gt_control_connection_events events = {
        .on_session = turns_on_session,
        .on_restart_notice = turns_on_restart_notice,
        .on_down = turns_on_down,
    };
    const struct gt_control_connection_settings settings = {
        .name = "alice", .client_key = fake_key, .rid = fake_rid};
    struct ev_loop *loop = ev_loop_new(0);
    struct fake_relay relay;

    fake_relay_init(&relay, loop);
    relay.on_frame = turns_on_frame;
    for (int has_ended = 0; has_ended < 2; has_ended++) {
        struct gt_control_connection_settings of_prepared = settings;
        struct gt_control_connection *control;
        struct gt_reconnect reconnect;
        struct turns before = {0};

        relay.n_accepted = 0;
        relay.closes_at_once = has_ended;
        of_prepared.rid = NULL;
        of_prepared.relay = &relay.address;
        gt_reconnect_init(&reconnect, &relay.address, 1, &settings, 0);
        assert_int_equal(gt_control_connection_new(loop, &of_prepared, &events, &before, &control),
                         0);
        gt_reconnect_set_prepared(&reconnect, control);
        if (has_ended)
            assert_true(fake_run(loop, turns_has_result, &before, 5));
        relay.closes_at_once = false;
        for (unsigned i = 0; i < 2; i++) {
            struct turns turns = {0};

            assert_int_equal(gt_reconnect_connect(&reconnect, loop, &events, &turns, &control), 0);
            assert_true(fake_run(loop, turns_has_result, &turns, 5));
            assert_int_equal(turns.n_sessions, 1);
            assert_int_equal(relay.n_accepted, i + 1 + (unsigned)has_ended);
            gt_control_connection_free(control);
        }
        assert_int_equal(before.n_sessions, 0);
        gt_reconnect_deinit(&reconnect);
    }
    fake_relay_deinit(&relay);
    ev_loop_destroy(loop);
    gt_iobuf_trim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upgrade_is_a_loss_after_a_notice),
        cmocka_unit_test(test_restart_notice_is_limited),
        cmocka_unit_test(test_delay_without_notice_is_the_back_off),
        cmocka_unit_test(test_window_can_be_shortened_and_restored),
        cmocka_unit_test(test_reconnect_dials_its_addresses_in_turn),
        cmocka_unit_test(test_reconnect_uses_a_prepared_connection_once),
        cmocka_unit_test(test_hundred_tunnels_return_spread_over_the_notice),
    };

    fake_clock_slow();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
