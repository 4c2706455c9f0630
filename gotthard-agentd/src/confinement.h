/* SPDX-License-Identifier: ISC */
/*
 * What the kernel takes away from the two processes of a session. Both were started by the listener
 * with its user, and one of them handles the bytes of operators, relay and targets:
 *
 *   worker    opens no file, starts no process or thread, listens on no port, signals no other
 *             process. It keeps the descriptors that it has, and connects over IPv4 and IPv6.
 *   resolver  reads files, because getaddrinfo(3) does, but writes none and runs no program. It has
 *             no key of the session.
 *
 * Landlock (landlock(7)) and seccomp (seccomp(2)) each enforce this as far as they can, so that a
 * kernel with only one of them still confines. A sanitized program is not confined: a sanitizer
 * opens files and starts processes itself.
 */
#pragma once

#include "gotthard/base/base.h"

enum confinement { CONFINEMENT_WORKER, CONFINEMENT_RESOLVER };

/* What this process, and therefore its children, can use. */
struct confinement_support {
    int landlock; /* version of the kernel's interface; 0: none */
    bool has_seccomp;
};

struct confinement_support confinement_support(void);
/* Confines this process, which has one thread, for the remainder of its life. Something that the
 * kernel does not have is no error, see confinement_support(). Returns 0 or a negative errno: then
 * the process must exit. */
int confinement_enter(enum confinement confinement) GT_MUST_CHECK;
