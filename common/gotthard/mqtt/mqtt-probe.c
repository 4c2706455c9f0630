/* SPDX-License-Identifier: ISC */
/* The second handshake; see the header. Its thread waits, and no loop. */
#include "gotthard/mqtt/mqtt-probe.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "gotthard/mqtt/mqtt-tls-error.h"
#include "gotthard/tls/certificate-context.h"

#define WAIT_S 2 /* to connect, and for each answer */

/* Connects and waits at most WAIT_S (SO_SNDTIMEO, socket(7)). Returns a descriptor, or -1. */
static int probe_connect(const struct gt_addr *addr)
{
    struct timeval wait = {.tv_sec = WAIT_S};
    int fd = socket(addr->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (connect(fd, &addr->any, addr->n) < 0)
        gt_close(&fd);
    return fd;
}

void gt_mqtt_probe_alert(const struct gt_mqtt_race *race, const struct gt_mqtt_error *how)
{
    if (!race->tls || race->reached.n == 0 || *how->proxy || !gt_mqtt_tls_is_guess(how))
        return;
    int fd = probe_connect(&race->reached);
    if (fd < 0)
        return;
    gt_certificate_context_probe(race->tls, fd);
    gt_close(&fd);
}
