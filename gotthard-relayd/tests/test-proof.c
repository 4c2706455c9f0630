/* SPDX-License-Identifier: ISC */
/* proof.c with the ClientHellos of real clients: keys, a change of keys, and replays. */
#include "control/proof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "gotthard/net/sock.h"
#include "gotthard/tls/tls.h"

static const char iv[] = "000102030405060708090a0b0c0d0e0f";

enum { CURRENT, PREVIOUS, OTHER, N_KEYS };

static struct gt_key keys[N_KEYS];
static struct admission admission;
static struct seen_binders seen;
static struct gt_tls_context *context;
static uint8_t bytes[GT_CLIENT_HELLO_RECORD_MAX]; /* of the last ClientHello */

static int set_up(void **state)
{
    char text[2 * GT_KEY_SIZE + 1];

    for (unsigned i = 0; i < N_KEYS; i++) {
        snprintf(text, sizeof(text), "%064x", i + 1);
        assert_int_equal(gt_key_parse(text, iv, &keys[i]), 0);
    }
    memset(&admission, 0, sizeof(admission));
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(admission_add_key(&admission, &keys[CURRENT]), 0);
    return gt_tls_context_new(GT_TLS_CLIENT, "gotthard-r/1", &context);
}

static int tear_down(void **state)
{
    context = gt_tls_context_free(context);
    admission_deinit(&admission);
    return 0;
}

/* Parses the ClientHello of a new client. */
static struct gt_client_hello hello_of(const char *identity, const uint8_t *psk)
{
    struct gt_client_hello hello;
    struct gt_tls *tls;
    int fds[2];

    assert_int_equal(gt_sock_pair(fds), 0);
    assert_int_equal(gt_tls_new_client(context, fds[0], gt_span_text(identity), psk, &tls), 0);
    assert_int_equal(gt_tls_handshake(tls), GT_TLS_E_AGAIN);
    ssize_t n = recv(fds[1], bytes, sizeof(bytes), 0);
    assert_true(n > 0);
    assert_int_equal(gt_client_hello_parse(gt_span(bytes, (size_t)n), &hello), 0);
    gt_tls_free(tls);
    close(fds[0]);
    close(fds[1]);
    return hello;
}

/* The PSK of alice, derived from the relay's key @which. */
static const uint8_t *psk_of(unsigned which)
{
    static uint8_t psk[GT_KEY_SIZE];

    assert_int_equal(gt_key_client(&keys[which], GT_ROLE_OPERATOR, "alice", psk), 0);
    return psk;
}

static void assert_is_admitted(unsigned which)
{
    struct gt_client_hello hello = hello_of("g1:o:alice", psk_of(which));
    uint8_t key_id[GT_KEY_SIZE];
    struct proof proof;

    assert_int_equal(proof_check(&admission, &seen, &hello, &proof), 0);
    assert_string_equal(proof.identity, "g1:o:alice");
    assert_memory_equal(proof.psk, psk_of(which), GT_KEY_SIZE);
    assert_int_equal(gt_key_relay_id(&keys[which], key_id), 0);
    assert_memory_equal(proof.key_id, key_id, GT_KEY_ID_SIZE);
}

static void assert_is_rejected(const char *identity, const uint8_t *psk)
{
    struct gt_client_hello hello = hello_of(identity, psk);
    struct proof proof;

    assert_int_equal(proof_check(&admission, &seen, &hello, &proof), PROOF_E_WRONG_KEY);
}

static void test_proof_is_of_a_known_key_only(void **state)
{
    static const uint8_t zeros[GT_KEY_SIZE];
    char longest[GT_CLIENT_HELLO_IDENTITY_MAX + 1];

    assert_is_admitted(CURRENT);
    assert_is_rejected("g1:o:alice", psk_of(OTHER));
    assert_is_rejected("g1:o:alice", psk_of(PREVIOUS));
    assert_is_rejected("g1:o:bob", psk_of(CURRENT));
    assert_is_rejected("o:alice", psk_of(CURRENT));
    assert_is_rejected("o:alice", zeros); /* which stand for the key of a malformed one */
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    assert_is_rejected(longest, psk_of(CURRENT));
    assert_is_rejected(longest, zeros);
}

static void test_proof_of_a_refused_identity_is_none(void **state)
{
    const char *why;
    size_t line;

    assert_int_equal(refused_parse(strdup("o:alice\n"), &admission.refused, &line, &why), 0);
    assert_is_rejected("g1:o:alice", psk_of(CURRENT));
}

static void test_proof_is_of_both_keys_during_their_change(void **state)
{
    assert_int_equal(admission_add_key(&admission, &keys[PREVIOUS]), 0);
    assert_is_admitted(CURRENT);
    assert_is_admitted(PREVIOUS);
    assert_is_rejected("g1:o:alice", psk_of(OTHER));
    assert_is_rejected("g1:o:bob", psk_of(PREVIOUS));
}

static void test_proof_is_admitted_once(void **state)
{
    struct gt_client_hello hello = hello_of("g1:o:alice", psk_of(CURRENT));
    struct proof proof;

    assert_int_equal(proof_check(&admission, &seen, &hello, &proof), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(proof_check(&admission, &seen, &hello, &proof), PROOF_E_REPLAYED);
    assert_is_admitted(CURRENT); /* another one of the same client */
}

/* A changed copy does not use up the original, which may come later. */
static void test_proof_is_not_used_up_by_a_changed_copy(void **state)
{
    struct gt_client_hello hello = hello_of("g1:o:alice", psk_of(CURRENT));
    struct proof proof;

    for (size_t i = 9; i < 9 + hello.message.n - 4; i++) {
        struct gt_client_hello copy;

        bytes[i] ^= 1;
        if (!gt_client_hello_parse(gt_span(bytes, 5 + hello.message.n), &copy))
            assert_int_equal(proof_check(&admission, &seen, &copy, &proof), PROOF_E_WRONG_KEY);
        bytes[i] ^= 1;
    }
    assert_int_equal(proof_check(&admission, &seen, &hello, &proof), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_proof_is_of_a_known_key_only),
        TEST(test_proof_of_a_refused_identity_is_none),
        TEST(test_proof_is_of_both_keys_during_their_change),
        TEST(test_proof_is_admitted_once),
        TEST(test_proof_is_not_used_up_by_a_changed_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
