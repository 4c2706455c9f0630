/* SPDX-License-Identifier: ISC */
/*
 * The operator's end of an enrolment, with a real newcomer, or one that the test plays, and a relay
 * of the test between them. Waits pass at once (support/fake-clock.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these before it */
#include <cmocka.h>
#include <sys/socket.h>

#include "gotthard/enrolment/newcomer.h"
#include "gotthard/enrolment/registrar.h"
#include "support/tunnel-ends.h"

#define LIFE_MS 100000

static struct {
    struct fixture f; /* end 1 is the newcomer's, if the test plays it */
    struct gt_token token;
    uint8_t private_key[GT_KEY_SIZE];
    struct gt_token_keys keys;
    char device_key[GT_KEY_TEXT_MAX];
    struct gt_certificate_key *key;
    struct gt_newcomer *newcomer;
    struct gt_registrar *registrar;
    bool cannot_install;
    unsigned n_requests, n_met, n_ends, n_newcomer_ends;
    const struct gt_enrolment_request *request;
    enum gt_registrar_end end;
    char why[GT_ENROLMENT_TEXT_MAX + 1];
    enum gt_newcomer_end newcomer_end;
    char newcomer_why[GT_ENROLMENT_TEXT_MAX + 1];
    int fd; /* of the newcomer that the test plays */
} self;

/* --- both ends -------------------------------------------------------------------------------- */

static void ignore(void *userdata)
{
}

static void ignore_why(void *userdata, const char *why)
{
}

static void on_met(void *userdata)
{
    self.n_met++;
}

static void on_request(void *userdata, const struct gt_enrolment_request *request)
{
    self.n_requests++;
    self.request = request;
}

static void on_end(void *userdata, enum gt_registrar_end end, const char *why)
{
    self.n_ends++;
    self.end = end;
    snprintf(self.why, sizeof(self.why), "%s", why);
}

static bool on_bundle(void *userdata, const struct gt_bundle *bundle, char *ret_why)
{
    if (self.cannot_install)
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "the disk is full");
    return !self.cannot_install;
}

static void on_newcomer_end(void *userdata, enum gt_newcomer_end end, const char *why)
{
    self.n_newcomer_ends++;
    self.newcomer_end = end;
    snprintf(self.newcomer_why, sizeof(self.newcomer_why), "%s", why);
}

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

static void start_registrar(unsigned left_ms)
{
    static const struct gt_registrar_events registrar_events = {
        .on_retry = ignore_why,
        .on_waiting = ignore,
        .on_met = on_met,
        .on_request = on_request,
        .on_end = on_end,
    };
    struct gt_host_port relay = {.port = self.f.board.relay.port};
    struct gt_registrar_settings settings = {.token = &self.token,
                                             .relay = &relay,
                                             .name = "alice",
                                             .client_key = fake_key,
                                             .left_ms = left_ms};

    strcpy(relay.host, "127.0.0.1");
    assert_int_equal(
        gt_registrar_new(self.f.loop, &settings, &registrar_events, NULL, &self.registrar), 0);
}

static void start_newcomer(void)
{
    static const struct gt_newcomer_events newcomer_events = {
        .on_retry = ignore_why,
        .on_waiting = ignore,
        .on_requested = ignore,
        .on_bundle = on_bundle,
        .on_end = on_newcomer_end,
    };
    const struct gt_newcomer_settings settings = {
        .token = &self.token, .key = self.key, .deadline_ms = LIFE_MS};

    assert_int_equal(
        gt_newcomer_new(self.f.loop, &settings, &newcomer_events, NULL, &self.newcomer), 0);
}

static int setup(void **state)
{
    memset(&self, 0, sizeof(self));
    self.fd = -1;
    fixture_init(&self.f);
    make_token();
    self.f.settings[1].session_key = self.keys.session;
    return gt_certificate_key_new(&self.key);
}

static int teardown(void **state)
{
    self.registrar = gt_registrar_free(self.registrar);
    self.newcomer = gt_newcomer_free(self.newcomer);
    self.key = gt_certificate_key_free(self.key);
    fixture_deinit(&self.f);
    return 0;
}

static bool has_request(void *userdata)
{
    return self.n_requests > 0 || self.n_ends > 0;
}

static bool is_over(void *userdata)
{
    return self.n_ends > 0;
}

static void expect_registrar_end(enum gt_registrar_end end, const char *why)
{
    assert_true(fake_run(self.f.loop, is_over, NULL, 300));
    if (self.end != end || !strstr(self.why, why))
        fail_msg("%d: %s", (int)self.end, self.why);
    assert_int_equal(self.n_ends, 1);
}

