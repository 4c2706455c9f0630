/* SPDX-License-Identifier: ISC */
/*
 * The input of a client: the handshake, then frames. One table lists which frames are in order in
 * which state; every other frame is a protocol error and closes the connection. The work of one
 * turn is bounded, so that one client cannot delay the others.
 */
#include "control/client-internal.h"
#include "gotthard/base/log.h"
#include "gotthard/base/text.h"

#define CLIENT_READS 64 /* per turn */

/* --- frames ----------------------------------------------------------------------------------- */

static void send_welcome(struct client *client)
{
    const struct client_host *host = client->host;
    struct gt_control_frame welcome = {.type = GT_CONTROL_WELCOME};

    welcome.welcome.version = GT_CONTROL_VERSION;
    memcpy(welcome.welcome.boot_id, host->boot_id, sizeof(host->boot_id));
    welcome.welcome.heartbeat_ms = (uint32_t)host->limits.heartbeat_ms;
    welcome.welcome.max_streams = host->limits.n_streams;
    welcome.welcome.ttl_s = (uint32_t)(host->limits.lifetime_ms / 1000);
    client_send(client, &welcome);
}

/* The connections that @client's identity may have. */
static size_t connections_max(const struct client *client)
{
    size_t max = client->host->limits.n_per_identity;

    return admission_is_token(client->role, client->name)
               ? GT_MIN(max, (size_t)ADMISSION_TOKEN_CONNECTIONS)
               : max;
}

static void handle_hello(struct client *client, const struct gt_control_frame *frame)
{
    char text[GT_ADDR_TEXT];

    if (frame->hello.version_min > GT_CONTROL_VERSION ||
        frame->hello.version_max < GT_CONTROL_VERSION) {
        client_fail(client, GT_CODE_VERSION, NULL, "no common protocol version");
        return;
    }
    if (client->same_identity->n > connections_max(client)) {
        client_note(
            client, GT_AUDIT_REFUSED, GT_CODE_IDENTITY,
            gt_code_limit_text(GT_CODE_IDENTITY, (uint32_t)client->host->limits.n_sessions));
        client_send_limit(client, NULL, GT_CODE_IDENTITY, client->host->limits.n_sessions);
        client_close(client, "too many connections for limits.sessions_per_identity");
        return;
    }
    client->without_session_since = gt_clock_ms();
    client_enter(client, CLIENT_READY);
    send_welcome(client);
    audit_write(client->host->audit, &(struct gt_audit_event){
                                         .kind = GT_AUDIT_CLIENT_UP,
                                         .client = client->identity,
                                         .address = gt_addr_text(&client->addr, text),
                                         .software = frame->hello.software,
                                     });
    gt_info("client=%s up address=%s software=\"%s\"", client->identity,
            gt_addr_text(&client->addr, text), frame->hello.software);
}

static void handle_request(struct client *client, const struct gt_control_frame *frame)
{
    client->host->on_frame(client->host->userdata, client, frame);
}

static void handle_ping(struct client *client, const struct gt_control_frame *frame)
{
    client_send(client, &(struct gt_control_frame){.type = GT_CONTROL_PONG, .ping = frame->ping});
}

/* A PONG proves life like any other byte (client_read). */
static void handle_pong(struct client *client, const struct gt_control_frame *frame)
{
}

static void handle_error(struct client *client, const struct gt_control_frame *frame)
{
    client_close(client, gt_code_text(frame->code));
}

static const struct {
    enum gt_control_type type;
    enum client_state state;
    void (*handle)(struct client *client, const struct gt_control_frame *frame);
} frames_in_order[] = {
    {GT_CONTROL_HELLO, CLIENT_HELLO, handle_hello},
    {GT_CONTROL_RENDEZVOUS, CLIENT_READY, handle_request},
    {GT_CONTROL_OPEN, CLIENT_READY, handle_request},
    {GT_CONTROL_STREAM_END, CLIENT_READY, handle_request},
    {GT_CONTROL_LOAD, CLIENT_READY, handle_request},
    {GT_CONTROL_ACCESS, CLIENT_READY, handle_request},
    {GT_CONTROL_BYE, CLIENT_READY, handle_request},
    {GT_CONTROL_PING, CLIENT_READY, handle_ping},
    {GT_CONTROL_PONG, CLIENT_READY, handle_pong},
    {GT_CONTROL_ERROR, CLIENT_READY, handle_error},
};

