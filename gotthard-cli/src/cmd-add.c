/* SPDX-License-Identifier: ISC */
/*
 * `add`: writes one bundle file for a device that has no network when it is set up, or for the
 * first relay. It makes the private key of a device as well. Prefer `enroll`: there the private key
 * never leaves the device.
 */
#include <string.h>

#include "command-line.h"
#include "gotthard/crypto/certificate-key.h"
#include "new-file.h"
#include "provision.h"

static int fail_internal(int r, struct failure *ret_failure)
{
    return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
}

/* Signs the certificate of @key, and adds the key to the access list. */
static int admit(struct provision *provision, const struct gt_certificate_key *key,
                 uint8_t ret_fingerprint[static GT_KEY_SIZE], struct failure *ret_failure)
{
    uint8_t request[GT_CERTIFICATE_REQUEST_MAX];
    size_t n = 0;
    int r = gt_certificate_key_request(key, "newcomer", request, &n);

    if (r == 0)
        r = gt_certificate_key_fingerprint(key, ret_fingerprint);
    if (r != 0)
        return fail_internal(r, ret_failure);
    r = provision_sign(provision, gt_span(request, n), ret_fingerprint, ret_failure);
    return r == 0 ? provision_list(provision, ret_fingerprint, ret_failure) : r;
}

/* @private_key: PEM, or empty. */
static int write_bundle(const struct provision *provision, struct gt_span private_key,
                        const char *path, struct failure *ret_failure)
{
    uint8_t *bundle = NULL;
    size_t n = 0;
    int r = provision_bundle(provision, private_key, &bundle, &n, ret_failure);

    if (r != 0)
        return r;
    r = new_file_write(path, 0600, gt_span(bundle, n));
    gt_wipe(bundle, n);
    free(bundle);
    return r == 0 ? 0
                  : failure_set(ret_failure, FAILURE_CONFIG, "repeat the command with --replace",
                                "%s: %s", path, strerror(-r));
}

static void print_result(const struct provision *provision, const char *path)
{
    struct print *print = &provision->context->print;
    bool is_relay = provision->kind == GT_TOKEN_RELAY;

    print_done(print, "%s has all that the %s %s needs", path, gt_token_kind_text(provision->kind),
               provision->name);
    print_note(print,
               "%s contains the %skey of the %s, which is a secret: copy it, run %s --install FILE "
               "there as root, and remove it on both machines.",
               path, is_relay ? "" : "private ", gt_token_kind_text(provision->kind),
               is_relay ? "gotthard-relayd" : "gotthard-agentd");
}

static int add_device(struct provision *provision, const char *path, struct failure *ret_failure)
{
    struct gt_certificate_key *key = NULL;
    uint8_t fingerprint[GT_KEY_SIZE];
    char *pem = NULL;
    size_t n = 0;
    int r = gt_certificate_key_new(&key);

    if (r == 0)
        r = gt_certificate_key_format(key, &pem, &n);
    if (r != 0)
        r = fail_internal(r, ret_failure);
    if (r == 0)
        r = admit(provision, key, fingerprint, ret_failure);
    if (r == 0)
        r = write_bundle(provision, gt_span(pem, n), path, ret_failure);
    if (pem)
        gt_wipe(pem, n);
    free(pem);
    gt_certificate_key_free(key);
    if (r != 0)
        return r;
    print_result(provision, path);
    provision_print_next(provision, fingerprint);
    return 0;
}

static int add_relay(struct provision *provision, const char *path, struct failure *ret_failure)
{
    int r = write_bundle(provision, gt_span("", 0), path, ret_failure);

    if (r == 0)
        print_result(provision, path);
    return r;
}

static bool check_arguments(struct context *context, const char *path)
{
    const char *kind = context->arguments[0], *name = context->arguments[1];

    if (strcmp(kind, "device") != 0 && strcmp(kind, "relay") != 0)
        command_misused(context, "unknown word '%s', must be device or relay", kind);
    else if (!gt_text_is_device_name(gt_span_text(name)))
        command_misused(context, "invalid name: '%s'", name);
    else if (!path)
        command_misused(context, "missing --output FILE");
    else if (access(path, F_OK) == 0)
        command_misused(context, "--output: %s exists, and is never overwritten", path);
    else
        return true;
    return false;
}

int cmd_add(struct context *context)
{
    const char *path = context->line->given[OPTION_OUTPUT];
    bool is_replacing = context->line->given[OPTION_REPLACE] != NULL;
    struct provision provision;
    struct failure failure;

    if (!check_arguments(context, path))
        return GT_EXIT_USAGE;
    bool is_relay = strcmp(context->arguments[0], "relay") == 0;
    int r = provision_begin(context, is_relay ? GT_TOKEN_RELAY : GT_TOKEN_DEVICE,
                            context->arguments[1], "", is_replacing, &provision, &failure);
    if (r == 0)
        r = is_relay ? add_relay(&provision, path, &failure)
                     : add_device(&provision, path, &failure);
    provision_end(&provision);
    if (r == PROVISION_E_INTERRUPTED)
        return GT_EXIT_INTERRUPTED;
    return r == 0 ? 0 : print_failure(&context->print, &failure);
}
