/* SPDX-License-Identifier: ISC */
/*
 * Another resolver: a line of the file $NAMES is a name and its addresses, in the order in which
 * getaddrinfo() returns them. A name without an address cannot be resolved. The file may change at
 * any time; other names are resolved as usual.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolve_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* Returns true with the addresses of @name, separated by blanks. */
static int find_name(const char *name, char *line, size_t cap)
{
    const char *path = getenv("NAMES");
    FILE *file = path ? fopen(path, "re") : NULL;
    int is_found = 0;

    while (file && !is_found && fgets(line, (int)cap, file)) {
        size_t n = strcspn(line, " \n");

        is_found = strlen(name) == n && strncmp(line, name, n) == 0;
        if (is_found)
            memmove(line, line + n, strlen(line + n) + 1);
    }
    if (file)
        fclose(file);
    return is_found;
}

__attribute__((visibility("default"))) int getaddrinfo(const char *restrict host,
                                                       const char *restrict service,
                                                       const struct addrinfo *restrict hints,
                                                       struct addrinfo **restrict ret)
{
    struct addrinfo *found = NULL, **last = &found;
    char line[512], *rest = NULL;
    resolve_fn *real;

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!host || !find_name(host, line, sizeof(line)))
        return real(host, service, hints, ret);
    for (char *at = strtok_r(line, " \n", &rest); at; at = strtok_r(NULL, " \n", &rest)) {
        if (real(at, service, hints, last) != 0)
            return EAI_FAIL;
        while (*last)
            last = &(*last)->ai_next;
    }
    *ret = found;
    return found ? 0 : EAI_NONAME;
}
