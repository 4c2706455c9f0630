/* SPDX-License-Identifier: ISC */
/*
 * The life of a session: clients that register and leave, and its end. The state table is in
 * rendezvous.c. An error that concerns the session is answered with an ERROR with its rid and
 * leaves the connection alone.
 */
#include "control/session.h"

#include <stdio.h>

#include "control/session-internal.h"
#include "gotthard/base/log.h"

const enum gt_role session_roles[2] = {GT_ROLE_OPERATOR, GT_ROLE_DEVICE};

struct client *session_client(struct session *session, enum gt_role role)
{
    return rendezvous_slot(&session->rendezvous, role)->client;
}

static size_t side_of(enum gt_role role)
{
    return role == GT_ROLE_OPERATOR ? 0 : 1;
}

struct session *session_of_client(const struct client *client)
{
    if (!client_has_slot(client))
        return NULL;
    return gt_container_of(client->slots_held.next, struct session,
                           sides[side_of(client->role)].slot_held);
}

size_t session_n_held(const struct session_host *host, enum gt_role role, const char *name)
{
    return name_count_of(&host->holders[side_of(role)], name);
}

int session_hold(struct session *session, enum gt_role role, const char *name)
{
    struct name_count **holder = &session->sides[side_of(role)].holder;

    if (!*holder)
        *holder = name_count_acquire(&session->host->holders[side_of(role)], name);
    return *holder ? 0 : -ENOMEM;
}

static void session_release_names(struct session *session)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(session->sides); i++)
        session->sides[i].holder =
            name_count_release(&session->host->holders[i], session->sides[i].holder);
}

struct client *session_peer(struct session *session, const struct client *client)
{
    return rendezvous_peer(&session->rendezvous, client->role)->client;
}

void session_arm(struct session *session)
{
    struct session_host *host = session->host;
    uint64_t deadline = rendezvous_deadline(&session->rendezvous, &host->limits.rendezvous);

    ev_timer_stop(host->loop, &session->timer);
    if (deadline == GT_CLOCK_NEVER)
        return;
    ev_timer_set(&session->timer, gt_clock_seconds_until(gt_clock_ms(), deadline), 0);
    ev_timer_start(host->loop, &session->timer);
}

uint64_t session_n_bytes(const struct session *session, enum gt_role role)
{
    size_t side = side_of(role);

    return session->n_before[side] +
           atomic_load_explicit(&session->session_port->n_bytes[side], memory_order_relaxed);
}

/* --- the audit -------------------------------------------------------------------------------- */

static struct gt_audit_event event_of(const struct session *session, enum gt_audit_kind kind)
{
    const struct rendezvous *rendezvous = &session->rendezvous;

    return (struct gt_audit_event){
        .kind = kind,
        .session = rendezvous->tag,
        .operator_ = rendezvous->slots[0].name,
        .device = rendezvous->slots[1].name,
        .port = rendezvous->port,
    };
}

static void session_note(const struct session *session, const struct client *client)
{
    bool is_paired = session->rendezvous.state == RENDEZVOUS_PAIRED;
    struct gt_audit_event event = event_of(session, is_paired ? GT_AUDIT_PAIRED : GT_AUDIT_WAITING);

    event.client = client->identity;
    audit_write(session->host->audit, &event);
}

static void session_note_end(const struct session *session, uint64_t seconds, enum gt_code code)
{
    struct gt_audit_event event = event_of(session, GT_AUDIT_CLOSED);

    event.n_streams = (uint32_t)GT_MIN(session->n_connections, UINT32_MAX);
    event.n_up = session_n_bytes(session, GT_ROLE_OPERATOR);
    event.n_down = session_n_bytes(session, GT_ROLE_DEVICE);
    event.seconds = seconds;
    event.code = (uint16_t)code;
    event.reason = gt_code_text(code);
    audit_write(session->host->audit, &event);
}

/* --- the end of a session --------------------------------------------------------------------- */

static void session_leave(struct session *session, enum gt_role role)
{
    struct rendezvous_slot *slot = rendezvous_slot(&session->rendezvous, role);
    struct client *client = slot->client;

    slot->client = NULL;
    if (client)
        client_leave_slot(client, &session->sides[side_of(role)].slot_held);
}

static void session_remove_port(struct session *session, enum gt_code code)
{
    struct session_host *host = session->host;

    ev_timer_stop(host->loop, &session->timer);
    session_release_names(session);
    data_thread_remove_port(session->data_thread, gt_steal(&session->session_port));
    host->on_end(host->userdata, session, code);
}

