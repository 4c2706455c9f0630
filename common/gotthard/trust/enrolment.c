/* SPDX-License-Identifier: ISC */
/*
 * The request is signed by the newcomer's own key, over the token's rid, its X25519 key and its
 * kind. Without the X25519 key in it, a thief of the token who is in the middle could put another
 * there and read the answer. The model in docs/model (enrolment.pvl) has this exchange.
 */
#include "gotthard/trust/enrolment.h"

#include <stdio.h>

#define CONTEXT        "Gotthard v1, enrolment request"
#define ANSWER_MAGIC   "GTE1"
#define HOST_KEY_MAX   1024 /* bytes of a line */
#define HOST_KEYS_SIZE 8192 /* bytes of all of them */
#define SUBJECT        "gotthard enrolment"

/* --- frames ----------------------------------------------------------------------------------- */

static const size_t body_max[] = {
    [GT_ENROLMENT_REQUEST] = GT_ENROLMENT_REQUEST_MAX,
    [GT_ENROLMENT_ANSWER] = GT_ENROLMENT_ANSWER_MAX,
    [GT_ENROLMENT_REJECTION] = GT_ENROLMENT_TEXT_MAX,
    [GT_ENROLMENT_RESULT] = 1 + GT_ENROLMENT_TEXT_MAX,
};

void gt_enrolment_write_head(enum gt_enrolment_frame type, size_t n,
                             uint8_t ret[static GT_ENROLMENT_HEAD])
{
    struct gt_writer w = gt_writer(ret, GT_ENROLMENT_HEAD);

    gt_write_u8(&w, (uint8_t)type);
    gt_write_u32(&w, (uint32_t)n);
}

int gt_enrolment_read_head(const uint8_t head[static GT_ENROLMENT_HEAD],
                           enum gt_enrolment_frame *ret_type, size_t *ret_n)
{
    struct gt_reader r = gt_reader(head, GT_ENROLMENT_HEAD);
    uint8_t type = gt_read_u8(&r);
    uint32_t n = gt_read_u32(&r);

    if (type >= GT_ARRAY_SIZE(body_max) || n > body_max[type])
        return GT_ENROLMENT_E_BAD;
    if (type < GT_ENROLMENT_REQUEST)
        return GT_ENROLMENT_E_BAD;
    *ret_type = (enum gt_enrolment_frame)type;
    *ret_n = n;
    return 0;
}

size_t gt_enrolment_write_result(bool is_installed, const char *text, uint8_t *ret)
{
    size_t n = GT_MIN(strlen(text), (size_t)GT_ENROLMENT_TEXT_MAX);

    ret[0] = is_installed;
    memcpy(ret + 1, text, n);
    return 1 + n;
}

int gt_enrolment_read_result(struct gt_span body, bool *ret_is_installed,
                             char ret_text[static GT_ENROLMENT_TEXT_MAX + 1])
{
    struct gt_reader r = gt_reader(body.data, body.n);
    uint8_t is_installed = gt_read_u8(&r);
    struct gt_span text = gt_read_bytes(&r, r.left);

    if (r.failed || is_installed > 1 || text.n > GT_ENROLMENT_TEXT_MAX)
        return GT_ENROLMENT_E_BAD;
    *ret_is_installed = is_installed;
    gt_text_escape(text, ret_text, GT_ENROLMENT_TEXT_MAX + 1);
    return 0;
}

void gt_enrolment_format_fingerprint(const uint8_t fingerprint[static GT_KEY_SIZE],
                                     char ret[static GT_ENROLMENT_FINGERPRINT_TEXT])
{
    for (size_t i = 0; i < GT_KEY_SIZE / 2; i++) {
        gt_text_hex(fingerprint + 2 * i, 2, ret + 5 * i);
        ret[5 * i + 4] = ' ';
    }
    ret[GT_ENROLMENT_FINGERPRINT_TEXT - 1] = 0;
}

/* --- the key of the answer -------------------------------------------------------------------- */

/* k = X(HKDF-Extract(PRK_T, X25519(x or p, the other's)), "answer", SHA256(request), 32) */
int gt_enrolment_answer_key(const uint8_t prk_of_token[static GT_KEY_SIZE],
                            const uint8_t private_key[static GT_KEY_SIZE],
                            const uint8_t public_key[static GT_KEY_SIZE],
                            const uint8_t hash[static GT_KEY_SIZE], uint8_t ret[static GT_KEY_SIZE])
{
    uint8_t shared[GT_KEY_SIZE], prk[GT_KEY_SIZE];

    int r = gt_x25519(private_key, public_key, shared);
    if (r == 0)
        r = gt_hkdf_extract(gt_span(prk_of_token, GT_KEY_SIZE), gt_span(shared, sizeof(shared)),
                            prk);
    if (r == 0)
        r = gt_hkdf_label(prk, "answer", gt_span(hash, GT_KEY_SIZE), ret, GT_KEY_SIZE);
    gt_wipe(shared, sizeof(shared));
    gt_wipe(prk, sizeof(prk));
    return r > 0 ? GT_ENROLMENT_E_BAD : r;
}

