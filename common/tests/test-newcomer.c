/* SPDX-License-Identifier: ISC */
/*
 * The newcomer's end of an enrolment, with an operator's end that the test controls and a relay of
 * the test between them. Waits pass at once (support/fake-clock.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <sys/socket.h>

#include "gotthard/enrolment/newcomer.h"
#include "support/tunnel-ends.h"

static struct {
    struct fixture f; /* end 0 is the operator's */
    struct gt_token token;
    uint8_t private_key[GT_KEY_SIZE];
    struct gt_token_keys keys;
    char device_key[GT_KEY_TEXT_MAX];
    struct gt_certificate_key *key;
    struct gt_newcomer *newcomer;
    bool cannot_install;
    unsigned n_retries, n_waiting, n_requested, n_bundles, n_ends;
    enum gt_newcomer_end end;
    char why[GT_ENROLMENT_TEXT_MAX + 1];

    int fd; /* of the operator's end */
    uint8_t in[GT_ENROLMENT_HEAD + GT_ENROLMENT_REQUEST_MAX];
    size_t n_in;
    struct gt_enrolment_request request;
} self;

static void on_retry(void *userdata, const char *why)
{
    self.n_retries++;
}

static void on_waiting(void *userdata)
{
    self.n_waiting++;
}

static void on_requested(void *userdata)
{
    self.n_requested++;
}

static bool on_bundle(void *userdata, const struct gt_bundle *bundle, char *ret_why)
{
    self.n_bundles++;
    assert_true(gt_span_equals(bundle->entries[GT_BUNDLE_NAME], gt_span_text("oli")));
    if (self.cannot_install)
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "the disk is full");
    return !self.cannot_install;
}

static void on_end(void *userdata, enum gt_newcomer_end end, const char *why)
{
    self.n_ends++;
    self.end = end;
    snprintf(self.why, sizeof(self.why), "%s", why);
}

/* --- both ends -------------------------------------------------------------------------------- */

static void make_token(void)
{
    struct gt_key key;

    assert_int_equal(
        gt_key_parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                     "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", &key),
        0);
    assert_int_equal(gt_key_format_device(&key, "oli", self.device_key), 0);
    assert_int_equal(gt_token_new(&key, GT_TOKEN_DEVICE, "127.0.0.1", self.f.board.relay.port,
                                  1800000000, &self.token, self.private_key),
                     0);
    memcpy(self.token.client, fake_key, GT_KEY_SIZE);
    assert_int_equal(gt_token_derive(&self.token, &self.keys), 0);
    memcpy(fake_rid, self.keys.rid, GT_RID_SIZE);
}

static int setup(void **state)
{
    memset(&self, 0, sizeof(self));
    self.fd = -1;
    fixture_init(&self.f);
    make_token();
    self.f.settings[0].session_key = self.keys.session;
    return gt_certificate_key_new(&self.key);
}

static int teardown(void **state)
{
    self.newcomer = gt_newcomer_free(self.newcomer);
    self.key = gt_certificate_key_free(self.key);
    gt_close(&self.fd);
    fixture_deinit(&self.f);
    return 0;
}

static void start_newcomer(unsigned deadline_ms)
{
    static const struct gt_newcomer_events newcomer_events = {
        .on_retry = on_retry,
        .on_waiting = on_waiting,
        .on_requested = on_requested,
        .on_bundle = on_bundle,
        .on_end = on_end,
    };
    const struct gt_newcomer_settings settings = {
        .token = &self.token, .key = self.key, .deadline_ms = deadline_ms};

    assert_int_equal(
        gt_newcomer_new(self.f.loop, &settings, &newcomer_events, NULL, &self.newcomer), 0);
}

static bool is_over(void *userdata)
{
    return self.n_ends > 0;
}

static void expect_newcomer_end(enum gt_newcomer_end end, const char *why)
{
    assert_true(fake_run(self.f.loop, is_over, NULL, 200));
    if (self.end != end || !strstr(self.why, why))
        fail_msg("%s: %s", gt_newcomer_end_text(self.end), self.why);
    assert_int_equal(self.n_ends, 1);
    if (end != GT_NEWCOMER_INSTALLED && end != GT_NEWCOMER_NOT_INSTALLED)
        assert_int_equal(self.n_bundles, 0);
}

static bool is_operator_up(void *userdata)
{
    return self.f.end[0].n_up == 1;
}