/* Ends an ENDED session: sends BYE to its clients and removes its port. */
static void session_end(struct session *session, enum gt_code code)
{
    struct rendezvous *rendezvous = &session->rendezvous;
    uint64_t seconds = (gt_clock_ms() - rendezvous->created_at) / 1000;

    for (size_t i = 0; i < GT_ARRAY_SIZE(session_roles); i++) {
        struct client *client = session_client(session, session_roles[i]);

        if (client)
            client_send_code(client, GT_CONTROL_BYE, rendezvous->rid, code);
        session_leave(session, session_roles[i]);
    }
    gt_info("session=%s ended operator=%s device=%s port=%u seconds=%llu connections=%llu "
            "up=%llu down=%llu reason=\"%s\"",
            rendezvous->tag, rendezvous->slots[0].name[0] ? rendezvous->slots[0].name : "-",
            rendezvous->slots[1].name[0] ? rendezvous->slots[1].name : "-", rendezvous->port,
            (unsigned long long)seconds, (unsigned long long)session->n_connections,
            (unsigned long long)session_n_bytes(session, GT_ROLE_OPERATOR),
            (unsigned long long)session_n_bytes(session, GT_ROLE_DEVICE), gt_code_text(code));
    session_note_end(session, seconds, code);
    session_remove_port(session, code);
}

/* Handles an event. Returns false if the session has ended, with @code as the reason. */
static bool session_handle(struct session *session, enum rendezvous_event event, enum gt_code code)
{
    if (rendezvous_handle(&session->rendezvous, event, gt_clock_ms())) {
        session->host->n_unexpected++;
        code = GT_CODE_INTERNAL;
    }
    if (session->rendezvous.state == RENDEZVOUS_ENDED) {
        session_end(session, code);
        return false;
    }
    session_arm(session);
    return true;
}

static void session_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct session *session = gt_container_of(timer, struct session, timer);
    uint64_t now = gt_clock_ms();

    enum gt_code code;

    if (now < rendezvous_deadline(&session->rendezvous, &session->host->limits.rendezvous)) {
        session_arm(session);
        return;
    }
    enum rendezvous_event event = rendezvous_due(&session->rendezvous, now, &code);
    session_handle(session, event, code);
}

/* --- clients ---------------------------------------------------------------------------------- */

static void session_on_registered(struct session *session, struct client *client,
                                  const struct rendezvous_claim *claim)
{
    const struct rendezvous *rendezvous = &session->rendezvous;
    enum gt_code reason = claim->is_new_process ? GT_CODE_NEW_PROCESS
                          : claim->replaced     ? GT_CODE_REPLACED
                                                : GT_CODE_NONE;

    session_send_session(session, client);
    session_send_peer(session, session_peer(session, client), true, reason);
    session_repeat_tickets(session, client);
    session_note(session, client);
    gt_info("session=%s %s=%s state=%s port=%u", rendezvous->tag,
            client->role == GT_ROLE_OPERATOR ? "operator" : "device", client->name,
            rendezvous_state_text(rendezvous->state), rendezvous->port);
}

/* A connection that was replaced is most likely half-open. It is closed, because it would count
 * against the limit of its identity. */
static void session_replace(struct session *session, struct client *replaced)
{
    client_send_code(replaced, GT_CONTROL_BYE, session->rendezvous.rid, GT_CODE_REPLACED);
    if (!client_has_slot(replaced))
        client_close(replaced, "replaced");
}

void session_register(struct session *session, struct client *client,
                      const struct gt_control_frame *frame)
{
    struct rendezvous_claim claim;
    uint64_t ttl_ms = frame->rendezvous.ttl_s * 1000ull, now = gt_clock_ms();
    struct gt_list *slot_held = &session->sides[side_of(client->role)].slot_held;

    if (session_hold(session, client->role, client->name)) {
        client_send_code(client, GT_CONTROL_ERROR, frame->rid, GT_CODE_INTERNAL);
        return;
    }
    if (rendezvous_claim(&session->rendezvous, client->role, client->name,
                         frame->rendezvous.generation, client, &claim)) {
        client_send_code(client, GT_CONTROL_ERROR, frame->rid, GT_CODE_IN_USE);
        return;
    }
    memcpy(rendezvous_slot(&session->rendezvous, client->role)->key_id, client->proof.key_id,
           sizeof(client->proof.key_id));
    if (claim.replaced)
        client_leave_slot(claim.replaced, slot_held);
    client_enter_slot(client, slot_held);
    if (client->role == GT_ROLE_OPERATOR)
        rendezvous_set_load(&session->rendezvous, 0, now); /* until its next LOAD */
    if (admission_is_token(client->role, client->name))
        ttl_ms = GT_MAX(admission_token_left_ms(client->name), (uint64_t)1);
    if (ttl_ms)
        session->rendezvous.expires_at = GT_MIN(session->rendezvous.expires_at, now + ttl_ms);
    if (claim.replaced && claim.replaced != client)
        session_replace(session, claim.replaced);
    if (session_handle(session, claim.event, GT_CODE_INTERNAL))
        session_on_registered(session, client, &claim);
}

