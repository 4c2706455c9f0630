/* SPDX-License-Identifier: ISC */
/*
 * The lifetime of a client, and its output. Frames are queued and sent before the loop sleeps, so
 * that the answers of one turn share a TLS record. A client never frees itself: a closed one waits
 * in its host for client_host_reap.
 */
#include "control/client.h"

#include "control/client-internal.h"
#include "gotthard/base/log.h"

static const uint8_t no_rid[GT_RID_SIZE];

/* --- sending ---------------------------------------------------------------------------------- */

static void client_schedule_flush(struct client *client)
{
    gt_list_unlink(&client->to_flush);
    gt_list_append(&client->host->to_flush, &client->to_flush);
}

/* One turn may produce more frames than the queue holds. TLS has room for eight queues. */
static int client_queue(struct client *client, const struct gt_control_frame *frame)
{
    int r = gt_framed_connection_queue(&client->framed, frame, 0);

    if (r == GT_FRAMED_CONNECTION_E_FULL && gt_framed_connection_flush(&client->framed) == 0)
        r = gt_framed_connection_queue(&client->framed, frame, 0);
    return r;
}

void client_send(struct client *client, const struct gt_control_frame *frame)
{
    if (!client_rules(client)->can_send)
        return;
    if (client_queue(client, frame))
        client_enter(client, CLIENT_SEND_QUEUE_FULL);
    client_schedule_flush(client);
}

void client_send_code(struct client *client, enum gt_control_type type, const uint8_t *rid,
                      enum gt_code code)
{
    struct gt_control_frame frame = {.type = type, .code = (uint16_t)code};

    memcpy(frame.rid, rid ? rid : no_rid, GT_RID_SIZE);
    client_send(client, &frame);
}

void client_send_limit(struct client *client, const uint8_t *rid, enum gt_code code, size_t value)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_LIMIT};

    frame.limit.code = (uint16_t)code;
    frame.limit.value = (uint32_t)value;
    memcpy(frame.rid, rid ? rid : no_rid, GT_RID_SIZE);
    client_send(client, &frame);
    client_send_code(client, GT_CONTROL_ERROR, rid, code);
}

void client_flush(struct client *client)
{
    int r;

    gt_list_unlink(&client->to_flush);
    if (client->state == CLIENT_SEND_QUEUE_FULL)
        client_drop(client, "send queue full");
    if (client->state == CLIENT_CLOSED)
        return;
    if (client->state == CLIENT_CLOSING)
        r = gt_framed_connection_finish(&client->framed);
    else
        r = gt_framed_connection_flush(&client->framed);
    if (r == GT_FRAMED_CONNECTION_E_BROKEN)
        client_drop(client, gt_tls_why(client->framed.tls));
    else
        client_watch(client);
}

/* --- the audit -------------------------------------------------------------------------------- */

void client_note(const struct client *client, enum gt_audit_kind kind, enum gt_code code,
                 const char *reason)
{
    char address[GT_ADDR_TEXT];

    audit_write(client->host->audit, &(struct gt_audit_event){
                                         .kind = kind,
                                         .client = client->identity,
                                         .address = gt_addr_text(&client->addr, address),
                                         .code = (uint16_t)code,
                                         .reason = reason,
                                     });
}

/* --- the end ---------------------------------------------------------------------------------- */

static void client_log_end(const struct client *client)
{
    static struct gt_log_rate rate;
    char text[GT_ADDR_TEXT];
    unsigned n_suppressed;

    if (client->identity[0]) {
        client_note(client, GT_AUDIT_CLIENT_DOWN, GT_CODE_NONE, client->reason);
        gt_info("client=%s down address=%s reason=\"%s\"", client->identity,
                gt_addr_text(&client->addr, text), client->reason);
    } else if (gt_log_is_allowed(&rate, 5, &n_suppressed))
        gt_info("preauth=%s handshake failed suppressed=%u reason=\"%s\"",
                gt_addr_text(&client->addr, text), n_suppressed, client->reason);
}

/* Returns true if the peer's process was probably killed: the kernel then closes its connection
 * without a close_notify. A proxy on the path may do the same, but only after a silence. */
static bool is_peer_killed(const struct client *client)
{
    return gt_tls_is_hung_up(client->framed.tls) &&
           gt_clock_ms() < client->received_at + 2 * client->host->limits.heartbeat_ms;
}

void client_drop(struct client *client, const char *reason)
{
    bool was_up = client_rules(client)->is_up;

    if (client->state == CLIENT_CLOSED)
        return;
    client->is_hung_up = was_up && is_peer_killed(client);
    if (!client->reason)
        client->reason = reason;
    client_enter(client, CLIENT_CLOSED);
    client_log_end(client);
    quota_release(&client->charge); /* before the descriptor, see quota_admit */
    gt_framed_connection_deinit(&client->framed);
    client->same_identity = name_count_release(&client->host->identities, client->same_identity);
    gt_list_unlink(&client->to_flush);
    gt_list_unlink(&client->of_host);
    gt_list_append(&client->host->closed, &client->of_host);
    client->host->n_clients--;
    if (was_up)
        client->host->on_end(client->host->userdata, client);
}

