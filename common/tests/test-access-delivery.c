/* SPDX-License-Identifier: ISC */
/* An access list to a relay that answers, to one that does not know the frame, and to none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>

#include "gotthard/relay/access-delivery.h"
#include "support/fake-relay.h"

#define PART 900 /* bytes */

struct fixture {
    struct ev_loop *loop;
    struct fake_relay relay;
    struct gt_access_delivery_settings settings;
    struct gt_access_delivery *delivery;
    size_t n_received;   /* parts, which came in order */
    size_t n_made, last; /* parts; from ->last on they cannot be made */
    size_t answer_after; /* parts; the relay sends EFFECT */
    void (*on_part)(struct fake_client *client);
    unsigned n_answers, n_failures;
    struct gt_access_effect effect;
    enum gt_end_reason reason;
    enum gt_code code;
    char why[200];
};

/* --- the relay -------------------------------------------------------------------------------- */

static void check_part(struct fixture *f, struct gt_span part)
{
    assert_int_equal(part.n, PART);
    for (size_t i = 0; i < part.n; i++)
        assert_int_equal(part.data[i], (uint8_t)f->n_received);
    f->n_received++;
}

static void send_effect(struct fake_client *client)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_EFFECT};

    frame.effect = (struct gt_access_effect){GT_EFFECT_TAKEN, 43, 2};
    fake_client_send(client, &frame);
}

static void behave(struct fake_client *client, const struct gt_control_frame *frame)
{
    struct fixture *f = client->relay->userdata;
    struct gt_control_frame pong = {.type = GT_CONTROL_PONG, .ping = frame->ping};

    if (frame->type == GT_CONTROL_HELLO)
        fake_client_welcome(client);
    if (frame->type == GT_CONTROL_PING)
        fake_client_send(client, &pong);
    if (frame->type != GT_CONTROL_ACCESS)
        return;
    check_part(f, frame->access);
    if (f->n_received == f->answer_after)
        send_effect(client);
    else if (f->on_part)
        f->on_part(client);
}

/* --- the delivery ----------------------------------------------------------------------------- */

static bool make_part(void *userdata, size_t i, uint8_t ret[static GT_CONTROL_PART_MAX],
                      size_t *ret_n)
{
    struct fixture *f = userdata;

    assert_true(i == f->n_made || i + 1 == f->n_made); /* a part without room is made again */
    f->n_made = i + 1;
    memset(ret, (uint8_t)i, PART);
    *ret_n = PART;
    return i < f->last;
}

static void on_answer(void *userdata, const struct gt_access_effect *effect)
{
    struct fixture *f = userdata;

    f->n_answers++;
    f->effect = *effect;
}

static void on_failed(void *userdata, enum gt_end_reason reason, enum gt_code code, const char *why)
{
    struct fixture *f = userdata;

    f->n_failures++;
    f->reason = reason;
    f->code = code;
    snprintf(f->why, sizeof(f->why), "%s", why);
}

static bool has_ended(void *userdata)
{
    const struct fixture *f = userdata;

    return f->n_answers + f->n_failures > 0;
}

static void fixture_init(struct fixture *f, size_t n_parts)
{
    *f = (struct fixture){.loop = ev_loop_new(0), .last = SIZE_MAX};
    fake_relay_init(&f->relay, f->loop);
    f->relay.on_frame = behave;
    f->relay.userdata = f;
    f->answer_after = n_parts;
    f->settings = (struct gt_access_delivery_settings){
        .relay = &f->relay.address,
        .name = "alice",
        .client_key = fake_key,
        .n_parts = n_parts,
        .timeout_ms = 3000,
    };
}

static void deliver(struct fixture *f)
{
    static const struct gt_access_delivery_events events = {
        .make_part = make_part,
        .on_answer = on_answer,
        .on_failed = on_failed,
    };

    assert_int_equal(gt_access_delivery_new(f->loop, &f->settings, &events, f, &f->delivery), 0);
    assert_false(has_ended(f));
    assert_true(fake_run(f->loop, has_ended, f, 10));
}

static void fixture_deinit(struct fixture *f)
{
    assert_int_equal(f->n_answers + f->n_failures, 1);
    gt_access_delivery_free(f->delivery);
    fake_relay_deinit(&f->relay);
    ev_loop_destroy(f->loop);
}

static void expect_failure(struct fixture *f, enum gt_end_reason reason, enum gt_code code,
                           const char *why)
{
    deliver(f);
    assert_int_equal(f->n_failures, 1);
    assert_int_equal(f->reason, reason);
    assert_int_equal(f->code, code);
    assert_non_null(strstr(f->why, why));
    fixture_deinit(f);
}

/* --- tests ------------------------------------------------------------------------------------ */

/* 1,311 parts are those of a list of 1 MiB. */
static void test_all_parts_arrive_in_order_and_the_effect_returns(void **state)
{
    static const size_t counts[] = {1, 2, 17, 1311};

    for (size_t i = 0; i < GT_ARRAY_SIZE(counts); i++) {
        static struct fixture f;

        fixture_init(&f, counts[i]);
        deliver(&f);
        assert_int_equal(f.n_answers, 1);
        assert_int_equal(f.n_received, counts[i]);
        assert_int_equal(f.effect.result, GT_EFFECT_TAKEN);
        assert_int_equal(f.effect.serial, 43);
        assert_int_equal(f.effect.n_ended, 2);
        fixture_deinit(&f);
    }
}

