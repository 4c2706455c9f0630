/* SPDX-License-Identifier: ISC */
/* The commands `enroll` and `--install`; see the header. */
#include "enrolment.h"

#include <stdio.h>

#include "doctor.h"
#include "gotthard/config/config-proxy.h"
#include "gotthard/enrolment/bundle-file.h"
#include "gotthard/enrolment/newcomer-command.h"
#include "gotthard/enrolment/service.h"
#include "hostkeys.h"
#include "settings.h"

#define PROGRAM "gotthard-agentd"

/* What an enrolment sets. */
static const char *const identity[] = {
    "device.name",   "server.host",    "server.port",     "crypt.key",
    "mqtt.endpoint", "mqtt.cert_path", "trust.authority",
};

struct enrolment {
    struct gt_place place;
    char name[GT_NAME_MAX + 1]; /* once it is installed */
};

/* Prints the reason of a failure. Returns the exit status. */
static int fail(int r, const char *why)
{
    gt_newcomer_print_error(PROGRAM, "%s", r < 0 ? strerror(-r) : why);
    return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_CONFIGURATION;
}

static int open_place(const struct gt_enrolment_options *options, struct gt_place *ret,
                      struct gt_config **ret_config, char *ret_why)
{
    int r = gt_place_find("agentd", ret, ret_why);

    return r ? r
             : gt_place_check(ret, settings_program(), identity, GT_ARRAY_SIZE(identity),
                              options->is_forced, ret_config, ret_why);
}

static bool install(struct enrolment *enrolment, const struct gt_bundle *bundle,
                    struct gt_span private_key, char *ret_why, size_t cap)
{
    char why[GT_PLACE_WHY] = "";
    int r = enrolment_install(&enrolment->place, bundle, private_key, why);

    if (r)
        snprintf(ret_why, cap, "%.390s", r < 0 ? strerror(-r) : why);
    else
        (void)gt_bundle_text(bundle, GT_BUNDLE_NAME, enrolment->name, sizeof(enrolment->name));
    return r == 0;
}

/* The device is enrolled. Returns the exit status. */
static int finish(const struct enrolment *enrolment, const struct gt_enrolment_options *options)
{
    const struct doctor_options doctor = {0};
    const struct gt_config_args args = {0};
    bool is_started;

    dprintf(STDOUT_FILENO, "This device is enrolled as %s. Its configuration: %s\n",
            enrolment->name, enrolment->place.configuration);
    int status = (int)gt_service_start(PROGRAM, options->is_not_started, &is_started);
    if (is_started) {
        dprintf(STDOUT_FILENO, "Each hop from here to the operators:\n");
        (void)doctor_run(&args, &doctor); /* the device is enrolled, whatever it finds */
    }
    return status;
}

/* --- a token ---------------------------------------------------------------------------------- */

static bool on_bundle(void *userdata, const struct gt_bundle *bundle, struct gt_span private_key,
                      char *ret_why)
{
    return install(userdata, bundle, private_key, ret_why, GT_ENROLMENT_TEXT_MAX);
}

/* Returns the exit status. */
static int exchange(struct enrolment *enrolment, const struct gt_token *token,
                    const struct settings *settings)
{
    struct gt_proxy proxy;
    struct hostkeys host_keys;
    bool has_proxy = gt_config_proxy(&settings->server_proxy, settings->server_proxy_password,
                                     token->relay_host, &proxy);

    hostkeys_read(settings->host_keys, &host_keys);
    const struct gt_newcomer_command command = {
        .program = PROGRAM,
        .token = token,
        .host_keys = host_keys.spans,
        .n_host_keys = host_keys.n,
        .proxy = has_proxy ? &proxy : NULL,
        .is_single_port = settings->is_single_port,
        .on_bundle = on_bundle,
        .userdata = enrolment,
    };
    int status = (int)gt_newcomer_run(&command);
    hostkeys_deinit(&host_keys);
    if (has_proxy)
        gt_wipe(&proxy, sizeof(proxy));
    return status;
}

int enrolment_run(const struct gt_enrolment_options *options)
{
    char why[GT_NEWCOMER_WHY] = "", why_place[GT_PLACE_WHY] = "";
    struct enrolment enrolment = {.name = ""};
    struct gt_config *config = NULL;
    struct gt_token token;

    int r = gt_newcomer_read_token(options->token, GT_TOKEN_DEVICE, &token, why);
    gt_newcomer_hide_token(options->token);
    if (r) {
        (void)fail(r, why);
        return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_USAGE;
    }
    r = open_place(options, &enrolment.place, &config, why_place);
    int status = r ? fail(r, why_place) : exchange(&enrolment, &token, gt_config_settings(config));
    gt_token_wipe(&token);
    gt_config_free(config);
    return status ? status : finish(&enrolment, options);
}

/* --- a bundle file ---------------------------------------------------------------------------- */

int enrolment_install_file(const struct gt_enrolment_options *options)
{
    char why[GT_PLACE_WHY] = "";
    struct enrolment enrolment = {.name = ""};
    struct gt_config *config = NULL;
    struct gt_bundlefile file = {0};

    int r = gt_bundlefile_read(options->bundle, GT_TOKEN_DEVICE, &file, why);
    if (r == 0)
        r = open_place(options, &enrolment.place, &config, why);
    if (r == 0 && !install(&enrolment, &file.bundle, file.bundle.entries[GT_BUNDLE_PRIVATE_KEY],
                           why, sizeof(why)))
        r = ENROLMENT_E_REFUSED;
    gt_bundlefile_deinit(&file);
    gt_config_free(config);
    if (r)
        return fail(r, why);
    dprintf(STDOUT_FILENO, "%s contains the private key of this device: remove it.\n",
            options->bundle);
    return finish(&enrolment, options);
}
