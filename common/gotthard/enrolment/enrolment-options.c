/* SPDX-License-Identifier: ISC */
/* One command line for the daemons; see the header. */
#include "gotthard/enrolment/enrolment-options.h"

int gt_enrolment_options_word(struct gt_enrolment_options *options, const char *word)
{
    if (!options->is_enrol && strcmp(word, "enroll") == 0) {
        options->is_enrol = true;
        return 0;
    }
    if (!options->is_enrol || options->token)
        return 1;
    options->token = word;
    return 0;
}

int gt_enrolment_options_option(struct gt_enrolment_options *options, const char *option,
                                const char *value, bool *ret_takes_value)
{
    if (strcmp(option, "--force") == 0) {
        options->is_forced = true;
    } else if (strcmp(option, "--no-start") == 0) {
        options->is_not_started = true;
    } else if (strcmp(option, "--install") == 0) {
        *ret_takes_value = true;
        options->bundle = value;
    } else {
        return 1;
    }
    return 0;
}

bool gt_enrolment_options_is_used(const struct gt_enrolment_options *options)
{
    return options->is_enrol || options->bundle;
}

const char *gt_enrolment_options_check(const struct gt_enrolment_options *options,
                                       const struct gt_config_args *args, bool has_command)
{
    if (!gt_enrolment_options_is_used(options))
        return options->is_forced || options->is_not_started
                   ? "--force and --no-start need enroll or --install"
                   : NULL;
    if (has_command || (options->is_enrol && options->bundle))
        return "enroll and --install exclude each other, and other commands";
    if (args->file || args->n_sets)
        return "enroll and --install take no settings: they write the configuration";
    return NULL;
}
