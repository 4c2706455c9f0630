/* SPDX-License-Identifier: ISC */
/*
 * `proxy DEVICE [SERVICE]`: one connection to a service of the device over standard input and
 * output, as the ProxyCommand of ssh needs it. There is no local port for other users of this
 * machine. Standard output carries the service's bytes and nothing else: messages go to standard
 * error, and there are none while all is well.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "connect-output.h"
#include "forward-spec.h"
#include "gotthard/base/log.h"
#include "session.h"

#define DEFAULT_SERVICE "ssh"

struct proxy {
    struct context *context;
    struct command_signals signals;
    struct forward_spec spec;
    struct gt_endpoint_fds fds; /* until the connection is opened */
    struct session *session;
    struct connect_output output;
    bool is_ended; /* the connection: ->code is its result */
    int code;      /* exit status */
};

static void proxy_leave(struct proxy *proxy, int code)
{
    if (!proxy->is_ended)
        proxy->code = code;
    proxy->is_ended = true;
    ev_break(proxy->context->loop, EVBREAK_ALL);
}

/* --- the session's events ------------------------------------------------------------------ */

static void session_on_broker_connected(void *userdata)
{
}

static void session_on_agreed(void *userdata, const struct gt_extensions *extensions,
                              const struct identity *identity)
{
    const struct proxy *proxy = userdata;

    identity_warn_unpinned(identity, proxy->context->arguments[0], &proxy->context->print);
}

static void session_on_report(void *userdata, const struct gt_report *report)
{
}

static void session_on_offline(void *userdata)
{
}

static void session_on_relay_retry(void *userdata, const struct gt_host_port *relay,
                                   const char *why)
{
}

static void session_on_up(void *userdata, const char *host, uint16_t port)
{
    struct proxy *proxy = userdata;
    struct gt_endpoint_fds fds = proxy->fds;
    uint32_t stream;

    proxy->fds = gt_endpoint_fds(-1);
    int r = session_open_stream(proxy->session, fds, proxy->spec.service, &stream);
    if (r == 0)
        return;
    gt_error("cannot open a connection to %s: %s", proxy->spec.service,
             r > 0 ? "too many connections" : strerror(-r));
    proxy_leave(proxy, GT_EXIT_TRY_AGAIN);
}

static void session_on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
    struct proxy *proxy = userdata;

    connect_output_notice(&proxy->output, notice, text);
}

static void session_on_peer(void *userdata, bool is_up, enum gt_code reason)
{
    struct proxy *proxy = userdata;

    connect_output_peer(&proxy->output, is_up, reason);
}

static void session_on_relay(void *userdata, bool is_up, const char *why)
{
    struct proxy *proxy = userdata;

    connect_output_relay(&proxy->output, is_up, why);
}

/* A reset of the service is an end of file on standard output: the exit status distinguishes it. */
static void session_on_stream_end(void *userdata, const char *service, uint32_t stream,
                                  enum gt_rst code, uint64_t n_up, uint64_t n_down)
{
    struct proxy *proxy = userdata;

    if (proxy->is_ended)
        return;
    proxy->is_ended = true;
    proxy->code = code == GT_RST_NONE ? 0 : GT_EXIT_UNAVAILABLE;
    if (code != GT_RST_NONE)
        print_warning(&proxy->context->print, "connection to %s failed: %s", service,
                      gt_rst_text(code));
    if (session_state(proxy->session) < SESSION_CLOSING)
        session_close(proxy->session);
}

static void session_on_end(void *userdata, const struct session_end *end)
{
    struct proxy *proxy = userdata;

    if (end->kind == SESSION_END_FAILED && !proxy->is_ended)
        proxy_leave(proxy, print_failure(&proxy->context->print, end->failure));
    else
        proxy_leave(proxy, GT_EXIT_UNAVAILABLE);
}