static bool is_newcomer_over(void *userdata)
{
    return self.n_newcomer_ends > 0;
}

static void expect_newcomer_end(enum gt_newcomer_end end, const char *why)
{
    assert_true(fake_run(self.f.loop, is_newcomer_over, NULL, 300));
    if (self.newcomer_end != end || !strstr(self.newcomer_why, why))
        fail_msg("%s: %s", gt_newcomer_end_text(self.newcomer_end), self.newcomer_why);
}

/* A real newcomer has sent its request. */
static void meet(void)
{
    start_registrar(LIFE_MS);
    start_newcomer();
    assert_true(fake_run(self.f.loop, has_request, NULL, 5));
    assert_int_equal(self.n_requests, 1);
    assert_int_equal(self.n_met, 1);
}

static int answer(void)
{
    struct gt_bundle bundle = {.kind = GT_TOKEN_DEVICE};
    char why[GT_BUNDLE_WHY];
    uint8_t plain[2048];
    size_t n = 0;

    bundle.entries[GT_BUNDLE_NAME] = gt_span_text("oli");
    bundle.entries[GT_BUNDLE_KEY] = gt_span_text(self.device_key);
    bundle.entries[GT_BUNDLE_CERTIFICATE] = gt_span_text("certificate");
    bundle.entries[GT_BUNDLE_AUTHORITIES] = gt_span_text("authorities");
    bundle.entries[GT_BUNDLE_RELAY] = gt_span_text("relay:7000");
    bundle.entries[GT_BUNDLE_BROKER] = gt_span_text("broker");
    assert_int_equal(gt_bundle_encode(&bundle, plain, sizeof(plain), &n, why), 0);
    return gt_registrar_answer(self.registrar, self.private_key, gt_span(plain, n));
}

/* The stream of the newcomer that the test plays. */
static bool has_stream(void *userdata)
{
    for (size_t i = 0; i < NUMBERS_MAX && self.fd < 0; i++)
        if (self.f.target[i] > 0)
            self.fd = self.f.target[i];
    return self.fd >= 0 && self.n_met > 0;
}

static void play(void)
{
    start_registrar(LIFE_MS);
    self.f.service = GT_ENROLMENT_SERVICE;
    fixture_start(&self.f, 1);
    assert_true(fake_run(self.f.loop, has_stream, NULL, 5));
}

static void send_bytes(const void *bytes, size_t n)
{
    assert_int_equal(send(self.fd, bytes, n, MSG_NOSIGNAL), n);
}

static void send_head(enum gt_enrolment_frame type, size_t n)
{
    uint8_t head[GT_ENROLMENT_HEAD];

    gt_enrolment_write_head(type, n, head);
    send_bytes(head, sizeof(head));
}

