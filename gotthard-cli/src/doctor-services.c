/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "doctor-services.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "gotthard/doctor/wait.h"
#include "gotthard/net/sock.h"

#define UDP        "udp:"
#define SSH        "ssh"
#define SSH_BANNER "SSH-"

static bool is_ssh(const struct doctor_service *service)
{
    return strcmp(service->name, SSH) == 0;
}

/* Without its protocol, a target of UDP is not seen to answer. */
static bool is_udp(const struct doctor_service *service)
{
    return strncmp(service->name, UDP, strlen(UDP)) == 0;
}

static void service_close(struct doctor_service *service)
{
    if (service->fd < 0)
        return;
    ev_io_stop(service->run->doctor->context->loop, &service->readable);
    gt_close(&service->fd);
}

/* An end of file without a byte is an answer as well: the target has closed in order. */
static void service_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct doctor_service *service = io->data;
    size_t room = sizeof(service->banner) - 1 - service->n;
    ssize_t n = read(service->fd, service->banner + service->n, room);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        service->n += (size_t)n;
    service->banner[service->n] = 0;
    if (n > 0 && service->n + 1 < sizeof(service->banner) && !strchr(service->banner, '\n'))
        return;
    service->has_answered = service->n > 0;
    service_close(service);
    gt_check_wake(loop);
}

/* A server that waits for a request gets an end of file, and most close the connection then. ssh is
 * asked for nothing: it speaks first. */
static int service_open(struct doctor_service *service)
{
    struct doctor_session *run = service->run;
    int fds[2];

    int r = gt_sock_pair(fds);
    if (r != 0)
        return r;
    r = session_open_stream(run->session, gt_endpoint_fds(fds[0]), service->name, &service->stream);
    if (r != 0) {
        gt_close(&fds[1]);
        return r;
    }
    service->fd = fds[1];
    ev_io_init(&service->readable, service_on_readable, service->fd, EV_READ);
    service->readable.data = service;
    ev_io_start(run->doctor->context->loop, &service->readable);
    if (!is_ssh(service))
        (void)shutdown(service->fd, SHUT_WR);
    return 0;
}

static void service_init(struct doctor_service *service, struct doctor_session *run)
{
    service->run = run;
    service->fd = -1;
    snprintf(service->row, sizeof(service->row), "service %s", service->name);
}

void doctor_services_open(struct doctor_session *run)
{
    for (size_t i = 0; i < run->n_services; i++) {
        struct doctor_service *service = &run->services[i];

        service_init(service, run);
        if (is_udp(service) || service_open(service) != 0)
            service->stream = 0;
    }
}

static struct doctor_service *find_service(struct doctor_session *run, uint32_t stream)
{
    for (size_t i = 0; i < run->n_services; i++)
        if (stream != 0 && run->services[i].stream == stream)
            return &run->services[i];
    return NULL;
}

void doctor_services_on_connected(struct doctor_session *run, uint32_t stream)
{
    struct doctor_service *service = find_service(run, stream);

    if (service)
        service->is_connected = true;
}

void doctor_services_on_end(struct doctor_session *run, uint32_t stream, enum gt_rst code)
{
    struct doctor_service *service = find_service(run, stream);

    if (service) {
        service->is_ended = true;
        service->code = code;
    }
    gt_check_wake(run->doctor->context->loop);
}

static bool service_is_done(const struct doctor_service *service)
{
    return service->stream == 0 || service->is_ended || service->has_answered;
}

bool doctor_services_are_done(const struct doctor_session *run)
{
    for (size_t i = 0; i < run->n_services; i++)
        if (!service_is_done(&run->services[i]))
            return false;
    return true;
}

static void service_report_banner(const struct doctor_service *service, struct gt_checkup *checkup)
{
    bool is_banner = strncmp(service->banner, SSH_BANNER, strlen(SSH_BANNER)) == 0;

    if (is_ssh(service) && !is_banner)
        gt_checkup_warn(checkup, service->row,
                        "correct the target of the service ssh in the settings of the device",
                        "the target answers, but it is not an ssh server: \"%.*s\"",
                        (int)strcspn(service->banner, "\r\n"), service->banner);
    else
        gt_checkup_ok(checkup, service->row, "%.*s", (int)strcspn(service->banner, "\r\n"),
                      service->banner);
}

/* The stream is open: no byte of the target, no end. */
static void service_report_silent(const struct doctor_service *service, struct gt_checkup *checkup)
{
    if (!service->is_connected)
        gt_checkup_warn(
            checkup, service->row, "check the target on the device: gotthard-agentd --doctor",
            "the device has not connected to the target within %.0f s", DOCTOR_SERVICES_S);
    else if (is_ssh(service))
        gt_checkup_warn(checkup, service->row,
                        "restart the ssh server on the device: systemctl restart ssh",
                        "the target accepts connections, and sends no ssh banner");
    else
        gt_checkup_ok(checkup, service->row, "the target accepts connections");
}

static void service_report(const struct doctor_service *service, struct doctor *doctor)
{
    struct gt_checkup *checkup = &doctor->checkup;
    struct failure failure;

    if (is_udp(service)) {
        gt_checkup_skip(checkup, service->row, "a target of UDP answers only its own protocol");
    } else if (service->stream == 0) {
        gt_checkup_skip(checkup, service->row, "more services than streams of this session");
    } else if (service->has_answered) {
        service_report_banner(service, checkup);
    } else if (service->is_ended && service->code != GT_RST_NONE) {
        failure_set(&failure, FAILURE_TARGET, NULL, "%s on %s: %s", service->name, doctor->device,
                    gt_rst_text(service->code));
        doctor_fail(doctor, service->row, &failure);
    } else if (service->is_ended && !is_ssh(service)) {
        gt_checkup_ok(checkup, service->row, "the target answers");
    } else {
        service_report_silent(service, checkup);
    }
}

void doctor_services_report(struct doctor_session *run)
{
    for (size_t i = 0; i < run->n_services; i++)
        service_report(&run->services[i], run->doctor);
    if (run->n_services == 0)
        gt_checkup_warn(&run->doctor->checkup, "services",
                        "add one to the group services in the settings of the device",
                        "%s does not offer any service to this operator", run->doctor->device);
}

void doctor_services_close(struct doctor_session *run)
{
    for (size_t i = 0; i < run->n_services; i++)
        if (run->services[i].run)
            service_close(&run->services[i]);
}
