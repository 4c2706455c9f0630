/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "state-folder.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool state_folder_find(char *ret, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool is_set = state && *state == '/';
    const char *base = is_set ? state : home;
    struct stat status;

    if (!base || *base != '/')
        return false;
    bool exists = stat(base, &status) == 0;
    if ((!exists && !is_set) || (exists && status.st_uid != geteuid()))
        return false;
    int n = snprintf(ret, cap, "%s%s/gotthard", base, is_set ? "" : "/.local/state");
    return n > 0 && (size_t)n < cap;
}

void state_folder_make(const char *path)
{
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *at = strchr(copy + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        (void)!mkdir(copy, 0700);
        *at = '/';
    }
}
