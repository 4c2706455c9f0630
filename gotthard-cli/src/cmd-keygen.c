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

/* Derives the text of one line. Returns as gt_key_format_x(). */
typedef int (*derive_fn)(const struct gt_key *key, const char *name, char *ret_text);

static int derive_relay(const struct gt_key *key, const char *name, char *ret_text)
{
    return gt_key_format_relay(key, ret_text);
}

static int derive_operator(const struct gt_key *key, const char *name, char *ret_text)
{
    return gt_key_format_operator(key, name, true, ret_text);
}

static int derive_operator_of_some(const struct gt_key *key, const char *name, char *ret_text)
{
    return gt_key_format_operator(key, name, false, ret_text);
}

/* Prints a line: @before, and what @derive makes of @name. */
static int print_derived(struct context *context, const struct gt_key *key, derive_fn derive,
                         const char *before, const char *name, struct failure *ret_failure)
{
    char text[GT_KEY_TEXT_MAX];
    int r = derive(key, name, text);

    if (r == 0) {
        print_bytes(&context->print, before, strlen(before));
        print_bytes(&context->print, text, strlen(text));
        print_bytes(&context->print, "\n", 1);
    }
    gt_wipe(text, sizeof(text));
    return r == 0 ? 0
                  : failure_set(ret_failure, FAILURE_KEY, NULL, "%s",
                                r > 0 ? gt_key_strerror(r) : strerror(-r));
}

/* Prints the key of an operator of some devices as a variable and the lines of its devices: one
 * file for crypt.key_file and crypt.device_keys. */
static int print_operator_of_some(struct context *context, const struct gt_key *key,
                                  struct failure *ret_failure)
{
    int r = print_derived(context, key, derive_operator_of_some,
                          "GOTTHARD_CRYPT_KEY=", context->arguments[1], ret_failure);

    for (size_t i = 2; i < context->n_arguments && r == 0; i++)
        r = print_derived(context, key, gt_device_keys_format, "", context->arguments[i],
                          ret_failure);
    return r;
}

/* @derive: NULL prints the key of an operator of some devices. */
static int keygen_derived(struct context *context, derive_fn derive)
{
    struct gt_key key = {0};
    struct failure failure;
    int r = identity_load_fleet_key(context->settings, &context->print, &key, &failure);

    if (r == 0)
        r = derive
                ? print_derived(context, &key, derive, "",
                                context->n_arguments > 1 ? context->arguments[1] : NULL, &failure)
                : print_operator_of_some(context, &key, &failure);
    gt_key_wipe(&key);
    if (r != 0)
        return print_failure(&context->print, &failure);
    warn_of_mode(&context->print);
    return 0;
}

/* Checks the names of devices from @first on: a key of a device that is named twice would make the
 * file invalid. */
static bool check_devices(struct context *context, size_t first)
{
    for (size_t i = first; i < context->n_arguments; i++) {
        if (!command_check_device(context, context->arguments[i]))
            return false;
        for (size_t j = first; j < i; j++)
            if (strcmp(context->arguments[i], context->arguments[j]) == 0) {
                command_misused(context, "the device %s is named twice", context->arguments[i]);
                return false;
            }
    }
    return true;
}

static int keygen_operator(struct context *context)
{
    if (!gt_text_is_name(gt_span_text(context->arguments[1])))
        return command_misused(context, "invalid name of an operator: '%s'", context->arguments[1]);
    if (!check_devices(context, 2))
        return GT_EXIT_USAGE;
    return keygen_derived(context, context->n_arguments > 2 ? NULL : derive_operator);
}

int cmd_keygen(struct context *context)
{
    const char *kind = context->n_arguments > 0 ? context->arguments[0] : "";

    if (context->n_arguments == 0)
        return keygen_fleet(context);
    if (strcmp(kind, "relay") == 0 && context->n_arguments == 1)
        return keygen_derived(context, derive_relay);
    if (strcmp(kind, "device") == 0 && context->n_arguments == 2)
        return check_devices(context, 1) ? keygen_derived(context, gt_key_format_device)
                                         : GT_EXIT_USAGE;
    if (strcmp(kind, "operator") == 0 && context->n_arguments >= 2)
        return keygen_operator(context);
    return command_misused(context, "unknown arguments, must be none, 'device NAME', "
                                    "'operator NAME [DEVICE]...' or 'relay'");
}