static int hash_of(struct gt_span bytes, uint8_t *ret)
{
    int r = gt_sha256(&bytes, 1, ret);

    return r > 0 ? -EIO : r;
}

/* The additional data of the answer: "GTE1" || kind. */
static struct gt_span make_ad(enum gt_token_kind kind, uint8_t ret[static 5])
{
    memcpy(ret, ANSWER_MAGIC, 4);
    ret[4] = (uint8_t)kind;
    return gt_span(ret, 5);
}

/* --- the newcomer ----------------------------------------------------------------------------- */

static void write_host_keys(struct gt_writer *w, const struct gt_span *host_keys, size_t n)
{
    uint8_t list[HOST_KEYS_SIZE];
    struct gt_writer l = gt_writer(list, sizeof(list));
    size_t n_written = 0;

    for (size_t i = 0; i < n && n_written < GT_ENROLMENT_HOST_KEYS_MAX; i++)
        if (host_keys[i].n && host_keys[i].n <= HOST_KEY_MAX && host_keys[i].n + 2 <= l.cap - l.n) {
            gt_write_lp(&l, host_keys[i]);
            n_written++;
        }
    gt_write_lp(w, gt_span(list, l.n));
}

/* Everything before the signature: x*G || kind || lp(CSR) || lp(host keys) || lp(software) ||
 * sigalg. */
static int write_unsigned(struct gt_writer *w, const uint8_t *public_key, enum gt_token_kind kind,
                          const struct gt_certificate_key *key, const struct gt_span *host_keys,
                          size_t n_host_keys, const char *software)
{
    uint8_t request[GT_CERTIFICATE_REQUEST_MAX];
    size_t n = 0;
    int r = gt_certificate_key_request(key, SUBJECT, request, &n);

    if (r)
        return r;
    gt_write_bytes(w, public_key, GT_KEY_SIZE);
    gt_write_u8(w, (uint8_t)kind);
    gt_write_lp(w, gt_span(request, n));
    write_host_keys(w, host_keys, n_host_keys);
    gt_write_lp(w, gt_span(software, GT_MIN(strlen(software), (size_t)GT_ENROLMENT_SOFTWARE_MAX)));
    gt_write_u16(w, GT_CERTIFICATE_KEY_ALGORITHM);
    return 0;
}

static int write_signature(struct gt_writer *w, const uint8_t *rid,
                           const struct gt_certificate_key *key)
{
    const struct gt_span parts[] = {gt_span(rid, GT_RID_SIZE), gt_span(w->data, w->n)};
    uint8_t signature[GT_CERTIFICATE_KEY_SIGNATURE_MAX];
    struct gt_statement statement;
    size_t n = 0;

    int r = gt_statement_make(CONTEXT, parts, GT_ARRAY_SIZE(parts), &statement);
    if (r == 0)
        r = gt_certificate_key_sign(key, &statement, signature, &n);
    if (r)
        return r;
    gt_write_lp(w, gt_span(signature, n));
    return w->failed ? -EOVERFLOW : 0;
}

int gt_enrolment_request_make(const struct gt_token *token, const struct gt_certificate_key *key,
                              const struct gt_span *host_keys, size_t n_host_keys,
                              const char *software, struct gt_enrolment_pending *ret_pending,
                              uint8_t *ret, size_t *ret_n)
{
    uint8_t private_key[GT_KEY_SIZE], public_key[GT_KEY_SIZE], hash[GT_KEY_SIZE];
    struct gt_writer w = gt_writer(ret, GT_ENROLMENT_REQUEST_MAX);
    struct gt_enrolment_pending pending = {.kind = token->kind};
    struct gt_token_keys keys;

    int r = gt_token_derive(token, &keys);
    if (r == 0)
        r = gt_random(private_key, sizeof(private_key));
    if (r == 0)
        r = gt_x25519_public(private_key, public_key);
    if (r == 0)
        r = write_unsigned(&w, public_key, token->kind, key, host_keys, n_host_keys, software);
    if (r == 0)
        r = write_signature(&w, keys.rid, key);
    if (r == 0)
        r = hash_of(gt_span(w.data, w.n), hash);
    if (r == 0)
        r = gt_enrolment_answer_key(keys.prk, private_key, token->public_key, hash, pending.key);
    if (r == 0) {
        *ret_pending = pending;
        *ret_n = w.n;
    }
    gt_wipe(private_key, sizeof(private_key));
    gt_wipe(&pending, sizeof(pending));
    gt_token_keys_wipe(&keys);
    return r;
}

int gt_enrolment_answer_open(const struct gt_enrolment_pending *pending, struct gt_span answer,
                             uint8_t *ret, size_t *ret_n)
{
    uint8_t ad[5];

    if (answer.n > GT_ENROLMENT_ANSWER_MAX)
        return GT_ENROLMENT_E_BAD;
    int r = gt_unseal(pending->key, make_ad(pending->kind, ad), answer, ret);
    if (r)
        return r > 0 ? GT_ENROLMENT_E_BAD : r;
    *ret_n = answer.n - GT_SEAL_OVERHEAD;
    return 0;
}

