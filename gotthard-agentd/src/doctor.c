/* SPDX-License-Identifier: ISC */
/* The order of the rows, and those of this machine; see the header. */
#include "doctor.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/base/clock.h"
#include "gotthard/config/config-mention.h"
#include "gotthard/config/config-sources.h"
#include "gotthard/doctor/fault-id.h"

#define PEM_MAX (1024 * 1024)
#define RENEWAL                                                                                    \
    "renew it where the authority is: make-certificate-example --renew %s; then copy %s/cert.pem " \
    "to %s"

/* --- output ----------------------------------------------------------------------------------- */

static void doctor_on_row(void *userdata, const struct gt_check_row *found)
{
    struct doctor *doctor = userdata;
    struct gt_check_style style = gt_check_style_of_stdout(doctor->options.is_plain_color);
    struct gt_check_row row = *found;
    char lines[GT_CHECK_LINES];

    gt_config_mention_all(doctor->setup ? doctor->setup->config : NULL, found->remedy, row.remedy,
                          sizeof(row.remedy));
    if (doctor->options.is_json)
        gt_check_format_json(&row, lines, sizeof(lines));
    else
        gt_check_format(&row, &style, lines, sizeof(lines));
    dprintf(STDOUT_FILENO, "%s", lines);
}

static void doctor_finish(const struct doctor *doctor)
{
    char text[128];

    if (!doctor->options.is_json)
        dprintf(STDOUT_FILENO, "%s", gt_checkup_format(&doctor->checkup, text, sizeof(text)));
}

/* --- keys and trust --------------------------------------------------------------------------- */

static void check_key(struct doctor *doctor)
{
    const struct setup *setup = doctor->setup;
    char remedy[GT_CHECK_REMEDY];

    snprintf(
        remedy, sizeof(remedy),
        "set {crypt.key} to the output of `gotthard-cli keygen device %s`, which runs where the "
        "fleet key is",
        setup->settings->device_name);
    if (setup->key.kind == GT_KEY_MASTER)
        gt_checkup_warn(&doctor->checkup, "key", remedy,
                        "crypt.key is the fleet key, which gives the device more rights than it "
                        "needs");
    else
        gt_checkup_ok(&doctor->checkup, "key", "the key of the device %s",
                      setup->settings->device_name);
}

static void check_trust(struct doctor *doctor)
{
    const struct setup *setup = doctor->setup;
    char remedy[GT_CHECK_REMEDY];

    snprintf(
        remedy, sizeof(remedy),
        "pin the operators' certificates in %s; `gotthard-cli fingerprint` prints an operator's "
        "line",
        setup->pins_path);
    if (setup->trust.policy == GT_POLICY_PSK)
        gt_checkup_warn(&doctor->checkup, "trust", remedy,
                        "trust.policy is psk: any holder of the key can open tunnels under any "
                        "name");
    else if (setup->trust.policy == GT_POLICY_LIST)
        gt_checkup_ok(&doctor->checkup, "trust", "the access list of %s",
                      setup->settings->trust_authority);
    else if (setup->trust.n_pins == 0)
        gt_checkup_warn(&doctor->checkup, "trust", remedy,
                        "%s is empty: no operator can open a tunnel", setup->pins_path);
    else
        gt_checkup_ok(&doctor->checkup, "trust", "%zu pins of operators in %s", setup->trust.n_pins,
                      setup->pins_path);
}

/* --- certificate and clock -------------------------------------------------------------------- */

struct gt_certificate_words doctor_certificate_words(const struct doctor *doctor)
{
    static char renewal[GT_CHECK_REMEDY];
    const struct settings *s = doctor->setup->settings;
    const char *name = doctor->certificate.name;

    snprintf(renewal, sizeof(renewal), RENEWAL, name, name, s->mqtt_cert_path);
    return (struct gt_certificate_words){
        .path = s->mqtt_cert_path,
        .owner = s->device_name,
        .owner_setting = "device.name",
        .renewal = renewal,
        .refused = {.id = GT_FAULT_CERTIFICATE, .exit = GT_EXIT_CONFIGURATION},
        .configuration = {.id = GT_FAULT_CONFIG, .exit = GT_EXIT_CONFIGURATION},
    };
}

