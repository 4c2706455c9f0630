/* SPDX-License-Identifier: ISC */
/*
 * policy.c: every decision of the device's own rules, and the recheck after a reload.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "policy.h"

static const struct target ssh = {"ssh", {"127.0.0.1", 22}}, web = {"web", {"127.0.0.1", 80}};
static const struct target relay_main = {"main", {"relay.example", 7000}},
                           relay_lab = {"lab", {"10.0.0.1", 7000}};

static struct policy make_policy(void)
{
    struct policy policy = {
        .sessions_max = 3, .per_operator_max = 2, .streams_max = 64, .lifetime_max_s = 3600};

    assert_int_equal(targets_add(&policy.services, &ssh), 0);
    assert_int_equal(targets_add(&policy.services, &web), 0);
    assert_int_equal(targets_add(&policy.relays, &relay_main), 0);
    assert_int_equal(targets_add(&policy.relays, &relay_lab), 0);
    return policy;
}

static char *only_web[] = {(char *)"web"};
static const struct gt_pin web_pin = {
    .name = "alice", .role = GT_PIN_OPERATOR, .services = only_web, .n_services = 1};
static const struct gt_pin any_pin = {
    .name = "alice", .role = GT_PIN_OPERATOR, .is_any_service = true};
static const struct gt_pin none_pin = {.name = "alice", .role = GT_PIN_OPERATOR};

static void test_decide_returns_status_and_grant(void **state)
{
    static const struct {
        const char *service, *relay;
        const struct gt_pin *pin;
        unsigned n_sessions, n_of_operator;
        enum gt_ack_status status;
        size_t n_services;
        const char *chosen;
    } cases[] = {
        {"ssh", "", NULL, 0, 0, GT_ACK_OK, 2, "main"},
        {"", "", NULL, 2, 1, GT_ACK_OK, 2, "main"},
        {"22", "lab", NULL, 0, 0, GT_ACK_OK, 2, "lab"},
        {"ssh", "", &any_pin, 0, 0, GT_ACK_OK, 2, "main"},
        {"web", "", &web_pin, 0, 0, GT_ACK_OK, 1, "main"},
        {"80", "", &web_pin, 0, 0, GT_ACK_OK, 1, "main"},
        {"", "", &web_pin, 0, 0, GT_ACK_OK, 1, "main"},
        {"ssh", "", &web_pin, 0, 0, GT_ACK_SERVICE, 1, "main"},
        {"22", "", &web_pin, 0, 0, GT_ACK_SERVICE, 1, "main"},
        {"127.0.0.1:22", "", &web_pin, 0, 0, GT_ACK_SERVICE, 1, "main"},
        {"", "", &none_pin, 0, 0, GT_ACK_SERVICE, 0, "main"},
        {"telnet", "", NULL, 0, 0, GT_ACK_SERVICE, 2, "main"},
        {"ssh", "", NULL, 3, 0, GT_ACK_QUOTA, 2, "main"},
        {"ssh", "", NULL, 2, 2, GT_ACK_QUOTA, 2, "main"},
        {"ssh", "nowhere", NULL, 0, 0, GT_ACK_RELAY, 2, NULL},
        {"ssh", "10.0.0.1:7000", NULL, 0, 0, GT_ACK_RELAY, 2, NULL},
    };
    struct policy policy = make_policy();

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_req req = {.operator_ = "alice", .device = "dev"};

        snprintf(req.service, sizeof(req.service), "%s", cases[i].service);
        snprintf(req.relay, sizeof(req.relay), "%s", cases[i].relay);
        struct policy_request request = {&req, cases[i].pin, cases[i].n_sessions,
                                         cases[i].n_of_operator};
        struct grant grant;
        assert_int_equal(policy_decide(&policy, &request, &grant), 0);
        assert_int_equal(grant.status, cases[i].status);
        assert_int_equal(grant.services.n, cases[i].n_services);
        assert_int_equal(grant.why[0] == 0, cases[i].status == GT_ACK_OK);
        if (cases[i].status == GT_ACK_QUOTA)
            assert_string_equal(grant.limit, cases[i].n_sessions == 3
                                                 ? "limits.sessions (3)"
                                                 : "limits.sessions_per_operator (2)");
        else
            assert_string_equal(grant.limit, "");
        if (cases[i].chosen)
            assert_string_equal(grant.relay->name, cases[i].chosen);
        else
            assert_null(grant.relay);
        grant_deinit(&grant);
    }
    policy_deinit(&policy);
}

static void test_decide_on_permitted_targets(void **state)
{
    static char *with_permit[] = {(char *)"permit"};
    static const struct gt_pin permit_pin = {
        .name = "alice", .services = with_permit, .n_services = 1};
    static const struct {
        const char *service;
        const struct gt_pin *pin;
        enum gt_ack_status status;
        bool has_permit;
    } cases[] = {
        {"10.0.0.5:80", NULL, GT_ACK_OK, true},
        {"10.0.0.5:80", &any_pin, GT_ACK_OK, true},
        {"10.0.0.5:80", &permit_pin, GT_ACK_OK, true},
        {"10.0.0.5:80", &web_pin, GT_ACK_SERVICE, false},
        {"10.0.0.5:81", NULL, GT_ACK_SERVICE, true},
        {"11.0.0.5:80", NULL, GT_ACK_SERVICE, true},
        {"127.0.0.1:80", NULL, GT_ACK_OK, true}, /* the service web */
        {"127.0.0.1:80", &permit_pin, GT_ACK_SERVICE, true},
        {"plc.example:80", NULL, GT_ACK_OK, true}, /* its addresses decide */
        {"plc.example:81", NULL, GT_ACK_SERVICE, true},
        {"permit", NULL, GT_ACK_OK, true},
        {"permit", &permit_pin, GT_ACK_OK, true},
        {"permit", &web_pin, GT_ACK_SERVICE, false},
        {"", &permit_pin, GT_ACK_OK, true},
        {"ssh", &permit_pin, GT_ACK_SERVICE, true},
        {"ssh", NULL, GT_ACK_OK, true},
        {"telnet", NULL, GT_ACK_SERVICE, true},
    };
    struct policy policy = make_policy(), none = make_policy();
    char why[160];

    policy.permit_text = "10.0.0.0/8:80";
    assert_int_equal(permit_parse(policy.permit_text, &policy.permit, why, sizeof(why)), 0);
    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_req req = {.operator_ = "alice", .device = "dev"};
        struct policy_request request = {.req = &req, .pin = cases[i].pin};
        struct grant grant;

        snprintf(req.service, sizeof(req.service), "%s", cases[i].service);
        assert_int_equal(policy_decide(&policy, &request, &grant), 0);
        assert_int_equal(grant.status, cases[i].status);
        assert_string_equal(grant.permit_text, cases[i].has_permit ? policy.permit_text : "");
        grant_deinit(&grant);
        if (strchr(cases[i].service, '0'))
            continue;
        assert_int_equal(policy_decide(&none, &request, &grant), 0);
        assert_string_equal(grant.permit_text, "");
        if (strcmp(cases[i].service, "permit") == 0)
            assert_int_equal(grant.status, GT_ACK_SERVICE);
        grant_deinit(&grant);
    }
    policy_deinit(&policy);
    policy_deinit(&none);
}

