/* SPDX-License-Identifier: ISC */
/* The commands `enroll` and `--install`; see the header. */
#include "enrolment.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "gotthard/base/format.h"
#include "gotthard/base/log.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/config/protected-file.h"
#include "gotthard/enrolment/newcomer.h"
#include "hostkeys.h"
#include "setup.h"

struct enrolment {
    const struct enrolment_options *options;
    struct enrolment_place place;
    struct ev_loop *loop;
    struct gt_token token;
    struct gt_certificate_key *key; /* owned */
    struct gt_newcomer *newcomer;   /* owned */
    bool has_waited;
    char name[GT_NAME_MAX + 1]; /* once it is installed */
    char last_why[200];         /* of on_retry, printed once */
    int status;
};

void enrolment_print_error(const char *fmt, ...)
{
    char text[GT_CONFIG_ERROR_MAX + 256], line[sizeof(text) + 64];
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(text, sizeof(text), fmt, arguments);
    va_end(arguments);
    gt_format(GT_FORMAT_TEXT, line, sizeof(line), "gotthard-agentd: %s\n", text);
    dprintf(STDERR_FILENO, "%s", line);
}

/* Prints the reason of a failure. Returns the exit status. */
static int fail(int r, const char *why)
{
    enrolment_print_error("%s", r < 0 ? strerror(-r) : why);
    return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_CONFIGURATION;
}

static void print_installed(const struct enrolment_place *place, const char *name)
{
    dprintf(STDOUT_FILENO, "This device is enrolled as %s. Its configuration: %s\n", name,
            place->configuration);
}

/* --- the token -------------------------------------------------------------------------------- */

/* Reads at most @cap - 1 bytes to the end. Returns false on failure or if there are more. */
static bool read_to_end(int fd, char *ret, size_t cap, size_t *ret_n)
{
    size_t n = 0;
    ssize_t r;

    while ((r = read(fd, ret + n, cap - n)) != 0) {
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 || n + (size_t)r == cap)
            return false;
        n += (size_t)r;
        if (isatty(fd) && ret[n - 1] == '\n')
            break;
    }
    *ret_n = n;
    return true;
}

static int read_token_of(int fd, const char *name, char *ret, size_t cap, char *ret_why)
{
    size_t n = 0;

    if (!read_to_end(fd, ret, cap, &n)) {
        snprintf(ret_why, ENROLMENT_WHY, "%.300s: not a token", name);
        return ENROLMENT_E_REFUSED;
    }
    while (n > 0 && strchr(" \t\r\n", ret[n - 1]))
        n--;
    ret[n] = 0;
    memmove(ret, ret + strspn(ret, " \t\r\n"), n + 1 - GT_MIN(strspn(ret, " \t\r\n"), n));
    return 0;
}

/* @word: see struct enrolment_options. A file, or standard input, keeps the token out of the list
 * of processes. */
static int read_token_text(const char *word, char *ret, size_t cap, char *ret_why)
{
    if (word && strncmp(word, GT_TOKEN_PREFIX, strlen(GT_TOKEN_PREFIX)) == 0) {
        snprintf(ret, cap, "%s", word);
        return 0;
    }
    if (!word || strcmp(word, "-") == 0) {
        if (isatty(STDIN_FILENO))
            dprintf(STDOUT_FILENO, "Token (gk1t...): ");
        return read_token_of(STDIN_FILENO, "standard input", ret, cap, ret_why);
    }
    gt_cleanup(gt_close) int fd = open(word, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        snprintf(ret_why, ENROLMENT_WHY, "%.300s: %s. A token begins with " GT_TOKEN_PREFIX, word,
                 strerror(errno));
        return ENROLMENT_E_REFUSED;
    }
    return read_token_of(fd, word, ret, cap, ret_why);
}

