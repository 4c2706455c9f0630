/* SPDX-License-Identifier: ISC */
/*
 * Prints the values that the library derives from the given parameters, one per line. vectors.py
 * compares them with its own implementation of the protocol. Parameters: see usage().
 */
#include <stdio.h>

#include "gotthard/signaling/key-agreement.h"
#include "gotthard/signaling/topic.h"
#include "gotthard/trust/access-parts.h"
#include "gotthard/trust/device-keys.h"
#include "gotthard/trust/enrolment.h"

enum {
    KEY = 1,
    IV,
    OPERATOR,
    DEVICE,
    X,
    Y,
    EPOCH,
    REQ,
    SERVICE,
    LIFETIME,
    RELAY,
    STREAM,
    ATTEMPT,
    N
};

static void usage(void)
{
    fprintf(stderr, "vectors-c KEY IV OPERATOR DEVICE X Y EPOCH REQ SERVICE LIFETIME RELAY STREAM "
                    "ATTEMPT\n(X, Y, EPOCH and REQ: texts that are hashed)\n");
    exit(64);
}

/* Exits if @r is a failure. */
static void must(int r, const char *what)
{
    if (!r)
        return;
    fprintf(stderr, "%s: %d\n", what, r);
    exit(1);
}

#define MUST(call) must(call, #call)

static void print(const char *name, const void *data, size_t n)
{
    printf("%s ", name);
    for (size_t i = 0; i < n; i++)
        printf("%02x", ((const uint8_t *)data)[i]);
    printf("\n");
}

static void hash_of(const char *text, uint8_t *ret, size_t n)
{
    uint8_t hash[GT_KEY_SIZE];
    struct gt_span part = gt_span_text(text);

    MUST(gt_sha256(&part, 1, hash));
    memcpy(ret, hash, n);
}

static void print_keys(char **argv, struct gt_message_keys *ret_keys)
{
    struct gt_key key;
    uint8_t of_device[GT_KEY_SIZE], client[GT_KEY_SIZE];
    char name[GT_NAME_MAX + 16];

    MUST(gt_key_parse(argv[KEY], argv[IV], &key));
    MUST(gt_key_device(&key, argv[DEVICE], of_device));
    MUST(gt_key_messages(of_device, ret_keys));
    print("PRK_M", key.master, sizeof(key.master));
    print("K_devs", key.devices, sizeof(key.devices));
    snprintf(name, sizeof(name), "K_dev[%s]", argv[DEVICE]);
    print(name, of_device, sizeof(of_device));
    print("K_rel", key.relay, sizeof(key.relay));
    MUST(gt_key_client(&key, GT_ROLE_OPERATOR, argv[OPERATOR], client));
    snprintf(name, sizeof(name), "K_rc[o:%s]", argv[OPERATOR]);
    print(name, client, sizeof(client));
    MUST(gt_key_client(&key, GT_ROLE_DEVICE, argv[DEVICE], client));
    snprintf(name, sizeof(name), "K_rc[d:%s]", argv[DEVICE]);
    print(name, client, sizeof(client));
    print("K_req", ret_keys->req, GT_KEY_SIZE);
    print("K_nak", ret_keys->nak, GT_KEY_SIZE);
    print("K_mix", ret_keys->mix, GT_KEY_SIZE);
    print("K_pres", ret_keys->presence, GT_KEY_SIZE);
}

static void print_texts(char **argv)
{
    struct gt_key key;
    char text[GT_KEY_TEXT_MAX];

    MUST(gt_key_parse(argv[KEY], argv[IV], &key));
    MUST(gt_key_format_relay(&key, text));
    print("gk1r", text, strlen(text));
    MUST(gt_key_format_device(&key, argv[DEVICE], text));
    print("gk1d", text, strlen(text));
    MUST(gt_key_format_operator(&key, argv[OPERATOR], true, text));
    print("gk1o", text, strlen(text));
    MUST(gt_key_format_operator(&key, argv[OPERATOR], false, text));
    print("gk1o of some", text, strlen(text));
    MUST(gt_device_keys_format(&key, argv[DEVICE], text));
    print("line of a device", text, strlen(text));
}

