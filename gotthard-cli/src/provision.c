/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "provision.h"

#include <stdio.h>
#include <string.h>

#include "access-change.h"
#include "access-text.h"
#include "gotthard/crypto/pem.h"
#include "mqtt-connect.h"
#include "sign-hook.h"

static int fail_internal(int r, struct failure *ret_failure)
{
    return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "%s", strerror(-r));
}

static bool is_operator(const struct provision *provision)
{
    return provision->kind == GT_TOKEN_OPERATOR;
}

static bool is_relay(const struct provision *provision)
{
    return provision->kind == GT_TOKEN_RELAY;
}

/* --- before there is a newcomer ----------------------------------------------------------------
 */

static int check_settings(struct provision *provision, struct failure *ret_failure)
{
    const struct settings *settings = provision->context->settings;

    if (!settings_relay(settings, settings->relay, &provision->relay))
        return failure_set(ret_failure, FAILURE_CONFIG, "set {+server.host}",
                           "no address is configured for the relay \"%s\"", settings->relay);
    if (is_relay(provision))
        return 0;
    if (!settings->mqtt_endpoint)
        return failure_set(ret_failure, FAILURE_CONFIG,
                           "set {+mqtt.endpoint} to the broker, which the newcomer will use",
                           "mqtt.endpoint is not set");
    return mqtt_connect_authorities(settings, &provision->authorities, ret_failure);
}

/* O6: the relay's key of a name follows from the name. */
static int check_name_of_list(const struct provision *provision, const char *body,
                              struct failure *ret_failure)
{
    const char *name = provision->name;

    if (access_text_is_revoked(body, is_operator(provision), name))
        return failure_set(
            ret_failure, FAILURE_NAME,
            "use another name: keys that were derived for a revoked one would work "
            "again",
            "%s is revoked, and its name must not be used again before the fleet key "
            "has changed",
            name);
    if (!provision->is_replacing && access_text_has(body, is_operator(provision), name))
        return failure_set(ret_failure, FAILURE_NAME,
                           "use another name, or --replace if the present key of this one is to be "
                           "replaced",
                           "the access list has the %s %s already",
                           gt_token_kind_text(provision->kind), name);
    return 0;
}

