/* SPDX-License-Identifier: ISC */
/*
 * `keygen`: prints a new fleet key, or a key derived from the configured one, to standard output
 * only. A secret must not pass through a format function, nor through a buffer that is not wiped.
 */
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "identity.h"

#define N_IV 16

/* Warns if standard output is a file that others can read. */
static void warn_of_mode(struct print *print)
{
    struct stat out;

    if (fstat(STDOUT_FILENO, &out) != 0)
        return;
    if (S_ISREG(out.st_mode) && (out.st_mode & (S_IRWXG | S_IRWXO)))
        print_warning(
            print, "the output file can be read by others; run chmod 600 on it, or set umask 077");
    else if (isatty(STDOUT_FILENO))
        print_plain(print, "Store it in a file with mode 0600.");
}

static int keygen_fleet(struct context *context)
{
    static const char key_name[] = "GOTTHARD_CRYPT_KEY=", iv_name[] = "GOTTHARD_CRYPT_IV=";
    uint8_t key[GT_KEY_SIZE], iv[N_IV];
    char key_text[2 * sizeof(key) + 1], iv_text[2 * sizeof(iv) + 1];
    struct failure failure;

    if (gt_random(key, sizeof(key)) != 0 || gt_random(iv, sizeof(iv)) != 0) {
        failure_set(&failure, FAILURE_INTERNAL, NULL, "no random numbers available");
        return print_failure(&context->print, &failure);
    }
    gt_text_hex(key, sizeof(key), key_text);
    gt_text_hex(iv, sizeof(iv), iv_text);
    print_bytes(&context->print, key_name, sizeof(key_name) - 1);
    print_bytes(&context->print, key_text, sizeof(key_text) - 1);
    print_data(&context->print, "\n%s%s\n", iv_name, iv_text);
    gt_wipe(key, sizeof(key));
    gt_wipe(key_text, sizeof(key_text));
    warn_of_mode(&context->print);
    return 0;
}

/* Prints the gk1 string of @device, or of the relay if it is NULL. */
static int keygen_derived(struct context *context, const char *device)
{
    struct identity identity = {0};
    struct failure failure;
    char text[GT_KEY_TEXT_MAX];
    int code = 0;
    int r = identity_load_key(context->settings, &context->print, &identity, &failure);

    if (r == 0) {
        r = device ? gt_key_format_device(&identity.key, device, text)
                   : gt_key_format_relay(&identity.key, text);
        if (r != 0)
            failure_set(&failure, FAILURE_KEY, NULL, "%s",
                        r > 0 ? gt_key_strerror(r) : strerror(-r));
    }
    if (r == 0) {
        print_bytes(&context->print, text, strlen(text));
        print_bytes(&context->print, "\n", 1);
        warn_of_mode(&context->print);
    } else {
        code = print_failure(&context->print, &failure);
    }
    gt_wipe(text, sizeof(text));
    identity_deinit(&identity);
    return code;
}

int cmd_keygen(struct context *context)
{
    const char *kind = context->n_arguments > 0 ? context->arguments[0] : "";
    bool has_name = context->n_arguments > 1;

    if (!*kind && context->n_arguments == 0)
        return keygen_fleet(context);
    if (strcmp(kind, "relay") == 0 && !has_name)
        return keygen_derived(context, NULL);
    if (strcmp(kind, "device") == 0 && has_name)
        return command_check_device(context, context->arguments[1])
                   ? keygen_derived(context, context->arguments[1])
                   : GT_EXIT_USAGE;
    return command_misused(context, "unknown arguments, must be none, 'device NAME' or 'relay'");
}
