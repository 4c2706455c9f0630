/* SPDX-License-Identifier: ISC */
/*
 * The input of both sides of an enrolment: a request, an answer, a result and the head of a frame.
 * No input is an answer, because none was sealed for the pending request.
 */
#include "gotthard/trust/enrolment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* The corpus has requests for this token. */
static const struct gt_token token = {
    .kind = GT_TOKEN_DEVICE,
    .relay_host = "relay",
    .relay_port = 7000,
    .expires_at = 1800000000,
    .seed = "the seed",
    .public_key = "a public key of the command",
};

static void check_request(struct gt_span bytes)
{
    struct gt_enrolment_request request;
    uint8_t fingerprint[GT_KEY_SIZE];
    char why[GT_ENROLMENT_WHY];

    int r = gt_enrolment_request_open(&token, bytes, &request, why);
    must(r >= 0);
    if (r)
        return;
    must(gt_certificate_request_check(request.certificate_request, fingerprint) == 0);
    must(memcmp(fingerprint, request.fingerprint, sizeof(fingerprint)) == 0);
    must(request.n_host_keys <= GT_ENROLMENT_HOST_KEYS_MAX);
    must(gt_text_is_ascii(gt_span_text(request.software)));
}

static void check_answer(struct gt_span bytes)
{
    static const struct gt_enrolment_pending pending = {.kind = GT_TOKEN_DEVICE, .key = "a key"};
    uint8_t *plain = malloc(bytes.n + 1);
    size_t n;

    must(plain && gt_enrolment_answer_open(&pending, bytes, plain, &n) == GT_ENROLMENT_E_BAD);
    free(plain);
}

static void check_frame(struct gt_span bytes)
{
    char text[GT_ENROLMENT_TEXT_MAX + 1];
    uint8_t head[GT_ENROLMENT_HEAD], again[GT_ENROLMENT_HEAD];
    enum gt_enrolment_frame type;
    bool is_installed;
    size_t n;

    if (gt_enrolment_read_result(bytes, &is_installed, text) == 0)
        must(gt_text_is_ascii(gt_span_text(text)));
    if (bytes.n < sizeof(head))
        return;
    memcpy(head, bytes.data, sizeof(head));
    if (gt_enrolment_read_head(head, &type, &n) != 0)
        return;
    must(n <= GT_ENROLMENT_ANSWER_MAX);
    gt_enrolment_write_head(type, n, again);
    must(memcmp(head, again, sizeof(head)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    check_request(gt_span(data, n));
    check_answer(gt_span(data, n));
    check_frame(gt_span(data, n));
    return 0;
}