static void handle_frame(struct client *client, const struct gt_control_frame *frame)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(frames_in_order); i++)
        if (frames_in_order[i].type == frame->type && frames_in_order[i].state == client->state) {
            frames_in_order[i].handle(client, frame);
            return;
        }
    client_fail(client, GT_CODE_PROTOCOL, NULL,
                client->state == CLIENT_HELLO ? "unexpected frame before HELLO"
                                              : "unexpected frame");
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Only a READY client pauses. Before HELLO there is nothing else to send. */
static void pause_reading(struct client *client)
{
    if (client->state == CLIENT_READY)
        client_enter(client, CLIENT_PAUSED);
    else
        client_fail(client, GT_CODE_PROTOCOL, NULL, "too many bytes before HELLO");
}

/* Returns true if there is room for answers. Flushes if there is not. */
static bool make_room(struct client *client)
{
    struct gt_framed_connection *framed = &client->framed;

    return gt_framed_connection_has_room(framed) ||
           (gt_framed_connection_flush(framed) == 0 && gt_framed_connection_has_room(framed));
}

/* Handles the frames in the receive buffer. Returns true if more may be read. */
static bool handle_frames(struct client *client)
{
    struct gt_control_frame frame;

    while (client_rules(client)->can_decode && make_room(client)) {
        uint64_t now = gt_clock_ms(); /* per frame: client_charge may advance the bucket */

        if (gt_token_bucket_level(&client->frames, now) == 0) {
            pause_reading(client);
            return false;
        }
        int r = gt_framed_connection_decode(&client->framed, &frame);
        if (r == GT_FRAMED_CONNECTION_E_AGAIN)
            return true;
        if (r) {
            client_fail(client, GT_CODE_PROTOCOL, NULL, "malformed frame");
            return false;
        }
        gt_token_bucket_drain(&client->frames, 1, now);
        handle_frame(client, &frame);
    }
    return false;
}

/* The socket does not become readable for bytes that TLS holds. The timer continues instead, in the
 * next turn of the loop. */
static void schedule_read(struct client *client)
{
    if (!client_rules(client)->can_decode || !gt_framed_connection_has_pending(&client->framed))
        return;
    ev_timer_stop(client->host->loop, &client->timer);
    ev_timer_set(&client->timer, 0, 0);
    ev_timer_start(client->host->loop, &client->timer);
}

/*
 * Reads until the socket is empty, the client is not to be read any more, or the limit of one turn
 * is reached. The bytes of the last read are handled as well, because no event follows for them.
 * Unknown frames, which are skipped, cost a token per read.
 */
void client_read(struct client *client)
{
    unsigned n_reads = 0;
    int r = 0;

    while (handle_frames(client) && n_reads < CLIENT_READS) {
        r = gt_framed_connection_read(&client->framed);
        if (r)
            break;
        n_reads++;
        client->received_at = gt_clock_ms();
        gt_token_bucket_drain(&client->frames, 1, client->received_at);
    }
    if (r == GT_FRAMED_CONNECTION_E_CLOSED)
        client_drop(client, "closed by peer");
    else if (r == GT_FRAMED_CONNECTION_E_BROKEN)
        client_drop(client, gt_tls_why(client->framed.tls));
    else
        client_flush(client);
    if (n_reads == CLIENT_READS)
        schedule_read(client);
}

/* --- the handshake ---------------------------------------------------------------------------- */

static void handle_authenticated(struct client *client)
{
    struct gt_span identity = gt_tls_identity(client->framed.tls);

    quota_mark(&client->charge, CHARGE_KNOWN);
    gt_wipe(client->proof.psk, sizeof(client->proof.psk));
    if (!gt_key_parse_identity(identity, &client->role, client->name)) {
        client_drop(client, "malformed identity");
        return;
    }
    gt_key_identity(client->role, client->name, client->identity);
    client->same_identity = name_count_acquire(&client->host->identities, client->identity);
    if (!client->same_identity) {
        client_drop(client, "out of memory");
        return;
    }
    if (client->same_identity->n > 2 * connections_max(client)) {
        client_drop(client, "too many connections for limits.sessions_per_identity, before HELLO");
        return;
    }
    client->received_at = gt_clock_ms();
    client_enter(client, CLIENT_HELLO);
    if (client_check(client)) /* the settings may have changed since its ClientHello */
        client_read(client);
}

void client_handshake(struct client *client)
{
    int r = gt_tls_handshake(client->framed.tls);

    if (r == 0) {
        handle_authenticated(client);
    } else if (r == GT_TLS_E_AGAIN) {
        client_watch(client);
    } else {
        client_drop(client, gt_tls_why(client->framed.tls));
    }
}
