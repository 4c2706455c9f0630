/* SPDX-License-Identifier: ISC */
/*
 * The session and its stream; see the header. The bytes of the device are copied to the file as
 * they are, up to the length that it has announced and a limit. audit-view.c judges them.
 */
#include "audit-download.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "connect-progress.h"
#include "gotthard/state/audit-log.h"
#include "session.h"

#define SERVICE   "@audit"
#define BYTES_MAX ((uint64_t)(GT_AUDIT_LOG_FILES_MAX + 1) * GT_AUDIT_LOG_SIZE_MAX)

struct download {
    struct context *context;
    const char *device;
    struct command_signals signals;
    struct connect_progress progress;
    struct session *session;
    int file;
    int fd; /* this end of the stream's socket; -1: not open, or over */
    ev_io readable;
    uint8_t header[8]; /* the length, as far as received */
    uint64_t n, size;  /* bytes received, with the header; bytes announced */
    bool is_over, is_interrupted;
    int result; /* as of audit_download() */
    struct failure *failure;
};

static void download_leave(struct download *download, int result)
{
    if (download->is_over)
        return;
    download->is_over = true;
    download->result = result;
    ev_break(download->context->loop, EVBREAK_ALL);
}

static void download_fail(struct download *download, const char *why)
{
    if (!download->is_over)
        failure_set(download->failure, FAILURE_AUDIT_UNREADABLE, NULL,
                    "the audit of %s cannot be read: %s", download->device, why);
    download_leave(download, 1);
}

/* --- the stream --- */

static bool has_size(const struct download *download)
{
    return download->n >= sizeof(download->header);
}

static bool is_complete(const struct download *download)
{
    return has_size(download) && download->n == sizeof(download->header) + download->size;
}

/* Returns the bytes behind the header. */
static struct gt_span take_header(struct download *download, struct gt_span bytes)
{
    while (bytes.n > 0 && !has_size(download)) {
        download->header[download->n++] = *bytes.data;
        bytes = gt_span(bytes.data + 1, bytes.n - 1);
    }
    struct gt_reader reader = gt_reader(download->header, sizeof(download->header));
    if (has_size(download))
        download->size = gt_read_u64(&reader);
    return bytes;
}

/* Returns NULL, or why the bytes cannot be taken. */
static const char *take_bytes(struct download *download, struct gt_span bytes)
{
    bytes = take_header(download, bytes);
    download->n += bytes.n;
    if (has_size(download) && download->size > BYTES_MAX)
        return "it is larger than an audit can be";
    if (has_size(download) && download->n > sizeof(download->header) + download->size)
        return "the device sent more bytes than it has announced";
    for (ssize_t n; bytes.n > 0; bytes = gt_span(bytes.data + n, bytes.n - (size_t)n)) {
        n = write(download->file, bytes.data, bytes.n);
        if (n < 0)
            return strerror(errno);
    }
    return NULL;
}

static void download_close_stream(struct download *download)
{
    ev_io_stop(download->context->loop, &download->readable);
    gt_close(&download->fd);
}

/* The tunnel is closed before the result is shown. */
static void download_finish(struct download *download)
{
    download_close_stream(download);
    if (is_complete(download))
        session_close(download->session);
    else
        download_fail(download, "the device did not send all of it");
}

static void download_on_readable(struct ev_loop *loop, ev_io *watcher, int revents)
{
    struct download *download = watcher->data;
    uint8_t bytes[16 * 1024];
    ssize_t n = read(download->fd, bytes, sizeof(bytes));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    const char *why = n < 0 ? strerror(errno) : take_bytes(download, gt_span(bytes, (size_t)n));
    if (why)
        download_fail(download, why);
    else if (n == 0)
        download_finish(download);
}

static void download_open_stream(struct download *download)
{
    uint32_t stream;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
        download_fail(download, strerror(errno));
        return;
    }
    shutdown(ends[0], SHUT_WR); /* nothing is sent to the device */
    download->fd = ends[0];
    ev_io_set(&download->readable, ends[0], EV_READ);
    ev_io_start(download->context->loop, &download->readable);
    int r = session_open_stream(download->session, gt_endpoint_fds(ends[1]), SERVICE, &stream);
    if (r)
        download_fail(download, r < 0 ? strerror(-r) : "the tunnel is closing");
}

/* --- the session's events --- */

static void on_broker_connected(void *userdata)
{
}

