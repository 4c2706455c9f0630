/* SPDX-License-Identifier: ISC */
/*
 * For programs under the thread sanitizer. The sanitizer allocates its signal state of a thread
 * when that thread first waits or first gets a signal. A signal that arrives during the allocation
 * is lost (gcc 12 and clang 14: about one of some hundred sent right after the start). This library
 * waits once before any other process can know the program.
 */
#include <poll.h>
#include <stddef.h>

__attribute__((constructor)) static void wait_first(void)
{
    poll(NULL, 0, 0);
}
