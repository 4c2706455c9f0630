/* SPDX-License-Identifier: ISC */
/*
 * `proxy DEVICE [SERVICE]`: one connection to a service of the device over standard input and
 * output, as the ProxyCommand of ssh needs it. There is no local port for other users of this
 * machine. Standard output carries the service's bytes and nothing else: messages go to standard
 * error, and there are none while all is well.
 *
 * The bytes do not pass this process: a holder (holder.h) gets the two descriptors, and shares its
 * session with all commands for the same device. This process waits for the result. Its end ends
 * the connection, behind the bytes that its input already has: ssh sends its last packet, and then
 * SIGHUP. It keeps the output open until the service is connected: ssh ends at the end of that
 * output, and a failure has to be printed before.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "forward-spec.h"
#include "gotthard/base/log.h"
#include "holder-path.h"
#include "holder-reach.h"
#include "holder-wire.h"

#define DEFAULT_SERVICE "ssh"
#define SSH_PORT        "22" /* of ssh's %p: the service ssh, whatever its port is on the device */

struct proxy {
    struct context *context;
    struct command_signals signals;
    struct holder_settings holder;
    struct forward_spec spec;
    struct gt_endpoint_fds
        fds; /* in: until the holder has it; out: until the service is connected */
    int fd;  /* of the holder */
    ev_io io;
    int code; /* exit status */
};

static void proxy_leave(struct proxy *proxy, int code)
{
    proxy->code = code;
    ev_break(proxy->context->loop, EVBREAK_ALL);
}

/* ssh sends SIGHUP when it ends. */
static void proxy_on_signal(void *userdata, int number)
{
    proxy_leave(userdata, GT_EXIT_INTERRUPTED);
}

/* --- messages of the holder ---------------------------------------------------------------------
 */

static void on_notice(struct proxy *proxy, const struct holder_message *message)
{
    struct print *print = &proxy->context->print;

    if (message->notice.kind == HOLDER_NOTICE_WARNING)
        print_warning(print, "%s", message->notice.text);
    else
        print_log_line(print, message->notice.text);
}

static void on_failure(struct proxy *proxy, const struct holder_message *message)
{
    struct failure failure = {.id = failure_known(message->failure.id)};

    snprintf(failure.message, sizeof(failure.message), "%s", message->failure.message);
    snprintf(failure.hint, sizeof(failure.hint), "%s", message->failure.hint);
    proxy_leave(proxy, print_failure(&proxy->context->print, &failure));
}

static void on_end(struct proxy *proxy, const struct holder_message *message)
{
    if (message->end.text[0])
        print_warning(&proxy->context->print, "%s", message->end.text);
    proxy_leave(proxy, message->end.status);
}

static void proxy_on_message(struct proxy *proxy, const struct holder_message *message)
{
    switch (message->type) {
    case HOLDER_NOTICE: on_notice(proxy, message); return;
    case HOLDER_CONNECTED: gt_close(&proxy->fds.out); return;
    case HOLDER_FAILURE: on_failure(proxy, message); return;
    case HOLDER_END: on_end(proxy, message); return;
    case HOLDER_HELLO:
    case HOLDER_READY:
    case HOLDER_STALE:
    case HOLDER_OPEN:
    case HOLDER_ACCEPTED:
    case HOLDER_STATUS_QUERY:
    case HOLDER_STATUS:
    case HOLDER_HOST_KEYS_QUERY:
    case HOLDER_HOST_KEYS: proxy_leave(proxy, GT_EXIT_INTERNAL); return;
    }
}

static void proxy_on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
    struct proxy *proxy = io->data;
    struct gt_endpoint_fds fds = gt_endpoint_fds(-1);
    struct holder_message message;
    int r = holder_wire_receive(proxy->fd, &message, &fds);

    gt_endpoint_fds_reset(fds);
    if (r == 0) {
        proxy_on_message(proxy, &message);
    } else if (r == HOLDER_WIRE_E_END) {
        print_warning(&proxy->context->print, "the process that held the session with %s has ended",
                      proxy->holder.device);
        proxy_leave(proxy, GT_EXIT_UNAVAILABLE);
    }
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

    if (strcmp(text, SSH_PORT) == 0)
        text = DEFAULT_SERVICE;
    if (forward_spec_parse(text, 0, ret, &why) == 0 && !ret->is_local_given)
        return 0;
    gt_text_shorten(text, shown, sizeof(shown));
    return command_misused(context, "invalid service '%s': %s", shown, why);
}

/* Hands the descriptors to the holder. Returns 0, or 1 with @ret_failure. */
static int proxy_open(struct proxy *proxy, struct failure *ret_failure)
{
    int r = holder_reach(&proxy->holder, proxy->spec.service, &proxy->fds, &proxy->context->print,
                         &proxy->fd, ret_failure);

    gt_config_forget_secrets(proxy->context->config);
    gt_close(&proxy->fds.in);
    return r;
}

static int proxy_start(struct proxy *proxy)
{
    struct context *context = proxy->context;
    struct failure failure;
    int r = holder_check(context->config, proxy->holder.check);

    if (r == 0)
        r = take_standard_fds(&proxy->fds);
    if (r < 0) {
        gt_error_errno(r, "standard input and output");
        return GT_EXIT_INTERNAL;
    }
    if (proxy_open(proxy, &failure) != 0)
        return print_failure(&context->print, &failure);
    return 0;
}

static void proxy_wait(struct proxy *proxy)
{
    struct ev_loop *loop = proxy->context->loop;

    command_signals_start(&proxy->signals, loop, proxy_on_signal, proxy);
    ev_io_init(&proxy->io, proxy_on_readable, proxy->fd, EV_READ);
    proxy->io.data = proxy;
    ev_io_start(loop, &proxy->io);
    ev_run(loop, 0);
    ev_io_stop(loop, &proxy->io);
    command_signals_stop(&proxy->signals);
}

int cmd_proxy(struct context *context)
{
    struct proxy proxy = {
        .context = context,
        .holder = {.config = context->config, .purpose = context->purpose},
        .fds = gt_endpoint_fds(-1),
        .fd = -1,
    };
    char device[GT_NAME_MAX + 1];

    if (!command_take_device(context, context->arguments[0], device))
        return GT_EXIT_USAGE;
    int code = command_check_purpose(context) ? parse_service(context, &proxy.spec) : GT_EXIT_USAGE;
    if (code != 0)
        return code;
    proxy.holder.device = device;
    context->print.is_terse = true;
    proxy.code = proxy_start(&proxy);
    if (proxy.code == 0)
        proxy_wait(&proxy);
    gt_close(&proxy.fd);
    gt_close(&proxy.fds.in);
    gt_close(&proxy.fds.out);
    return proxy.code;
}
