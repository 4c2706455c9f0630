/* SPDX-License-Identifier: ISC */
/* A table of codes; see the header. */
#include "gotthard/net/resolve-error.h"

#include <netdb.h>
#include <stdio.h>

bool gt_resolve_is_unknown(int err)
{
    return err == EAI_NONAME || err == EAI_NODATA || err == EAI_ADDRFAMILY;
}

const char *gt_resolve_describe(int err, double took_s, char *ret, size_t cap)
{
    static const struct {
        int err;
        const char *words;
    } rows[] = {
        {EAI_NONAME, "there is no such name"},
        {EAI_NODATA, "the name exists, but has no address"},
        {EAI_ADDRFAMILY, "the name exists, but has no address of this family"},
        {EAI_AGAIN, "the name server fails (SERVFAIL), or cannot be reached"},
        {EAI_FAIL, "the name server refuses to answer"},
        {EAI_MEMORY, "out of memory"},
    };

    snprintf(ret, cap, "%s", gai_strerror(err));
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (rows[i].err == err)
            snprintf(ret, cap, "%s", rows[i].words);
    if (err == EAI_AGAIN && took_s >= GT_RESOLVE_SILENT_S)
        snprintf(ret, cap, "no name server has answered within %.0f s", took_s);
    return ret;
}