static void test_decide_caps_lifetime(void **state)
{
    static const uint32_t cases[][2] = {{0, 3600},    {1, 1},       {3599, 3599},
                                        {3600, 3600}, {3601, 3600}, {UINT32_MAX, 3600}};
    struct policy policy = make_policy();

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct gt_req req = {.lifetime_s = cases[i][0]};
        struct policy_request request = {.req = &req};
        struct grant grant;

        assert_int_equal(policy_decide(&policy, &request, &grant), 0);
        assert_int_equal(grant.lifetime_s, cases[i][1]);
        grant_deinit(&grant);
    }
    policy_deinit(&policy);
}

static void test_recheck_detects_removed_and_moved_services(void **state)
{
    struct policy old = make_policy(), same = make_policy(), less = {0}, moved = {0};
    struct target elsewhere = {"ssh", {"127.0.0.1", 2222}};

    assert_int_equal(targets_add(&less.services, &web), 0);
    assert_int_equal(targets_add(&moved.services, &elsewhere), 0);
    assert_int_equal(targets_add(&moved.services, &web), 0);
    assert_true(policy_recheck(&same, NULL, &old.services, ""));
    assert_true(policy_recheck(&same, &any_pin, &old.services, ""));
    assert_false(policy_recheck(&same, &web_pin, &old.services, ""));
    assert_true(policy_recheck(&old, &web_pin, &less.services, ""));
    assert_false(policy_recheck(&less, NULL, &old.services, ""));
    assert_false(policy_recheck(&moved, NULL, &old.services, ""));
    policy_deinit(&old);
    policy_deinit(&same);
    policy_deinit(&less);
    policy_deinit(&moved);
}

