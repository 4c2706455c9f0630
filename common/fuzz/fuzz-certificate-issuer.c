/* SPDX-License-Identifier: ISC */
/* A certificate request of an unknown sender. A request that is accepted gets a certificate with
 * its key. */
#include "gotthard/crypto/certificate-issuer.h"

#define NOW 1800000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* Made at the first call. */
static const struct gt_issuer *the_issuer(void)
{
    static struct gt_issuer *issuer;
    char *key = NULL, *certificate = NULL, why[GT_ISSUER_WHY];

    if (issuer)
        return issuer;
    must(gt_issuer_create("authority", NOW, 10, &key, &certificate) == 0);
    must(gt_issuer_load(gt_span_text(certificate), gt_span_text(key), &issuer, why) == 0);
    free(key);
    free(certificate);
    return issuer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t of_request[GT_KEY_SIZE], of_certificate[GT_KEY_SIZE];
    char why[GT_ISSUER_WHY];
    struct gt_issued issued;
    struct gt_span request = gt_span(data, n);
    int r = gt_issuer_issue(the_issuer(), request, "a", NOW, NOW + 3600, &issued, why);

    must(r == 0 || r == GT_ISSUER_E_BAD);
    must((gt_certificate_request_check(request, of_request) == 0) == (r == 0));
    if (r == 0) {
        must(gt_certificate_fingerprint(gt_span_text(issued.pem), of_certificate, why) == 0);
        must(gt_is_equal(of_request, of_certificate, GT_KEY_SIZE));
        free(issued.pem);
    }
    return 0;
}