/* Opens a stream at the operator's end. */
static void open_service(const char *service)
{
    int fds[2];

    fixture_start(&self.f, 0);
    assert_true(fake_run(self.f.loop, is_operator_up, NULL, 5));
    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tunnel_open(self.f.end[0].tunnel, gt_endpoint_fds(fds[1]), service), 0);
    self.fd = fds[0];
}

/* Reads a frame of the newcomer. */
static bool has_frame(void *userdata)
{
    struct gt_span *ret_body = userdata;
    enum gt_enrolment_frame type;
    size_t n = 0;
    ssize_t r = recv(self.fd, self.in + self.n_in, sizeof(self.in) - self.n_in, MSG_DONTWAIT);

    self.n_in += r > 0 ? (size_t)r : 0;
    if (self.n_in < GT_ENROLMENT_HEAD)
        return false;
    assert_int_equal(gt_enrolment_read_head(self.in, &type, &n), 0);
    *ret_body = gt_span(self.in + GT_ENROLMENT_HEAD, n);
    return self.n_in == GT_ENROLMENT_HEAD + n;
}

static struct gt_span read_frame(void)
{
    struct gt_span body = {0};

    self.n_in = 0;
    assert_true(fake_run(self.f.loop, has_frame, &body, 5));
    return body;
}

static void meet(void)
{
    char why[GT_ENROLMENT_WHY];

    start_newcomer(100000);
    open_service(GT_ENROLMENT_SERVICE);
    struct gt_span body = read_frame();
    assert_int_equal(gt_enrolment_request_open(&self.token, body, &self.request, why), 0);
    assert_int_equal(self.n_requested, 1);
}