static struct gt_span read_pem(const char *folder, const char *name, bool is_secret, char **ret)
{
    gt_cleanup(gt_free) char *path = NULL;
    const char *why;
    size_t n = 0;

    if (asprintf(&path, "%s/%s", folder, name) < 0 ||
        gt_config_read_file(path, PEM_MAX, is_secret, ret, &n, &why) != 0)
        return gt_span("", 0);
    return gt_span(*ret, n);
}

/* The files have been read and accepted by setup_new(). */
static void read_certificate(struct doctor *doctor)
{
    const char *folder = doctor->setup->settings->mqtt_cert_path;
    gt_cleanup(gt_free) char *authorities = NULL, *certificate = NULL, *key = NULL;
    char why[GT_CERTIFICATE_WHY];

    if (!folder || !doctor->setup->credentials->has_pair)
        return;
    struct gt_certificate_files files = {
        .authorities = read_pem(folder, "ca.crt", false, &authorities),
        .certificate = read_pem(folder, "cert.pem", false, &certificate),
        .key = read_pem(folder, "private.key", true, &key),
    };
    doctor->has_certificate = gt_certificate_facts_read(&files, &doctor->certificate, why) == 0;
    if (key)
        gt_wipe(key, files.key.n);
}

static void check_certificate(struct doctor *doctor)
{
    struct gt_certificate_words words;
    time_t now = time(NULL);

    read_certificate(doctor);
    words = doctor_certificate_words(doctor);
    struct gt_check_fault clock = {.id = GT_FAULT_CLOCK, .exit = GT_EXIT_CONFIGURATION};
    bool is_wrong = gt_clock_is_wrong(now);
    if (is_wrong)
        (void)gt_clock_add_row(now, NULL, &clock, &doctor->checkup);
    if (doctor->has_certificate)
        (void)gt_certificate_add_row(now, &doctor->certificate, &words, &doctor->checkup);
    else
        gt_checkup_ok(&doctor->checkup, "certificate", "none is configured (mqtt.cert_path)");
    if (!is_wrong)
        (void)gt_clock_add_row(now, doctor->has_certificate ? &doctor->certificate : NULL, &clock,
                               &doctor->checkup);
}

/* --- the list --------------------------------------------------------------------------------- */

static int load(struct doctor *doctor, const struct gt_config_args *args, struct setup **ret)
{
    char error[GT_CONFIG_ERROR_MAX] = "", sources[GT_CHECK_TEXT];
    struct gt_check_fault fault = {
        .id = GT_FAULT_CONFIG,
        .exit = GT_EXIT_CONFIGURATION,
        .remedy = "correct it, and check it: gotthard-agentd --check-config",
    };

    int r = setup_new(args, ret, error);
    if (r != 0) {
        gt_checkup_fail(&doctor->checkup, "configuration", &fault, "%s",
                        r < 0 ? strerror(-r) : error);
        return 1;
    }
    doctor->setup = *ret;
    gt_checkup_ok(&doctor->checkup, "configuration", "%s",
                  gt_config_sources((*ret)->config, sources, sizeof(sources)));
    return 0;
}

int doctor_run(const struct gt_config_args *args, const struct doctor_options *options)
{
    static void (*const parts[])(struct doctor * doctor) = {
        check_key,           check_trust,         check_certificate,     doctor_check_process,
        doctor_check_broker, doctor_check_relays, doctor_check_services,
    };
    struct doctor doctor = {
        .options = *options,
        .checkup = {.on_row = doctor_on_row, .userdata = &doctor},
        .loop = ev_default_loop(0),
    };
    struct setup *setup = NULL;

    doctor_find_process(&doctor);
    if (load(&doctor, args, &setup) == 0)
        for (size_t i = 0; i < GT_ARRAY_SIZE(parts); i++)
            parts[i](&doctor);
    doctor_finish(&doctor);
    setup_free(setup);
    return doctor.checkup.exit;
}
