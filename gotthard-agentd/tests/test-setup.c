/* SPDX-License-Identifier: ISC */
/*
 * setup.c, setup-policy.c, credentials.c: a setup from variables and files (keys, certificates,
 * pins, services). Every error names the setting at fault and leaves no partial setup.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "pin-memory.h"
#include "setup-summary.h"

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

static void assert_fails(int wanted, const char *with)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct gt_config_args args = {0};
    struct setup *setup = NULL;

    assert_int_equal(setup_new(&args, &setup, error), wanted);
    assert_null(setup);
    if (!strstr(error, with))
        fail_msg("not about %s: %s", with, error);
}

static void assert_refused(const char *with)
{
    assert_fails(SETUP_E_BAD, with);
}

/* A file cannot be used now, and may be usable later. */
static void assert_unusable(const char *with)
{
    assert_fails(SETUP_E_FILE, with);
}

static void test_new_loads_keys_and_files(void **state)
{
    static const uint8_t k_dev[] = {0x1a, 0xff, 0x72, 0x56}, k_rc[] = {0xe0, 0xfa, 0xf1, 0x11};

    uint8_t client_key[GT_KEY_SIZE];

    setenv("GOTTHARD_AGENT_DATA_PORT", "2222", 1);
    struct setup *setup = make();
    assert_memory_equal(setup->of_device, k_dev, sizeof(k_dev)); /* docs/protocol.md's vectors */
    assert_int_equal(setup_client_key(setup, "GatewayOli", client_key), 0);
    assert_memory_equal(client_key, k_rc, sizeof(k_rc));
    assert_int_equal(setup->key.kind, GT_KEY_MASTER);
    assert_false(setup->has_previous);
    assert_non_null(setup->credentials->signer);
    assert_string_equal(setup->broker.host, "broker.example");
    assert_int_equal(setup->trust.policy, GT_POLICY_PSK);
    assert_int_equal(setup->policy.services.n, 1);
    assert_int_equal(setup->policy.services.all[0].address.port, 2222);
    assert_string_equal(setup->policy.relays.all[0].name, "main");
    setup_warn(setup);
    assert_null(setup_free(setup));
    assert_null(setup_free(NULL));
}

/* The fleet key has the keys of every name, also as 0.2 derived them, a device's key those of one
 * name. */
static void test_key_ids_of_present_and_previous_key(void **state)
{
    static const char *const other =
        "f0e1d2c3b4a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff";
    static const uint8_t of_0_2[] = {0x03, 0x13, 0xb6, 0x3d, 0xa6, 0x64};
    uint8_t ids[SETUP_KEY_IDS_MAX][GT_KEY_ID_SIZE], earlier[SETUP_KEY_IDS_MAX][GT_KEY_ID_SIZE];
    char text[GT_KEY_TEXT_MAX];
    struct gt_key key;

    struct setup *setup = make();
    assert_int_equal(setup_key_ids(setup, "GatewayOli", ids), 2);
    assert_memory_equal(ids[1], of_0_2, sizeof(of_0_2));
    assert_int_equal(setup_key_ids(setup, "earlier", earlier), 2);
    assert_memory_not_equal(ids[0], earlier[0], GT_KEY_ID_SIZE);
    setup_free(setup);

    assert_int_equal(gt_key_parse(other, IV, &key), 0);
    assert_int_equal(gt_key_format_device(&key, "GatewayOli", text), 0);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    setenv("GOTTHARD_CRYPT_KEY_PREVIOUS", MASTER, 1);
    setup = make();
    memcpy(earlier[0], ids[0], GT_KEY_ID_SIZE);
    assert_int_equal(setup_key_ids(setup, "GatewayOli", ids), 3);
    assert_memory_not_equal(ids[0], earlier[0], GT_KEY_ID_SIZE);
    assert_memory_equal(ids[1], earlier[0], GT_KEY_ID_SIZE);
    assert_memory_equal(ids[2], of_0_2, sizeof(of_0_2));
    assert_int_equal(setup_key_ids(setup, "earlier", ids), 2); /* of the previous key alone */
    assert_int_equal(setup_key_ids(setup, "", ids), 0);
    setup_free(setup);
    gt_key_wipe(&key);
}