static int read_token(struct enrolment *enrolment, char *ret_why)
{
    char text[GT_TOKEN_TEXT_MAX + 64] = "", why[GT_TOKEN_WHY];
    int r = read_token_text(enrolment->options->token, text, sizeof(text), ret_why);

    if (r == 0 && gt_token_parse(text, &enrolment->token, why) != 0) {
        snprintf(ret_why, ENROLMENT_WHY, "%s", why);
        r = ENROLMENT_E_REFUSED;
    }
    gt_wipe(text, sizeof(text));
    if (r == 0 && enrolment->token.kind != GT_TOKEN_DEVICE) {
        snprintf(ret_why, ENROLMENT_WHY,
                 "this token is for a new %s, not for a device: make one with `gotthard-cli enroll "
                 "NAME`",
                 gt_token_kind_text(enrolment->token.kind));
        r = ENROLMENT_E_REFUSED;
    }
    return r;
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_retry(void *userdata, const char *why)
{
    struct enrolment *enrolment = userdata;

    if (strncmp(why, enrolment->last_why, sizeof(enrolment->last_why) - 1) == 0)
        return;
    snprintf(enrolment->last_why, sizeof(enrolment->last_why), "%s", why);
    enrolment_print_error("the relay %s:%u cannot be reached: %s; trying again",
                          enrolment->token.relay_host, enrolment->token.relay_port, why);
}

static void on_waiting(void *userdata)
{
    struct enrolment *enrolment = userdata;

    if (!enrolment->has_waited)
        dprintf(STDOUT_FILENO, "Waiting at %s:%u for the operator's command.\n",
                enrolment->token.relay_host, enrolment->token.relay_port);
    enrolment->has_waited = true;
}

static void on_requested(void *userdata)
{
    dprintf(STDOUT_FILENO, "The operator's command has the request; waiting for its answer.\n");
}

static bool on_bundle(void *userdata, const struct gt_bundle *bundle, char *ret_why)
{
    struct enrolment *enrolment = userdata;
    char why[ENROLMENT_WHY] = "";
    char *pem = NULL;
    size_t n = 0;

    int r = gt_certificate_key_format(enrolment->key, &pem, &n);
    if (r == 0)
        r = enrolment_install(&enrolment->place, bundle, gt_span(pem, n), why);
    if (pem)
        gt_wipe(pem, n);
    free(pem);
    if (r)
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "%.390s", r < 0 ? strerror(-r) : why);
    else
        (void)gt_bundle_text(bundle, GT_BUNDLE_NAME, enrolment->name, sizeof(enrolment->name));
    return r == 0;
}

static void on_end(void *userdata, enum gt_newcomer_end end, const char *why)
{
    struct enrolment *enrolment = userdata;

    enrolment->status = gt_newcomer_exit_status(end);
    if (end != GT_NEWCOMER_INSTALLED)
        enrolment_print_error("%s%s%s", gt_newcomer_end_text(end), *why ? ": " : "", why);
    ev_break(enrolment->loop, EVBREAK_ALL);
}

/* --- the exchange ----------------------------------------------------------------------------- */

static int print_fingerprint(const struct enrolment *enrolment)
{
    char text[GT_ENROLMENT_FINGERPRINT_TEXT];
    uint8_t fingerprint[GT_KEY_SIZE];

    int r = gt_certificate_key_fingerprint(enrolment->key, fingerprint);
    if (r)
        return r;
    gt_enrolment_format_fingerprint(fingerprint, text);
    dprintf(STDOUT_FILENO,
            "Fingerprint of this device's key, which the operator has to see as well:\n  %s\n",
            text);
    return 0;
}

static int start(struct enrolment *enrolment, const struct settings *settings,
                 const struct hostkeys *host_keys, const struct gt_proxy *proxy)
{
    static const struct gt_newcomer_events events = {
        .on_retry = on_retry,
        .on_waiting = on_waiting,
        .on_requested = on_requested,
        .on_bundle = on_bundle,
        .on_end = on_end,
    };
    const struct gt_newcomer_settings newcomer = {
        .token = &enrolment->token,
        .key = enrolment->key,
        .host_keys = host_keys->spans,
        .n_host_keys = host_keys->n,
        .proxy = proxy->kind == GT_PROXY_NONE ? NULL : proxy,
        .is_single_port = settings->is_single_port,
        .deadline_ms = gt_newcomer_time_left(&enrolment->token, time(NULL)),
    };

    int r = gt_newcomer_new(enrolment->loop, &newcomer, &events, enrolment, &enrolment->newcomer);
    if (r > 0)
        enrolment_print_error("the token is damaged");
    enrolment->status = GT_EXIT_CONFIGURATION;
    return r;
}

/* Returns the exit status. */
static int exchange(struct enrolment *enrolment, const struct settings *settings)
{
    struct gt_proxy proxy = {.kind = GT_PROXY_NONE};
    struct hostkeys host_keys;

    (void)gt_config_proxy(&settings->server_proxy, settings->server_proxy_password,
                          enrolment->token.relay_host, &proxy);
    hostkeys_read(settings->host_keys, &host_keys);
    int r = gt_certificate_key_new(&enrolment->key);
    if (r == 0)
        r = print_fingerprint(enrolment);
    if (r == 0)
        r = start(enrolment, settings, &host_keys, &proxy);
    if (r == 0)
        ev_run(enrolment->loop, 0);
    gt_newcomer_free(enrolment->newcomer);
    gt_certificate_key_free(enrolment->key);
    hostkeys_deinit(&host_keys);
    gt_wipe(&proxy, sizeof(proxy));
    if (r < 0)
        enrolment_print_error("%s", strerror(-r));
    return r < 0 ? GT_EXIT_INTERNAL : enrolment->status;
}

