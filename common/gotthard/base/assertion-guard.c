/* SPDX-License-Identifier: ISC */
/*
 * The C library's assert(3) calls __assert_fail(), and a program's own takes the place of the
 * library's (the linker exports it, because the shared libraries ask for it). In all other threads,
 * and in work that is not surveyed, it does what the C library's does.
 */
#include "gotthard/assertion.h"

#include <setjmp.h>
#include <stdio.h>

_Noreturn void __assert_fail(const char *assertion, const char *file, unsigned line,
                             const char *function);

static _Thread_local jmp_buf *escape; /* where to, in a thread that works for gt_assertion_holds */

__attribute__((visibility("default"))) void __assert_fail(const char *assertion, const char *file,
                                                          unsigned line, const char *function)
{
    if (escape)
        longjmp(*escape, 1);
    dprintf(STDERR_FILENO, "%s:%u: %s: assertion \"%s\" failed\n", file, line, function, assertion);
    abort();
}

bool gt_assertion_holds(void (*work)(void *userdata), void *userdata)
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