static void test_device_key_is_valid_for_its_device_only(void **state)
{
    char text[GT_KEY_TEXT_MAX];
    struct gt_key key;

    assert_int_equal(gt_key_parse(MASTER, IV, &key), 0);
    assert_int_equal(gt_key_format_device(&key, "GatewayOli", text), 0);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    unsetenv("GOTTHARD_CRYPT_IV");
    struct setup *setup = make();
    assert_int_equal(setup->key.kind, GT_KEY_DEVICE);
    setup_free(setup);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    setenv("MACHINE_ID", "GatewayEli", 1);
    assert_refused("crypt.key");
    assert_int_equal(gt_key_format_relay(&key, text), 0);
    setenv("GOTTHARD_CRYPT_KEY", text, 1);
    assert_refused("crypt.key");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gt_key_format_operator(&key, "GatewayOli", i == 0, text), 0);
        setenv("MACHINE_ID", "GatewayOli", 1);
        setenv("GOTTHARD_CRYPT_KEY", text, 1);
        assert_refused("crypt.key: the key of an operator");
        setenv("GOTTHARD_CRYPT_KEY", MASTER, 1);
        setenv("GOTTHARD_CRYPT_IV", IV, 1);
        setenv("GOTTHARD_CRYPT_KEY_PREVIOUS", text, 1);
        assert_refused("crypt.key_previous: the key of an operator");
    }
    setenv("GOTTHARD_CRYPT_KEY_PREVIOUS", MASTER, 1); /* a secret is remembered until another */
    setup_free(make());
    gt_key_wipe(&key);
}

static void test_invalid_certificate_directory_is_rejected(void **state)
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
        assert_unusable(faults[i][1]);
    }
    unsetenv("GOTTHARD_AWS_CERT_PATH");
    assert_refused("mqtt.cert_path");
    setenv("GOTTHARD_MQTT_ENDPOINT", "mqtt://127.0.0.1", 1);
    setup_free(make());
}

static void test_username_needs_ca_file_only(void **state)
{
    run("rm -rf only && mkdir only && cp certs/ca.crt only");
    set_path("GOTTHARD_AWS_CERT_PATH", "only");
    setenv("GOTTHARD_MQTT_USERNAME", "dev", 1);
    struct setup *setup = make();
    assert_null(setup->credentials->signer);
    assert_non_null(setup->credentials->tls);
    setup_free(setup);
}

static void assert_renewal(struct setup *setup, int wanted, bool is_renewed)
{
    const struct credentials *before = setup->credentials;
    char error[GT_CONFIG_ERROR_MAX] = "";
    bool is;

    assert_int_equal(setup_renew_credentials(setup, &is, error), wanted);
    assert_true(is == is_renewed);
    if (wanted != 0) {
        assert_ptr_equal(setup->credentials, before);
        assert_true(*error);
    }
}

static void test_renewed_pair_replaces_the_old_one_as_a_whole(void **state)
{
    uint8_t first[GT_KEY_SIZE], second[GT_KEY_SIZE];

    run("rm -rf pair && cp -rp certs pair");
    set_path("GOTTHARD_AWS_CERT_PATH", "pair");
    struct setup *setup = make();
    gt_signer_fingerprint(setup->credentials->signer, first);
    assert_renewal(setup, 0, false);
    run("touch pair/cert.pem");
    assert_renewal(setup, 0, false);
    run("cp others/cert.pem pair/");
    assert_renewal(setup, SETUP_E_FILE, false);
    run("rm pair/private.key");
    assert_renewal(setup, SETUP_E_FILE, false);
    run("cp -p others/private.key pair/");
    struct credentials *in_use = credentials_ref(setup->credentials);
    assert_renewal(setup, 0, true);
    gt_signer_fingerprint(setup->credentials->signer, second);
    assert_memory_not_equal(first, second, sizeof(first));
    gt_signer_fingerprint(in_use->signer, second); /* a connection may still use it */
    assert_memory_equal(first, second, sizeof(first));
    credentials_free(in_use);
    run("cp others/cert.pem pair/ca.crt");
    assert_renewal(setup, 0, true);
    setup_free(setup);
}

