/* SPDX-License-Identifier: ISC */
/*
 * For programs under the thread sanitizer. It makes its notes about a thread's signals when that
 * thread first waits or first gets one; a signal that comes just while it does is lost (gcc 12 and
 * clang 14: one in some hundred that are sent right after the start). Here it waits before anybody
 * can know of it.
 */
#include <poll.h>
#include <stddef.h>

__attribute__((constructor)) static void wait_first(void)
{
    poll(NULL, 0, 0);
}
