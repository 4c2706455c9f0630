/* SPDX-License-Identifier: ISC */
/* permit.c and permit-parse.c: which targets a list permits, and which lists are rejected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "permit.h"

static struct permit parse(const char *text)
{
    struct permit permit = {0};
    char why[256] = "";

    if (permit_parse(text, &permit, why, sizeof(why)) != 0)
        fail_msg("%s: %s", text, why);
    return permit;
}

/* @is_name_allowed: as if the address came from a permitted name. */
static bool allows(const char *text, const char *host, uint16_t port, bool is_name_allowed)
{
    struct permit permit = parse(text);
    struct gt_addr addr;

    assert_int_equal(gt_addr_parse(host, port, &addr), 0);
    bool is_allowed = permit_allows_address(&permit, &addr, false, is_name_allowed);
    permit_deinit(&permit);
    return is_allowed;
}

static void test_address_is_permitted_by_a_network_that_contains_it(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        bool is_allowed;
    } cases[] = {
        {NULL, "10.0.0.5", 80, false},
        {"", "10.0.0.5", 80, false},
        {"10.0.0.5:80", "10.0.0.5", 80, true},
        {"10.0.0.5:80", "10.0.0.5", 81, false},
        {"10.0.0.5:80", "10.0.0.4", 80, false},
        {"10.0.0.5:80", "::ffff:10.0.0.5", 80, true},
        {"[::ffff:10.0.0.5]:80", "10.0.0.5", 80, true},
        {"10.0.0.0/8:80", "10.255.255.255", 80, true},
        {"10.0.0.0/8:80", "11.0.0.0", 80, false},
        {"10.0.0.0/31:80", "10.0.0.1", 80, true},
        {"10.0.0.0/31:80", "10.0.0.2", 80, false},
        {"192.168.1.0/24:80,443", "192.168.1.7", 443, true},
        {"192.168.1.0/24:80,443", "192.168.1.7", 444, false},
        {"192.168.1.0/24:8000-8010,22", "192.168.1.7", 8000, true},
        {"192.168.1.0/24:8000-8010,22", "192.168.1.7", 8010, true},
        {"192.168.1.0/24:8000-8010,22", "192.168.1.7", 8011, false},
        {"192.168.1.0/24:8000-8010,22", "192.168.1.7", 7999, false},
        {"192.168.1.0/24:*", "192.168.1.7", 1, true},
        {"192.168.1.0/24:*", "192.168.1.7", 65535, true},
        {"  10.0.0.5:80   10.0.0.6:81 ", "10.0.0.6", 81, true},
        {"10.0.0.5:80 10.0.0.6:81", "10.0.0.6", 80, false},
        {"[fd00::/8]:22", "fd12:3456::1", 22, true},
        {"[fd00::/8]:22", "fe12::1", 22, false},
        {"[fd00::1]:22", "fd00::1", 22, true},
        {"[2001:db8::/33]:22", "2001:db8:7fff::1", 22, true},
        {"[2001:db8::/33]:22", "2001:db8:8000::1", 22, false},
        /* one family does not contain the other */
        {"[::/0]:*", "10.0.0.5", 80, false},
        {"[::/0]:*", "::ffff:10.0.0.5", 80, false},
        {"0.0.0.0/0:*", "2001:db8::1", 80, false},
        {"0.0.0.0/0:*", "8.8.8.8", 53, true},
        {"[::/0]:*", "2001:db8::1", 80, true},
        /* a name permits no address by itself */
        {"plc.local:102", "10.0.0.5", 102, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++)
        assert_int_equal(allows(cases[i].text, cases[i].host, cases[i].port, false),
                         cases[i].is_allowed);
}