/* A mistake in the rights must not be found when the newcomer waits. */
static int check_rights(const struct provision *provision, struct failure *ret_failure)
{
    static const char any_key[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    gt_cleanup(gt_free) char *words = NULL, *body = NULL;
    char why[ACCESS_TEXT_WHY] = "";

    if (!*provision->rights)
        return 0;
    if (!provision->has_list)
        return failure_set(ret_failure, FAILURE_USAGE, "set {+trust.authority_key}",
                           "rights are a matter of the access list, and there is no authority");
    if (asprintf(&words, "%s %s %s", provision->name, any_key, provision->rights) < 0) {
        words = NULL;
        return fail_internal(-ENOMEM, ret_failure);
    }
    int r = access_text_add("", is_operator(provision), words, &body, why);
    if (r < 0)
        return fail_internal(r, ret_failure);
    return r == 0 ? 0 : failure_set(ret_failure, FAILURE_USAGE, NULL, "%s", why);
}

static int check_list(struct provision *provision, struct failure *ret_failure)
{
    const struct settings *settings = provision->context->settings;
    struct authority authority;

    provision->has_list = settings->trust_authority_key != NULL;
    if (!provision->has_list) {
        snprintf(provision->authority, sizeof(provision->authority), "%s",
                 settings->trust_authority ? settings->trust_authority : "");
        return 0;
    }
    int r = authority_load(settings, false, &authority, ret_failure);
    if (r == 0) {
        gt_authority_format_public(authority.public_key, provision->authority);
        if (!is_relay(provision))
            r = check_name_of_list(provision, authority.text ? authority.text : "", ret_failure);
    }
    authority_deinit(&authority);
    return r;
}

int provision_begin(struct context *context, enum gt_token_kind kind, const char *name,
                    const char *rights, bool is_replacing, struct provision *ret,
                    struct failure *ret_failure)
{
    const struct settings *settings = context->settings;

    *ret = (struct provision){.context = context,
                              .kind = kind,
                              .name = name,
                              .rights = rights,
                              .is_replacing = is_replacing};
    int r = identity_load_fleet_key(settings, &context->print, &ret->key, ret_failure);
    if (r == 0)
        r = check_settings(ret, ret_failure);
    if (r == 0 && !is_relay(ret) && !settings->enroll_sign_command)
        r = ca_load(settings, &ret->ca, ret_failure);
    if (r == 0)
        r = check_list(ret, ret_failure);
    if (r == 0)
        r = check_rights(ret, ret_failure);
    return r;
}

/* --- the certificate -------------------------------------------------------------------------- */

struct signing {
    struct ev_loop *loop;
    struct sign_hook *hook;
    char *output, *why; /* owned */
    bool is_over, is_interrupted;
};

static void signing_on_end(void *userdata, const char *why, struct gt_span output)
{
    struct signing *signing = userdata;

    signing->is_over = true;
    signing->output = strndup((const char *)output.data, output.n);
    signing->why = why ? strdup(why) : NULL;
}

static void signing_on_signal(void *userdata, int number)
{
    struct signing *signing = userdata;

    signing->is_interrupted = true;
}

/* Runs the loop until the command has ended. */
static int run_hook(struct provision *provision, const char *request, struct signing *signing,
                    struct failure *ret_failure)
{
    struct command_signals signals;
    const struct sign_hook_settings settings = {
        .command = provision->context->settings->enroll_sign_command,
        .name = provision->name,
        .kind = gt_token_kind_text(provision->kind),
        .request = request,
    };
    int r = sign_hook_new(signing->loop, &settings, signing_on_end, signing, &signing->hook);

    if (r != 0)
        return fail_internal(r, ret_failure);
    command_signals_start(&signals, signing->loop, signing_on_signal, signing);
    while (!signing->is_over && !signing->is_interrupted)
        ev_run(signing->loop, EVRUN_ONCE);
    command_signals_stop(&signals);
    sign_hook_free(signing->hook);
    if (signing->is_interrupted)
        return PROVISION_E_INTERRUPTED;
    if (signing->why || !signing->output)
        return failure_set(ret_failure, FAILURE_CA, "check {enroll.sign_command}",
                           "the command that signs has failed: %s",
                           signing->why ? signing->why : "out of memory");
    return 0;
}

/* A certificate of another key would make the newcomer fail later, or be another one. */
static int check_certificate(const char *certificate, const uint8_t *fingerprint,
                             struct failure *ret_failure)
{
    uint8_t found[GT_KEY_SIZE];
    char why[GT_ISSUER_WHY] = "";
    int r = gt_certificate_fingerprint(gt_span_text(certificate), found, why);

    if (r < 0)
        return fail_internal(r, ret_failure);
    if (r == 0 && gt_is_equal(found, fingerprint, GT_KEY_SIZE))
        return 0;
    return failure_set(ret_failure, FAILURE_CA, "check {enroll.sign_command}",
                       "the output of the command that signs: %s",
                       r > 0 ? why : "the certificate is of another key than the request");
}

static int sign_by_hook(struct provision *provision, struct gt_span request,
                        const uint8_t *fingerprint, struct failure *ret_failure)
{
    struct signing signing = {.loop = provision->context->loop};
    gt_cleanup(gt_free) char *pem = NULL;
    int r = gt_pem_format("CERTIFICATE REQUEST", request, &pem);

    if (r != 0)
        return fail_internal(r, ret_failure);
    r = run_hook(provision, pem, &signing, ret_failure);
    if (r == 0)
        r = check_certificate(signing.output, fingerprint, ret_failure);
    if (r == 0)
        provision->certificate = gt_steal(&signing.output);
    free(signing.output);
    free(signing.why);
    return r;
}

int provision_sign(struct provision *provision, struct gt_span request,
                   const uint8_t fingerprint[static GT_KEY_SIZE], struct failure *ret_failure)
{
    if (is_relay(provision))
        return 0;
    if (provision->context->settings->enroll_sign_command)
        return sign_by_hook(provision, request, fingerprint, ret_failure);
    return ca_issue(&provision->ca, is_operator(provision), provision->name, request,
                    &provision->certificate, ret_failure);
}

/* --- the access list -------------------------------------------------------------------------- */

/* Writes the body with the new entry; the caller frees it. */
static int make_body(const struct provision *provision, const char *body, const char *words,
                     char **ret, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *without = NULL;
    char why[ACCESS_TEXT_WHY] = "";
    size_t n = 0;

    if (check_name_of_list(provision, body, ret_failure) != 0)
        return 1;
    int r = access_text_drop(body, is_operator(provision), provision->name, &without, &n);
    if (r == 0)
        r = access_text_add(without, is_operator(provision), words, ret, why);
    if (r < 0)
        return fail_internal(r, ret_failure);
    return r == 0 ? 0 : failure_set(ret_failure, FAILURE_USAGE, NULL, "access list: %s", why);
}

static int keep_list(struct provision *provision, const struct authority *authority,
                     struct failure *ret_failure)
{
    provision->list = strndup(authority->text, authority->n_text);
    provision->n_list = authority->n_text;
    return provision->list ? 0 : fail_internal(-ENOMEM, ret_failure);
}

int provision_list(struct provision *provision, const uint8_t fingerprint[static GT_KEY_SIZE],
                   struct failure *ret_failure)
{
    char hex[2 * GT_KEY_SIZE + 1];
    gt_cleanup(gt_free) char *words = NULL, *body = NULL;
    struct access_change change;

    if (!provision->has_list || is_relay(provision))
        return 0;
    gt_text_hex(fingerprint, GT_KEY_SIZE, hex);
    if (asprintf(&words, "%s %s%s%s", provision->name, hex, *provision->rights ? " " : "",
                 provision->rights) < 0) {
        words = NULL;
        return fail_internal(-ENOMEM, ret_failure);
    }
    int r = access_change_begin(provision->context, &change, ret_failure);
    if (r == 0)
        r = make_body(provision, change.body, words, &body, ret_failure);
    if (r == 0)
        r = access_change_apply(&change, body, ret_failure);
    if (r == 0) {
        const char *self = provision->context->settings->client_name;

        provision->lacks_this_operator = !access_text_has(body, true, self);
        r = keep_list(provision, &change.authority, ret_failure);
    }
    access_change_end(&change);
    return r == ACCESS_BROKER_E_INTERRUPTED ? PROVISION_E_INTERRUPTED : r;
}

/* --- afterwards ------------------------------------------------------------------------------- */

/* The lines of mosquitto's ACL that a new operator needs (mosquitto-example.acl). */
static void print_rights(const struct provision *provision)
{
    struct print *print = &provision->context->print;
    const char *name = provision->name, *prefix = provision->context->settings->mqtt_prefix;

    print_note(print,
               "The broker must permit \"operator %s\" to write %s/d/+/req, and to read "
               "%s/d/+/rsp/%s and %s/d/+/state. For mosquitto these are the lines of its ACL:",
               name, prefix, prefix, name, prefix);
    print_plain(print, "  user operator %s", name);
    print_plain(print, "  topic write %s/d/+/req", prefix);
    print_plain(print, "  topic read %s/d/+/rsp/%s", prefix, name);
    print_plain(print, "  topic read %s/d/+/state", prefix);
}

/* @hex: the fingerprint. */
static void print_trust(const struct provision *provision, const char *hex)
{
    struct print *print = &provision->context->print;
    const char *name = provision->name;

    if (*provision->authority && !provision->has_list)
        print_note(
            print,
            "Next, on the machine with the authority's key: gotthard-cli access add %s %s %s",
            gt_token_kind_text(provision->kind), name, hex);
    else if (!*provision->authority)
        print_note(print, "The line for the pin files of %s: %s %s",
                   is_operator(provision) ? "devices" : "operators", name, hex);
    if (is_operator(provision) && !*provision->authority)
        print_warning(print,
                      "there is no access list: where devices have no pins, %s can act as any "
                      "operator and device",
                      name);
    if (provision->lacks_this_operator)
        print_warning(print,
                      "the access list has no operator %s: devices with the list refuse this "
                      "operator. Add it: gotthard-cli access add operator %s FINGERPRINT",
                      provision->context->settings->client_name,
                      provision->context->settings->client_name);
}

void provision_print_next(const struct provision *provision,
                          const uint8_t fingerprint[static GT_KEY_SIZE])
{
    char hex[2 * GT_KEY_SIZE + 1];

    if (is_relay(provision))
        return;
    gt_text_hex(fingerprint, GT_KEY_SIZE, hex);
    print_trust(provision, hex);
    if (is_operator(provision))
        print_rights(provision);
}

void provision_end(struct provision *provision)
{
    gt_key_wipe(&provision->key);
    free(gt_steal(&provision->authorities.text));
    ca_deinit(&provision->ca);
    free(gt_steal(&provision->certificate));
    free(gt_steal(&provision->list));
}
