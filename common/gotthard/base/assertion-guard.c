/* SPDX-License-Identifier: ISC */
/*
 * assert(3) calls __assert_fail(). A definition in the program replaces the one of the C library:
 * the linker exports it, because the shared libraries refer to it. In all other threads, and
 * outside guarded work, it behaves as the C library's.
 */
#include "gotthard/base/assertion-guard.h"

#include <setjmp.h>
#include <stdio.h>

_Noreturn void __assert_fail(const char *assertion, const char *file, unsigned line,
                             const char *function);

static _Thread_local jmp_buf *escape; /* set while gt_assertion_guard_run() runs in this thread */

__attribute__((visibility("default"))) void __assert_fail(const char *assertion, const char *file,
                                                          unsigned line, const char *function)
{
    if (escape)
        longjmp(*escape, 1);
    dprintf(STDERR_FILENO, "%s:%u: %s: assertion \"%s\" failed\n", file, line, function, assertion);
    abort();
}

bool gt_assertion_guard_run(void (*work)(void *userdata), void *userdata)
{
    jmp_buf here;

    if (setjmp(here) != 0) {
        escape = NULL;
        return false;
    }
    escape = &here;
    work(userdata);
    escape = NULL;
    return true;
}