/* Makes the request that a real newcomer sends. */
static size_t make_request(uint8_t ret[static GT_ENROLMENT_REQUEST_MAX])
{
    struct gt_enrolment_pending pending;
    size_t n = 0;

    assert_int_equal(
        gt_enrolment_request_make(&self.token, self.key, NULL, 0, "test", &pending, ret, &n), 0);
    return n;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_registrar_answers_a_newcomer(void **state)
{
    uint8_t fingerprint[GT_KEY_SIZE], zero[GT_KEY_SIZE] = {0};

    meet();
    assert_int_equal(gt_certificate_key_fingerprint(self.key, fingerprint), 0);
    assert_memory_equal(self.request->fingerprint, fingerprint, GT_KEY_SIZE);
    assert_int_equal(answer(), 0);
    assert_memory_equal(self.private_key, zero, GT_KEY_SIZE);
    expect_registrar_end(GT_REGISTRAR_INSTALLED, "");
    expect_newcomer_end(GT_NEWCOMER_INSTALLED, "");
}

static void test_registrar_answers_once(void **state)
{
    meet();
    assert_int_equal(answer(), 0);
    memset(self.private_key, 7, sizeof(self.private_key));
    assert_int_equal(answer(), 0); /* no effect: the newcomer opens the first answer */
    expect_registrar_end(GT_REGISTRAR_INSTALLED, "");
    expect_newcomer_end(GT_NEWCOMER_INSTALLED, "");
}

static void test_registrar_without_its_key_answers_nothing(void **state)
{
    meet();
    memset(self.private_key, 0, sizeof(self.private_key));
    assert_int_equal(answer(), GT_ENROLMENT_E_BAD);
    assert_int_equal(self.n_ends, 0);
    gt_registrar_reject(self.registrar, "no");
    expect_registrar_end(GT_REGISTRAR_REJECTED, "no");
}

static void test_registrar_reports_what_the_newcomer_reports(void **state)
{
    meet();
    self.cannot_install = true;
    assert_int_equal(answer(), 0);
    expect_registrar_end(GT_REGISTRAR_NOT_INSTALLED, "the disk is full");
}

static void test_registrar_rejects_with_a_reason(void **state)
{
    meet();
    gt_registrar_reject(self.registrar, "another fingerprint");
    expect_registrar_end(GT_REGISTRAR_REJECTED, "another fingerprint");
    expect_newcomer_end(GT_NEWCOMER_REJECTED, "another fingerprint");
}

static void test_registrar_waits_until_the_token_expires(void **state)
{
    start_registrar(60000);
    expect_registrar_end(GT_REGISTRAR_EXPIRED, "");
    assert_int_equal(self.n_met, 0);
}

static void test_registrar_decides_until_the_token_expires(void **state)
{
    meet();
    expect_registrar_end(GT_REGISTRAR_EXPIRED, "");
}

static void test_registrar_ends_with_a_newcomer_that_breaks_off(void **state)
{
    meet();
    self.newcomer = gt_newcomer_free(self.newcomer);
    expect_registrar_end(GT_REGISTRAR_BROKEN, "");
}

static void test_registrar_does_not_know_whether_a_lost_newcomer_has_installed(void **state)
{
    meet();
    self.newcomer = gt_newcomer_free(self.newcomer);
    assert_int_equal(answer(), 0);
    expect_registrar_end(GT_REGISTRAR_UNCONFIRMED, "");
}

static void test_registrar_takes_no_other_frame_for_a_request(void **state)
{
    play();
    send_head(GT_ENROLMENT_RESULT, 1);
    expect_registrar_end(GT_REGISTRAR_MALFORMED, "another kind");
    assert_int_equal(self.n_requests, 0);
}

static void test_registrar_takes_no_request_that_is_too_long(void **state)
{
    play();
    send_head(GT_ENROLMENT_REQUEST, GT_ENROLMENT_REQUEST_MAX + 1);
    expect_registrar_end(GT_REGISTRAR_MALFORMED, "");
}

static void test_registrar_takes_no_damaged_request(void **state)
{
    uint8_t request[GT_ENROLMENT_REQUEST_MAX];
    size_t n;

    play();
    n = make_request(request);
    request[n - 1] ^= 1; /* of the signature */
    send_head(GT_ENROLMENT_REQUEST, n);
    send_bytes(request, n);
    expect_registrar_end(GT_REGISTRAR_MALFORMED, "");
    assert_int_equal(self.n_requests, 0);
}

static void test_registrar_waits_for_a_whole_request_for_a_while(void **state)
{
    uint8_t request[GT_ENROLMENT_REQUEST_MAX];
    size_t n;

    play();
    n = make_request(request);
    send_head(GT_ENROLMENT_REQUEST, n);
    send_bytes(request, n - 1);
    expect_registrar_end(GT_REGISTRAR_MALFORMED, "within 30 s");
}

static void test_registrar_takes_one_request(void **state)
{
    uint8_t request[GT_ENROLMENT_REQUEST_MAX];
    size_t n;

    play();
    n = make_request(request);
    send_head(GT_ENROLMENT_REQUEST, n);
    send_bytes(request, n);
    assert_true(fake_run(self.f.loop, has_request, NULL, 5));
    send_head(GT_ENROLMENT_REQUEST, n);
    expect_registrar_end(GT_REGISTRAR_MALFORMED, "second request");
    assert_int_equal(self.n_requests, 1);
}

static void test_registrar_that_the_relay_refuses_ends_at_once(void **state)
{
    self.f.board.relay.has_wrong_key = true;
    start_registrar(LIFE_MS);
    expect_registrar_end(GT_REGISTRAR_REFUSED, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registrar_answers_a_newcomer),
        TEST(registrar_answers_once),
        TEST(registrar_without_its_key_answers_nothing),
        TEST(registrar_reports_what_the_newcomer_reports),
        TEST(registrar_rejects_with_a_reason),
        TEST(registrar_waits_until_the_token_expires),
        TEST(registrar_decides_until_the_token_expires),
        TEST(registrar_ends_with_a_newcomer_that_breaks_off),
        TEST(registrar_does_not_know_whether_a_lost_newcomer_has_installed),
        TEST(registrar_takes_no_other_frame_for_a_request),
        TEST(registrar_takes_no_request_that_is_too_long),
        TEST(registrar_takes_no_damaged_request),
        TEST(registrar_waits_for_a_whole_request_for_a_while),
        TEST(registrar_takes_one_request),
        TEST(registrar_that_the_relay_refuses_ends_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
