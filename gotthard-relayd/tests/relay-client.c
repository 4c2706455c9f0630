/* SPDX-License-Identifier: ISC */
/*
 * A client of the relay for tests, without any behavior of its own. It reads commands from
 * standard input, one per line, and sends the frames they name on its control connection. It prints
 * each received frame on a line. Never installed.
 *
 *     relay-client HOST PORT IDENTITY      the key is $GOTTHARD_CRYPT_KEY with $GOTTHARD_CRYPT_IV
 *
 * Commands: hello MIN MAX | rendezvous RID GENERATION HINT TTL | open RID STREAM ATTEMPT |
 * end RID STREAM ATTEMPT CODE | ping N | pong N | bye CODE RID | error CODE RID | raw HEX |
 * repeat N HEX (N times in a row) | burst N HEX (N records at once) | deaf (stop reading) | close |
 * reset. RID is 32 hex digits.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/net/sock.h"
#include "gotthard/proto/control.h"
#include "gotthard/tls/tls.h"

#define LINE (256 * 1024)

struct client {
    int fd;
    struct gt_tls *tls;
    enum { READING, NOT_READING, ENDED } state;
    size_t n_line, n_in;
    char line[LINE];
    uint8_t in[4 * GT_CONTROL_FRAME_MAX];
};

static void print_line(const char *fmt, ...) GT_PRINTF(1, 2);
static void print_line(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

static void client_end(struct client *client, const char *why)
{
    if (client->state != ENDED)
        print_line("closed reason=%s", why);
    client->state = ENDED;
}

static void await_socket(int fd, short events)
{
    struct pollfd pollfd = {fd, events, 0};

    poll(&pollfd, 1, 10000);
}

static void client_encrypt(struct client *client, const void *data, size_t n)
{
    const uint8_t *at = data;

    while (n && client->state != ENDED) {
        size_t part = GT_MIN(n, (size_t)16384);
        int r = gt_tls_write(client->tls, at, part);

        if (r == 0) {
            at += part;
            n -= part;
        } else if (r == GT_TLS_E_AGAIN) {
            await_socket(client->fd, POLLOUT);
        } else {
            client_end(client, gt_tls_why(client->tls));
        }
    }
}

static void client_flush(struct client *client)
{
    int r;

    while (client->state == READING && (r = gt_tls_flush(client->tls)) == GT_TLS_E_AGAIN)
        await_socket(client->fd, POLLOUT);
}

static void client_write(struct client *client, const void *data, size_t n)
{
    client_encrypt(client, data, n);
    client_flush(client);
}

static void client_send(struct client *client, const struct gt_control_frame *frame)
{
    uint8_t bytes[GT_CONTROL_FRAME_MAX];

    client_write(client, bytes, gt_control_encode(frame, bytes));
}

static const char *hex(const void *data, size_t n)
{
    static char text[4][129];
    static unsigned which;

    which = (which + 1) % 4;
    gt_text_hex(data, n, text[which]);
    return text[which];
}

static void print_frame(const struct gt_control_frame *f)
{
    const char *rid = hex(f->rid, GT_RID_SIZE);

    switch (f->type) {
    case GT_CONTROL_WELCOME:
        print_line("welcome version=%u boot=%s heartbeat=%" PRIu32 " streams=%u ttl=%" PRIu32,
                   f->welcome.version, hex(f->welcome.boot_id, 16), f->welcome.heartbeat_ms,
                   f->welcome.max_streams, f->welcome.ttl_s);
        return;
    case GT_CONTROL_SESSION:
        print_line("session rid=%s port=%u ttl=%" PRIu32 " peer=%d", rid, f->session.port,
                   f->session.ttl_left_s, f->session.is_peer_up);
        return;
    case GT_CONTROL_PEER:
        print_line("peer rid=%s up=%d reason=%u", rid, f->peer.is_up, f->peer.reason);
        return;
    case GT_CONTROL_TICKET:
        print_line("ticket rid=%s stream=%" PRIu32 " attempt=%" PRIu32 " id=%s secret=%s ttl=%u",
                   rid, f->ticket.stream, f->ticket.attempt, hex(f->ticket.id, GT_TICKET_ID_SIZE),
                   hex(f->ticket.secret, GT_KEY_SIZE), f->ticket.ttl_s);
        return;
    case GT_CONTROL_STREAM_END:
        print_line("end rid=%s stream=%" PRIu32 " attempt=%" PRIu32 " code=%u", rid,
                   f->stream_end.stream, f->stream_end.attempt, f->stream_end.code);
        return;
    case GT_CONTROL_PING: print_line("ping n=%" PRIu64, f->ping); return;
    case GT_CONTROL_PONG: print_line("pong n=%" PRIu64, f->ping); return;
    case GT_CONTROL_RESTARTING:
        print_line("restarting in=%" PRIu32 " for=%" PRIu32, f->restarting.reconnect_in_ms,
                   f->restarting.try_for_ms);
        return;
    case GT_CONTROL_BYE: print_line("bye code=%u rid=%s", f->code, rid); return;
    case GT_CONTROL_ERROR: print_line("error code=%u rid=%s", f->code, rid); return;
    case GT_CONTROL_LIMIT:
        print_line("limit code=%u rid=%s value=%" PRIu32, f->limit.code, rid, f->limit.value);
        return;
    case GT_CONTROL_EFFECT:
        print_line("effect result=%u serial=%" PRIu64 " ended=%" PRIu32, f->effect.result,
                   f->effect.serial, f->effect.n_ended);
        return;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_ACCESS:
    case GT_CONTROL_LOAD: print_line("unexpected type=%u", (unsigned)f->type); return;
    }
}

static void client_decode(struct client *client)
{
    struct gt_control_frame frame;
    size_t used = 0;
    int r;

    while ((r = gt_control_decode(client->in, client->n_in, &frame, &used)) == 0) {
        print_frame(&frame);
        client->n_in -= used;
        memmove(client->in, client->in + used, client->n_in);
    }
    if (r != GT_CONTROL_E_SHORT)
        client_end(client, "malformed");
}

static void client_read(struct client *client)
{
    while (client->state == READING) {
        size_t n = 0;
        int r = gt_tls_read(client->tls, client->in + client->n_in,
                            sizeof(client->in) - client->n_in, &n);

        if (r == GT_TLS_E_AGAIN)
            return;
        if (r) {
            client_end(client, r == GT_TLS_E_CLOSED ? "closed" : gt_tls_why(client->tls));
            return;
        }
        client->n_in += n;
        client_decode(client);
    }
}

static void send_raw(struct client *client, unsigned times, const char *text)
{
    size_t n = strlen(text) / 2;
    uint8_t *bytes = malloc(n * times + 1);

    if (!bytes || gt_text_unhex(text, bytes, n))
        exit(2);
    for (unsigned i = 1; i < times; i++)
        memcpy(bytes + i * n, bytes, n);
    client_write(client, bytes, n * times);
    free(bytes);
}

/* All records reach the relay in one turn of its loop. */
static void send_burst(struct client *client, unsigned n_records, const char *text)
{
    uint8_t bytes[GT_CONTROL_FRAME_MAX];
    size_t n = strlen(text) / 2;

    if (n > sizeof(bytes) || gt_text_unhex(text, bytes, n))
        exit(2);
    for (unsigned i = 0; i < n_records; i++)
        client_encrypt(client, bytes, n);
    client_flush(client);
}

