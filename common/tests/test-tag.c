/* SPDX-License-Identifier: ISC */
/* Tags: the form of names and values, and their limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gotthard/signaling/tag.h"

static bool is_tag(const char *text)
{
    struct gt_span key, value;

    return gt_tag_split(gt_span_text(text), &key, &value);
}

static void test_tag_is_split_at_its_sign(void **state)
{
    struct gt_span key, value;

    assert_true(gt_tag_split(gt_span_text("site=zurich-1"), &key, &value));
    assert_true(gt_span_equals(key, gt_span_text("site")));
    assert_true(gt_span_equals(value, gt_span_text("zurich-1")));
    assert_true(is_tag("a=0"));
    assert_true(is_tag("os_version-2=debian/12+x@y:z._-"));
}

static void test_tag_of_another_form_is_refused(void **state)
{
    static const char *const texts[] = {"",      "=",     "a",     "a=",     "=a",    "a=b=c",
                                        "1=a",   "-a=b",  "a b=c", "a=b c",  "a=b,c", "a=\n",
                                        "a=b*",  "a=[b]", "a.b=c", "a=\x80", "ä=b",   "a=b;c",
                                        "a='b'", "a!=b",  "a=$b"};

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++)
        assert_false(is_tag(texts[i]));
    assert_false(gt_tag_is_value(gt_span("a\0b", 3)));
    assert_false(gt_tag_is_key(gt_span("a\0b", 3)));
}

static void test_tag_lengths_have_limits(void **state)
{
    char text[GT_TAG_VALUE_MAX + 2];

    memset(text, 'x', sizeof(text));
    assert_true(gt_tag_is_key(gt_span(text, GT_TAG_KEY_MAX)));
    assert_false(gt_tag_is_key(gt_span(text, GT_TAG_KEY_MAX + 1)));
    assert_true(gt_tag_is_value(gt_span(text, GT_TAG_VALUE_MAX)));
    assert_false(gt_tag_is_value(gt_span(text, GT_TAG_VALUE_MAX + 1)));
    assert_false(gt_tag_is_key(gt_span(text, 0)));
    assert_false(gt_tag_is_value(gt_span(text, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tag_is_split_at_its_sign),
        cmocka_unit_test(test_tag_of_another_form_is_refused),
        cmocka_unit_test(test_tag_lengths_have_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
