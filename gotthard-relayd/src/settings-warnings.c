/* SPDX-License-Identifier: ISC */
/* The warnings; see the header. */
#include "settings-warnings.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/base/log.h"

#define RELOADS_A_SECOND 8 /* further ones, in a storm of signals, repeat no warning */

/* Logs once if the kernel does not offer the congestion control to this process. */
static void warn_of_congestion(const char *name)
{
    gt_cleanup(gt_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) < 0)
        gt_warn_errno(
            errno, "relay.congestion: \"%s\" is not available, using the system's default", name);
}

/* Each session needs a port of its own. */
static void warn_of_ports(const struct settings *settings)
{
    unsigned long long n_ports = settings->ports_to - settings->ports_from + 1;

    if (n_ports < settings->n_sessions)
        gt_warn("server.ports_from to server.ports_to: %llu ports, fewer than limits.sessions "
                "(%llu); the relay takes %llu sessions at most",
                n_ports, (unsigned long long)settings->n_sessions, n_ports);
}

void settings_warnings_log(const struct settings *settings, const struct admission *admission)
{
    const struct gt_key *key = &admission->keys[ADMISSION_CURRENT].key;
    static struct gt_log_rate rate;
    unsigned n_suppressed;

    if (!gt_log_is_allowed(&rate, RELOADS_A_SECOND, &n_suppressed))
        return;
    if (settings->congestion)
        warn_of_congestion(settings->congestion);
    warn_of_ports(settings);
    if (key->kind == GT_KEY_MASTER)
        gt_warn(
            "crypt.key is the fleet key, which gives the relay more rights than it needs; use a "
            "relay key (gk1r...) from `gotthard-cli keygen relay`");
    if (key->is_passphrase)
        gt_warn("crypt.key is a passphrase; a random key from `gotthard-cli keygen` is stronger");
    if (admission->n_keys == ADMISSION_N_KEYS)
        gt_info("the previous key is still accepted");
    if (settings->access_list && !settings->authority)
        gt_warn("relay.access_list is not used: it needs trust.authority");
    if (settings->refused)
        gt_info("relay.refused: identities=%zu", admission->refused.n);
}

void settings_warnings_log_change(const struct settings *old, const struct settings *new)
{
    const char *congestion[] = {old->congestion ? old->congestion : "",
                                new->congestion ? new->congestion : ""};

    if (old->port != new->port || strcmp(old->bind, new->bind) != 0)
        gt_warn("changes of server.port and server.bind take effect after a restart");
    if (old->n_threads != new->n_threads || strcmp(old->splice, new->splice) != 0 ||
        old->pipe_size != new->pipe_size || old->n_descriptors != new->n_descriptors)
        gt_warn("changes of relay.threads, relay.splice, relay.pipe_size and limits.descriptors "
                "take effect after a restart or an upgrade (SIGUSR2)");
    if (strcmp(congestion[0], congestion[1]) != 0)
        gt_info("relay.congestion applies to new connections");
}