static bool parse_frame(const char *line, struct gt_control_frame *ret)
{
    struct gt_control_frame f = {0};
    char rid[33] = "00000000000000000000000000000000";
    unsigned code = 0, hint = 0, min, max;

    if (sscanf(line, "hello %u %u", &min, &max) == 2) {
        f.type = GT_CONTROL_HELLO;
        f.hello.version_min = (uint16_t)min;
        f.hello.version_max = (uint16_t)max;
        snprintf(f.hello.software, sizeof(f.hello.software), "relay-client");
    } else if (sscanf(line, "rendezvous %32s %" SCNu32 " %u %" SCNu32, rid,
                      &f.rendezvous.generation, &hint, &f.rendezvous.ttl_s) == 4) {
        f.type = GT_CONTROL_RENDEZVOUS;
        f.rendezvous.port_hint = (uint16_t)hint;
    } else if (sscanf(line, "open %32s %" SCNu32 " %" SCNu32, rid, &f.open.stream,
                      &f.open.attempt) == 3) {
        f.type = GT_CONTROL_OPEN;
    } else if (sscanf(line, "end %32s %" SCNu32 " %" SCNu32 " %u", rid, &f.stream_end.stream,
                      &f.stream_end.attempt, &code) == 4) {
        f.type = GT_CONTROL_STREAM_END;
        f.stream_end.code = (uint16_t)code;
    } else if (sscanf(line, "load %32s %" SCNu32, rid, &f.load) == 2) {
        f.type = GT_CONTROL_LOAD;
    } else if (sscanf(line, "ping %" SCNu64, &f.ping) == 1) {
        f.type = GT_CONTROL_PING;
    } else if (sscanf(line, "pong %" SCNu64, &f.ping) == 1) {
        f.type = GT_CONTROL_PONG;
    } else if (sscanf(line, "bye %u %32s", &code, rid) == 2) {
        f.type = GT_CONTROL_BYE;
        f.code = (uint16_t)code;
    } else if (sscanf(line, "error %u %32s", &code, rid) == 2) {
        f.type = GT_CONTROL_ERROR;
        f.code = (uint16_t)code;
    } else {
        return false;
    }
    *ret = f;
    return gt_text_unhex(rid, ret->rid, GT_RID_SIZE) == 0;
}

