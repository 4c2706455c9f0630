/* SPDX-License-Identifier: ISC */
/*
 * `fingerprint`: the line that others need in their file of pins to know this side by its
 * certificate. Not a secret.
 */
#include "commands.h"
#include "identity.h"

int cmd_fingerprint(struct context *context)
{
    struct identity identity = {0};
    struct failure failure;
    int code = 0;
    int err = identity_load_signer(context->settings, &identity, &failure);
    if (err == 0 && !identity.signer)
        err = failure_set(&failure, FAILURE_CONFIG,
                          "set GOTTHARD_AWS_CERT_PATH to the folder of cert.pem and private.key",
                          "no certificate: mqtt.cert_path is not set, or has none");
    if (err == 0) {
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
