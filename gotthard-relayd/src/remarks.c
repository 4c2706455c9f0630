/* SPDX-License-Identifier: ISC */
/* Log lines, and one question to the kernel. */
#include "remarks.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/log.h"

/* The kernel may not have it, or not for us: told here, and not at each connection. */
static void remarks_on_congestion(const char *name)
{
    gt_cleanup(gt_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) < 0)
        gt_warn_errno(errno, "relay.congestion: no \"%s\" here, connections keep the system's",
                      name);
}

void remarks_on_settings(const struct settings *settings, const struct settings_keys *keys)
{
    if (settings->congestion)
        remarks_on_congestion(settings->congestion);
    if (keys->current.kind == GT_KEY_MASTER)
        gt_warn("this is the fleet's key, and a relay holding it holds more than it needs: "
                "`gotthard-cli keygen relay` makes one that opens no tunnel (gk1r....)");
    if (keys->current.is_passphrase)
        gt_warn("the key is a passphrase; 32 random bytes are better");
    if (keys->n == SETTINGS_TWO_KEYS)
        gt_info("the previous key is still accepted");
}

void remarks_on_change(const struct settings *old, const struct settings *new)
{
    const char *congestion[] = {old->congestion ? old->congestion : "",
                                new->congestion ? new->congestion : ""};

    if (old->port != new->port || strcmp(old->bind, new->bind))
        gt_warn("server.port and server.bind change with the next start only");
    if (old->n_threads != new->n_threads || strcmp(old->splice, new->splice) ||
        old->pipe_size != new->pipe_size || old->n_descriptors != new->n_descriptors)
        gt_warn("relay.threads, relay.splice, relay.pipe_size and limits.descriptors change with "
                "the next start or upgrade (SIGUSR2) only");
    if (strcmp(congestion[0], congestion[1]))
        gt_info("relay.congestion applies to new connections");
}