static int finish(const struct enrolment *enrolment, int status)
{
    if (status != GT_EXIT_SUCCESS)
        return status;
    print_installed(&enrolment->place, enrolment->name);
    return enrolment_start_service(enrolment->options);
}

int enrolment_run(const struct enrolment_options *options)
{
    struct enrolment enrolment = {.options = options};
    struct gt_config *config = NULL;
    char why[ENROLMENT_WHY] = "";

    signal(SIGPIPE, SIG_IGN);
    int r = read_token(&enrolment, why);
    if (r > 0) {
        enrolment_print_error("%s", why);
        return GT_EXIT_USAGE;
    }
    if (r == 0)
        r = enrolment_find_place(&enrolment.place, why);
    if (r == 0)
        r = enrolment_check_place(&enrolment.place, options->is_forced, &config, why);
    if (r == 0 && !(enrolment.loop = ev_default_loop(EVFLAG_AUTO)))
        r = -ENOMEM;
    int status = r ? fail(r, why) : exchange(&enrolment, gt_config_settings(config));
    gt_token_wipe(&enrolment.token);
    gt_config_free(config);
    return finish(&enrolment, status);
}

/* --- a bundle file ---------------------------------------------------------------------------- */

static int read_bundle(const char *path, uint8_t **ret, size_t *ret_n, char *ret_why)
{
    char why[GT_PROTECTEDFILE_WHY] = "";
    gt_cleanup(gt_close) int fd = -1;
    struct stat st;

    if (gt_protectedfile_open(path, true, &fd, &st, why) != 0) {
        snprintf(ret_why, ENROLMENT_WHY, "%.200s: %s", path, why);
        return ENROLMENT_E_REFUSED;
    }
    uint8_t *bytes = malloc(GT_BUNDLE_MAX + 1);
    if (!bytes)
        return -ENOMEM;
    if (!read_to_end(fd, (char *)bytes, GT_BUNDLE_MAX + 1, ret_n)) {
        free(bytes);
        snprintf(ret_why, ENROLMENT_WHY, "%.200s: not a bundle", path);
        return ENROLMENT_E_REFUSED;
    }
    *ret = bytes;
    return 0;
}

static int check_bundle(const char *path, struct gt_span bytes, struct gt_bundle *ret,
                        char *ret_why)
{
    char why[GT_BUNDLE_WHY] = "";
    int r = gt_bundle_decode(bytes, ret, why);

    if (r == 0 && ret->kind != GT_TOKEN_DEVICE) {
        snprintf(why, sizeof(why), "a bundle for a new %s, not for a device",
                 gt_token_kind_text(ret->kind));
        r = GT_BUNDLE_E_BAD;
    }
    if (r == 0)
        r = gt_bundle_check(ret, true, why);
    if (r)
        snprintf(ret_why, ENROLMENT_WHY, "%.200s: %s", path, why);
    return r ? ENROLMENT_E_REFUSED : 0;
}

static int install_bundle(const struct enrolment_options *options, struct enrolment_place *place,
                          char *ret_name, char *ret_why)
{
    struct gt_config *config = NULL;
    struct gt_bundle bundle;
    uint8_t *bytes = NULL;
    size_t n = 0;

    int r = read_bundle(options->bundle, &bytes, &n, ret_why);
    if (r)
        return r;
    r = check_bundle(options->bundle, gt_span(bytes, n), &bundle, ret_why);
    if (r == 0)
        r = enrolment_find_place(place, ret_why);
    if (r == 0)
        r = enrolment_check_place(place, options->is_forced, &config, ret_why);
    if (r == 0)
        r = enrolment_install(place, &bundle, bundle.entries[GT_BUNDLE_PRIVATE_KEY], ret_why);
    if (r == 0)
        (void)gt_bundle_text(&bundle, GT_BUNDLE_NAME, ret_name, GT_NAME_MAX + 1);
    gt_config_free(config);
    gt_wipe(bytes, n);
    free(bytes);
    return r;
}

int enrolment_install_file(const struct enrolment_options *options)
{
    char why[ENROLMENT_WHY] = "", name[GT_NAME_MAX + 1] = "";
    struct enrolment_place place;
    int r = install_bundle(options, &place, name, why);

    if (r)
        return fail(r, why);
    print_installed(&place, name);
    dprintf(STDOUT_FILENO, "%s contains the private key of this device: remove it.\n",
            options->bundle);
    return enrolment_start_service(options);
}
