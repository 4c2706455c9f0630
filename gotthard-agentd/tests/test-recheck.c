/* SPDX-License-Identifier: ISC */
/* recheck.c: a session for each way in which it can lose its grant, and for those that must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "recheck.h"

#define NOW 1000

static const struct target ssh = {"ssh", {"127.0.0.1", 22}}, web = {"web", {"127.0.0.1", 80}},
                           moved = {"web", {"127.0.0.1", 8080}};
static char *only_ssh[] = {(char *)"ssh"};

/* A session of alice with both services, under the key 1, signed by the certificate 7. */
struct env {
    struct session_info info;
    struct policy policy;
    struct gt_trust trust;
    struct gt_pin pins[2];
    struct recheck_rules rules;
    struct gt_access_list *list; /* owned */
};

static void setup(struct env *env)
{
    *env = (struct env){
        .info = {.device = "dev",
                 .operator_ = "alice",
                 .key_id = {1},
                 .is_signed = true,
                 .fingerprint = {7}},
        .trust = {.policy = GT_POLICY_PIN, .n_pins = 2},
        .pins = {{.name = "bob", .fingerprint = {8}, .is_any_service = true},
                 {.name = "alice", .fingerprint = {7}, .is_any_service = true}},
        .rules = {.key_ids = {{2}, {1}}, .n_key_ids = 2, .now = NOW},
    };
    env->trust.pins = env->pins;
    env->rules.trust = &env->trust;
    env->rules.policy = &env->policy;
    assert_int_equal(targets_add(&env->info.services, &ssh), 0);
    assert_int_equal(targets_add(&env->info.services, &web), 0);
    assert_int_equal(targets_add_all(&env->policy.services, &env->info.services), 0);
}

static void nothing(struct env *env)
{
}

static void remove_key(struct env *env)
{
    env->rules.n_key_ids = 1;
}

static void remove_all_keys(struct env *env)
{
    env->rules.n_key_ids = 0;
}

static void use_psk(struct env *env)
{
    env->trust.policy = GT_POLICY_PSK;
    env->trust.n_pins = 0;
}

static void use_psk_unsigned(struct env *env)
{
    use_psk(env);
    env->info.is_signed = false;
}

static void use_psk_without_key(struct env *env)
{
    use_psk(env);
    remove_key(env);
}

static void sign_nothing(struct env *env)
{
    env->info.is_signed = false;
    for (size_t i = 0; i < GT_KEY_SIZE; i++) /* a pin of zeros must not match */
        env->pins[1].fingerprint[i] = env->info.fingerprint[i] = 0;
}

static void remove_pin(struct env *env)
{
    env->trust.n_pins = 1;
}

static void remove_all_pins(struct env *env)
{
    env->trust.n_pins = 0;
}

static void change_certificate(struct env *env)
{
    env->pins[1].fingerprint[31] = 1;
}

static void rename_pin(struct env *env)
{
    env->pins[1].name[0] = 'A';
}

static void make_pin_a_device(struct env *env)
{
    env->pins[1].role = GT_PIN_DEVICE;
}

static void make_pin_an_admin(struct env *env)
{
    env->pins[1].role = GT_PIN_ADMIN;
}

static void expire_pin(struct env *env)
{
    env->pins[1].until = NOW;
}

static void limit_pin(struct env *env)
{
    env->pins[1].until = NOW + 1;
}

static void expire_one_of_two_pins(struct env *env)
{
    env->pins[0] = env->pins[1];
    env->pins[0].until = NOW;
}

static void narrow_pin(struct env *env)
{
    env->pins[1].is_any_service = false;
    env->pins[1].services = only_ssh;
    env->pins[1].n_services = 1;
}

static void remove_service(struct env *env)
{
    env->policy.services.n = 1;
}

static void remove_service_under_psk(struct env *env)
{
    use_psk(env);
    remove_service(env);
}

static void move_service(struct env *env)
{
    env->policy.services.all[1] = moved;
}

static void add_service(struct env *env)
{
    struct target other = moved;

    other.name[0] = 'x';
    assert_int_equal(targets_add(&env->policy.services, &other), 0);
}

static void permit(struct env *env, const char *now)
{
    char why[160];

    snprintf(env->info.permit, sizeof(env->info.permit), "10.0.0.0/8:80");
    env->policy.permit_text = now;
    assert_int_equal(permit_parse(now, &env->policy.permit, why, sizeof(why)), 0);
}

static void permit_more(struct env *env)
{
    permit(env, "plc.local:102 10.0.0.0/7:80-90");
}

static void permit_less(struct env *env)
{
    permit(env, "10.0.0.0/9:80");
}

static void permit_none(struct env *env)
{
    permit(env, "");
}

static void permit_to_others(struct env *env)
{
    permit_more(env);
    narrow_pin(env);
    env->info.services.n = 1; /* ssh, which the pin has */
}

static void remove_all_services(struct env *env)
{
    env->policy.services.n = 0;
}

static void remove_all_services_but_targets(struct env *env)
{
    remove_all_services(env);
    permit_more(env);
}

static void lower_limits(struct env *env)
{
    env->policy.sessions_max = env->policy.per_operator_max = 0;
    env->policy.streams_max = 0;
    env->policy.lifetime_max_s = 1;
}

