/* SPDX-License-Identifier: ISC */
/*
 * When another link is dialled, and for how long: the arithmetic by itself, and a hundred tunnels
 * in one loop whose relay says that it restarts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>

#include <stdlib.h>

#define MEMBERS_MAX 128
#include "fake-relay.h"
#include "gotthard/clock.h"
#include "gotthard/redial.h"
#include "gotthard/tunnel.h"

#define N_TUNNELS 100

/* --- the arithmetic --------------------------------------------------------------------------- */

static void init(struct gt_redial *redial, unsigned window_ms)
{
    const struct gt_link_settings link = {
        .host = "localhost", .name = "alice", .client_key = fake_key, .rid = fake_rid};
    gt_redial_init(redial, &link, window_ms);
}

/* The first wait after RESTARTING, and the window. */
static double first_wait(unsigned window_ms, uint32_t reconnect_in_ms, uint32_t try_for_ms,
                         double *ret_window)
{
    struct gt_redial redial;
    init(&redial, window_ms);
    gt_redial_expect(&redial, reconnect_in_ms, try_for_ms);
    gt_redial_begin(&redial);
    *ret_window = gt_redial_left(&redial);
    double wait = gt_redial_next(&redial), second = gt_redial_next(&redial);
    assert_true(second >= .39 && second <= .61); /* then as always */
    return wait;
}

static void the_relays_wishes_are_bounded(void **state)
{
    static const struct {
        unsigned window_ms;
        uint32_t reconnect_in_ms, try_for_ms;
        double most, window;
    } cases[] = {
        {120000, 5000, 20000, 5., 120.}, {2000, 1000, 12000, 1., 12.}, /* longer than ours */
        {120000, 0, 0, .2, 120.},        {120000, UINT32_MAX, UINT32_MAX, 60., 300.},
        {10000, UINT32_MAX, 0, 5., 10.}, /* there must be time left for trying */
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

static void without_a_word_the_back_off_decides(void **state)
{
    struct gt_redial redial;
    init(&redial, 5000);
    gt_redial_begin(&redial);
    double window = gt_redial_left(&redial), wait = gt_redial_next(&redial);
    assert_true(window > 4.5 && window <= 5.);
    assert_true(wait >= .39 && wait <= .61);
}

static void who_hung_up_is_not_waited_for_as_long(void **state)
{
    static const struct {
        unsigned window_ms;
        double in_a_hurry;
    } cases[] = {{120000, 40.}, {30000, 30.}};
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_redial redial;
        init(&redial, cases[i].window_ms);
        gt_redial_begin(&redial);
        gt_redial_hurry(&redial);
        double left = gt_redial_left(&redial);
        assert_true(left > cases[i].in_a_hurry - .5 && left <= cases[i].in_a_hurry);
        gt_redial_begin(&redial); /* it has begun */
        assert_true(gt_redial_left(&redial) <= cases[i].in_a_hurry);
        gt_redial_relax(&redial);
        left = gt_redial_left(&redial) * 1000;
        assert_true(left > cases[i].window_ms - 500 && left <= cases[i].window_ms);
        gt_redial_rest(&redial);
        gt_redial_relax(&redial);
        assert_true(gt_redial_left(&redial) < 0);
    }
}

/* --- a hundred of them ------------------------------------------------------------------------ */

#define WINDOW_MS 2000

struct crowd {
    struct ev_loop *loop;
    struct fake_relay relay;
    struct gt_tunnel *tunnels[N_TUNNELS];
    unsigned n_up, n_lost, n_back;
    double back_at[N_TUNNELS]; /* of the second RENDEZVOUS */
};

static void crowd_on_frame(struct fake_member *member, const struct gt_control_frame *frame)
{
    struct crowd *crowd = member->relay->userdata;
    if (frame->type == GT_CONTROL_HELLO)
        fake_member_welcome(member);
    if (frame->type != GT_CONTROL_RENDEZVOUS)
        return;
    if (frame->rendezvous.generation > 1 && crowd->n_back < N_TUNNELS)
        crowd->back_at[crowd->n_back++] = gt_clock();
    fake_member_session(member, 7001, true);
}

static void crowd_on_up(void *userdata, uint16_t port)
{
    struct crowd *crowd = userdata;
    crowd->n_up++;
}

static void crowd_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void crowd_on_link(void *userdata, bool is_up, const char *why)
{
    struct crowd *crowd = userdata;
    crowd->n_lost += !is_up;
}

static void crowd_on_down(void *userdata, enum gt_down cause, enum gt_code code, const char *why)
{
    fail_msg("a tunnel ended: %s", why);
}

static void crowd_init(struct crowd *crowd)
{
    static const struct gt_tunnel_events events = {
        .on_up = crowd_on_up,
        .on_peer = crowd_on_peer,
        .on_link = crowd_on_link,
        .on_down = crowd_on_down,
    };
    struct gt_tunnel_settings settings = {
        .role = GT_ROLE_DEVICE,
        .relay_host = "127.0.0.1",
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
    settings.relay_port = crowd->relay.port;
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

static bool are_all_up(void *userdata)
{
    return ((const struct crowd *)userdata)->n_up == N_TUNNELS;
}

static bool are_all_lost(void *userdata)
{
    return ((const struct crowd *)userdata)->n_lost == N_TUNNELS;
}

static bool are_all_back(void *userdata)
{
    return ((const struct crowd *)userdata)->n_back == N_TUNNELS;
}

/* As the relay ends: the window, the goodbye, and the connection is closed. */
static void crowd_restart(struct crowd *crowd)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_RESTARTING};
    frame.restarting.reconnect_in_ms = WINDOW_MS;
    frame.restarting.try_for_ms = 10000;
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        if (crowd->relay.members[i].fd < 0)
            continue;
        fake_member_say(&crowd->relay.members[i], &frame);
        fake_member_code(&crowd->relay.members[i], GT_CONTROL_BYE, GT_CODE_SHUTDOWN);
        fake_member_close(&crowd->relay.members[i]);
    }
}

static void a_hundred_come_back_spread_over_the_window(void **state)
{
    struct crowd crowd;
    unsigned n_of_quarter[4] = {0};
    crowd_init(&crowd);
    assert_true(fake_run(crowd.loop, are_all_up, &crowd, 30));
    crowd_restart(&crowd);
    assert_true(fake_run(crowd.loop, are_all_lost, &crowd, 5));
    double begun = gt_clock();
    assert_true(fake_run(crowd.loop, are_all_back, &crowd, 30));
    double spread = crowd.back_at[N_TUNNELS - 1] - crowd.back_at[0];
    for (size_t i = 0; i < N_TUNNELS; i++) {
        double at = (crowd.back_at[i] - begun) * 1000 / WINDOW_MS;
        n_of_quarter[at < 0 ? 0 : GT_MIN((unsigned)(at * 4), 3u)]++;
    }
    print_message("spread over %.0f %% of the window: %u %u %u %u\n", spread * 1e5 / WINDOW_MS,
                  n_of_quarter[0], n_of_quarter[1], n_of_quarter[2], n_of_quarter[3]);
    assert_true(spread >= .8 * WINDOW_MS / 1000);
    for (size_t i = 0; i < 4; i++)
        assert_true(n_of_quarter[i] >= 5);
    crowd_deinit(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_relays_wishes_are_bounded),
        cmocka_unit_test(without_a_word_the_back_off_decides),
        cmocka_unit_test(who_hung_up_is_not_waited_for_as_long),
        cmocka_unit_test(a_hundred_come_back_spread_over_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