static void test_pins_file_decides_policy(void **state)
{
    struct setup *setup;

    run("printf 'alice %%064d\\n' 1 >etc/operators.pins");
    setup = make();
    assert_int_equal(setup->trust.policy, GT_POLICY_PIN);
    assert_int_equal(setup->trust.n_pins, 1);
    setup_free(setup);
    run("chmod o+w etc/operators.pins"); /* write access to it is access to the device */
    assert_unusable("must not be writable by others");
    run("chmod o-w etc/operators.pins");
    run(": >etc/operators.pins"); /* an empty file denies all; an absent one does not */
    setup = make();
    assert_int_equal(setup->trust.policy, GT_POLICY_PIN);
    assert_int_equal(setup->trust.n_pins, 0);
    setup_warn(setup);
    setup_free(setup);
    run("printf 'alice %%064d\\nbob 12\\n' 1 >etc/operators.pins");
    assert_unusable("operators.pins:2");
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    setup = make();
    assert_int_equal(setup->trust.policy, GT_POLICY_PSK);
    setup_free(setup);
    run("rm etc/operators.pins");
    setenv("GOTTHARD_TRUST_POLICY", "pin", 1);
    assert_unusable("operators.pins");
}

/* An empty GOTTHARD_CONFIG_DIR replaces no path. Pins that are looked for elsewhere are not found,
 * and then the key alone is trusted. */
static void test_empty_config_dir_keeps_pins_path(void **state)
{
    char error[GT_CONFIG_ERROR_MAX] = "", path[256];
    struct gt_config_args args = {.file = path};
    struct setup *setup = NULL;

    run(": >etc/agentd.conf && chmod 600 etc/agentd.conf");
    snprintf(path, sizeof(path), "%s/etc/agentd.conf", folder);
    setenv("GOTTHARD_CONFIG_DIR", "", 1);
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1); /* this machine may have such a file */
    assert_int_equal(setup_new(&args, &setup, error), 0);
    assert_string_equal(setup->pins_path, "/etc/gotthard/operators.pins");
    setup_free(setup);
}

static void assert_offers(const char *wanted)
{
    char text[SETUP_SERVICES_TEXT], part[16];
    struct setup *setup = make();

    setup_services_text(setup, text, sizeof(text));
    assert_string_equal(text, wanted);
    setup_services_text(setup, part, sizeof(part));
    if (strlen(wanted) >= sizeof(part))
        assert_string_equal(part + sizeof(part) - sizeof("..."), "...");
    setup_free(setup);
}

/* ssh is offered by default, or by the settings of the original tool, and not beside other
 * services. */
static void test_services_and_relays_from_file(void **state)
{
    run("echo 'services = { web = \"127.0.0.1:80\"; };' >etc/agentd.conf");
    assert_offers("web=127.0.0.1:80");
    setenv("GOTTHARD_AGENT_DATA_PORT", "22", 1);
    assert_offers("ssh=127.0.0.1:22 web=127.0.0.1:80");
    unsetenv("GOTTHARD_AGENT_DATA_PORT");
    setenv("GOTTHARD_AGENT_DATA_HOST", "10.0.0.9", 1);
    assert_offers("ssh=10.0.0.9:22 web=127.0.0.1:80");
    unsetenv("GOTTHARD_AGENT_DATA_HOST");
    run("echo 'services = { };' >etc/agentd.conf");
    assert_offers("none");
    run(": >etc/agentd.conf");
    assert_offers("ssh=127.0.0.1:22");
    run("echo 'services = { ssh = \"10.0.0.1:2022\"; };' >etc/agentd.conf");
    struct setup *setup = make();
    assert_int_equal(setup->policy.services.n, 1);
    assert_int_equal(setup->policy.services.all[0].address.port, 2022);
    setup_free(setup);
    run("echo 'services = { web = \"80\"; };' >etc/agentd.conf");
    assert_refused("agentd.conf:1");
    run("echo 'services = { socks = \"127.0.0.1:80\"; permit = \"127.0.0.1:81\"; };' "
        ">etc/agentd.conf");
    assert_offers("socks=127.0.0.1:80 permit=127.0.0.1:81");
    setenv("GOTTHARD_AGENT_PERMIT", "10.0.0.5:80", 1);
    assert_refused("agentd.conf:1");
    unsetenv("GOTTHARD_AGENT_PERMIT");
    run("echo 'relays = { lab = \"10.0.0.1\"; };' >etc/agentd.conf");
    assert_refused("relays");
    run("echo 'mqtt = { prefix = \"a/b/c/d/e/f\"; };' >etc/agentd.conf");
    assert_refused("mqtt.prefix");
}