static void client_command(struct client *client, const char *line)
{
    struct gt_control_frame frame;
    unsigned times;
    int at;

    if (parse_frame(line, &frame)) {
        client_send(client, &frame);
    } else if (strncmp(line, "raw ", 4) == 0) {
        send_raw(client, 1, line + 4);
    } else if (sscanf(line, "repeat %u %n", &times, &at) == 1) {
        send_raw(client, times, line + at);
    } else if (sscanf(line, "burst %u %n", &times, &at) == 1) {
        send_burst(client, times, line + at);
    } else if (strcmp(line, "deaf") == 0) {
        client->state = NOT_READING;
    } else if (strcmp(line, "close") == 0) {
        gt_tls_close(client->tls);
    } else if (strcmp(line, "reset") == 0) {
        gt_sock_reset(gt_steal_fd(&client->fd));
        client_end(client, "reset");
    } else {
        fprintf(stderr, "relay-client: unknown command \"%s\"\n", line);
        exit(2);
    }
}

/* Returns false at the end of standard input. */
static bool client_commands(struct client *client)
{
    ssize_t n = read(STDIN_FILENO, client->line + client->n_line, LINE - client->n_line);
    char *end;

    if (n <= 0)
        return false;
    client->n_line += (size_t)n;
    while ((end = memchr(client->line, '\n', client->n_line)) && client->state != ENDED) {
        size_t n_used = (size_t)(end - client->line) + 1;

        *end = 0;
        client_command(client, client->line);
        client->n_line -= n_used;
        memmove(client->line, client->line + n_used, client->n_line);
    }
    return true;
}

/* A holder of an operator's key may present it for any name. */
static int derive_psk(const struct gt_key *key, enum gt_role role, const char *name,
                      uint8_t ret[static GT_KEY_SIZE])
{
    return gt_key_client(key, key->kind == GT_KEY_OPERATOR ? GT_ROLE_OPERATOR : role,
                         key->kind == GT_KEY_OPERATOR ? key->name : name, ret);
}

static int client_connect(struct client *client, const char *host, uint16_t port,
                          const char *identity)
{
    struct gt_tls_context *context;
    struct gt_addr addr;
    struct gt_key key;
    enum gt_role role;
    char name[GT_NAME_MAX + 1];
    uint8_t psk[GT_KEY_SIZE] = {0};
    int r;

    if (gt_addr_parse(host, port, &addr) ||
        gt_key_parse(getenv("GOTTHARD_CRYPT_KEY"), getenv("GOTTHARD_CRYPT_IV"), &key))
        return 2;
    if (gt_key_parse_identity(gt_span_text(identity), &role, name) &&
        derive_psk(&key, role, name, psk))
        return 2;
    client->fd = gt_sock_connect(&addr);
    if (client->fd < 0 || gt_tls_context_new(GT_TLS_CLIENT, GT_CONTROL_ALPN, &context) ||
        gt_tls_new_client(context, client->fd, gt_span_text(identity), psk, &client->tls))
        return 2;
    await_socket(client->fd, POLLOUT);
    while ((r = gt_tls_handshake(client->tls)) == GT_TLS_E_AGAIN)
        await_socket(client->fd, gt_tls_wants_write(client->tls) ? POLLIN | POLLOUT : POLLIN);
    if (r) {
        client_end(client, gt_tls_why(client->tls));
        return 1;
    }
    client_flush(client);
    print_line("connected suite=%s", gt_tls_suite(client->tls));
    return 0;
}

int main(int argc, char **argv)
{
    static struct client client;

    if (argc != 4)
        return 64;
    signal(SIGPIPE, SIG_IGN);
    int r = client_connect(&client, argv[1], (uint16_t)atoi(argv[2]), argv[3]);
    if (r)
        return r;
    for (bool is_open = true; is_open && client.state != ENDED;) {
        struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0},
                               {client.state == NOT_READING ? -1 : client.fd, POLLIN, 0}};

        poll(fds, 2, -1);
        if (fds[1].revents)
            client_read(&client);
        if (fds[0].revents && client.state != ENDED)
            is_open = client_commands(&client);
    }
    return 0;
}
