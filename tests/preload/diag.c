/* SPDX-License-Identifier: ISC */
/* A system without sock_diag(7), as some containers and sandboxes are. */
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>

typedef int socket_fn(int, int, int);

__attribute__((visibility("default"))) int socket(int domain, int type, int protocol)
{
    if (domain == AF_NETLINK && protocol == NETLINK_SOCK_DIAG) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    return ((socket_fn *)dlsym(RTLD_NEXT, "socket"))(domain, type, protocol);
}
