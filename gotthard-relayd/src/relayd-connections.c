/* SPDX-License-Identifier: ISC */
/*
 * The path of a connection to the main port: it is unauthenticated until its first bytes are a
 * ClientHello that proves a key, which makes it a client, or a JOIN, which moves it to a data
 * thread.
 */
#include "relayd.h"

/* --- admission -------------------------------------------------------------------------------- */

static enum gt_code relayd_check(void *userdata, const char *identity, const uint8_t *key_id)
{
    const struct relayd *relayd = userdata;

    return admission_check(&relayd->admission, identity, key_id);
}

/* Ends the sessions of those that are no longer admitted. Returns their number. */
static size_t relayd_check_sessions(struct relayd *relayd)
{
    size_t n_before = registry_n_sessions(&relayd->registry);

    relayd->admission.access = access_list(&relayd->access);
    relayd->clients.check = relayd_check;
    registry_check(&relayd->registry, relayd_check, relayd);
    return n_before - registry_n_sessions(&relayd->registry);
}

/* Sessions first: the other side reads the reason, and not that a connection was lost. */
void relayd_apply_admission(struct relayd *relayd)
{
    relayd_check_sessions(relayd);
    client_host_check(&relayd->clients);
}

static void relayd_on_access_tick(struct ev_loop *loop, ev_timer *timer, int revents)
{
    struct relayd *relayd = gt_container_of(timer, struct relayd, access_tick);

    access_tick(&relayd->access, gt_clock_ms());
    if (!access_is_pending(&relayd->access))
        ev_timer_stop(loop, timer);
}

/* The price of a part, as for client_charge(), and its answer. A part after which others of its
 * list are awaited gets none. An honest client never sends a part that is rejected. */
static const struct {
    unsigned n_per_second; /* 0: that of any frame */
    bool is_answered;
    enum gt_effect effect;
} access_effects[] = {
    [ACCESS_ADDED] = {100, false, 0},
    [ACCESS_REPEATED] = {0, false, 0},
    [ACCESS_IN_FORCE] = {100, true, GT_EFFECT_TAKEN},
    [ACCESS_KNOWN] = {0, true, GT_EFFECT_KNOWN},
    [ACCESS_OTHER] = {0, true, GT_EFFECT_OTHER},
    [ACCESS_UNUSED] = {0, true, GT_EFFECT_UNUSED},
    [ACCESS_REJECTED] = {1, true, GT_EFFECT_REJECTED},
    [ACCESS_LIST_REJECTED] = {100, true, GT_EFFECT_REJECTED},
};

static void relayd_send_effect(const struct relayd *relayd, struct client *client,
                               enum gt_effect effect, size_t n_ended)
{
    struct gt_control_frame frame = {.type = GT_CONTROL_EFFECT};

    frame.effect.result = (uint8_t)effect;
    frame.effect.serial = access_serial(&relayd->access);
    frame.effect.n_ended = (uint32_t)n_ended;
    client_send(client, &frame);
}

/* A sender that the list revokes reads the answer before it is disconnected. */
void relayd_on_access(struct relayd *relayd, struct client *client, struct gt_span part)
{
    enum access_result result =
        access_receive(&relayd->access, client->identity, part, gt_clock_ms());
    bool is_new = result == ACCESS_IN_FORCE;

    if (access_effects[result].n_per_second > 0)
        client_charge(client, access_effects[result].n_per_second);
    size_t n_ended = is_new ? relayd_check_sessions(relayd) : 0;
    if (access_effects[result].is_answered)
        relayd_send_effect(relayd, client, access_effects[result].effect, n_ended);
    if (is_new)
        client_host_check(&relayd->clients);
    if (access_is_pending(&relayd->access))
        ev_timer_start(relayd->loop, &relayd->access_tick);
}

/* --- callbacks -------------------------------------------------------------------------------- */

void relayd_on_accept(void *userdata, int fd, const struct gt_addr *addr)
{
    struct relayd *relayd = userdata;

    preauth_accept(&relayd->preauths, fd, addr, NULL);
}

/* Takes the connection if there is room for it. */
static void relayd_admit(struct relayd *relayd, struct preauth *preauth, const struct proof *proof)
{
    struct quota_charge charge;
    struct gt_addr addr = preauth->addr;
    uint64_t since = preauth->created_at;

    if (!preauth_prove(preauth, proof->identity))
        return;
    int fd = preauth_release(preauth, &charge);
    client_new(&relayd->clients, fd, &addr, since, &charge, proof);
}

/* The alert distinguishes a wrong key from a network that breaks connections, for the user of a
 * client. It is the one of OpenSSL for a binder that does not match: a record with a fatal
 * "illegal parameter" (RFC 8446, sections 5.1 and 6.2). */
static void relayd_on_hello(void *userdata, struct preauth *preauth,
                            const struct gt_client_hello *hello)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 47};
    struct relayd *relayd = userdata;
    struct proof proof;
    int r = proof_check(&relayd->admission, &relayd->seen_binders, hello, &proof);

    if (!r)
        relayd_admit(relayd, preauth, &proof);
    else if (r == PROOF_E_WRONG_KEY)
        preauth_refuse(preauth, gt_span(alert, sizeof(alert)));
    else
        preauth_reject(preauth);
    gt_wipe(&proof, sizeof(proof));
}

/* The id of a ticket identifies the data thread. Returns true if the connection was moved there. */
static bool relayd_on_join(void *userdata, struct preauth *preauth)
{
    struct relayd *relayd = userdata;
    struct gt_join join;
    bool is_moved = false;

    if (!gt_join_decode(preauth->bytes, &join))
        is_moved =
            !data_thread_move_join(registry_find_data_thread(&relayd->registry, &join), preauth);
    gt_wipe(&join, sizeof(join));
    if (!is_moved)
        preauth_close(preauth);
    return is_moved;
}

static void relayd_on_frame(void *userdata, struct client *client,
                            const struct gt_control_frame *frame)
{
    struct relayd *relayd = userdata;

    if (frame->type == GT_CONTROL_ACCESS)
        relayd_on_access(relayd, client, frame->access);
    else
        registry_on_frame(&relayd->registry, client, frame);
}

static void relayd_on_client_end(void *userdata, struct client *client)
{
    struct relayd *relayd = userdata;

    registry_on_client_end(&relayd->registry, client);
}

static void relayd_on_message(void *userdata, struct message *message)
{
    struct relayd *relayd = userdata;

    registry_on_message(&relayd->registry, message);
    message_free(message);
}

int relayd_init_connections(struct relayd *relayd)
{
    ev_timer_init(&relayd->access_tick, relayd_on_access_tick, ACCESS_TICK_S, ACCESS_TICK_S);
    int r = preauth_host_init(&relayd->preauths, relayd->loop, &relayd->quota);

    mailbox_init(&relayd->inbox, relayd->loop, relayd_on_message, relayd);
    relayd->preauths.on_join = relayd_on_join;
    relayd->preauths.on_hello = relayd_on_hello;
    relayd->preauths.userdata = relayd;
    client_host_init(&relayd->clients, relayd->loop);
    relayd->clients.tls = relayd->tls;
    relayd->clients.on_frame = relayd_on_frame;
    relayd->clients.on_end = relayd_on_client_end;
    relayd->clients.userdata = relayd;
    return r;
}