/* Makes a setup from the environment and checks it as the reload of @old. */
static void assert_reload(const struct setup *old, const char *refused_with)
{
    char error[GT_CONFIG_ERROR_MAX] = "";
    struct setup *new = make();
    int r = setup_check_reload(old, new, error);

    if (refused_with && (r == 0 || !strstr(error, refused_with)))
        fail_msg("not refused with \"%s\": %d %s", refused_with, r, error);
    if (!refused_with && r != 0)
        fail_msg("refused: %s", error);
    setup_free(new);
}

static void test_reload_does_not_lose_pins_by_absence(void **state)
{
    run("printf 'alice %%064d\n' 1 >etc/operators.pins");
    struct setup *old = make();

    assert_reload(old, NULL);
    run(": >etc/operators.pins");
    assert_reload(old, NULL); /* denies all */
    run("rm etc/operators.pins");
    assert_reload(old, "operators.pins is absent, and operators were pinned");
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    assert_reload(old, NULL);
    setenv("GOTTHARD_TRUST_POLICY", "auto", 1);
    set_path("GOTTHARD_TRUST_PINS", "none");
    assert_unusable("none: No such file");
    run("ln -s nowhere none");
    assert_unusable("none: No such file");
    run("rm none");
    setup_free(old);
    unsetenv("GOTTHARD_TRUST_PINS");
    run("ln -s nowhere etc/operators.pins"); /* a link is a file that cannot be read */
    assert_unusable("operators.pins: No such file");
}

static void test_reload_does_not_add_the_default_service(void **state)
{
    run("echo 'services = { web = \"127.0.0.1:80\"; };' >etc/agentd.conf");
    struct setup *old = make();

    run(": >etc/agentd.conf");
    assert_reload(old, "ssh would be offered at 127.0.0.1:22");
    setenv("GOTTHARD_AGENT_DATA_PORT", "22", 1);
    assert_reload(old, NULL);
    setup_free(old);
    setenv("GOTTHARD_AGENT_DATA_PORT", "2222", 1);
    old = make();
    unsetenv("GOTTHARD_AGENT_DATA_PORT");
    assert_reload(old, "ssh would be offered at 127.0.0.1:22");
    setup_free(old);
    old = make();
    assert_reload(old, NULL); /* it was offered before */
    setup_free(old);
}

static void test_reload_does_not_lose_certificates_by_absence(void **state)
{
    run("rm -rf pair && cp -rp certs pair");
    set_path("GOTTHARD_AWS_CERT_PATH", "pair");
    setenv("GOTTHARD_MQTT_USERNAME", "dev", 1);
    struct setup *old = make();
    char error[GT_CONFIG_ERROR_MAX] = "";
    bool is_renewed;

    run("rm pair/cert.pem pair/private.key");
    assert_reload(old, "cert.pem and private.key are absent");
    const struct credentials *before = old->credentials;
    assert_int_equal(setup_renew_credentials(old, &is_renewed, error), SETUP_E_FILE);
    assert_ptr_equal(old->credentials, before);
    unsetenv("GOTTHARD_AWS_CERT_PATH");
    if (access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0)
        assert_reload(old, "authorities of the system would be trusted");
    setup_free(old);
}

/* With a state directory the same holds for a restart. */
static void test_pins_are_remembered_in_the_state_directory(void **state)
{
    run("rm -rf state && mkdir -m 700 state && printf 'alice %%064d\n' 1 >etc/operators.pins");
    set_path("STATE_DIRECTORY", "state:/nonexistent");
    struct setup *setup = make();

    assert_false(pin_memory_is_set(PIN_MEMORY_PINS));
    setup_remember(setup);
    assert_true(pin_memory_is_set(PIN_MEMORY_PINS));
    setup_free(setup);
    run("rm etc/operators.pins");
    assert_unusable("operators.pins is absent, and operators were pinned");
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    setup = make();
    setup_remember(setup);
    assert_false(pin_memory_is_set(PIN_MEMORY_PINS));
    setup_free(setup);
    unsetenv("GOTTHARD_TRUST_POLICY");
    setup = make();
    setup_remember(setup); /* never pinned: nothing to remember */
    assert_false(pin_memory_is_set(PIN_MEMORY_PINS));
    setup_free(setup);
    unsetenv("STATE_DIRECTORY");
    pin_memory_set(PIN_MEMORY_PINS, true);
    assert_false(pin_memory_is_set(PIN_MEMORY_PINS));
}

