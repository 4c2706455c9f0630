/* SPDX-License-Identifier: ISC */
/* doctor-process.c: which control groups are those of the system's unit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "doctor.h"

static void test_unit_is_known_by_its_cgroup(void **state)
{
    static const char *const texts[] = {
        "0::/system.slice/gotthard-agentd.service\n",
        "4:memory:/\n1:name=systemd:/system.slice/gotthard-agentd.service\n0::/\n",
        "1:name=systemd:/\n0::/devices.slice/gotthard-agentd.service",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++)
        assert_true(doctor_is_unit_cgroup(texts[i]));
}

static void test_other_cgroups_are_not_the_unit(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        "0::/\n",
        "0::/system.slice/ssh.service\n",
        "0::/system.slice/other-gotthard-agentd.service\n",
        "0::/system.slice/gotthard-agentd.service/more\n",
        "4:memory:/system.slice/gotthard-agentd.service\n0::/\n",
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/gotthard-agentd.service\n",
        "0::/user.slice/user-1000.slice/session-1.scope\n",
    };

    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++)
        assert_false(doctor_is_unit_cgroup(texts[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unit_is_known_by_its_cgroup),
        cmocka_unit_test(test_other_cgroups_are_not_the_unit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
