/* SPDX-License-Identifier: ISC */
/* Errors of getaddrinfo(3) in words that distinguish the name, its addresses and the name server.
 */
#pragma once

#include "gotthard/base/base.h"

/* Writes @err, an EAI_* code, in words: "there is no such name". @took_s: from the question to the
 * answer, because EAI_AGAIN is both a failure of the name server and its silence. Returns @ret. */
#define GT_RESOLVE_WHY      96
#define GT_RESOLVE_SILENT_S 4. /* glibc waits 5 s for a server */
const char *gt_resolve_describe(int err, double took_s, char *ret, size_t cap);
/* Returns true if the name servers have answered that there is no such name, or no address. */
bool gt_resolve_is_unknown(int err);