/* Neither a wider network nor a name leads to them. */
static void test_special_address_must_be_named(void **state)
{
    static const struct {
        const char *host, *named, *too_wide;
    } cases[] = {
        {"127.0.0.1", "127.0.0.0/8:*", "126.0.0.0/7:*"},
        {"127.9.9.9", "127.9.9.9:*", "127.0.0.1:*"},
        {"::ffff:127.0.0.1", "127.0.0.1:*", "[::/0]:*"},
        {"::1", "[::1]:*", "[::/64]:*"},
        {"::1", "localhost:*", "[::/96]:*"},
        {"127.0.0.1", "localhost:*", "[::1]:*"},
        {"::", "[::]:*", "[::/64]:*"},
        {"::127.0.0.1", "[::/96]:*", "[::/95]:*"},
        {"0.0.0.0", "0.0.0.0/8:*", "0.0.0.0/7:*"},
        {"0.1.2.3", "0.1.2.3:*", "0.0.0.0/7:*"},
        {"169.254.7.7", "169.254.0.0/16:*", "169.254.0.0/15:*"},
        {"169.254.169.254", "169.254.169.254:*", "169.254.0.0/16:*"},
        {"169.254.169.254", "169.254.169.254/32:*", "169.254.169.254/31:*"},
        {"::ffff:169.254.169.254", "169.254.169.254:*", "169.254.0.0/16:*"},
        {"64:ff9b::a9fe:a9fe", "[64:ff9b::a9fe:a9fe]:*", "[64:ff9b::/96]:*"},
        {"64:ff9b::7f00:1", "[64:ff9b::7f00:1]:*", "[64:ff9b::/96]:*"},
        {"168.63.129.16", "168.63.129.16:*", "168.63.0.0/16:*"},
        {"100.100.100.200", "100.100.100.200:*", "100.64.0.0/10:*"},
        {"fd00:ec2::254", "[fd00:ec2::254]:*", "[fd00:ec2::/32]:*"},
        {"fd00:ec2::23", "[fd00:ec2::23]:*", "[fd00:ec2::/32]:*"},
        {"fd00:ec2::7", "[fd00:ec2::/32]:*", "[fd00::/8]:*"},
        {"fd00:c1::a9fe:a9fe", "[fd00:c1::a9fe:a9fe]:*", "[fd00:c1::/32]:*"},
        {"fd00:42::42", "[fd00:42::42]:*", "[fd00:42::/32]:*"},
        {"192.0.0.192", "192.0.0.192:*", "192.0.0.0/24:*"},
        {"64:ff9b:1::a9fe:a9fe", "[64:ff9b:1::a9fe:a9fe]:*", "[64:ff9b:1::/48]:*"},
        {"64:ff9b:1:2:3:4:7f00:1", "[64:ff9b:1:2:3:4:7f00:1]:*", "[64:ff9b:1:2:3:4::/96]:*"},
        {"64:ff9b:1:7f00:0:100::", "[64:ff9b:1:7f00:0:100::]:*", "[64:ff9b:1:7f00::/64]:*"},
        {"64:ff9b:1:7f:0:1::", "[64:ff9b:1:7f:0:1::]:*", "[64:ff9b:1:7f::/64]:*"},
        {"64:ff9b:1:0:7f:0:100:0", "[64:ff9b:1:0:7f:0:100:0]:*", "[64:ff9b:1::/64]:*"},
        {"fd20:ce::254", "[fd20:ce::254]:*", "[fd00::/8]:*"},
        {"fe80::1", "[fe80::/10]:*", "[fe00::/9]:*"},
        {"febf::1", "[febf::1]:*", "[::/0]:*"},
        {"ff02::1", "[ff00::/8]:*", "[fe00::/7]:*"},
        {"224.0.0.1", "224.0.0.0/4:*", "224.0.0.0/3:*"},
        {"239.255.255.255", "239.255.255.255:*", "224.0.0.0/3:*"},
        {"240.0.0.1", "240.0.0.0/4:*", "224.0.0.0/3:*"},
        {"255.255.255.255", "255.255.255.255:*", "240.0.0.0/4:*"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        assert_false(allows("0.0.0.0/0:* [::/0]:*", cases[i].host, 80, false));
        assert_false(allows("0.0.0.0/0:* [::/0]:* *.local:*", cases[i].host, 80, true));
        assert_false(allows(cases[i].too_wide, cases[i].host, 80, true));
        assert_true(allows(cases[i].named, cases[i].host, 80, false));
        assert_true(allows(cases[i].named, cases[i].host, 80, true));
    }
    assert_true(allows("plc.local:102", "10.0.0.5", 102, true));
    assert_true(allows("plc.local:102", "2001:db8::1", 102, true));
    assert_true(allows("[64:ff9b::/96]:*", "64:ff9b::808:808", 53, false));
    assert_true(allows("[64:ff9b:1::/48]:*", "64:ff9b:1::808:808", 53, false));
    assert_true(allows("[64:ff9b:1::/48]:*", "64:ff9b:1:808:8:800::", 53, false));
}

static void test_name_is_permitted_by_its_entry(void **state)
{
    static const struct {
        const char *text, *target;
        bool is_name_allowed, is_possible;
    } cases[] = {
        {"plc.local:102", "plc.local:102", true, true},
        {"plc.local:102", "PLC.Local:102", true, true},
        {"PLC.local.:102", "plc.local:102", true, true},
        {"plc.local:102", "plc.local:103", false, false},
        {"plc.local:102", "xplc.local:102", false, false},
        {"plc.local:102", "plc.local.evil.example:102", false, false},
        {"*.local:102", "plc.local:102", true, true},
        {"*.local:102", "a.b.local:102", true, true},
        {"*.local:102", "local:102", false, false},
        {"*.local:102", "plclocal:102", false, false},
        {"*.local:102", "plc.local.evil.example:102", false, false},
        {"10.0.0.0/8:80", "plc.local:80", false, true}, /* if it has such an address */
        {"10.0.0.0/8:80", "plc.local:81", false, false},
        {"10.0.0.0/8:80", "10.0.0.5:80", false, true},
        {"10.0.0.0/8:80", "11.0.0.5:80", false, false},
        {"10.0.0.0/8:80", "[::ffff:10.0.0.5]:80", false, true},
        {"localhost:80", "localhost:80", false, true},
        {"localhost:80", "80", false, true},
        {"localhost:80", "81", false, false},
        {"", "plc.local:102", false, false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct permit permit = parse(cases[i].text);
        struct permit_target to;

        assert_true(permit_split(cases[i].target, &to));
        assert_int_equal(permit_allows_name(&permit, &to), cases[i].is_name_allowed);
        assert_int_equal(permit_may_allow(&permit, &to), cases[i].is_possible);
        permit_deinit(&permit);
    }
}

static void test_udp_and_tcp_are_apart(void **state)
{
    static const struct {
        const char *text, *target;
        bool is_allowed;
    } cases[] = {
        {"udp:10.0.0.0/8:161", "udp:10.0.0.5:161", true},
        {"udp:10.0.0.0/8:161", "10.0.0.5:161", false},
        {"10.0.0.0/8:161", "udp:10.0.0.5:161", false},
        {"udp:plc.local:161", "udp:plc.local:161", true},
        {"udp:plc.local:161", "plc.local:161", false},
        {"udp:[fd00::/8]:161", "udp:[fd00::1]:161", true},
        {"udp:localhost:53", "udp:53", true},
        {"udp:localhost:53", "53", false},
    };
    struct permit tcp = parse("10.0.0.0/8:161"), udp = parse("udp:10.0.0.0/8:161");

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct permit permit = parse(cases[i].text);
        struct permit_target target;

        assert_true(permit_split(cases[i].target, &target));
        assert_int_equal(permit_may_allow(&permit, &target), cases[i].is_allowed);
        permit_deinit(&permit);
    }
    assert_false(permit_covers(&tcp, &udp));
    assert_false(permit_covers(&udp, &tcp));
    assert_true(permit_covers(&udp, &udp));
    permit_deinit(&tcp);
    permit_deinit(&udp);
}

static void test_split_takes_host_and_port_or_port(void **state)
{
    static const char *const bad[] = {
        "",    "ssh", "permit", "10.0.0.5",     "10.0.0.5:0", "10.0.0.5:65536", "0", "65536",
        "022", ":80", "[::1]",  "10.0.0.5:80 ", "-1",         "[10.0.0.5]:80"};
    struct permit_target to;

    for (size_t i = 0; i < GT_ARRAY_SIZE(bad); i++)
        assert_false(permit_split(bad[i], &to));
    assert_true(permit_split("[fd00::1]:22", &to));
    assert_string_equal(to.to.host, "fd00::1");
    assert_int_equal(to.to.port, 22);
    assert_true(permit_split("1880", &to));
    assert_string_equal(to.to.host, "localhost");
    assert_int_equal(to.to.port, 1880);
}

static void test_senseless_text_is_rejected_with_what_would_be_right(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"udp:", "ports are missing"},
        {"udp:10.0.0.5", "ports are missing"},
        {"tcp:10.0.0.5:80", "IPv6 must be in brackets"},
        {"10.0.0.5", "ports are missing"},
        {"10.0.0.0/8", "ports are missing"},
        {"plc.local", "ports are missing"},
        {"[fd00::1]", "ports are missing"},
        {"[fd00::1]22", "ports are missing"},
        {"10.0.0.5:", "the ports must be"},
        {"10.0.0.5:0", "the ports must be"},
        {"10.0.0.5:65536", "the ports must be"},
        {"10.0.0.5:080", "the ports must be"},
        {"10.0.0.5:80,", "the ports must be"},
        {"10.0.0.5:,80", "the ports must be"},
        {"10.0.0.5:80-80", "the ports must be"},
        {"10.0.0.5:81-80", "the ports must be"},
        {"10.0.0.5:80-", "the ports must be"},
        {"10.0.0.5:80-90-100", "the ports must be"},
        {"10.0.0.5:http", "the ports must be"},
        {"10.0.0.5:*,**", "the ports must be"},
        {"10.0.0.5:1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "at most 16"},
        {"192.168.1.5/24:80", "write 192.168.1.0/24"},
        {"[fd12::1/8]:80", "write fd00::/8"},
        {"10.0.0.0/33:80", "from 0 to 32"},
        {"10.0.0.0/08:80", "from 0 to 32"},
        {"10.0.0.0/:80", "from 0 to 32"},
        {"10.0.0.0/8/8:80", "from 0 to 32"},
        {"[fd00::/129]:80", "from 0 to 128"},
        {"10.0.0:80", "neither an address nor a host name"},
        {"300.1.1.1:80", "neither an address nor a host name"},
        {"1234:80", "neither an address nor a host name"},
        {"0x7f.1:80,81", NULL}, /* the last label is a number */
        {":80", "neither an address nor a host name"},
        {"a_b!:80", "neither an address nor a host name"},
        {"plc.*:80", "neither an address nor a host name"},
        {"**.local:80", "neither an address nor a host name"},
        {"*.*:80", "neither an address nor a host name"},
        {"*.:80", "neither an address nor a host name"},
        {"*.10.0.0.5:80", "neither an address nor a host name"},
        {"*:80", "0.0.0.0/0 and [::/0]"},
        {"plc.local/24:80", "not a network"},
        {"fd00::1:80", "IPv6 must be in brackets"},
        {"fd00::/8:80", "IPv6 must be in brackets"},
        {"[fd00::]/8:80", "the bracket must close after the prefix"},
        {"[fd00::/8:80", "the bracket must close"},
        {"[fe80::1%eth0]:80", "without a zone"},
        {"[10.0.0.5]:80", "must contain an IPv6 address"},
        {"[plc.local]:80", "must contain an IPv6 address"},
        {"[]:80", "must contain an IPv6 address"},
        {"[::ffff:0.0.0.0/90]:80", "write"},
        {"10.0.0.5:80\t10.0.0.6:80", "IPv6 must be in brackets"},
        {"10.0.0.5:80;10.0.0.6:80", "IPv6 must be in brackets"},
        {"10.0.0.5:80 10.0.0.6", "'10.0.0.6': ports are missing"},
        {"ssh", "ports are missing"},
        {"10.0.0.5:80 , 10.0.0.6:80", "',': ports are missing"},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct permit permit = {0};
        char why[320] = "";

        int r = permit_parse(cases[i].text, &permit, why, sizeof(why));
        if (r != PERMIT_E_BAD)
            fail_msg("'%s' was accepted", cases[i].text);
        if (cases[i].why && !strstr(why, cases[i].why))
            fail_msg("'%s': %s", cases[i].text, why);
        assert_null(permit.entries);
    }
}