/* It may be older than the pins. */
#define AUTHORITY "gk1a.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

static void test_authority_requires_its_list(void **state)
{
    setenv("GOTTHARD_TRUST_AUTHORITY", AUTHORITY, 1);
    struct setup *setup = make();

    assert_int_equal(setup->trust.policy, GT_POLICY_LIST);
    assert_int_equal(setup->authority[31], 31);
    assert_null(setup->trust.list);
    assert_string_equal(setup->trust.device, setup->settings->device_name);
    unsetenv("GOTTHARD_TRUST_AUTHORITY");
    assert_reload(setup, "trust.authority: absent, and an access list was required");
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    assert_reload(setup, NULL);
    setenv("GOTTHARD_TRUST_POLICY", "list", 1);
    assert_fails(SETUP_E_BAD, "list needs trust.authority");
    setenv("GOTTHARD_TRUST_AUTHORITY", "gk1a-private.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
           1);
    assert_fails(SETUP_E_BAD, "private key, which belongs on no other machine");
    unsetenv("GOTTHARD_TRUST_POLICY");
    unsetenv("GOTTHARD_TRUST_AUTHORITY");
    setup_free(setup);
}

static void test_required_list_is_remembered_in_the_state_directory(void **state)
{
    run("rm -rf state && mkdir -m 700 state");
    set_path("STATE_DIRECTORY", "state");
    setenv("GOTTHARD_TRUST_AUTHORITY", AUTHORITY, 1);
    struct setup *setup = make();

    setup_remember(setup);
    assert_true(pin_memory_is_set(PIN_MEMORY_LIST));
    assert_false(pin_memory_is_set(PIN_MEMORY_PINS));
    setup_free(setup);
    unsetenv("GOTTHARD_TRUST_AUTHORITY");
    assert_fails(SETUP_E_BAD, "trust.authority: absent, and an access list was required");
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    setup = make();
    setup_remember(setup);
    assert_false(pin_memory_is_set(PIN_MEMORY_LIST));
    setup_free(setup);
    unsetenv("GOTTHARD_TRUST_POLICY");
    unsetenv("STATE_DIRECTORY");
}

static void test_last_good_configuration_keeps_the_pin_memory(void **state)
{
    set_path("STATE_DIRECTORY", "state");
    pin_memory_set(PIN_MEMORY_PINS, true);
    setenv("GOTTHARD_TRUST_POLICY", "psk", 1);
    struct setup *setup = make();

    setup->is_last_good = true;
    setup_remember(setup);
    assert_true(pin_memory_is_set(PIN_MEMORY_PINS));
    setup_free(setup);
}

static void test_has_same_detects_changes(void **state)
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
        cmocka_unit_test_setup(test_new_loads_keys_and_files, each_setup),
        cmocka_unit_test_setup(test_key_ids_of_present_and_previous_key, each_setup),
        cmocka_unit_test_setup(test_device_key_is_valid_for_its_device_only, each_setup),
        cmocka_unit_test_setup(test_invalid_certificate_directory_is_rejected, each_setup),
        cmocka_unit_test_setup(test_username_needs_ca_file_only, each_setup),
        cmocka_unit_test_setup(test_renewed_pair_replaces_the_old_one_as_a_whole, each_setup),
        cmocka_unit_test_setup(test_pins_file_decides_policy, each_setup),
        cmocka_unit_test_setup(test_empty_config_dir_keeps_pins_path, each_setup),
        cmocka_unit_test_setup(test_services_and_relays_from_file, each_setup),
        cmocka_unit_test_setup(test_reload_does_not_lose_pins_by_absence, each_setup),
        cmocka_unit_test_setup(test_reload_does_not_add_the_default_service, each_setup),
        cmocka_unit_test_setup(test_reload_does_not_lose_certificates_by_absence, each_setup),
        cmocka_unit_test_setup(test_pins_are_remembered_in_the_state_directory, each_setup),
        cmocka_unit_test_setup(test_authority_requires_its_list, each_setup),
        cmocka_unit_test_setup(test_required_list_is_remembered_in_the_state_directory, each_setup),
        cmocka_unit_test_setup(test_last_good_configuration_keeps_the_pin_memory, each_setup),
        cmocka_unit_test_setup(test_has_same_detects_changes, each_setup),
    };

    umask(022); /* a file that a group may write is refused */
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
