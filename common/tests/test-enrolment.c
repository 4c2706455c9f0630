/* SPDX-License-Identifier: ISC */
/*
 * The exchange of an enrolment: what holds for the two sides, and what a thief of the token cannot
 * do (docs/model/enrolment.pvl).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "gotthard/trust/enrolment.h"
#include "vectors.h"

static const char bundle_text[] = "GTB1\001the bundle";

struct fixture {
    struct gt_token token;
    uint8_t private_key[GT_KEY_SIZE]; /* p */
    struct gt_certificate_key *key;
    struct gt_enrolment_pending pending;
    uint8_t bytes[GT_ENROLMENT_REQUEST_MAX]; /* the request */
    size_t n;
    struct gt_enrolment_request request; /* as the operator read it */
    uint8_t answer[sizeof(bundle_text) + GT_SEAL_OVERHEAD];
    char why[GT_ENROLMENT_WHY];
};

static struct gt_token new_token(enum gt_token_kind kind, uint8_t *ret_private)
{
    struct gt_key key;
    struct gt_token token;

    assert_int_equal(
        gt_key_parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                     "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", &key),
        0);
    assert_int_equal(gt_token_new(&key, kind, "relay", 7000, 1800000000, &token, ret_private), 0);
    return token;
}

static const struct gt_span host_keys[] = {{(const uint8_t *)"ssh-ed25519 AAAA", 16},
                                           {(const uint8_t *)"ssh-rsa BBBB", 12}};

static int make(struct fixture *f, const struct gt_token *token)
{
    return gt_enrolment_request_make(token, f->key, host_keys, GT_ARRAY_SIZE(host_keys),
                                     "gotthard/9", &f->pending, f->bytes, &f->n);
}

static int open_request(struct fixture *f, const struct gt_token *token)
{
    return gt_enrolment_request_open(token, gt_span(f->bytes, f->n), &f->request, f->why);
}

static int answer(struct fixture *f)
{
    return gt_enrolment_answer_make(&f->token, f->private_key, &f->request,
                                    gt_span(bundle_text, sizeof(bundle_text)), f->answer);
}

static int open_answer(struct fixture *f, uint8_t *ret, size_t *ret_n)
{
    return gt_enrolment_answer_open(&f->pending, gt_span(f->answer, sizeof(f->answer)), ret, ret_n);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    f->token = new_token(GT_TOKEN_DEVICE, f->private_key);
    assert_int_equal(gt_certificate_key_new(&f->key), 0);
    assert_int_equal(make(f, &f->token), 0);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    gt_certificate_key_free(f->key);
    free(f);
    return 0;
}

static void test_enrolment_gives_the_bundle(void **state)
{
    struct fixture *f = *state;
    uint8_t opened[sizeof(f->answer)], fingerprint[GT_KEY_SIZE];
    size_t n = 0;

    assert_int_equal(open_request(f, &f->token), 0);
    assert_int_equal(gt_certificate_key_fingerprint(f->key, fingerprint), 0);
    assert_memory_equal(f->request.fingerprint, fingerprint, GT_KEY_SIZE);
    assert_int_equal(f->request.n_host_keys, 2);
    assert_true(gt_span_equals(f->request.host_keys[1], host_keys[1]));
    assert_string_equal(f->request.software, "gotthard/9");
    assert_int_equal(answer(f), 0);
    assert_int_equal(open_answer(f, opened, &n), 0);
    assert_int_equal(n, sizeof(bundle_text));
    assert_memory_equal(opened, bundle_text, n);
}

/* p is gone after one answer: a second newcomer gets none, whatever the command does. */
static void test_enrolment_answers_once(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zeros[GT_KEY_SIZE];

    assert_int_equal(open_request(f, &f->token), 0);
    assert_int_equal(answer(f), 0);
    assert_memory_equal(f->private_key, zeros, GT_KEY_SIZE);
    assert_int_equal(answer(f), GT_ENROLMENT_E_BAD);
}

static void test_enrolment_answer_known_answer(void **state)
{
    uint8_t prk[GT_KEY_SIZE], x[GT_KEY_SIZE], p[GT_KEY_SIZE], hash[GT_KEY_SIZE], k[GT_KEY_SIZE];
    uint8_t public_key[GT_KEY_SIZE], other[GT_KEY_SIZE];
    char text[2 * GT_KEY_SIZE + 1];

    unhex("41942cda25c584d2ef782882abb866e0e38075ffad15e5af229a7c834410a67c", prk);
    hash_of("test x", x);
    hash_of("test p", p);
    hash_of("request", hash);
    assert_int_equal(gt_x25519_public(p, public_key), 0);
    assert_int_equal(gt_enrolment_answer_key(prk, x, public_key, hash, k), 0);
    gt_text_hex(k, sizeof(k), text);
    assert_string_equal(text, "ec3e387e2e556f8511ed2cfab45458a419fb3bc2103758c5c5d72285b52ba494");
    assert_int_equal(gt_x25519_public(x, public_key), 0);
    assert_int_equal(gt_enrolment_answer_key(prk, p, public_key, hash, other), 0);
    assert_memory_equal(other, k, sizeof(k));
}