/* The token of an enrolment. Its random values are hashes of parameters. */
static void print_token(char **argv)
{
    struct gt_token token = {.kind = GT_TOKEN_DEVICE,
                             .relay_host = "relay",
                             .relay_port = 7000,
                             .expires_at = 1800000000};
    uint8_t x[GT_KEY_SIZE], private_key[GT_KEY_SIZE], hash[GT_KEY_SIZE], answer[GT_KEY_SIZE];
    char text[GT_TOKEN_TEXT_MAX];
    struct gt_token_keys keys;
    struct gt_key key;

    MUST(gt_key_parse(argv[KEY], argv[IV], &key));
    hash_of(argv[EPOCH], token.seed, sizeof(token.seed));
    hash_of(argv[X], x, sizeof(x));
    hash_of(argv[Y], private_key, sizeof(private_key));
    hash_of(argv[REQ], hash, sizeof(hash));
    MUST(gt_token_derive(&token, &keys));
    MUST(gt_key_client(&key, GT_ROLE_DEVICE, keys.name, token.client));
    MUST(gt_x25519_public(private_key, token.public_key));
    MUST(gt_enrolment_answer_key(keys.prk, x, token.public_key, hash, answer));
    gt_token_format(&token, text);
    print("PRK_T", keys.prk, sizeof(keys.prk));
    print("K_sess of the token", keys.session, sizeof(keys.session));
    print("rid of the token", keys.rid, sizeof(keys.rid));
    print("name of the token", keys.name, strlen(keys.name));
    print("gk1t", text, strlen(text));
    print("k of the answer", answer, sizeof(answer));
}

/* An access list that revokes both names, by an authority whose private key is x, and its second
 * part of two. */
static void print_access(char **argv)
{
    uint8_t key[GT_KEY_SIZE], public_key[GT_KEY_SIZE], part[GT_ACCESS_PART_MAX];
    char body[512], why[GT_ACCESS_WHY], *text = NULL;
    size_t n = 0, n_part = 0;

    hash_of(argv[X], key, sizeof(key));
    MUST(gt_ed25519_public(key, public_key));
    print("authority", public_key, sizeof(public_key));
    snprintf(body, sizeof(body),
             "serial 42\nissued 2026-11-30T14:05:00Z\nrevoked o:%s\nrevoked d:%s\n", argv[OPERATOR],
             argv[DEVICE]);
    MUST(gt_access_list_sign(gt_span_text(body), key, &text, &n, why));
    print("access list", text, n);
    MUST(gt_access_part_encode(key, gt_span(text, n), 42, 1, 2, part, &n_part));
    print("access part", part, n_part);
    free(text);
}

/* Encodes a REQ without a proof. Returns the length of inner1. */
static size_t make_req(char **argv, const uint8_t *gx, struct gt_key_agreement *agreement,
                       uint8_t *ret_inner)
{
    struct gt_req req = {.lifetime_s = (uint32_t)strtoul(argv[LIFETIME], NULL, 10)};
    struct gt_writer w = gt_writer(ret_inner, GT_MESSAGE_MAX);

    snprintf(req.operator_, sizeof(req.operator_), "%s", argv[OPERATOR]);
    snprintf(req.device, sizeof(req.device), "%s", argv[DEVICE]);
    snprintf(req.service, sizeof(req.service), "%s", argv[SERVICE]);
    snprintf(req.relay, sizeof(req.relay), "%s", argv[RELAY]);
    hash_of(argv[EPOCH], req.epoch, sizeof(req.epoch));
    hash_of(argv[REQ], req.id, sizeof(req.id));
    memcpy(agreement->id, req.id, sizeof(req.id));
    memcpy(req.gx, gx, sizeof(req.gx));
    gt_req_encode(&req, &w);
    gt_proof_encode(&(struct gt_proof){0}, &w);
    struct gt_span inner = gt_span(ret_inner, w.n);
    MUST(gt_sha256(&inner, 1, agreement->th1));
    return w.n;
}

static size_t make_ack(char **argv, const struct gt_key_agreement *agreement, uint8_t *ret)
{
    uint8_t inner[GT_MESSAGE_MAX];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_ack ack = {.lifetime_s = (uint32_t)strtoul(argv[LIFETIME], NULL, 10),
                         .max_streams = 64,
                         .window = 1 << 20,
                         .extensions.n_sessions = 7};
    size_t n = 0;

    snprintf(ack.operator_, sizeof(ack.operator_), "%s", argv[OPERATOR]);
    snprintf(ack.device, sizeof(ack.device), "%s", argv[DEVICE]);
    gt_ack_encode(&ack, &w);
    gt_proof_encode(&(struct gt_proof){0}, &w);
    MUST(gt_key_agreement_seal(agreement, gt_span(inner, w.n), ret, &n));
    return n;
}

