/* SPDX-License-Identifier: ISC */
/*
 * `fingerprint`: prints the line by which the pin files of devices identify this operator's
 * certificate. It is not a secret.
 */
#include "commands.h"
#include "identity.h"

int cmd_fingerprint(struct context *context)
{
    struct identity identity = {0};
    struct failure failure;
    int code = 0;
    int r = identity_load_signer(context->settings, &identity, &failure);

    if (r == 0 && *identity.unsigned_why)
        r = failure_set(&failure, FAILURE_CONFIG, "use a certificate with a key of another kind",
                        "%s/cert.pem: %s", context->settings->mqtt_cert_path,
                        identity.unsigned_why);
    else if (r == 0 && !identity.signer)
        r = failure_set(&failure, FAILURE_CONFIG,
                        "set {+mqtt.cert_path}: the folder of cert.pem and private.key",
                        "no certificate: mqtt.cert_path is not set, or has no cert.pem");
    if (r == 0) {
        uint8_t fingerprint[GT_KEY_SIZE];
        char text[2 * GT_KEY_SIZE + 1];

        gt_signer_fingerprint(identity.signer, fingerprint);
        gt_text_hex(fingerprint, sizeof(fingerprint), text);
        print_data(&context->print, "%s %s\n", context->settings->client_name, text);
    } else {
        code = print_failure(&context->print, &failure);
    }
    identity_deinit(&identity);
    return code;
}