static const struct session_events events = {
    .on_broker_connected = session_on_broker_connected,
    .on_agreed = session_on_agreed,
    .on_report = session_on_report,
    .on_offline = session_on_offline,
    .on_relay_retry = session_on_relay_retry,
    .on_up = session_on_up,
    .on_notice = session_on_notice,
    .on_peer = session_on_peer,
    .on_relay = session_on_relay,
    .on_stream_end = session_on_stream_end,
    .on_end = session_on_end,
};

/* ssh sends SIGHUP when it ends. The first signal notifies the device, another one does not wait.
 */
static void proxy_on_signal(void *userdata, int number)
{
    struct proxy *proxy = userdata;
    enum session_state state = session_state(proxy->session);

    if (!proxy->is_ended)
        proxy->code = GT_EXIT_INTERRUPTED;
    proxy->is_ended = true;
    if (state >= SESSION_JOINING && state < SESSION_CLOSING)
        session_close(proxy->session);
    else
        ev_break(proxy->context->loop, EVBREAK_ALL);
}

/* --- start and end ------------------------------------------------------------------------- */

/* Not to block is a property of the open file, which the shell shares: a killed process could not
 * restore it. Opens a terminal or a pipe a second time. Returns a descriptor, or -1 if it is
 * another kind, or if the system denies it. */
static int open_again(int fd, int mode)
{
    char path[sizeof("/proc/self/fd/") + 11];
    struct stat st;

    if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || isatty(fd)))
        return -1;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Returns a descriptor of the same file that is no standard one, or -1 with errno. */
static int take_fd(int fd, int mode)
{
    gt_cleanup(gt_close) int own = open_again(fd, mode);

    return fcntl(own >= 0 ? own : fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

/* Nothing else of this program can read or write them from now on. Returns 0 or a negative errno.
 */
static int take_standard_fds(struct gt_endpoint_fds *ret)
{
    gt_cleanup(gt_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    ret->in = take_fd(STDIN_FILENO, O_RDONLY);
    ret->out = take_fd(STDOUT_FILENO, O_WRONLY);
    if (null < 0 || ret->in < 0 || ret->out < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    return 0;
}

static int parse_service(struct context *context, struct forward_spec *ret)
{
    const char *text = context->n_arguments > 1 ? context->arguments[1] : DEFAULT_SERVICE;
    const char *why = "standard input and output take the place of the local port";
    char shown[80];

    if (forward_spec_parse(text, 0, ret, &why) == 0 && !ret->is_local_given)
        return 0;
    gt_text_shorten(text, shown, sizeof(shown));
    return command_misused(context, "invalid service '%s': %s", shown, why);
}

static int proxy_start(struct proxy *proxy, const char *device)
{
    struct context *context = proxy->context;
    struct session_settings session = {
        .loop = context->loop,
        .config = context->config,
        .print = &context->print,
        .device = device,
        .service = proxy->spec.service,
        .purpose = context->purpose,
    };
    struct failure failure;

    if (session_new(&session, &events, proxy, &proxy->session, &failure) != 0 ||
        session_start(proxy->session, &failure) != 0)
        return print_failure(&context->print, &failure);
    return 0;
}

int cmd_proxy(struct context *context)
{
    struct proxy proxy = {.context = context, .fds = gt_endpoint_fds(-1)};
    const char *device = context->arguments[0];

    if (!command_check_device(context, device))
        return GT_EXIT_USAGE;
    int code = command_check_purpose(context) ? parse_service(context, &proxy.spec) : GT_EXIT_USAGE;
    if (code != 0)
        return code;
    int r = take_standard_fds(&proxy.fds);
    if (r < 0) {
        gt_error_errno(r, "standard input and output");
        return GT_EXIT_INTERNAL;
    }
    context->print.is_terse = true;
    connect_output_init(&proxy.output, &context->print, device, NULL, false);
    command_signals_start(&proxy.signals, context->loop, proxy_on_signal, &proxy);
    proxy.code = proxy_start(&proxy, device);
    if (proxy.code == 0)
        ev_run(context->loop, 0);
    command_signals_stop(&proxy.signals);
    session_free(proxy.session);
    gt_endpoint_fds_reset(proxy.fds);
    return proxy.code;
}