/* A thief has the token: seed, K_rc and P, and answers with another key. */
static void test_thief_cannot_make_an_answer(void **state)
{
    struct fixture *f = *state;
    uint8_t opened[sizeof(f->answer)];
    size_t n;

    assert_int_equal(open_request(f, &f->token), 0);
    memset(f->private_key, 7, sizeof(f->private_key));
    assert_int_equal(answer(f), 0);
    assert_int_equal(open_answer(f, opened, &n), GT_ENROLMENT_E_BAD);
}

/* A thief in the middle puts another x*G under the newcomer's certificate request. */
static void test_thief_cannot_replace_the_public_key(void **state)
{
    struct fixture *f = *state;
    uint8_t x[GT_KEY_SIZE];

    memset(x, 9, sizeof(x));
    assert_int_equal(gt_x25519_public(x, f->bytes), 0);
    assert_int_equal(open_request(f, &f->token), GT_ENROLMENT_E_BAD);
    assert_non_null(strstr(f->why, "signature"));
}

/* A thief passes the answer to another request on to the newcomer. */
static void test_answer_is_for_one_request(void **state)
{
    struct fixture *f = *state;
    struct gt_enrolment_pending genuine = f->pending;
    uint8_t opened[sizeof(f->answer)];
    size_t n;

    assert_int_equal(make(f, &f->token), 0); /* the thief's */
    assert_int_equal(open_request(f, &f->token), 0);
    assert_int_equal(answer(f), 0);
    assert_int_equal(open_answer(f, opened, &n), 0);
    f->pending = genuine;
    assert_int_equal(open_answer(f, opened, &n), GT_ENROLMENT_E_BAD);
}

/* A person pastes the token of an operator into a device, whose program does not look at the kind.
 */
static void test_answer_is_for_one_kind(void **state)
{
    struct fixture *f = *state;
    struct gt_token other = f->token;

    other.kind = GT_TOKEN_OPERATOR;
    assert_int_equal(make(f, &other), 0);
    assert_int_equal(open_request(f, &f->token), GT_ENROLMENT_E_BAD);
    assert_non_null(strstr(f->why, "kind"));

    uint8_t opened[sizeof(f->answer)];
    size_t n;
    assert_int_equal(make(f, &f->token), 0);
    assert_int_equal(open_request(f, &f->token), 0);
    f->token.kind = GT_TOKEN_OPERATOR; /* a command that seals for another kind */
    assert_int_equal(answer(f), 0);
    assert_int_equal(open_answer(f, opened, &n), GT_ENROLMENT_E_BAD);
}

static void test_request_is_for_one_token(void **state)
{
    struct fixture *f = *state;
    uint8_t private_key[GT_KEY_SIZE];
    struct gt_token other = new_token(GT_TOKEN_DEVICE, private_key);

    assert_int_equal(open_request(f, &other), GT_ENROLMENT_E_BAD);
    assert_int_equal(open_request(f, &f->token), 0);
}

static void test_points_of_low_order_abort(void **state)
{
    struct fixture *f = *state;
    struct gt_token weak = f->token;

    memset(weak.public_key, 0, sizeof(weak.public_key));
    assert_int_equal(make(f, &weak), GT_ENROLMENT_E_BAD);
    assert_int_equal(make(f, &f->token), 0);
    assert_int_equal(open_request(f, &f->token), 0);
    memset(f->request.public_key, 0, sizeof(f->request.public_key));
    assert_int_equal(answer(f), GT_ENROLMENT_E_BAD);
}

/* Every bit of a request counts, and so does its length. */
static void test_damaged_requests_are_refused(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < f->n; i++) {
        f->bytes[i] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(open_request(f, &f->token), GT_ENROLMENT_E_BAD);
        f->bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    size_t n = f->n;
    for (f->n = 0; f->n < n; f->n++)
        assert_int_equal(open_request(f, &f->token), GT_ENROLMENT_E_BAD);
    f->bytes[f->n++] = 0;
    assert_int_equal(open_request(f, &f->token), GT_ENROLMENT_E_BAD);
}