static void test_answer_to_the_first_part_ends_the_delivery(void **state)
{
    static struct fixture f;

    fixture_init(&f, 1311);
    f.answer_after = 1;
    deliver(&f);
    assert_int_equal(f.n_answers, 1);
    assert_true(f.n_made < 1311);
    fixture_deinit(&f);
}

static void test_relay_that_skips_the_frames_is_recognized(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.answer_after = SIZE_MAX;
    expect_failure(&f, GT_END_CLOSED, GT_CODE_NONE, "no answer");
}

static void send_bye(struct fake_client *client)
{
    fake_client_code(client, GT_CONTROL_BYE, GT_CODE_REFUSED);
}

static void test_bye_of_the_relay_has_its_code(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.answer_after = SIZE_MAX;
    f.on_part = send_bye;
    expect_failure(&f, GT_END_RELAY, GT_CODE_REFUSED, gt_code_text(GT_CODE_REFUSED));
}

static void test_connection_that_is_closed_is_a_loss(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.on_part = fake_client_close;
    expect_failure(&f, GT_END_LOST, GT_CODE_NONE, "");
}

static void test_other_version_is_a_failure(void **state)
{
    static struct fixture f;

    fixture_init(&f, 1311);
    f.relay.version = GT_CONTROL_VERSION + 1;
    expect_failure(&f, GT_END_RELAY, GT_CODE_VERSION, "version");
}

static void send_session(struct fake_client *client)
{
    fake_client_session(client, 7001, true);
}

static void test_frame_of_a_session_is_a_violation(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.on_part = send_session;
    expect_failure(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "broke the protocol");
}

static void send_garbage(struct fake_client *client)
{
    fake_client_send_bytes(client, "\x30\1\0\0", 4);
}

static void test_malformed_frame_is_a_violation(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.on_part = send_garbage;
    expect_failure(&f, GT_END_RELAY, GT_CODE_PROTOCOL, "malformed");
}

/* RESTARTING and LIMIT have no effect by themselves, and PING is answered. */
static void send_more(struct fake_client *client)
{
    const struct gt_control_frame limit = {.type = GT_CONTROL_LIMIT};
    const struct gt_control_frame restarting = {.type = GT_CONTROL_RESTARTING};
    const struct gt_control_frame ping = {.type = GT_CONTROL_PING, .ping = 7};

    fake_client_send(client, &limit);
    fake_client_send(client, &restarting);
    fake_client_send(client, &ping);
}

static void test_other_frames_are_skipped(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.on_part = send_more;
    deliver(&f);
    assert_int_equal(f.n_answers, 1);
    fixture_deinit(&f);
}

static void test_relay_that_does_not_answer_ends_it_in_time(void **state)
{
    static struct fixture f;

    fixture_init(&f, 1);
    f.settings.timeout_ms = 200;
    f.relay.is_silent = true;
    expect_failure(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "");
}

static void behave_silently(struct fake_client *client, const struct gt_control_frame *frame)
{
}

static void test_relay_without_frames_ends_it_in_time(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.settings.timeout_ms = 200;
    f.relay.on_frame = behave_silently;
    expect_failure(&f, GT_END_LOST, GT_CODE_NONE, "in time");
}

static void test_absent_relay_is_unreachable(void **state)
{
    static struct fixture f;
    static const struct gt_host_port nowhere = {"127.0.0.1", 1};

    fixture_init(&f, 1);
    f.settings.relay = &nowhere;
    expect_failure(&f, GT_END_UNREACHABLE, GT_CODE_NONE, "refused");
}

static void test_wrong_key_is_refused(void **state)
{
    static struct fixture f;

    fixture_init(&f, 1);
    f.relay.has_wrong_key = true;
    expect_failure(&f, GT_END_REFUSED, GT_CODE_NONE, "");
}

static void test_part_that_cannot_be_made_ends_it(void **state)
{
    static struct fixture f;

    fixture_init(&f, 3);
    f.last = 1;
    expect_failure(&f, GT_END_INTERNAL, GT_CODE_NONE, "cannot be made");
}

static void test_delivery_is_freed_at_any_time(void **state)
{
    static struct fixture f;
    static const struct gt_access_delivery_events events = {0};

    fixture_init(&f, 1);
    assert_null(gt_access_delivery_free(NULL));
    assert_int_equal(gt_access_delivery_new(f.loop, &f.settings, &events, &f, &f.delivery), 0);
    f.n_answers = 1;
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_parts_arrive_in_order_and_the_effect_returns),
        cmocka_unit_test(test_answer_to_the_first_part_ends_the_delivery),
        cmocka_unit_test(test_relay_that_skips_the_frames_is_recognized),
        cmocka_unit_test(test_bye_of_the_relay_has_its_code),
        cmocka_unit_test(test_connection_that_is_closed_is_a_loss),
        cmocka_unit_test(test_other_version_is_a_failure),
        cmocka_unit_test(test_frame_of_a_session_is_a_violation),
        cmocka_unit_test(test_malformed_frame_is_a_violation),
        cmocka_unit_test(test_other_frames_are_skipped),
        cmocka_unit_test(test_relay_that_does_not_answer_ends_it_in_time),
        cmocka_unit_test(test_relay_without_frames_ends_it_in_time),
        cmocka_unit_test(test_absent_relay_is_unreachable),
        cmocka_unit_test(test_wrong_key_is_refused),
        cmocka_unit_test(test_part_that_cannot_be_made_ends_it),
        cmocka_unit_test(test_delivery_is_freed_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