static void send_frame(enum gt_enrolment_frame type, const void *body, size_t n)
{
    uint8_t head[GT_ENROLMENT_HEAD];

    gt_enrolment_write_head(type, n, head);
    assert_int_equal(send(self.fd, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    assert_int_equal(send(self.fd, body, n, MSG_NOSIGNAL), n);
}

static void send_answer(const char *name)
{
    struct gt_bundle bundle = {.kind = GT_TOKEN_DEVICE};
    uint8_t plain[2048], sealed[sizeof(plain) + GT_SEAL_OVERHEAD];
    char why[GT_BUNDLE_WHY];
    size_t n = 0;

    bundle.entries[GT_BUNDLE_NAME] = gt_span_text(name);
    bundle.entries[GT_BUNDLE_KEY] = gt_span_text(self.device_key);
    bundle.entries[GT_BUNDLE_CERTIFICATE] = gt_span_text("certificate");
    bundle.entries[GT_BUNDLE_AUTHORITIES] = gt_span_text("authorities");
    bundle.entries[GT_BUNDLE_RELAY] = gt_span_text("relay:7000");
    bundle.entries[GT_BUNDLE_BROKER] = gt_span_text("broker");
    assert_int_equal(gt_bundle_encode(&bundle, plain, sizeof(plain), &n, why), 0);
    assert_int_equal(gt_enrolment_answer_make(&self.token, self.private_key, &self.request,
                                              gt_span(plain, n), sealed),
                     0);
    send_frame(GT_ENROLMENT_ANSWER, sealed, n + GT_SEAL_OVERHEAD);
}

static void expect_result(bool is_installed, const char *text)
{
    char got[GT_ENROLMENT_TEXT_MAX + 1];
    bool was_installed;

    assert_int_equal(gt_enrolment_read_result(read_frame(), &was_installed, got), 0);
    assert_int_equal(was_installed, is_installed);
    assert_string_equal(got, text);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_newcomer_installs_the_answer(void **state)
{
    meet();
    send_answer("oli");
    expect_result(true, "");
    gt_close(&self.fd);
    expect_newcomer_end(GT_NEWCOMER_INSTALLED, "");
    assert_int_equal(self.n_bundles, 1);
}

/* The operator's command may hang; the newcomer is enrolled nevertheless. */
static void test_newcomer_does_not_wait_for_a_reader_of_its_result(void **state)
{
    meet();
    send_answer("oli");
    expect_newcomer_end(GT_NEWCOMER_INSTALLED, "");
}

static void test_newcomer_reports_that_it_cannot_install(void **state)
{
    meet();
    self.cannot_install = true;
    send_answer("oli");
    expect_result(false, "the disk is full");
    expect_newcomer_end(GT_NEWCOMER_NOT_INSTALLED, "the disk is full");
}

static void test_newcomer_checks_the_bundle(void **state)
{
    meet();
    send_answer("olo");
    expect_result(false, "key: not the key of this device");
    expect_newcomer_end(GT_NEWCOMER_NOT_INSTALLED, "key");
    assert_int_equal(self.n_bundles, 0);
}

static void test_newcomer_installs_no_forged_answer(void **state)
{
    meet();
    memset(self.private_key, 7, sizeof(self.private_key));
    send_answer("oli");
    expect_newcomer_end(GT_NEWCOMER_FORGED, "");
}

static void test_newcomer_takes_no_other_frame_for_an_answer(void **state)
{
    meet();
    send_frame(GT_ENROLMENT_REQUEST, "request", 7);
    expect_newcomer_end(GT_NEWCOMER_FORGED, "malformed");
}

static void test_newcomer_reports_a_rejection(void **state)
{
    meet();
    send_frame(GT_ENROLMENT_REJECTION, "no", 2);
    expect_newcomer_end(GT_NEWCOMER_REJECTED, "no");
}

static void test_newcomer_ends_with_the_session(void **state)
{
    meet();
    gt_tunnel_close(self.f.end[0].tunnel);
    expect_newcomer_end(GT_NEWCOMER_ENDED, "");
}

/* The session stays, and nothing comes any more. */
static void test_newcomer_ends_soon_after_its_stream(void **state)
{
    meet();
    gt_close(&self.fd);
    expect_newcomer_end(GT_NEWCOMER_ENDED, "");
}

static bool is_stream_over(void *userdata)
{
    return self.f.end[0].n_ends == 1;
}

static void test_newcomer_has_one_service(void **state)
{
    start_newcomer(100000);
    open_service("ssh");
    assert_true(fake_run(self.f.loop, is_stream_over, NULL, 5));
    assert_int_equal(self.f.end[0].last_rst, GT_RST_DENIED);
    assert_int_equal(self.n_ends + self.n_requested, 0);
}

static void test_newcomer_waits_until_its_deadline(void **state)
{
    start_newcomer(60000);
    expect_newcomer_end(GT_NEWCOMER_EXPIRED, "");
    assert_true(self.n_waiting > 0);
}

static void test_newcomer_without_an_answer_waits_until_its_deadline(void **state)
{
    start_newcomer(60000);
    open_service(GT_ENROLMENT_SERVICE);
    expect_newcomer_end(GT_NEWCOMER_EXPIRED, "");
    assert_int_equal(self.n_requested, 1);
}

static void test_newcomer_that_reaches_no_relay_says_so(void **state)
{
    self.f.board.relay.closes_at_once = true;
    start_newcomer(20000);
    expect_newcomer_end(GT_NEWCOMER_UNREACHABLE, "");
    assert_true(self.n_retries > 0 && self.n_waiting == 0);
}

static void test_newcomer_that_the_relay_refuses_ends_at_once(void **state)
{
    self.f.board.relay.has_wrong_key = true;
    start_newcomer(100000);
    expect_newcomer_end(GT_NEWCOMER_NOT_ACCEPTED, "");
    assert_int_equal(self.n_retries, 0);
}

static void test_newcomer_whose_token_is_in_use_ends_at_once(void **state)
{
    self.f.board.bye_code = GT_CODE_REPLACED;
    start_newcomer(100000);
    expect_newcomer_end(GT_NEWCOMER_IN_USE, "");
}

static void test_time_left_has_bounds(void **state)
{
    struct gt_token token = {.expires_at = 1800000000};

    assert_int_equal(gt_newcomer_time_left(&token, 1800000000 - 3600), 3600000);
    assert_int_equal(gt_newcomer_time_left(&token, 1800000000 + 3600), 60000);
    assert_int_equal(gt_newcomer_time_left(&token, 0), GT_TOKEN_LIFE_MAX * 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(newcomer_installs_the_answer),
        TEST(newcomer_does_not_wait_for_a_reader_of_its_result),
        TEST(newcomer_reports_that_it_cannot_install),
        TEST(newcomer_checks_the_bundle),
        TEST(newcomer_installs_no_forged_answer),
        TEST(newcomer_takes_no_other_frame_for_an_answer),
        TEST(newcomer_reports_a_rejection),
        TEST(newcomer_ends_with_the_session),
        TEST(newcomer_ends_soon_after_its_stream),
        TEST(newcomer_has_one_service),
        TEST(newcomer_waits_until_its_deadline),
        TEST(newcomer_without_an_answer_waits_until_its_deadline),
        TEST(newcomer_that_reaches_no_relay_says_so),
        TEST(newcomer_that_the_relay_refuses_ends_at_once),
        TEST(newcomer_whose_token_is_in_use_ends_at_once),
        cmocka_unit_test(test_time_left_has_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
