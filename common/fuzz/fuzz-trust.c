/* SPDX-License-Identifier: ISC */
/*
 * A proof from an untrusted peer: certificate, algorithm, signature. It may verify only with a
 * signature of its algorithm's kind. Also PEM texts, as of a damaged file.
 */
#include "gotthard/signaling/trust.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void fuzz_proof(struct gt_reader *r)
{
    static const struct gt_span statement = {(const uint8_t *)"statement", 9};
    const struct gt_pin *pin;
    uint8_t fingerprint[GT_KEY_SIZE];
    struct gt_trust psk, empty = {.policy = GT_POLICY_PIN};
    struct gt_proof proof = {.certificate = gt_read_lp(r)};

    proof.sigalg = gt_read_u16(r);
    proof.signature = gt_read_bytes(r, r->left);
    gt_trust_init_psk(&psk);
    int verified = gt_signature_verify(&proof, GT_SIGNATURE_REQ, &statement, 1, fingerprint);
    bool is_signed = proof.certificate.n || proof.sigalg || proof.signature.n;
    must(verified == 0 || verified == GT_TRUST_E_DENIED);
    must(verified != 0 || proof.signature.n >= 8);
    must(gt_trust_check(&psk, true, "a", 0, &proof, GT_SIGNATURE_REQ, &statement, 1, &pin) ==
         (is_signed ? verified : 0));
    must(gt_trust_check(&empty, true, "a", 0, &proof, GT_SIGNATURE_REQ, &statement, 1, &pin) ==
         GT_TRUST_E_DENIED);
}

/* Certificate, NUL, key. */
static void fuzz_pem(struct gt_span text)
{
    struct gt_signer *signer = NULL;
    const uint8_t *nul = text.n ? memchr(text.data, 0, text.n) : NULL;
    size_t n = nul ? (size_t)(nul - text.data) : text.n;
    struct gt_span key = nul ? gt_span(nul + 1, text.n - n - 1) : text;
    char why[GT_TRUST_WHY];
    int r = gt_signer_new(gt_span(text.data, n), key, &signer, why);

    must(r >= 0 && (r == 0) == (signer != NULL));
    gt_signer_free(signer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_reader r = gt_reader(data, n);
    bool is_pem = gt_read_u8(&r) == 'P';

    if (is_pem)
        fuzz_pem(gt_read_bytes(&r, r.left));
    else
        fuzz_proof(&r);
    return 0;
}