/* Section 6 has 48 zero bytes in place of the box. */
static void print_session(char **argv, const struct gt_key_agreement *agreement)
{
    uint8_t ack[GT_ACK_HEADER + 48] = {0};
    struct gt_writer w = gt_writer(ack, sizeof(ack));
    struct gt_span parts[] = {gt_span(agreement->th1, GT_KEY_SIZE), gt_span(ack, sizeof(ack))};
    struct gt_session_keys session;
    struct gt_stream_psk stream;
    uint8_t th2[GT_KEY_SIZE];
    char name[64];

    gt_message_header(GT_MESSAGE_ACK, &w);
    gt_write_bytes(&w, agreement->id, sizeof(agreement->id));
    gt_write_bytes(&w, agreement->gy, sizeof(agreement->gy));
    MUST(gt_sha256(parts, GT_ARRAY_SIZE(parts), th2));
    MUST(gt_key_agreement_session(agreement, gt_span(ack, sizeof(ack)), &session));
    MUST(gt_key_stream(session.session, (uint32_t)strtoul(argv[STREAM], NULL, 10),
                       (uint32_t)strtoul(argv[ATTEMPT], NULL, 10), &stream));
    print("th2", th2, sizeof(th2));
    print("K_sess", session.session, sizeof(session.session));
    print("rid", session.rid, sizeof(session.rid));
    print("K_rep", session.report, sizeof(session.report));
    snprintf(name, sizeof(name), "psk(%s,%s)", argv[STREAM], argv[ATTEMPT]);
    print(name, stream.psk, sizeof(stream.psk));
    snprintf(name, sizeof(name), "psk_id(%s,%s)", argv[STREAM], argv[ATTEMPT]);
    print(name, stream.id, sizeof(stream.id));
}

int main(int argc, char **argv)
{
    uint8_t x[GT_KEY_SIZE], y[GT_KEY_SIZE], gx[GT_KEY_SIZE], shared[GT_KEY_SIZE];
    uint8_t keyiv[GT_KEYIV];
    uint8_t inner1[GT_MESSAGE_MAX], message[GT_MESSAGE_MAX];
    char topic[GT_TOPIC_MAX + 1];
    struct gt_message_keys keys;
    struct gt_key_agreement agreement = {.mix = keys.mix, .topic = topic};
    struct gt_session_keys session;

    if (argc != N)
        usage();
    print_keys(argv, &keys);
    hash_of(argv[X], x, sizeof(x));
    hash_of(argv[Y], y, sizeof(y));
    MUST(gt_x25519_public(x, gx));
    MUST(gt_x25519_public(y, agreement.gy));
    size_t n_inner1 = make_req(argv, gx, &agreement, inner1);
    MUST(gt_key_agreement_derive(&agreement, y, gx));
    MUST(gt_key_ack(agreement.prk, agreement.th1, agreement.gy, keyiv));
    print("gx", gx, sizeof(gx));
    print("gy", agreement.gy, sizeof(agreement.gy));
    MUST(gt_x25519(x, agreement.gy, shared));
    print("ss", shared, sizeof(shared));
    print("th1", agreement.th1, sizeof(agreement.th1));
    print("prk", agreement.prk, sizeof(agreement.prk));
    print("kack||iv", keyiv, sizeof(keyiv));
    print_session(argv, &agreement);
    print("inner1", inner1, n_inner1);

    MUST(gt_topic_rsp("gotthard/v1", argv[DEVICE], argv[OPERATOR], topic));
    size_t n = make_ack(argv, &agreement, message);
    MUST(gt_key_agreement_session(&agreement, gt_span(message, n), &session));
    print("ACK", message, n);
    print("K_sess of that ACK", session.session, sizeof(session.session));
    print("rid of that ACK", session.rid, sizeof(session.rid));
    print_texts(argv);
    print_access(argv);
    print_token(argv);
    MUST(gt_topic_req("gotthard/v1", argv[DEVICE], topic));
    MUST(gt_message_seal(keys.req, GT_MESSAGE_REQ, topic, gt_span(inner1, n_inner1), message, &n));
    print("REQ", message, n);
    return 0;
}