/* Other codes of a BYE have no meaning. Only a device withdraws an access. */
static enum gt_code meaning_of_bye(const struct client *client, enum gt_code code)
{
    bool is_meant = code == GT_CODE_NEW_PROCESS || code == GT_CODE_LIFETIME ||
                    (code == GT_CODE_WITHDRAWN && client->role == GT_ROLE_DEVICE);

    return is_meant ? code : GT_CODE_BYE;
}

void session_bye(struct session *session, struct client *client, enum gt_code code)
{
    struct client *peer = session_peer(session, client);

    code = meaning_of_bye(client, code);
    session_leave(session, client->role);
    session_send_peer(session, peer, false, code);
    session_handle(session, RENDEZVOUS_BYE, code);
}

void session_lose(struct session *session, struct client *client)
{
    struct client *peer = session_peer(session, client);

    session_leave(session, client->role);
    session_send_peer(session, peer, false, client->is_hung_up ? GT_CODE_HUNG_UP : GT_CODE_LOST);
    session_handle(session, RENDEZVOUS_LOST, GT_CODE_LOST);
}

void session_stop(struct session *session, enum gt_code code)
{
    session_handle(session, RENDEZVOUS_STOPPED, code);
}

void session_check(struct session *session, client_check_fn check, void *userdata)
{
    enum gt_code code = GT_CODE_NONE;

    for (size_t i = 0; i < GT_ARRAY_SIZE(session_roles) && !code; i++) {
        const struct rendezvous_slot *slot = &session->rendezvous.slots[i];
        char identity[GT_IDENTITY_MAX + 1];

        gt_key_identity(session_roles[i], slot->name, identity);
        if (slot->name[0])
            code = check(userdata, identity, slot->key_id);
    }
    if (code)
        session_stop(session, code);
}

/* --- creation --------------------------------------------------------------------------------- */

struct session *session_free(struct session *session)
{
    if (!session)
        return NULL;
    gt_list_unlink(&session->ended);
    session_release_names(session);
    session_port_free(session->session_port);
    stream_slots_deinit(&session->rendezvous.streams);
    free(session);
    return NULL;
}

struct session *session_new(struct session_host *host, const uint8_t rid[static GT_RID_SIZE],
                            uint64_t serial, struct data_thread *data_thread, uint16_t port,
                            size_t n_streams, int *fd)
{
    struct session *session = calloc(1, sizeof(*session));
    uint64_t now = gt_clock_ms();

    if (!session)
        return NULL;
    rendezvous_init(&session->rendezvous, rid, now);
    session->rendezvous.port = port;
    session->rendezvous.serial = serial;
    session->rendezvous.expires_at = now + host->limits.lifetime_ms;
    session->host = host;
    session->data_thread = data_thread;
    gt_list_init(&session->ended);
    for (size_t i = 0; i < GT_ARRAY_SIZE(session->sides); i++)
        gt_list_init(&session->sides[i].slot_held);
    ev_init(&session->timer, session_on_timer);
    session->session_port = session_port_new(serial, session->rendezvous.tag, fd);
    if (!session->session_port ||
        stream_slots_init(&session->rendezvous.streams, n_streams, host->limits.n_tickets))
        return session_free(session);
    return session;
}

void session_resume(struct session *session)
{
    session_arm(session);
}

int session_start(struct session *session)
{
    return data_thread_add_port(session->data_thread, session->session_port);
}

void session_get_status(const struct session *session, struct session_status *ret)
{
    const struct rendezvous *rendezvous = &session->rendezvous;
    const struct streams *streams = &rendezvous->streams;

    *ret = (struct session_status){
        .tag = rendezvous->tag,
        .state = rendezvous_state_text(rendezvous->state),
        .port = rendezvous->port,
        .thread = session->data_thread->index,
        .n_connections = stream_slots_n_live(streams),
        .n_tickets = streams->n_tickets,
        .load = rendezvous->load,
        .age_s = (gt_clock_ms() - rendezvous->created_at) / 1000,
    };
    for (size_t i = 0; i < GT_ARRAY_SIZE(ret->sides); i++)
        ret->sides[i] = (struct session_status_side){
            .name = rendezvous->slots[i].name, .is_connected = rendezvous->slots[i].client != NULL};
}
