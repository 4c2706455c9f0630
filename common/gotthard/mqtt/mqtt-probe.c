/* SPDX-License-Identifier: ISC */
/* The second handshake; see the header. Its thread waits, and no loop. */
#include "gotthard/mqtt/mqtt-probe.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gotthard/base/clock.h"
#include "gotthard/mqtt/mqtt-tls-error.h"
#include "gotthard/tls/certificate-context.h"

#define LIMIT_S 3. /* of the whole */

struct probe {
    const struct gt_mqtt_race *race;
    int fd;
    double deadline; /* by gt_clock() */
};

/* Waits for the socket. Returns false if the probe is to end. */
static bool probe_wait(void *userdata, short events)
{
    const struct probe *probe = userdata;
    struct pollfd fds[] = {{.fd = probe->fd, .events = events},
                           {.fd = probe->race->wakeup_fd, .events = POLLIN}};
    double left;
    eventfd_t n;

    while ((left = probe->deadline - gt_clock()) > 0) {
        int r = poll(fds, GT_ARRAY_SIZE(fds), (int)(left * 1000) + 1);

        if (r < 0 && errno != EINTR)
            return false;
        if (r > 0 && fds[1].revents)
            (void)eventfd_read(probe->race->wakeup_fd, &n);
        if (probe->race->is_over(probe->race->userdata))
            return false;
        if (r > 0 && fds[0].revents)
            return true;
    }
    return false;
}

static bool probe_connect(struct probe *probe)
{
    const struct gt_addr *addr = &probe->race->reached;
    int err = 0;
    socklen_t n = sizeof(err);

    probe->fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe->fd < 0)
        return false;
    if (connect(probe->fd, &addr->any, addr->n) == 0)
        return true;
    return errno == EINPROGRESS && probe_wait(probe, POLLOUT) &&
           getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0;
}

static void probe_run(const struct gt_mqtt_race *race)
{
    struct probe probe = {.race = race, .fd = -1, .deadline = gt_clock() + LIMIT_S};

    if (!race->is_over(race->userdata) && probe_connect(&probe))
        gt_certificate_context_probe(race->tls, probe.fd, probe_wait, &probe);
    gt_close(&probe.fd);
}

void gt_mqtt_probe_alert(const struct gt_mqtt_race *race, struct gt_mqtt_error *how,
                         struct gt_mqtt_probed *probed)
{
    if (!race->tls || race->reached.n == 0 || *how->proxy || !gt_mqtt_tls_is_guess(how)) {
        *probed = (struct gt_mqtt_probed){0};
        return;
    }
    if (probed->is_known)
        how->verification.alert = probed->alert;
    else
        probe_run(race);
    *probed = (struct gt_mqtt_probed){.is_known = true, .alert = how->verification.alert};
}
