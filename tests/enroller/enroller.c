/* SPDX-License-Identifier: ISC */
/*
 * The operator's end of an enrolment under the control of a test, which may be honest or not. The
 * fleet key is $GOTTHARD_CRYPT_KEY with $GOTTHARD_CRYPT_IV.
 *
 *     enroller FOLDER new KIND SECONDS HOST PORT     makes a token for KIND (1, 2 or 3)
 *     enroller FOLDER stolen TOKEN                   has a token that another command made
 *
 * It prints a line for each event: token TEXT, waiting, up, request FINGERPRINT, result 0|1 TEXT,
 * bad REASON, end CAUSE REASON. The certificate request is in FOLDER/request.der then. Standard
 * input has commands: "answer KIND" sends the bundle of the files FOLDER/1, FOLDER/2 and so on, by
 * their types, under KIND; "reject TEXT"; "garbage"; "close".
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "gotthard/tls/suite-choice.h"
#include "gotthard/trust/enrolment.h"
#include "gotthard/tunnel/tunnel.h"

static struct {
    const char *folder;
    struct ev_loop *loop;
    struct gt_token token;
    uint8_t private_key[GT_KEY_SIZE];
    struct gt_host_port relay;
    struct gt_tunnel *tunnel;
    int fd; /* our end of the stream */
    ev_io io, commands;
    uint8_t in[GT_ENROLMENT_HEAD + GT_ENROLMENT_REQUEST_MAX];
    size_t n_in;
    struct gt_enrolment_request request; /* borrows from ->kept */
    uint8_t kept[GT_ENROLMENT_REQUEST_MAX];
} self = {.fd = -1};

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "enroller: %s\n", why);
    exit(1);
}

static void say(const char *event, const char *text)
{
    printf("%s %s\n", event, text);
    fflush(stdout);
}

/* --- the stream ------------------------------------------------------------------------------- */

/* The peer's buffers have room for all of it, or the test fails. */
static void send_all(const uint8_t *data, size_t n)
{
    fcntl(self.fd, F_SETFL, fcntl(self.fd, F_GETFL) & ~O_NONBLOCK);
    for (ssize_t r; n; data += r, n -= (size_t)r) {
        r = send(self.fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno == EAGAIN) {
            ev_run(self.loop, EVRUN_NOWAIT);
            r = 0;
        }
        if (r < 0)
            return;
    }
}

static void send_frame(enum gt_enrolment_frame type, const void *body, size_t n)
{
    uint8_t head[GT_ENROLMENT_HEAD];

    gt_enrolment_write_head(type, n, head);
    send_all(head, sizeof(head));
    send_all(body, n);
}

static void on_request(struct gt_span body)
{
    char why[GT_ENROLMENT_WHY], hex[2 * GT_KEY_SIZE + 1], path[4096];

    memcpy(self.kept, body.data, body.n);
    int r = gt_enrolment_request_open(&self.token, gt_span(self.kept, body.n), &self.request, why);
    if (r) {
        say("bad", r < 0 ? strerror(-r) : why);
        return;
    }
    snprintf(path, sizeof(path), "%s/request.der", self.folder);
    FILE *file = fopen(path, "w");
    if (!file)
        give_up("cannot write request.der");
    fwrite(self.request.certificate_request.data, 1, self.request.certificate_request.n, file);
    fclose(file);
    gt_text_hex(self.request.fingerprint, GT_KEY_SIZE, hex);
    say("request", hex);
}

static void on_frame(enum gt_enrolment_frame type, struct gt_span body)
{
    char text[GT_ENROLMENT_TEXT_MAX + 1], line[GT_ENROLMENT_TEXT_MAX + 8];
    bool is_installed;

    if (type == GT_ENROLMENT_REQUEST) {
        on_request(body);
    } else if (gt_enrolment_read_result(body, &is_installed, text) == 0) {
        snprintf(line, sizeof(line), "%d %s", is_installed, text);
        say("result", line);
    }
}

static void on_stream(struct ev_loop *loop, ev_io *io, int revents)
{
    ssize_t r = recv(self.fd, self.in + self.n_in, sizeof(self.in) - self.n_in, MSG_DONTWAIT);
    enum gt_enrolment_frame type;
    size_t n;

    if (r <= 0) {
        if (r < 0 && errno == EAGAIN)
            return;
        ev_io_stop(loop, io);
        gt_tunnel_close(self.tunnel);
        return;
    }
    self.n_in += (size_t)r;
    while (self.n_in >= GT_ENROLMENT_HEAD && gt_enrolment_read_head(self.in, &type, &n) == 0 &&
           self.n_in >= GT_ENROLMENT_HEAD + n) {
        on_frame(type, gt_span(self.in + GT_ENROLMENT_HEAD, n));
        self.n_in -= GT_ENROLMENT_HEAD + n;
        memmove(self.in, self.in + GT_ENROLMENT_HEAD + n, self.n_in);
    }
}

/* --- commands --------------------------------------------------------------------------------- */

static struct gt_span read_entry(unsigned type)
{
    static uint8_t texts[GT_BUNDLE_N][1 << 20];
    char path[4096];

    snprintf(path, sizeof(path), "%s/%u", self.folder, type);
    FILE *file = fopen(path, "r");
    if (!file)
        return gt_span("", 0);
    size_t n = fread(texts[type], 1, sizeof(texts[type]), file);
    fclose(file);
    return gt_span(texts[type], n);
}

