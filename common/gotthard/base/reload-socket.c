/* SPDX-License-Identifier: ISC */
/* The place of the socket; see the header. */
#include "gotthard/base/reload-socket.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

bool gt_reload_socket_address(struct sockaddr_un *ret)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *folders = getenv("RUNTIME_DIRECTORY");
    size_t n_folder = folders ? strcspn(folders, ":") : 0; /* systemd.exec(5) */

    if (n_folder == 0)
        return false;
    int n =
        snprintf(addr.sun_path, sizeof(addr.sun_path), "%.*s/reload.sock", (int)n_folder, folders);
    if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
        return false;
    *ret = addr;
    return true;
}