static void test_damaged_answers_do_not_open(void **state)
{
    struct fixture *f = *state;
    uint8_t opened[sizeof(f->answer)];
    size_t n;

    assert_int_equal(open_request(f, &f->token), 0);
    assert_int_equal(answer(f), 0);
    for (size_t i = 0; i < sizeof(f->answer); i++) {
        f->answer[i] ^= 1;
        assert_int_equal(open_answer(f, opened, &n), GT_ENROLMENT_E_BAD);
        f->answer[i] ^= 1;
    }
    assert_int_equal(gt_enrolment_answer_open(&f->pending, gt_span(f->answer, 47), opened, &n),
                     GT_ENROLMENT_E_BAD);
}

static void test_request_leaves_out_host_keys_without_room(void **state)
{
    struct fixture *f = *state;
    static uint8_t line[2048];
    struct gt_span many[40];

    memset(line, 'k', sizeof(line));
    for (size_t i = 0; i < GT_ARRAY_SIZE(many); i++)
        many[i] = gt_span(line, i == 0 ? sizeof(line) : 1000);
    assert_int_equal(gt_enrolment_request_make(&f->token, f->key, many, GT_ARRAY_SIZE(many), "",
                                               &f->pending, f->bytes, &f->n),
                     0);
    assert_int_equal(open_request(f, &f->token), 0);
    assert_int_equal(f->request.n_host_keys, 8);
}

static void test_frames_have_limits(void **state)
{
    static const struct {
        uint8_t type;
        size_t n;
        int r;
    } cases[] = {
        {GT_ENROLMENT_REQUEST, GT_ENROLMENT_REQUEST_MAX, 0},
        {GT_ENROLMENT_REQUEST, GT_ENROLMENT_REQUEST_MAX + 1, GT_ENROLMENT_E_BAD},
        {GT_ENROLMENT_ANSWER, GT_ENROLMENT_ANSWER_MAX, 0},
        {GT_ENROLMENT_ANSWER, GT_ENROLMENT_ANSWER_MAX + 1, GT_ENROLMENT_E_BAD},
        {GT_ENROLMENT_REJECTION, 0, 0},
        {GT_ENROLMENT_RESULT, 1 + GT_ENROLMENT_TEXT_MAX, 0},
        {0, 0, GT_ENROLMENT_E_BAD},
        {5, 0, GT_ENROLMENT_E_BAD},
        {255, 0, GT_ENROLMENT_E_BAD},
    };
    uint8_t head[GT_ENROLMENT_HEAD];
    enum gt_enrolment_frame type;
    size_t n;

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        gt_enrolment_write_head((enum gt_enrolment_frame)cases[i].type, cases[i].n, head);
        assert_int_equal(gt_enrolment_read_head(head, &type, &n), cases[i].r);
        if (cases[i].r == 0) {
            assert_int_equal(type, cases[i].type);
            assert_int_equal(n, cases[i].n);
        }
    }
}

static void test_result_returns_its_text(void **state)
{
    uint8_t bytes[1 + GT_ENROLMENT_TEXT_MAX];
    char text[GT_ENROLMENT_TEXT_MAX + 1];
    bool is_installed = false;

    size_t n = gt_enrolment_write_result(true, "fine\n", bytes);
    assert_int_equal(gt_enrolment_read_result(gt_span(bytes, n), &is_installed, text), 0);
    assert_true(is_installed);
    assert_string_equal(text, "fine\\x0a");
    assert_int_equal(gt_enrolment_read_result(gt_span(bytes, 0), &is_installed, text),
                     GT_ENROLMENT_E_BAD);
    bytes[0] = 2;
    assert_int_equal(gt_enrolment_read_result(gt_span(bytes, n), &is_installed, text),
                     GT_ENROLMENT_E_BAD);
}

static void test_fingerprint_is_in_groups(void **state)
{
    uint8_t fingerprint[GT_KEY_SIZE];
    char text[GT_ENROLMENT_FINGERPRINT_TEXT];

    for (size_t i = 0; i < sizeof(fingerprint); i++)
        fingerprint[i] = (uint8_t)(i * 8);
    gt_enrolment_format_fingerprint(fingerprint, text);
    assert_int_equal(strlen(text), 79);
    assert_memory_equal(text, "0008 1018 2028", 14);
    assert_string_equal(text + 75, "f0f8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_enrolment_gives_the_bundle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enrolment_answers_once, setup, teardown),
        cmocka_unit_test(test_enrolment_answer_known_answer),
        cmocka_unit_test_setup_teardown(test_thief_cannot_make_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thief_cannot_replace_the_public_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_is_for_one_request, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_is_for_one_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_is_for_one_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_points_of_low_order_abort, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_requests_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_answers_do_not_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_leaves_out_host_keys_without_room, setup,
                                        teardown),
        cmocka_unit_test(test_frames_have_limits),
        cmocka_unit_test(test_result_returns_its_text),
        cmocka_unit_test(test_fingerprint_is_in_groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