/* --- the operator ----------------------------------------------------------------------------- */

static int bad(char *ret_why, const char *why)
{
    snprintf(ret_why, GT_ENROLMENT_WHY, "%s", why);
    return GT_ENROLMENT_E_BAD;
}

static bool read_host_keys(struct gt_span list, struct gt_enrolment_request *request)
{
    struct gt_reader r = gt_reader(list.data, list.n);

    while (r.left > 0 && !r.failed) {
        struct gt_span line = gt_read_lp(&r);

        if (r.failed || !line.n || line.n > HOST_KEY_MAX || !gt_text_is_ascii(line) ||
            request->n_host_keys == GT_ENROLMENT_HOST_KEYS_MAX)
            return false;
        request->host_keys[request->n_host_keys++] = line;
    }
    return !r.failed && list.n <= HOST_KEYS_SIZE;
}

/* A request whose fields were read, before its signature was checked. */
struct fields {
    struct gt_span is_signed; /* all before the signature */
    uint8_t kind;
    uint16_t sigalg;
    struct gt_span signature;
};

static bool read_fields(struct gt_span bytes, struct gt_enrolment_request *request,
                        struct fields *ret)
{
    struct gt_reader r = gt_reader(bytes.data, bytes.n);

    gt_read_into(&r, request->public_key, GT_KEY_SIZE);
    ret->kind = gt_read_u8(&r);
    request->certificate_request = gt_read_lp(&r);
    struct gt_span host_keys = gt_read_lp(&r);
    gt_read_string(&r, request->software, sizeof(request->software));
    ret->sigalg = gt_read_u16(&r);
    ret->is_signed = gt_span(bytes.data, bytes.n - r.left);
    ret->signature = gt_read_lp(&r);
    return gt_reader_is_done(&r) && gt_text_is_ascii(gt_span_text(request->software)) &&
           read_host_keys(host_keys, request);
}

static int check_signature(const struct gt_token *token, const struct gt_enrolment_request *request,
                           const struct fields *fields)
{
    struct gt_statement statement;
    struct gt_token_keys keys;

    int r = gt_token_derive(token, &keys);
    if (r == 0) {
        const struct gt_span parts[] = {gt_span(keys.rid, GT_RID_SIZE), fields->is_signed};

        r = gt_statement_make(CONTEXT, parts, GT_ARRAY_SIZE(parts), &statement);
    }
    gt_token_keys_wipe(&keys);
    return r ? r
             : gt_certificate_request_verify(request->certificate_request, &statement,
                                             fields->signature);
}

int gt_enrolment_request_open(const struct gt_token *token, struct gt_span bytes,
                              struct gt_enrolment_request *ret,
                              char ret_why[static GT_ENROLMENT_WHY])
{
    struct gt_enrolment_request request = {.software = ""};
    struct fields fields;

    if (bytes.n > GT_ENROLMENT_REQUEST_MAX || !read_fields(bytes, &request, &fields))
        return bad(ret_why, "malformed request");
    if (fields.kind != token->kind)
        return bad(ret_why, "the request is of another kind than the token");
    if (fields.sigalg != GT_CERTIFICATE_KEY_ALGORITHM)
        return bad(ret_why, "the request is signed by an unknown algorithm");
    int r = gt_certificate_request_check(request.certificate_request, request.fingerprint);
    if (r)
        return r < 0 ? r : bad(ret_why, "the certificate request is malformed, or not for P-256");
    r = check_signature(token, &request, &fields);
    if (r)
        return r < 0 ? r : bad(ret_why, "the request's signature is wrong");
    r = hash_of(bytes, request.hash);
    if (r == 0)
        *ret = request;
    return r;
}

int gt_enrolment_answer_make(const struct gt_token *token, uint8_t private_key[static GT_KEY_SIZE],
                             const struct gt_enrolment_request *request, struct gt_span bundle,
                             uint8_t *ret)
{
    static const uint8_t wiped[GT_KEY_SIZE];
    uint8_t key[GT_KEY_SIZE], ad[5];
    struct gt_token_keys keys;

    if (gt_is_equal(private_key, wiped, GT_KEY_SIZE) || bundle.n > GT_BUNDLE_MAX)
        return GT_ENROLMENT_E_BAD;
    int r = gt_token_derive(token, &keys);
    if (r == 0)
        r = gt_enrolment_answer_key(keys.prk, private_key, request->public_key, request->hash, key);
    if (r == 0)
        r = gt_seal(key, make_ad(token->kind, ad), bundle, ret);
    gt_wipe(private_key, GT_KEY_SIZE);
    gt_wipe(key, sizeof(key));
    gt_token_keys_wipe(&keys);
    return r;
}