static void test_list_has_a_limit(void **state)
{
    static char text[64 * PERMIT_ENTRIES_MAX];
    struct permit permit = {0};
    char why[320];
    size_t n = 0;

    for (int i = 0; i < PERMIT_ENTRIES_MAX - 1; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "10.0.%d.0/24:80 ", i);
    permit = parse(text);
    assert_int_equal(permit.n, PERMIT_ENTRIES_MAX - 1);
    permit_deinit(&permit);
    snprintf(text + n, sizeof(text) - n, "10.1.0.0/16:80");
    assert_int_equal(permit_parse(text, &permit, why, sizeof(why)), PERMIT_E_BAD);
    memset(text, 'a', 600);
    memcpy(text + 600, ":80", 4);
    assert_int_equal(permit_parse(text, &permit, why, sizeof(why)), PERMIT_E_BAD);
    assert_non_null(strstr(why, "at most 512 bytes"));
}

static void test_covers_compares_what_is_permitted(void **state)
{
    static const struct {
        const char *wide, *narrow;
        bool is_covered;
    } cases[] = {
        {"", "", true},
        {"10.0.0.0/8:80", "", true},
        {"", "10.0.0.0/8:80", false},
        {"10.0.0.0/8:80", "10.0.0.0/8:80", true},
        {"10.0.0.0/8:80 [fd00::/8]:*", "[fd00::/8]:* 10.0.0.0/8:80", true},
        {"10.0.0.0/8:80", "10.1.0.0/16:80", true},
        {"10.1.0.0/16:80", "10.0.0.0/8:80", false},
        {"10.0.0.0/8:*", "10.0.0.0/8:80,443,8000-9000", true},
        {"10.0.0.0/8:80", "10.0.0.0/8:80,443", false},
        {"10.0.0.0/8:80 10.0.0.0/8:443", "10.0.0.0/8:80,443", true},
        {"10.0.0.0/8:80 11.0.0.0/8:443", "10.0.0.0/8:80,443", false},
        {"[::/0]:*", "10.0.0.0/8:80", false},
        {"0.0.0.0/0:*", "127.0.0.1:80", false}, /* the wider one does not permit loopback */
        {"0.0.0.0/0:*", "0.0.0.0/0:*", true},
        {"127.0.0.0/8:*", "127.0.0.1:80", true},
        {"localhost:*", "localhost:80", true},
        {"127.0.0.1:*", "localhost:80", false},
        {"169.254.0.0/16:*", "169.254.169.254:80", false},
        {"plc.local:102", "PLC.local:102", true},
        {"plc.local:102", "other.local:102", false},
        {"*.local:102", "plc.local:102", true},
        {"*.local:102", "*.local:102", true},
        {"*.local:102", "*.plant.local:102", true},
        {"plc.local:102", "*.local:102", false},
        {"0.0.0.0/0:*", "plc.local:102", false},
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(cases); i++) {
        struct permit wide = parse(cases[i].wide), narrow = parse(cases[i].narrow);

        if (permit_covers(&wide, &narrow) != cases[i].is_covered)
            fail_msg("'%s' '%s'", cases[i].wide, cases[i].narrow);
        permit_deinit(&wide);
        permit_deinit(&narrow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_is_permitted_by_a_network_that_contains_it),
        cmocka_unit_test(test_special_address_must_be_named),
        cmocka_unit_test(test_name_is_permitted_by_its_entry),
        cmocka_unit_test(test_udp_and_tcp_are_apart),
        cmocka_unit_test(test_split_takes_host_and_port_or_port),
        cmocka_unit_test(test_senseless_text_is_rejected_with_what_would_be_right),
        cmocka_unit_test(test_list_has_a_limit),
        cmocka_unit_test(test_covers_compares_what_is_permitted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