void client_close(struct client *client, const char *reason)
{
    bool was_up = client_rules(client)->is_up;

    if (!client_rules(client)->can_send)
        return;
    client->reason = reason;
    client_schedule_flush(client);
    client_enter(client, CLIENT_CLOSING);
    if (was_up)
        client->host->on_end(client->host->userdata, client);
}

void client_fail(struct client *client, enum gt_code code, const uint8_t *rid, const char *reason)
{
    client_send_code(client, GT_CONTROL_ERROR, rid, code);
    client_close(client, reason);
}

/* --- slots and limits ------------------------------------------------------------------------- */

void client_enter_slot(struct client *client, struct gt_list *slot)
{
    gt_list_append(&client->slots_held, slot);
}

void client_leave_slot(struct client *client, struct gt_list *slot)
{
    gt_list_unlink(slot);
    client->without_session_since = gt_clock_ms();
    if (client->state == CLIENT_READY)
        client_arm(client);
}

void client_charge(struct client *client, unsigned n_per_second)
{
    gt_token_bucket_drain(&client->frames, client->host->limits.n_frames / n_per_second,
                          gt_clock_ms());
}

/* --- events ----------------------------------------------------------------------------------- */

static void client_on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct client *client = gt_container_of(io, struct client, io);

    client_rules(client)->on_ready(client);
}

/* Before the deadline, the timer continues to read the bytes that TLS holds. */
static void client_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct client *client = gt_container_of(timer, struct client, timer);

    if (gt_clock_ms() >= client_rules(client)->deadline(client)) {
        client_rules(client)->on_deadline(client);
        return;
    }
    client_arm(client);
    if (client_rules(client)->can_decode)
        client_read(client);
}

/* --- the host --------------------------------------------------------------------------------- */

/* Another ClientHello (after a HelloRetryRequest) must not name another identity. */
static bool client_psk(void *userdata, struct gt_span identity, uint8_t *ret_psk)
{
    const struct client *client = userdata;

    memcpy(ret_psk, client->proof.psk, GT_KEY_SIZE);
    return gt_span_equals(identity, gt_span_text(client->proof.identity));
}

void client_new(struct client_host *host, int fd, const struct gt_addr *addr, uint64_t since,
                struct quota_charge *charge, const struct proof *proof)
{
    struct client *client = calloc(1, sizeof(*client));
    struct gt_tls *tls;

    if (!client || gt_tls_new_server(host->tls, fd, client_psk, client, &tls)) {
        free(client);
        quota_release(charge);
        gt_close(&fd);
        return;
    }
    client->host = host;
    client->proof = *proof;
    gt_framed_connection_init(&client->framed);
    gt_framed_connection_attach(&client->framed, fd, tls);
    client->addr = *addr;
    client->entered_at = since;
    gt_token_bucket_init(&client->frames, host->limits.n_frames, 2 * host->limits.n_frames, since);
    quota_move(charge, &client->charge);
    gt_list_init(&client->slots_held);
    gt_list_init(&client->to_flush);
    gt_list_append(&host->open, &client->of_host);
    host->n_clients++;
    ev_io_init(&client->io, client_on_ready, fd, EV_READ);
    ev_init(&client->timer, client_on_timer);
    client_arm(client);
    client_handshake(client);
}

void client_host_init(struct client_host *host, struct ev_loop *loop)
{
    *host = (struct client_host){.loop = loop};
    gt_list_init(&host->open);
    gt_list_init(&host->closed);
    gt_list_init(&host->to_flush);
}

void client_host_set_limits(struct client_host *host, const struct client_limits *limits)
{
    uint64_t now = gt_clock_ms();

    host->limits = *limits;
    gt_list_for_each_safe (at, next, &host->open)
        gt_token_bucket_change(&gt_list_entry(at, struct client, of_host)->frames, limits->n_frames,
                               2 * limits->n_frames, now);
}

bool client_check(struct client *client)
{
    const struct client_host *host = client->host;
    enum gt_code code = GT_CODE_NONE;

    if (host->check && client->identity[0])
        code = host->check(host->userdata, client->identity, client->proof.key_id);
    if (!code)
        return true;
    client_note(client, GT_AUDIT_REFUSED, code, gt_code_text(code));
    client_send_code(client, GT_CONTROL_BYE, NULL, code);
    client_close(client, gt_code_text(code));
    return false;
}

void client_host_check(struct client_host *host)
{
    gt_list_for_each_safe (at, next, &host->open)
        client_check(gt_list_entry(at, struct client, of_host));
}

/* A client that is dropped here may cause frames to others. */
void client_host_flush(struct client_host *host)
{
    while (!gt_list_is_empty(&host->to_flush))
        client_flush(gt_list_entry(host->to_flush.next, struct client, to_flush));
}

void client_host_reap(struct client_host *host)
{
    gt_list_for_each_safe (at, next, &host->closed) {
        struct client *client = gt_list_entry(at, struct client, of_host);

        gt_list_unlink(at);
        gt_wipe(client, sizeof(*client));
        free(client);
    }
}

void client_host_deinit(struct client_host *host)
{
    gt_list_for_each_safe (at, next, &host->open)
        client_drop(gt_list_entry(at, struct client, of_host), "the relay is stopping");
    client_host_flush(host);
    client_host_reap(host);
}
