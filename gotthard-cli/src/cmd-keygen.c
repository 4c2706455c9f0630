/* SPDX-License-Identifier: ISC */
/*
 * `keygen`: a new fleet key, or what is derived from the one configured, on standard output and
 * nowhere else. No secret passes through a format function or a buffer that is not wiped.
 */
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "identity.h"

#define N_IV 16

/* A secret in a file that others may read is no secret. */
static void warn_of_mode(struct print *print)
{
    struct stat out;
    if (fstat(STDOUT_FILENO, &out) != 0)
        return;
    if (S_ISREG(out.st_mode) && (out.st_mode & (S_IRWXG | S_IRWXO)))
        print_warning(print, "others may read that file: chmod 600 it (or set umask 077 before)");
    else if (isatty(STDOUT_FILENO))
        print_plain(print, "Keep it in a file that only its owner may read (mode 0600).");
}

static int keygen_fleet(struct context *context)
{
    static const char key_name[] = "GOTTHARD_CRYPT_KEY=", iv_name[] = "GOTTHARD_CRYPT_IV=";
    uint8_t key[GT_KEY_SIZE], iv[N_IV];
    char key_text[2 * sizeof(key) + 1], iv_text[2 * sizeof(iv) + 1];
    struct failure failure;
    if (gt_random(key, sizeof(key)) != 0 || gt_random(iv, sizeof(iv)) != 0) {
        failure_set(&failure, FAILURE_INTERNAL, NULL, "no random numbers");
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

/* A gk1 string, of @device or (NULL) of the relay. */
static int keygen_derived(struct context *context, const char *device)
{
    struct identity identity = {0};
    struct failure failure;
    char text[GT_KEY_TEXT_MAX];
    int code = 0;
    int err = identity_load_key(context->settings, &context->print, &identity, &failure);
    if (err == 0) {
        err = device ? gt_key_format_device(&identity.key, device, text)
                     : gt_key_format_relay(&identity.key, text);
        if (err != 0)
            failure_set(&failure, FAILURE_KEY, NULL, "%s",
                        err > 0 ? gt_key_strerror(err) : strerror(-err));
    }
    if (err == 0) {
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
    const char *what = context->n_words > 0 ? context->words[0] : "";
    bool has_name = context->n_words > 1;
    if (!*what && context->n_words == 0)
        return keygen_fleet(context);
    if (strcmp(what, "relay") == 0 && !has_name)
        return keygen_derived(context, NULL);
    if (strcmp(what, "device") == 0 && has_name)
        return command_takes_device(context, context->words[1])
                   ? keygen_derived(context, context->words[1])
                   : EXIT_USAGE;
    return command_misused(context, "keygen: nothing more, \"device NAME\" or \"relay\"");
}