static void on_agreed(void *userdata, const struct gt_extensions *extensions,
                      const struct identity *identity)
{
    struct download *download = userdata;

    connect_progress_step(&download->progress, "waiting for %s at the relay", download->device);
}

static void on_report(void *userdata, const struct gt_report *report)
{
}

static void on_offline(void *userdata)
{
}

static void on_relay_retry(void *userdata, const struct gt_host_port *relay, const char *why)
{
    struct download *download = userdata;

    print_warning(&download->context->print, "the relay %s is not reachable, trying again: %s",
                  relay->host, why);
}

static void on_up(void *userdata, const char *host, uint16_t port)
{
    struct download *download = userdata;

    connect_progress_step(&download->progress, "reading the audit of %s", download->device);
    download_open_stream(download);
}

static void on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
}

static void on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void on_relay(void *userdata, enum gt_relay_change change, const char *why)
{
}

static void on_stream_end(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                          uint64_t n_up, uint64_t n_down)
{
    struct download *download = userdata;

    if (code != GT_RST_NONE && download->fd >= 0) /* otherwise all is read, and the tunnel closes */
        download_fail(download, gt_rst_text(code));
}

static void on_end(void *userdata, const struct session_end *end)
{
    struct download *download = userdata;

    if (end->kind == SESSION_END_FAILED && !download->is_over)
        *download->failure = *end->failure;
    download_leave(download, download->is_interrupted          ? AUDIT_DOWNLOAD_E_INTERRUPTED
                             : end->kind == SESSION_END_FAILED ? 1
                                                               : 0);
}

/* The first signal closes the session; another one does not wait for it. */
static void download_on_signal(void *userdata, int number)
{
    struct download *download = userdata;
    enum session_state state = session_state(download->session);

    if (!download->is_interrupted && state >= SESSION_JOINING && state < SESSION_CLOSING)
        session_close(download->session);
    else if (state != SESSION_CLOSING || download->is_interrupted)
        download_leave(download, AUDIT_DOWNLOAD_E_INTERRUPTED);
    download->is_interrupted = true;
}

/* --- beginning and end --- */

static const struct session_events events = {
    .on_broker_connected = on_broker_connected,
    .on_agreed = on_agreed,
    .on_report = on_report,
    .on_offline = on_offline,
    .on_relay_retry = on_relay_retry,
    .on_up = on_up,
    .on_notice = on_notice,
    .on_peer = on_peer,
    .on_relay = on_relay,
    .on_stream_end = on_stream_end,
    .on_end = on_end,
};

static int download_start(struct download *download)
{
    struct context *context = download->context;
    struct session_settings settings = {
        .loop = context->loop,
        .config = context->config,
        .print = &context->print,
        .device = download->device,
        .service = SERVICE,
    };

    connect_progress_step(&download->progress, "waiting for %s to answer", download->device);
    if (session_new(&settings, &events, download, &download->session, download->failure) != 0)
        return 1;
    return session_start(download->session, download->failure) != 0;
}

/* Returns a descriptor of a file without a name, or -1 with errno. */
static int open_file(void)
{
    int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    return fd >= 0 ? fd : open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int download_run(struct download *download)
{
    struct ev_loop *loop = download->context->loop;

    connect_progress_init(&download->progress, loop, &download->context->print);
    ev_io_init(&download->readable, download_on_readable, -1, EV_READ);
    download->readable.data = download;
    download->result = download_start(download);
    if (download->result == 0) {
        command_signals_start(&download->signals, loop, download_on_signal, download);
        ev_run(loop, 0);
        command_signals_stop(&download->signals);
    }
    connect_progress_stop(&download->progress);
    download_close_stream(download);
    session_free(download->session);
    return download->result;
}

int audit_download(struct context *context, const char *device, int *ret_fd,
                   struct failure *ret_failure)
{
    struct download download = {.context = context,
                                .device = device,
                                .file = open_file(),
                                .fd = -1,
                                .failure = ret_failure};

    if (download.file < 0)
        return failure_set(ret_failure, FAILURE_AUDIT_UNREADABLE, NULL, "a temporary file: %s",
                           strerror(errno));
    int r = download_run(&download);
    if (r == 0 && lseek(download.file, 0, SEEK_SET) == 0)
        *ret_fd = gt_steal_fd(&download.file);
    gt_close(&download.file);
    return r;
}
