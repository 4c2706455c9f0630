/* SPDX-License-Identifier: ISC */
/* An empty file in the state directory; see the header. */
#include "pin-memory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/config/protected-file.h"

/* Writes the path of the file in the first of the directories, which systemd separates by colons.
 * Returns false if there is none. */
static bool find_path(char *ret, size_t cap)
{
    const char *folders = getenv("STATE_DIRECTORY");
    size_t n = folders ? strcspn(folders, ":") : 0;

    int written = n ? snprintf(ret, cap, "%.*s/operators-are-pinned", (int)n, folders) : 0;
    return written > 0 && (size_t)written < cap;
}

bool pin_memory_is_set(void)
{
    char path[PATH_MAX];

    return find_path(path, sizeof(path)) && !gt_protectedfile_is_absent(path);
}

void pin_memory_set(bool is_pinned)
{
    char path[PATH_MAX];

    if (!find_path(path, sizeof(path)) || is_pinned == pin_memory_is_set())
        return;
    int fd = is_pinned ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (is_pinned ? fd < 0 : unlink(path) < 0)
        gt_warn_errno(errno, "%s", path);
    gt_close(&fd);
}
