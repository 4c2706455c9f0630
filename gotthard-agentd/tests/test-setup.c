/* SPDX-License-Identifier: ISC */
/*
 * A setup out of variables and files: the keys, the folder of certificates, the pins, the services;
 * every fault is told with its place and leaves nothing half made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "setup.h"

#define MASTER "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER  "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
#define IV     "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"

static char folder[64];

static GT_PRINTF(1, 2) void run(const char *fmt, ...)
{
    char command[1024], words[768];
    va_list arguments;

    va_start(arguments, fmt);
    vsnprintf(words, sizeof(words), fmt, arguments);
    va_end(arguments);
    snprintf(command, sizeof(command), "cd %s && exec 2>/dev/null && %s", folder, words);
    if (system(command) != 0)
        fail_msg("%s", command);
}

static void make_certificates(void)
{
    static const char *const names[] = {"certs", "others"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++) {
        run("mkdir %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            "-subj /CN=dev -days 2 -keyout %s/private.key -out %s/cert.pem && cp %s/cert.pem "
            "%s/ca.crt && chmod 600 %s/private.key",
            names[i], names[i], names[i], names[i], names[i], names[i]);
    }
}

static int group_setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/test-setup.XXXXXX");
    assert_non_null(mkdtemp(folder));
    make_certificates();
    return 0;
}

static int group_teardown(void **state)
{
    run("rm -r %s", folder);
    return 0;
}

static void set_path(const char *variable, const char *file)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    setenv(variable, path, 1);
}

static int each_setup(void **state)
{
    char path[] = "PATH", *value = strdup(getenv(path));

    clearenv();
    setenv(path, value, 1);
    free(value);
    set_path("GOTTHARD_CONFIG_DIR", "etc");
    set_path("GOTTHARD_AWS_CERT_PATH", "certs");
    setenv("MACHINE_ID", "GatewayOli", 1);
    setenv("GOTTHARD_SERVER_HOST", "relay.example", 1);
    setenv("GOTTHARD_MQTT_ENDPOINT", "broker.example", 1);
    setenv("GOTTHARD_CRYPT_KEY", MASTER, 1);
    setenv("GOTTHARD_CRYPT_IV", IV, 1);
    run("rm -rf etc && mkdir etc");
    return 0;
}

static struct setup *make(void)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct gt_config_args args = {0};
    struct setup *setup = NULL;

    int r = setup_new(&args, &setup, error);
    if (r)
        fail_msg("%d: %s", r, error);
    return setup;
}

static void assert_refused(const char *with)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct gt_config_args args = {0};
    struct setup *setup = NULL;

    assert_int_equal(setup_new(&args, &setup, error), SETUP_E_BAD);
    assert_null(setup);
    if (!strstr(error, with))
        fail_msg("not about %s: %s", with, error);
}

static void everything_is_there(void **state)
{
    static const uint8_t k_dev[] = {0x18, 0x19, 0xf0, 0x74}, k_rc[] = {0xe0, 0xfa, 0xf1, 0x11};

    setenv("GOTTHARD_AGENT_DATA_PORT", "2222", 1);
    struct setup *setup = make();
    assert_memory_equal(setup->of_device, k_dev, sizeof(k_dev)); /* docs/protocol.md's vectors */
    assert_memory_equal(setup->client_key, k_rc, sizeof(k_rc));
    assert_true(setup->is_master);
    assert_false(setup->has_previous);
    assert_non_null(setup->credentials.signer);
    assert_string_equal(setup->broker.host, "broker.example");
    assert_int_equal(setup->trust.policy, GT_POLICY_PSK);
    assert_int_equal(setup->policy.services.n, 1);
    assert_int_equal(setup->policy.services.all[0].port, 2222);
    assert_string_equal(setup->policy.relays.all[0].name, "main");
    setup_warn(setup);
    assert_null(setup_free(setup));
    assert_null(setup_free(NULL));
}

static void a_device_key_is_enough_and_only_for_its_device(void **state)
{
    char text[GT_KEY_TEXT_MAX];
    struct gt_key key;

    assert_int_equal(gt_key_parse(MASTER, IV, &key), 0);
    assert_int_equal(gt_key_format_device(&key, "GatewayOli", text), 0);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    unsetenv("GOTTHARD_CRYPT_IV");
    struct setup *setup = make();
    assert_false(setup->is_master);
    setup_free(setup);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    setenv("MACHINE_ID", "GatewayEli", 1);
    assert_refused("crypt.key");
    assert_int_equal(gt_key_format_relay(&key, text), 0);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    assert_refused("crypt.key");
    gt_key_wipe(&key);
}

