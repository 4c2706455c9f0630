/* SPDX-License-Identifier: ISC */
/*
 * The rows of this machine: its configuration, keys, certificate and clock. Faults of the
 * configuration's text have been reported before (cmd_doctor_misconfigured).
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "doctor.h"
#include "gotthard/base/clock.h"
#include "gotthard/config/config-sources.h"
#include "mqtt-connect.h"

#define OPERATOR_PREFIX "operator " /* as make-certificate-example issues it */
#define RENEWAL                                                                                    \
    "renew it where the authority is: make-certificate-example --renew %s; then copy %s/cert.pem " \
    "to %s"

static void check_configuration(struct doctor *doctor)
{
    struct context *context = doctor->context;
    const struct settings *settings = context->settings;
    struct failure failure;
    char sources[GT_CHECK_TEXT];

    if (!settings->mqtt_endpoint) {
        failure_set(&failure, FAILURE_CONFIG, "set {+mqtt.endpoint} to the host of the broker",
                    "no broker: mqtt.endpoint is not set");
        doctor_fail(doctor, "configuration", &failure);
        return;
    }
    gt_checkup_ok(&doctor->checkup, "configuration", "%s",
                  gt_config_sources(context->config, sources, sizeof(sources)));
}

static void report_key(struct doctor *doctor)
{
    const struct identity *identity = &doctor->identity;
    const char *previous = identity->has_previous ? ", and the one before a rotation" : "";
    const char *name = doctor->context->settings->client_name;
    char remedy[GT_CHECK_REMEDY];

    if (identity->key.kind == GT_KEY_MASTER) {
        snprintf(remedy, sizeof(remedy),
                 "set {crypt.key} to the output of `gotthard-cli keygen operator %s`, which runs "
                 "where the fleet key is",
                 name);
        gt_checkup_warn(&doctor->checkup, "key", remedy, IDENTITY_FLEET_KEY "%s", previous);
    } else if (identity->key.has_devices) {
        gt_checkup_ok(&doctor->checkup, "key", "the key of the operator %s%s", name, previous);
    } else {
        gt_checkup_ok(&doctor->checkup, "key", "the key of the operator %s for %zu devices%s", name,
                      identity->devices.n, previous);
    }
}

static void check_key(struct doctor *doctor)
{
    struct failure failure;

    if (identity_load_key(doctor->context->settings, &doctor->silence, &doctor->identity,
                          &failure) != 0) {
        doctor_fail(doctor, "key", &failure);
        return;
    }
    if (doctor->device && identity_check_device(&doctor->identity, doctor->device, &failure) != 0) {
        doctor_fail(doctor, "key", &failure);
        return;
    }
    doctor->has_key = true;
    if (doctor->identity.key.is_passphrase)
        gt_checkup_warn(&doctor->checkup, "key",
                        "use a random key, on all sides: gotthard-cli keygen",
                        "crypt.key is a passphrase, only as strong as it is hard to guess");
    else
        report_key(doctor);
}

static void check_trust(struct doctor *doctor)
{
    const struct identity *identity = &doctor->identity;
    char remedy[GT_CHECK_REMEDY];
    struct failure failure;

    if (identity_load_trust(doctor->context->config, &doctor->identity, &failure) != 0) {
        doctor_fail(doctor, "trust", &failure);
        return;
    }
    if (identity->trust.policy == GT_POLICY_LIST) {
        gt_checkup_ok(&doctor->checkup, "trust", "the access list (%zu entries here)",
                      gt_trust_count(&identity->trust));
        return;
    }
    if (!identity->has_no_pins) {
        gt_checkup_ok(&doctor->checkup, "trust",
                      identity->trust.policy == GT_POLICY_PIN ? "%zu pins of devices in %s"
                                                              : "the fleet key alone (%zu pins)",
                      identity->trust.n_pins, identity->pins_path);
        return;
    }
    snprintf(remedy, sizeof(remedy), "pin the devices in %s, or set {trust.policy} to psk",
             identity->pins_path);
    gt_checkup_warn(&doctor->checkup, "trust", remedy,
                    "any holder of the fleet key can impersonate a device: %s does not exist",
                    identity->pins_path);
}

struct gt_certificate_words doctor_certificate_words(const struct doctor *doctor,
                                                     struct failure failures[static 2])
{
    static char renewal[GT_CHECK_REMEDY];
    const struct settings *settings = doctor->context->settings;
    const char *name = doctor->certificate.name;
    size_t n_prefix = strlen(OPERATOR_PREFIX);

    if (strncmp(name, OPERATOR_PREFIX, n_prefix) == 0)
        name += n_prefix;
    snprintf(renewal, sizeof(renewal), RENEWAL, name, name, settings->mqtt_cert_path);
    return (struct gt_certificate_words){
        .path = settings->mqtt_cert_path,
        .owner = settings->client_name,
        .owner_setting = "client.name",
        .prefix = OPERATOR_PREFIX,
        .renewal = renewal,
        .refused = doctor_fault(FAILURE_CERTIFICATE, &failures[0]),
        .configuration = doctor_fault(FAILURE_CONFIG, &failures[1]),
    };
}

/* Reads the pair and the authorities. Returns 0, or 1 with @ret_failure. */
static int read_certificate(struct doctor *doctor, struct failure *ret_failure)
{
    const struct settings *settings = doctor->context->settings;
    struct identity *identity = &doctor->identity;
    struct identity_file authorities = {0};
    char why[GT_CERTIFICATE_WHY];

    if (identity_load_signer(settings, identity, ret_failure) != 0)
        return 1;
    if (!identity->certificate.text)
        return 0;
    if (mqtt_connect_authorities(settings, &authorities, ret_failure) != 0)
        return 1;
    struct gt_certificate_files files = {
        .authorities = gt_span(authorities.text, authorities.n),
        .certificate = gt_span(identity->certificate.text, identity->certificate.n),
        .key = gt_span(identity->private_key.text, identity->private_key.n),
    };
    int r = gt_certificate_facts_read(&files, &doctor->certificate, why);
    free(authorities.text);
    if (r != 0)
        return failure_set(ret_failure, r < 0 ? FAILURE_INTERNAL : FAILURE_CONFIG, NULL, "%s: %s",
                           settings->mqtt_cert_path, r < 0 ? strerror(-r) : why);
    doctor->has_certificate = true;
    return 0;
}

static void check_certificate(struct doctor *doctor, time_t now)
{
    struct failure failure, failures[2];

    if (read_certificate(doctor, &failure) != 0) {
        doctor_fail(doctor, "certificate", &failure);
        return;
    }
    if (!doctor->has_certificate) {
        gt_checkup_ok(&doctor->checkup, "certificate", "none is configured (mqtt.cert_path)");
        return;
    }
    struct gt_certificate_words words = doctor_certificate_words(doctor, failures);
    (void)gt_certificate_add_row(now, &doctor->certificate, &words, &doctor->checkup);
}

/* The clock comes first if it is wrong: dates of certificates mean nothing then. */
void doctor_check_local(struct doctor *doctor)
{
    struct failure failure;
    struct gt_check_fault fault = doctor_fault(FAILURE_CLOCK, &failure);
    time_t now = time(NULL);
    bool is_wrong = gt_clock_is_wrong(now);

    check_configuration(doctor);
    check_key(doctor);
    check_trust(doctor);
    if (is_wrong)
        (void)gt_clock_add_row(now, NULL, &fault, &doctor->checkup);
    check_certificate(doctor, now);
    if (!is_wrong)
        (void)gt_clock_add_row(now, doctor->has_certificate ? &doctor->certificate : NULL, &fault,
                               &doctor->checkup);
}
