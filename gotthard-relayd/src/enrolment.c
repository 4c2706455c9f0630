/* SPDX-License-Identifier: ISC */
/* The commands `enroll` and `--install` of the relay, and its files; see the header. */
#include "enrolment.h"

#include <stdarg.h>
#include <stdio.h>

#include "gotthard/config/protected-file.h"
#include "gotthard/enrolment/bundle-file.h"
#include "gotthard/enrolment/newcomer-command.h"
#include "gotthard/enrolment/place.h"
#include "gotthard/enrolment/service.h"
#include "gotthard/state/install.h"
#include "gotthard/trust/access-signature.h"
#include "settings.h"

#define PROGRAM  "gotthard-relayd"
#define TEXT_MAX 8192

enum { REFUSED = GT_PLACE_E_REFUSED }; /* a reason was written */

/* What an enrolment sets. */
static const char *const identity[] = {"crypt.key", "trust.authority"};

/* Prints the reason of a failure. Returns the exit status. */
static int fail(int r, const char *why)
{
    gt_newcomer_print_error(PROGRAM, "%s", r < 0 ? strerror(-r) : why);
    return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_CONFIGURATION;
}

static int open_place(const struct gt_enrolment_options *options, struct gt_place *ret,
                      struct gt_config **ret_config, char *ret_why)
{
    int r = gt_place_find("relayd", ret, ret_why);

    return r ? r
             : gt_place_check(ret, settings_program(), identity, GT_ARRAY_SIZE(identity),
                              options->is_forced, ret_config, ret_why);
}

/* --- files ------------------------------------------------------------------------------------ */

static int add_configuration(struct gt_install *install, const struct gt_place *place,
                             const struct gt_bundle *bundle, char *ret_why)
{
    char text[TEXT_MAX], authority[GT_AUTHORITY_TEXT_MAX];
    int n = snprintf(text, sizeof(text),
                     "# Written by the enrolment of this relay. Settings of your own belong into "
                     "another file of this folder.\n"
                     "crypt = { key_file = \"%s/relay.key\"; };\n",
                     install->folder);

    if (n > 0 && gt_bundle_text(bundle, GT_BUNDLE_AUTHORITY, authority, sizeof(authority)))
        n += snprintf(text + n, sizeof(text) - (size_t)n, "trust = { authority = \"%s\"; };\n",
                      authority);
    if (n < 0)
        return -EIO;
    return gt_install_add_configuration(install, place->configuration, gt_span(text, (size_t)n),
                                        ret_why);
}

/* The fleet's settings of an earlier enrolment must not stay. */
static int add_fleet(struct gt_install *install, const struct gt_place *place,
                     const struct gt_bundle *bundle, char *ret_why)
{
    static const char none[] = "# The operator gave no further settings.\n";
    struct gt_span fleet = bundle->entries[GT_BUNDLE_CONFIGURATION];

    if (!fleet.n && gt_protectedfile_is_absent(place->fleet))
        return 0;
    return gt_install_add_configuration(install, place->fleet, fleet.n ? fleet : gt_span_text(none),
                                        ret_why);
}

/* Loads the new configuration as the relay will. */
static int check_result(char *ret_why)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct admission admission = {0};
    struct gt_config *config = NULL;

    int r = settings_load(NULL, &config, &admission, error);
    if (r > 0)
        snprintf(ret_why, GT_PLACE_WHY, "%s", error);
    gt_config_free(config);
    admission_deinit(&admission);
    return r > 0 ? REFUSED : r;
}

static int install_files(struct gt_install *install, const struct gt_place *place,
                         const struct gt_bundle *bundle, char *ret_why)
{
    int r = gt_install_add(install, "relay.key", bundle->entries[GT_BUNDLE_KEY], ret_why);

    if (r == 0)
        r = add_fleet(install, place, bundle, ret_why);
    if (r == 0)
        r = add_configuration(install, place, bundle, ret_why);
    if (r == 0)
        r = gt_install_commit(install, ret_why);
    return r ? r : check_result(ret_why);
}

static int install_bundle(const struct gt_place *place, const struct gt_bundle *bundle,
                          char *ret_why)
{
    struct gt_install install;
    int r = gt_install_init(&install, place->folder, place->group, ret_why);

    if (r)
        return r;
    r = install_files(&install, place, bundle, ret_why);
    if (r)
        gt_install_deinit(&install);
    else
        gt_install_finish(&install);
    return r;
}

static int finish(const struct gt_place *place, const struct gt_enrolment_options *options)
{
    bool is_started;

    dprintf(STDOUT_FILENO, "This relay is enrolled. Its configuration: %s\n", place->configuration);
    return (int)gt_service_start(PROGRAM, options->is_not_started, &is_started);
}

/* --- a token ---------------------------------------------------------------------------------- */

/* A relay has no certificate, so the private key is of no use any more. */
static bool on_bundle(void *userdata, const struct gt_bundle *bundle, struct gt_span private_key,
                      char *ret_why)
{
    char why[GT_PLACE_WHY] = "";
    int r = install_bundle(userdata, bundle, why);

    if (r)
        snprintf(ret_why, GT_ENROLMENT_TEXT_MAX, "%.390s", r < 0 ? strerror(-r) : why);
    return r == 0;
}

int enrolment_run(const struct gt_enrolment_options *options)
{
    char why[GT_NEWCOMER_WHY] = "", why_place[GT_PLACE_WHY] = "";
    struct gt_config *config = NULL;
    struct gt_place place;
    struct gt_token token;

    int r = gt_newcomer_read_token(options->token, GT_TOKEN_RELAY, &token, why);
    gt_newcomer_hide_token(options->token);
    if (r) {
        (void)fail(r, why);
        return r < 0 ? GT_EXIT_INTERNAL : GT_EXIT_USAGE;
    }
    r = open_place(options, &place, &config, why_place);
    const struct gt_newcomer_command command = {
        .program = PROGRAM, .token = &token, .on_bundle = on_bundle, .userdata = &place};
    int status = r ? fail(r, why_place) : (int)gt_newcomer_run(&command);
    gt_token_wipe(&token);
    gt_config_free(config);
    return status ? status : finish(&place, options);
}

/* --- a bundle file ---------------------------------------------------------------------------- */

int enrolment_install_file(const struct gt_enrolment_options *options)
{
    char why[GT_PLACE_WHY] = "";
    struct gt_config *config = NULL;
    struct gt_bundlefile file = {0};
    struct gt_place place;

    int r = gt_bundlefile_read(options->bundle, GT_TOKEN_RELAY, &file, why);
    if (r == 0)
        r = open_place(options, &place, &config, why);
    if (r == 0)
        r = install_bundle(&place, &file.bundle, why);
    gt_bundlefile_deinit(&file);
    gt_config_free(config);
    if (r)
        return fail(r, why);
    dprintf(STDOUT_FILENO, "%s contains the key of the relay: remove it.\n", options->bundle);
    return finish(&place, options);
}