static void the_folder_of_certificates_must_be_right(void **state)
{
    static const char *const faults[][2] = {
        {"rm bad/private.key", "private.key"},
        {"rm bad/cert.pem", "cert.pem"},
        {"rm bad/ca.crt", "ca.crt"},
        {"cp others/private.key bad/", "cert.pem"},
        {"echo nonsense >bad/cert.pem", "cert.pem"},
        {"chmod 644 bad/private.key", "private.key"},
        {"chmod o+w bad", "bad"},
        {"rm -r bad", "bad"},
        {"rm -r bad && cp certs/cert.pem bad", "bad"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(faults); i++) {
        run("rm -rf bad && cp -rp certs bad && %s", faults[i][0]);
        set_path("GOTTHARD_AWS_CERT_PATH", "bad");
        assert_refused(faults[i][1]);
    }
    unsetenv("GOTTHARD_AWS_CERT_PATH");
    assert_refused("mqtt.cert_path");
    setenv("GOTTHARD_MQTT_ENDPOINT", "mqtt://127.0.0.1", 1);
    setup_free(make());
}

static void a_user_name_needs_the_authority_only(void **state)
{
    run("rm -rf only && mkdir only && cp certs/ca.crt only");
    set_path("GOTTHARD_AWS_CERT_PATH", "only");
    setenv("GOTTHARD_MQTT_USERNAME", "dev", 1);
    struct setup *setup = make();
    assert_null(setup->credentials.signer);
    assert_null(setup->credentials.cert_file);
    assert_non_null(setup->credentials.ca_file);
    setup_free(setup);
}

static void the_file_of_pins_decides_the_policy(void **state)
{
    struct setup *setup;

    run("printf 'alice %%064d\\n' 1 >etc/operators.pins");
    setup = make();
    assert_int_equal(setup->trust.policy, GT_POLICY_PIN);
    assert_int_equal(setup->trust.n_pins, 1);
    setup_free(setup);
    run("chmod o+w etc/operators.pins"); /* whoever writes it opens the door */
    assert_refused("others may write it");
    run("chmod o-w etc/operators.pins");
    run(": >etc/operators.pins"); /* empty denies all: it is not the same as absent */
    setup = make();
    assert_int_equal(setup->trust.policy, GT_POLICY_PIN);
    assert_int_equal(setup->trust.n_pins, 0);
    setup_warn(setup);
    setup_free(setup);
    run("printf 'alice %%064d\\nbob 12\\n' 1 >etc/operators.pins");
    assert_refused("operators.pins:2");
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    setup = make();
    assert_int_equal(setup->trust.policy, GT_POLICY_PSK);
    setup_free(setup);
    run("rm etc/operators.pins");
    setenv("GOTTHARD_TRUST_POLICY", "pin", 1);
    assert_refused("operators.pins");
}

/* As it moves nothing else of /etc/gotthard: a file of pins that is looked for elsewhere opens the
 * door that it keeps shut. */
static void an_empty_folder_moves_no_pins(void **state)
{
    char error[GT_CONFIG_ERROR_MAX] = "", path[256];
    struct gt_config_args args = {.file = path};
    struct setup *setup = NULL;

    run(": >etc/agentd.conf && chmod 600 etc/agentd.conf");
    snprintf(path, sizeof(path), "%s/etc/agentd.conf", folder);
    setenv("GOTTHARD_CONFIG_DIR", "", 1);
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1); /* whatever this machine has there */
    assert_int_equal(setup_new(&args, &setup, error), 0);
    assert_string_equal(setup->pins_path, "/etc/gotthard/operators.pins");
    setup_free(setup);
}

static void services_come_from_the_file(void **state)
{
    run("echo 'services = { web = \"127.0.0.1:80\"; };' >etc/agentd.conf");
    struct setup *setup = make();
    assert_int_equal(setup->policy.services.n, 2);
    assert_string_equal(setup->policy.services.all[0].name, "ssh");
    setup_free(setup);
    run("echo 'services = { ssh = \"10.0.0.1:2022\"; };' >etc/agentd.conf");
    setup = make();
    assert_int_equal(setup->policy.services.n, 1);
    assert_int_equal(setup->policy.services.all[0].port, 2022);
    setup_free(setup);
    run("echo 'services = { web = \"80\"; };' >etc/agentd.conf");
    assert_refused("agentd.conf:1");
    run("echo 'relays = { lab = \"10.0.0.1\"; };' >etc/agentd.conf");
    assert_refused("relays");
    run("echo 'mqtt = { prefix = \"a/b/c/d/e/f\"; };' >etc/agentd.conf");
    assert_refused("mqtt.prefix");
}

static void a_reload_knows_what_has_changed(void **state)
{
    struct setup *first = make(), *second = make();

    assert_true(setup_has_same_broker(first, second));
    assert_true(setup_has_same_identity(first, second));
    setup_free(second);
    set_path("GOTTHARD_AWS_CERT_PATH", "others");
    second = make();
    assert_false(setup_has_same_broker(first, second));
    assert_true(setup_has_same_identity(first, second));
    setup_free(second);
    setenv("GOTTHARD_CRYPT_KEY_PREVIOUS", OTHER, 1);
    second = make();
    assert_false(setup_has_same_identity(first, second));
    assert_true(second->has_previous);
    setup_free(second);
    setup_free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_is_there, each_setup),
        cmocka_unit_test_setup(a_device_key_is_enough_and_only_for_its_device, each_setup),
        cmocka_unit_test_setup(the_folder_of_certificates_must_be_right, each_setup),
        cmocka_unit_test_setup(a_user_name_needs_the_authority_only, each_setup),
        cmocka_unit_test_setup(the_file_of_pins_decides_the_policy, each_setup),
        cmocka_unit_test_setup(an_empty_folder_moves_no_pins, each_setup),
        cmocka_unit_test_setup(services_come_from_the_file, each_setup),
        cmocka_unit_test_setup(a_reload_knows_what_has_changed, each_setup),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