/* The audit is for auditors and admins, and its session reaches nothing else. */
static void test_decide_on_the_audit(void **state)
{
    static const struct gt_pin admin = {.role = GT_PIN_ADMIN, .is_any_service = true},
                               auditor = {.role = GT_PIN_AUDITOR};
    static const struct {
        const struct gt_pin *pin;
        bool has_audit;
        enum gt_ack_status status;
    } cases[] = {
        {&admin, true, GT_ACK_OK},        {&auditor, true, GT_ACK_OK},
        {&any_pin, true, GT_ACK_SERVICE}, {NULL, true, GT_ACK_SERVICE},
        {&admin, false, GT_ACK_SERVICE},  {&auditor, false, GT_ACK_SERVICE},
    };
    struct policy policy = make_policy();
    struct gt_req req = {.service = POLICY_AUDIT};

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct policy_request request = {.req = &req, .pin = cases[i].pin};
        struct grant grant;

        policy.has_audit = cases[i].has_audit;
        assert_int_equal(policy_decide(&policy, &request, &grant), 0);
        assert_int_equal(grant.status, cases[i].status);
        assert_int_equal(grant.services.n, cases[i].status == GT_ACK_OK);
        assert_string_equal(grant.permit_text, "");
        if (grant.services.n > 0) { /* and only as long as that is so */
            assert_true(policy_recheck(&policy, cases[i].pin, &grant.services, ""));
            assert_false(policy_recheck(&policy, &any_pin, &grant.services, ""));
            policy.has_audit = false;
            assert_false(policy_recheck(&policy, cases[i].pin, &grant.services, ""));
        }
        grant_deinit(&grant);
    }
    policy_deinit(&policy);
}

static void test_find_pin_matches_name_key_role_and_time(void **state)
{
    struct gt_pin pins[] = {
        {.name = "alice", .fingerprint = {1}, .role = GT_PIN_OPERATOR, .until = 100},
        {.name = "bob", .fingerprint = {2}, .role = GT_PIN_ADMIN},
        {.name = "dev", .fingerprint = {3}, .role = GT_PIN_DEVICE},
    };
    struct gt_trust trust = {.policy = GT_POLICY_PIN, .pins = pins, .n_pins = GT_ARRAY_SIZE(pins)};
    static const uint8_t keys[4][GT_KEY_SIZE] = {{0}, {1}, {2}, {3}};

    assert_ptr_equal(policy_find_pin(&trust, "alice", keys[1], 99), &pins[0]);
    assert_null(policy_find_pin(&trust, "alice", keys[1], 100));
    assert_null(policy_find_pin(&trust, "alice", keys[2], 99));
    assert_ptr_equal(policy_find_pin(&trust, "bob", keys[2], 1000), &pins[1]);
    assert_null(policy_find_pin(&trust, "dev", keys[3], 0));
    assert_null(policy_find_pin(&trust, "carol", keys[0], 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide_returns_status_and_grant),
        cmocka_unit_test(test_decide_on_permitted_targets),
        cmocka_unit_test(test_decide_caps_lifetime),
        cmocka_unit_test(test_recheck_detects_removed_and_moved_services),
        cmocka_unit_test(test_decide_on_the_audit),
        cmocka_unit_test(test_find_pin_matches_name_key_role_and_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