/* Policy list, with this line as the only entry. NULL: without a list. It was issued at NOW - 10.
 */
static void use_list(struct env *env, const char *entry)
{
    char text[256], why[GT_ACCESS_WHY] = "";

    gt_trust_init_list(&env->trust, "dev", 0);
    env->rules.now = 1000000000; /* 2001-09-09T01:46:40Z */
    if (!entry)
        return;
    snprintf(text, sizeof(text), "serial 1\nissued 2001-09-09T01:46:30Z\n%s\n", entry);
    if (gt_access_list_parse(gt_span_text(text), &env->list, why) != 0)
        fail_msg("%s", why);
    env->trust.list = env->list;
}

#define ALICE "operator alice 0700000000000000000000000000000000000000000000000000000000000000"

static void list_operator(struct env *env)
{
    use_list(env, ALICE " devices=de*");
}

static void list_no_operator(struct env *env)
{
    use_list(env, "");
}

static void use_no_list(struct env *env)
{
    use_list(env, NULL);
}

static void revoke_operator(struct env *env)
{
    use_list(env, ALICE "\nrevoked o:alice");
}

static void list_other_device(struct env *env)
{
    use_list(env, ALICE " devices=other");
}

static void list_fewer_services(struct env *env)
{
    use_list(env, ALICE " services=ssh");
}

static void list_with_expiry(struct env *env)
{
    use_list(env, ALICE " until=2001-09-09");
}

static void list_expired(struct env *env)
{
    use_list(env, ALICE " until=2001-09-08");
}

static void list_unsigned(struct env *env)
{
    use_list(env, ALICE);
    env->info.is_signed = false;
}

static void list_at_maximum_age(struct env *env)
{
    use_list(env, ALICE);
    env->trust.list_max_age_s = 10;
}

static void list_too_old(struct env *env)
{
    use_list(env, ALICE);
    env->trust.list_max_age_s = 9;
}

static void test_recheck_of_each_change(void **state)
{
    static const struct {
        void (*change)(struct env *env);
        enum recheck recheck;
        time_t until;
    } cases[] = {
        {nothing, RECHECK_GRANTED, 0},
        {remove_key, RECHECK_KEY, 0},
        {remove_all_keys, RECHECK_KEY, 0},
        {use_psk, RECHECK_GRANTED, 0},
        {use_psk_unsigned, RECHECK_GRANTED, 0},
        {use_psk_without_key, RECHECK_KEY, 0},
        {sign_nothing, RECHECK_UNSIGNED, 0},
        {remove_pin, RECHECK_PIN, 0},
        {remove_all_pins, RECHECK_PIN, 0},
        {change_certificate, RECHECK_PIN, 0},
        {rename_pin, RECHECK_PIN, 0},
        {make_pin_a_device, RECHECK_PIN, 0},
        {make_pin_an_admin, RECHECK_GRANTED, 0},
        {expire_pin, RECHECK_EXPIRED, 0},
        {limit_pin, RECHECK_GRANTED, NOW + 1},
        {expire_one_of_two_pins, RECHECK_GRANTED, 0},
        {narrow_pin, RECHECK_CHANGED, 0},
        {remove_service, RECHECK_CHANGED, 0},
        {remove_all_services, RECHECK_NOTHING, 0},
        {remove_all_services_but_targets, RECHECK_CHANGED, 0},
        {remove_service_under_psk, RECHECK_CHANGED, 0},
        {move_service, RECHECK_CHANGED, 0},
        {add_service, RECHECK_GRANTED, 0},
        {permit_more, RECHECK_GRANTED, 0},
        {permit_less, RECHECK_CHANGED, 0},
        {permit_none, RECHECK_CHANGED, 0},
        {permit_to_others, RECHECK_CHANGED, 0},
        {lower_limits, RECHECK_GRANTED, 0},
        {list_operator, RECHECK_GRANTED, 0},
        {list_no_operator, RECHECK_UNLISTED, 0},
        {use_no_list, RECHECK_NO_LIST, 0},
        {revoke_operator, RECHECK_REVOKED, 0},
        {list_other_device, RECHECK_UNLISTED, 0},
        {list_fewer_services, RECHECK_CHANGED, 0},
        {list_with_expiry, RECHECK_GRANTED, 1000080000},
        {list_expired, RECHECK_UNLISTED, 0},
        {list_unsigned, RECHECK_UNSIGNED, 0},
        {list_at_maximum_age, RECHECK_GRANTED, 0},
        {list_too_old, RECHECK_OLD_LIST, 0},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        static const struct gt_pin unwritten;
        const struct gt_pin *pin = &unwritten;
        struct env env;

        setup(&env);
        cases[i].change(&env);
        enum recheck recheck = recheck_session(&env.info, &env.rules, &pin);
        assert_int_equal(recheck, cases[i].recheck);
        assert_true(recheck_text(recheck)[0] != 0);
        bool is_continuing = recheck == RECHECK_GRANTED || recheck == RECHECK_CHANGED;
        assert_int_equal(pin != &unwritten, is_continuing);
        if (is_continuing)
            assert_int_equal(pin ? pin->until : 0, cases[i].until);
        gt_access_list_free(env.list);
        session_info_deinit(&env.info);
        targets_deinit(&env.policy.services);
        permit_deinit(&env.policy.permit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recheck_of_each_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
