/* SPDX-License-Identifier: ISC */
/* Empty files in the state directory; see the header. */
#include "pin-memory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/config/protected-file.h"

/* Writes the path of the file in the first of the directories, which systemd separates by colons.
 * Returns false if there is none. */
static bool find_path(enum pin_memory memory, char *ret, size_t cap)
{
    static const char *const names[] = {
        [PIN_MEMORY_PINS] = "operators-are-pinned", [PIN_MEMORY_LIST] = "access-list-is-required"};
    const char *folders = getenv("STATE_DIRECTORY");
    size_t n = folders ? strcspn(folders, ":") : 0;

    int written = n ? snprintf(ret, cap, "%.*s/%s", (int)n, folders, names[memory]) : 0;
    return written > 0 && (size_t)written < cap;
}

bool pin_memory_is_set(enum pin_memory memory)
{
    char path[PATH_MAX];

    return find_path(memory, path, sizeof(path)) && !gt_protectedfile_is_absent(path);
}

void pin_memory_set(enum pin_memory memory, bool is_set)
{
    char path[PATH_MAX];

    if (!find_path(memory, path, sizeof(path)) || is_set == pin_memory_is_set(memory))
        return;
    int fd = is_set ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (is_set ? fd < 0 : unlink(path) < 0)
        gt_warn_errno(errno, "%s", path);
    gt_close(&fd);
}