static void answer(unsigned kind)
{
    static uint8_t plain[GT_BUNDLE_MAX], sealed[GT_ENROLMENT_ANSWER_MAX];
    struct gt_bundle bundle = {.kind = (enum gt_token_kind)kind};
    char why[GT_BUNDLE_WHY];
    size_t n = 0;

    for (unsigned i = 1; i < GT_BUNDLE_N; i++)
        bundle.entries[i] = read_entry(i);
    if (gt_bundle_encode(&bundle, plain, sizeof(plain), &n, why) != 0)
        give_up(why);
    if (gt_enrolment_answer_make(&self.token, self.private_key, &self.request, gt_span(plain, n),
                                 sealed) != 0)
        give_up("no answer");
    send_frame(GT_ENROLMENT_ANSWER, sealed, n + GT_SEAL_OVERHEAD);
}

static void on_command(struct ev_loop *loop, ev_io *io, int revents)
{
    char line[512];
    ssize_t n = read(STDIN_FILENO, line, sizeof(line) - 1);

    line[n > 0 ? n : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    if (n <= 0)
        ev_io_stop(loop, io);
    else if (strncmp(line, "answer ", 7) == 0)
        answer((unsigned)strtoul(line + 7, NULL, 10));
    else if (strncmp(line, "reject ", 7) == 0)
        send_frame(GT_ENROLMENT_REJECTION, line + 7, strlen(line + 7));
    else if (strcmp(line, "garbage") == 0)
        send_all((const uint8_t *)"\377\377\377\377\377garbage", 12);
    else if (strcmp(line, "close") == 0)
        gt_tunnel_close(self.tunnel);
    else
        give_up("unknown command");
}

/* --- the tunnel ------------------------------------------------------------------------------- */

static void on_retry(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why)
{
}

static void on_waiting(void *userdata)
{
    say("waiting", "");
}

static void on_up(void *userdata, uint16_t port)
{
    int fds[2];

    say("up", "");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ||
        gt_tunnel_open(self.tunnel, gt_endpoint_fds(fds[1]), GT_ENROLMENT_SERVICE) != 0)
        give_up("no stream");
    self.fd = fds[0];
    ev_io_init(&self.io, on_stream, self.fd, EV_READ);
    ev_io_start(self.loop, &self.io);
}

static void on_notice(void *userdata, enum gt_path_notice notice, const char *text)
{
}

static void on_peer(void *userdata, bool is_up, enum gt_code reason)
{
}

static void on_relay_connection(void *userdata, enum gt_relay_change change, const char *why)
{
}

static void on_service(void *userdata, struct gt_channel *channel, const char *service)
{
}

static void on_stream_end(void *userdata, const char *service, uint32_t stream, enum gt_rst code,
                          uint64_t n_up, uint64_t n_down)
{
}

static void on_down(void *userdata, enum gt_end_reason cause, enum gt_code code, const char *why)
{
    char text[300];

    snprintf(text, sizeof(text), "%s %s", gt_end_reason_text(cause), why);
    say("end", text);
    ev_break(self.loop, EVBREAK_ALL);
}

static void start(const struct gt_key *key, unsigned seconds)
{
    static const struct gt_tunnel_events events = {
        .on_retry = on_retry,
        .on_waiting = on_waiting,
        .on_up = on_up,
        .on_notice = on_notice,
        .on_peer = on_peer,
        .on_relay_connection = on_relay_connection,
        .on_service = on_service,
        .on_stream_end = on_stream_end,
        .on_down = on_down,
    };
    uint8_t client_key[GT_KEY_SIZE];
    struct gt_token_keys keys;

    snprintf(self.relay.host, sizeof(self.relay.host), "%s", self.token.relay_host);
    self.relay.port = self.token.relay_port;
    if (gt_token_derive(&self.token, &keys) != 0 ||
        gt_key_client(key, GT_ROLE_OPERATOR, "enroller", client_key) != 0)
        give_up("no keys");
    const struct gt_tunnel_settings settings = {
        .role = GT_ROLE_OPERATOR,
        .relays = &self.relay,
        .n_relays = 1,
        .name = "enroller",
        .client_key = client_key,
        .session_key = keys.session,
        .rid = keys.rid,
        .max_streams = 1,
        .ring_size = gt_tunnel_ring_size(0),
        .suite = gt_suite_preferred(),
        .peer_timeout_ms = seconds * 1000,
    };
    if (gt_tunnel_new(self.loop, &settings, &events, NULL, &self.tunnel) != 0)
        give_up("no tunnel");
}

static void make_token(int argc, char **argv, const struct gt_key *key)
{
    char text[GT_TOKEN_TEXT_MAX], why[GT_TOKEN_WHY];

    if (argc == 4 && strcmp(argv[2], "stolen") == 0) {
        if (gt_token_parse(argv[3], &self.token, why) != 0 ||
            gt_random(self.private_key, sizeof(self.private_key)) != 0)
            give_up("not a token");
        return;
    }
    if (argc != 7 || gt_token_new(key, (enum gt_token_kind)strtoul(argv[3], NULL, 10), argv[5],
                                  (uint16_t)strtoul(argv[6], NULL, 10),
                                  (uint32_t)(time(NULL) + strtol(argv[4], NULL, 10)), &self.token,
                                  self.private_key) != 0)
        give_up("no token");
    gt_token_format(&self.token, text);
    say("token", text);
}

int main(int argc, char **argv)
{
    const char *key_text = getenv("GOTTHARD_CRYPT_KEY");
    struct gt_key key;

    if (argc < 4 || !key_text || gt_key_parse(key_text, getenv("GOTTHARD_CRYPT_IV"), &key) != 0)
        give_up("see the head of the source");
    self.folder = argv[1];
    self.loop = ev_default_loop(0);
    make_token(argc, argv, &key);
    start(&key, 60);
    ev_io_init(&self.commands, on_command, STDIN_FILENO, EV_READ);
    ev_io_start(self.loop, &self.commands);
    ev_run(self.loop, 0);
    gt_tunnel_free(self.tunnel);
    return 0;
}
