/* SPDX-License-Identifier: ISC */
/*
 * The control connection. Each state has its deadline; READY's is the earliest of four things that
 * may be due, looked at when the timer fires and not at each frame, so that traffic costs no timer.
 * Idle members wake the relay once per heartbeat, and many of them together.
 */
#include "member.h"

#include "gotthard/log.h"
#include "gotthard/text.h"

#define MEMBER_LINGER_MS 1000 /* for the last frames */
#define MEMBER_PAUSE_MS  250
#define MEMBER_READS     64 /* per turn: the others want theirs, too */
#define MEMBER_VERSION   GT_CONTROL_VERSION

static const uint8_t no_rid[GT_RID_SIZE];

static const char *member_state_text(enum member_state state)
{
    switch (state) {
    case MEMBER_HANDSHAKE: return "handshake";
    case MEMBER_HELLO: return "hello";
    case MEMBER_READY: return "ready";
    case MEMBER_PAUSED: return "paused";
    case MEMBER_STUCK: return "stuck";
    case MEMBER_CLOSING: return "closing";
    case MEMBER_DEAD: return "dead";
    }
    return "?";
}

static bool member_is_up(const struct member *member)
{
    switch (member->state) {
    case MEMBER_READY:
    case MEMBER_PAUSED:
    case MEMBER_STUCK: return true;
    case MEMBER_HANDSHAKE:
    case MEMBER_HELLO:
    case MEMBER_CLOSING:
    case MEMBER_DEAD: return false;
    }
    return false;
}

/* Nothing more can be said to it. */
static bool member_is_over(const struct member *member)
{
    return member->state >= MEMBER_STUCK;
}

/*
 * When it is asked for a sign of life: after 4/3 to 5/3 of the time in which a client that is well
 * has said one by itself (it does so every 15 s +- 20 %), and on a grid, so that one turn of the
 * loop looks after all members.
 */
static uint64_t member_ask_at(const struct member *member)
{
    uint64_t heartbeat = member->host->limits.heartbeat_ms, step = GT_MAX(heartbeat / 3, 1u);
    uint64_t at = GT_MAX(member->heard_at, member->pinged_at) + heartbeat + 2 * step;

    return at / step * step;
}

static uint64_t member_ready_deadline(const struct member *member)
{
    const struct member_limits *limits = &member->host->limits;
    uint64_t dead = member->heard_at + limits->dead_ms;
    uint64_t unseated =
        member_is_seated(member) ? NEVER : member->unseated_at + limits->unseated_ms;

    return GT_MIN(dead, GT_MIN(member_ask_at(member), unseated));
}

static uint64_t member_deadline(const struct member *member)
{
    const struct member_limits *limits = &member->host->limits;

    switch (member->state) {
    case MEMBER_HANDSHAKE: return member->entered_at + limits->handshake_ms;
    case MEMBER_HELLO: return member->entered_at + limits->hello_ms;
    case MEMBER_READY: return member_ready_deadline(member);
    case MEMBER_PAUSED: return member->entered_at + MEMBER_PAUSE_MS;
    case MEMBER_STUCK: return member->entered_at;
    case MEMBER_CLOSING: return member->entered_at + MEMBER_LINGER_MS;
    case MEMBER_DEAD: return NEVER;
    }
    return NEVER;
}

static bool member_is_read(const struct member *member)
{
    switch (member->state) {
    case MEMBER_HANDSHAKE:
    case MEMBER_HELLO:
    case MEMBER_CLOSING: return true;
    case MEMBER_READY: return member->wire.n_out < WIRE_OUT_STOP;
    case MEMBER_PAUSED:
    case MEMBER_STUCK:
    case MEMBER_DEAD: return false;
    }
    return false;
}

static void member_arm(struct member *member)
{
    struct ev_loop *loop = member->host->loop;
    uint64_t deadline = member_deadline(member);

    ev_timer_stop(loop, &member->timer);
    if (deadline == NEVER)
        return;
    double seconds = now_seconds_to(now_ms(), deadline);
    ev_now_update(loop); /* when its turn began would scatter what lies on the grid */
    ev_timer_set(&member->timer, seconds, 0);
    ev_timer_start(loop, &member->timer);
}

/* What is watched follows from the state and from what is queued: here and nowhere else. */
static void member_watch(struct member *member)
{
    struct ev_loop *loop = member->host->loop;
    int events = member_is_read(member) ? EV_READ : 0;

    if (wire_wants_write(&member->wire))
        events |= EV_WRITE;
    if ((member->io.events & (EV_READ | EV_WRITE)) != events || !ev_is_active(&member->io)) {
        ev_io_stop(loop, &member->io);
        ev_io_set(&member->io, member->wire.fd, events);
        if (events && member->state != MEMBER_DEAD)
            ev_io_start(loop, &member->io);
    }
}

static void member_enter(struct member *member, enum member_state state)
{
    bool was_up = member_is_up(member);

    gt_debug("member=%s %s -> %s", member->identity, member_state_text(member->state),
             member_state_text(state));
    member->state = state;
    member->entered_at = now_ms();
    member_watch(member);
    member_arm(member);
    if (was_up && !member_is_up(member))
        member->host->on_gone(member->host->userdata, member);
}

static void member_log_end(const struct member *member)
{
    static struct gt_log_rate rate;
    char text[GT_ADDR_TEXT];
    unsigned left_out;

    if (member->identity[0])
        gt_info("member=%s down address=%s reason=\"%s\"", member->identity,
                gt_addr_text(&member->addr, text), member->why);
    else if (gt_log_is_allowed(&rate, 5, &left_out))
        gt_info("stranger=%s handshake failed left-out=%u reason=\"%s\"",
                gt_addr_text(&member->addr, text), left_out, member->why);
}

/* Closes it now. */
static void member_drop(struct member *member, const char *why)
{
    if (member->state == MEMBER_DEAD)
        return;
    if (!member->why)
        member->why = why;
    member_enter(member, MEMBER_DEAD);
    member_log_end(member);
    wire_deinit(&member->wire);
    quota_release(&member->charge);
    member->alike = tally_give(&member->host->identities, member->alike);
    gt_list_unlink(&member->dirty);
    gt_list_unlink(&member->of_host);
    gt_list_append(&member->host->dead, &member->of_host);
    member->host->n_members--;
}

/* --- sending ---------------------------------------------------------------------------------- */

static void member_soil(struct member *member)
{
    gt_list_unlink(&member->dirty);
    gt_list_append(&member->host->dirty, &member->dirty);
}

void member_send(struct member *member, const struct gt_control_frame *frame)
{
    if (member_is_over(member))
        return;
    if (wire_send(&member->wire, frame))
        member_enter(member, MEMBER_STUCK);
    member_soil(member);
}

void member_send_code(struct member *member, enum gt_control_type type, const uint8_t *rid,
                      enum gt_code code)
{
    struct gt_control_frame frame = {.type = type, .code = (uint16_t)code};

    memcpy(frame.rid, rid ? rid : no_rid, GT_RID_SIZE);
    member_send(member, &frame);
}

void member_close(struct member *member, const char *why)
{
    if (member_is_over(member))
        return;
    member->why = why;
    member_soil(member);
    member_enter(member, MEMBER_CLOSING);
}

void member_fail(struct member *member, enum gt_code code, const uint8_t *rid, const char *why)
{
    member_send_code(member, GT_CONTROL_ERROR, rid, code);
    member_close(member, why);
}

static void member_settle(struct member *member)
{
    gt_list_unlink(&member->dirty);
    if (member->state == MEMBER_STUCK)
        member_drop(member, "does not read");
    if (member->state == MEMBER_DEAD)
        return;
    int r =
        member->state == MEMBER_CLOSING ? wire_finish(&member->wire) : wire_flush(&member->wire);
    if (r)
        member_drop(member, gt_tls_why(member->wire.tls));
    else
        member_watch(member);
}

/* --- receiving -------------------------------------------------------------------------------- */

static void member_on_hello(struct member *member, const struct gt_control_frame *frame)
{
    const struct member_host *host = member->host;
    struct gt_control_frame welcome = {.type = GT_CONTROL_WELCOME};
    char text[GT_ADDR_TEXT], software[GT_SOFTWARE_MAX + 1];

    if (frame->hello.version_min > MEMBER_VERSION || frame->hello.version_max < MEMBER_VERSION) {
        member_fail(member, GT_CODE_VERSION, NULL, "no version in common");
        return;
    }
    if (member->alike->n > host->limits.n_per_identity) {
        member_fail(member, GT_CODE_LIMIT, NULL, "too many connections of this identity");
        return;
    }
    welcome.welcome.version = MEMBER_VERSION;
    memcpy(welcome.welcome.boot_id, host->boot_id, sizeof(host->boot_id));
    welcome.welcome.heartbeat_ms = (uint32_t)host->limits.heartbeat_ms;
    welcome.welcome.max_streams = host->limits.n_streams;
    welcome.welcome.ttl_s = (uint32_t)(host->limits.lifetime_ms / 1000);
    member->unseated_at = now_ms();
    member_enter(member, MEMBER_READY);
    member_send(member, &welcome);
    gt_info("member=%s up address=%s software=\"%s\"", member->identity,
            gt_addr_text(&member->addr, text),
            gt_text_escape(gt_span_text(frame->hello.software), software, sizeof(software)));
}

static void member_on_ping(struct member *member, const struct gt_control_frame *frame)
{
    member_send(member, &(struct gt_control_frame){.type = GT_CONTROL_PONG, .ping = frame->ping});
}

static void member_on_ready_frame(struct member *member, const struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_RENDEZVOUS:
    case GT_CONTROL_OPEN:
    case GT_CONTROL_STREAM_END:
    case GT_CONTROL_SPARE:
    case GT_CONTROL_BYE: member->host->on_frame(member->host->userdata, member, frame); return;
    case GT_CONTROL_PING: member_on_ping(member, frame); return;
    case GT_CONTROL_PONG: return;
    case GT_CONTROL_ERROR: member_close(member, gt_code_text(frame->code)); return;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_WELCOME:
    case GT_CONTROL_SESSION:
    case GT_CONTROL_PEER:
    case GT_CONTROL_TICKET:
    case GT_CONTROL_RESTARTING:
        member_fail(member, GT_CODE_PROTOCOL, NULL, "a frame that is not a client's to send");
        return;
    }
}

static void member_on_frame(struct member *member, const struct gt_control_frame *frame)
{
    switch (member->state) {
    case MEMBER_HELLO:
        if (frame->type == GT_CONTROL_HELLO)
            member_on_hello(member, frame);
        else
            member_fail(member, GT_CODE_PROTOCOL, NULL, "a frame before HELLO");
        return;
    case MEMBER_READY: member_on_ready_frame(member, frame); return;
    case MEMBER_HANDSHAKE:
    case MEMBER_PAUSED:
    case MEMBER_STUCK:
    case MEMBER_CLOSING:
    case MEMBER_DEAD: return;
    }
}

/* What it may read by now: two seconds' worth may come at once. False: nothing. */
static bool member_earn(struct member *member)
{
    uint64_t now = now_ms(), n_frames = member->host->limits.n_frames;
    uint64_t earned = (now - member->tokens_at) * n_frames / 1000;

    if (!earned)
        return false;
    member->tokens = (unsigned)GT_MIN(earned, 2 * n_frames);
    member->tokens_at = now;
    return true;
}

static bool member_is_decoding(const struct member *member)
{
    return member->state == MEMBER_HELLO || member->state == MEMBER_READY;
}

/* Only a member can pause: who is not one yet has nothing to say but HELLO. */
static void member_tire_out(struct member *member)
{
    if (member->state == MEMBER_READY)
        member_enter(member, MEMBER_PAUSED);
    else
        member_fail(member, GT_CODE_PROTOCOL, NULL, "too much before HELLO");
}

/* Acts on the frames that are here. False: it is not to be read on. */
static bool member_take_frames(struct member *member)
{
    struct gt_control_frame frame;
    int r = 0;

    while (member_is_decoding(member) && wire_has_room(&member->wire)) {
        if (!member->tokens && !member_earn(member)) {
            member_tire_out(member);
            return false;
        }
        r = wire_decode(&member->wire, &frame);
        if (r == WIRE_E_AGAIN)
            return true;
        if (r) {
            member_fail(member, GT_CODE_PROTOCOL, NULL, "an ill-formed frame");
            return false;
        }
        member->tokens--;
        member_on_frame(member, &frame);
    }
    return false;
}

/* What TLS holds wakes nobody up: the timer does, after the others have had their turn. */
static void member_read_on_soon(struct member *member)
{
    if (!member_is_decoding(member) || !gt_tls_has_pending(member->wire.tls))
        return;
    ev_timer_stop(member->host->loop, &member->timer);
    ev_timer_set(&member->timer, 0, 0);
    ev_timer_start(member->host->loop, &member->timer);
}

/* The kernel closes a killed process's connection in order. So may a proxy on the way, but one that
 * does it to somebody who cannot be reached does it after a silence. */
static bool member_looks_killed(const struct member *member)
{
    return gt_tls_is_hung_up(member->wire.tls) &&
           now_ms() < member->heard_at + 2 * member->host->limits.heartbeat_ms;
}

/* Reads until there is nothing more, or it has said too much for now, or it does not listen. What
 * was read last is taken, too: nothing would wake us for it. */
static void member_read(struct member *member)
{
    unsigned n_reads = 0;
    int r = 0;

    while (member_take_frames(member) && n_reads < MEMBER_READS) {
        r = wire_read(&member->wire);
        if (r)
            break;
        n_reads++;
        member->heard_at = now_ms();
        member->tokens -= member->tokens > 0; /* what is skipped costs as well */
    }
    member->is_hung_up = r == WIRE_E_BROKEN && member_looks_killed(member);
    if (r == WIRE_E_CLOSED || r == WIRE_E_BROKEN)
        member_drop(member, r == WIRE_E_CLOSED ? "closed" : gt_tls_why(member->wire.tls));
    else
        member_settle(member);
    if (n_reads == MEMBER_READS)
        member_read_on_soon(member);
}

static void member_on_proved(struct member *member)
{
    struct gt_span identity = gt_tls_identity(member->wire.tls);

    quota_know(&member->charge);
    if (!gt_key_parse_identity(identity, &member->role, member->name)) {
        member_drop(member, "an ill-formed identity");
        return;
    }
    gt_key_identity(member->role, member->name, member->identity);
    member->alike = tally_take(&member->host->identities, member->identity);
    if (!member->alike) {
        member_drop(member, "no memory");
        return;
    }
    if (member->alike->n > 2 * member->host->limits.n_per_identity) {
        member_drop(member, "too many connections of this identity, and no HELLO");
        return;
    }
    member->heard_at = now_ms();
    member_enter(member, MEMBER_HELLO);
    member_read(member);
}

/* A hello shows the key. Who was cut off or fell silent after that has a bad network, and will be
 * back: the fault is not his, nor that of the others behind his address. */
static void member_punish(struct member *member, enum quota_offence offence)
{
    if (!gt_tls_is_keyed(member->wire.tls))
        quota_punish(&member->charge, offence, now_ms());
}

static void member_shake(struct member *member)
{
    int r = gt_tls_handshake(member->wire.tls);

    if (r == 0) {
        member_on_proved(member);
    } else if (r == GT_TLS_E_AGAIN) {
        member_watch(member);
    } else {
        member_punish(member, QUOTA_FAILED);
        member_drop(member, gt_tls_why(member->wire.tls));
    }
}

static void member_on_ready(struct ev_loop *loop, ev_io *io, int events)
{
    struct member *member = gt_container_of(io, struct member, io);

    switch (member->state) {
    case MEMBER_HANDSHAKE: member_shake(member); break;
    case MEMBER_HELLO:
    case MEMBER_READY: member_read(member); break;
    case MEMBER_PAUSED:
    case MEMBER_STUCK: member_settle(member); break;
    case MEMBER_CLOSING:
        if (wire_linger(&member->wire) == WIRE_E_CLOSED)
            member_drop(member, "closed");
        else if (wire_wants_write(&member->wire) || member->wire.n_out)
            member_settle(member);
        break;
    case MEMBER_DEAD: break;
    }
}

/* --- time ------------------------------------------------------------------------------------- */

/* It has been without a session for too long? Then it is told so. */
static bool member_send_away(struct member *member, uint64_t now)
{
    if (member_is_seated(member) || now < member->unseated_at + member->host->limits.unseated_ms)
        return false;
    member_send_code(member, GT_CONTROL_BYE, NULL, GT_CODE_EXPIRED);
    member_close(member, "without a session");
    return true;
}

static void member_on_ready_deadline(struct member *member)
{
    const struct member_limits *limits = &member->host->limits;
    uint64_t now = now_ms();

    if (now >= member->heard_at + limits->dead_ms) {
        member_drop(member, "silent");
        return;
    }
    if (member_send_away(member, now))
        return;
    if (now >= member_ask_at(member)) {
        member->pinged_at = now;
        member_send(member, &(struct gt_control_frame){.type = GT_CONTROL_PING, .ping = now});
    }
    if (member->state == MEMBER_READY)
        member_arm(member);
}

static void member_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct member *member = gt_container_of(timer, struct member, timer);

    if (member_is_decoding(member) && now_ms() < member_deadline(member)) {
        member_arm(member);
        member_read(member);
        return;
    }
    switch (member->state) {
    case MEMBER_HANDSHAKE:
        member_punish(member, QUOTA_TIMEOUT);
        member_drop(member, "handshake timeout");
        break;
    case MEMBER_HELLO: member_drop(member, "no HELLO"); break;
    case MEMBER_READY: member_on_ready_deadline(member); break;
    case MEMBER_PAUSED:
        member_enter(member, MEMBER_READY);
        if (!member_send_away(member, now_ms())) /* else who never stops talking would stay */
            member_read(member);
        break;
    case MEMBER_STUCK: member_settle(member); break;
    case MEMBER_CLOSING: member_drop(member, "closed"); break;
    case MEMBER_DEAD: break;
    }
}

void member_seat(struct member *member, struct gt_list *seat)
{
    gt_list_append(&member->seats, seat);
}

void member_unseat(struct member *member, struct gt_list *seat)
{
    gt_list_unlink(seat);
    member->unseated_at = now_ms();
    if (member->state == MEMBER_READY)
        member_arm(member);
}

void member_tire(struct member *member)
{
    member->tokens -= GT_MIN(member->tokens, member->host->limits.n_frames / 10);
}

/* --- birth and burial ------------------------------------------------------------------------- */

static int member_tls(struct member_host *host, int fd, struct gt_tls **ret)
{
    struct gt_tls *tls;
    int r = gt_tls_new_server(host->tls, fd, host->psk, host->userdata, &tls);

    if (r)
        return r;
    if (host->previous_psk && gt_tls_set_previous(tls, host->previous_psk)) {
        gt_tls_free(tls);
        return -ENOMEM;
    }
    *ret = tls;
    return 0;
}

void member_new(struct member_host *host, int fd, const struct gt_addr *addr, uint64_t since,
                struct quota_charge *charge)
{
    struct member *member = calloc(1, sizeof(*member));

    if (!member || member_tls(host, fd, &member->wire.tls)) {
        free(member);
        gt_close(&fd);
        quota_release(charge);
        return;
    }
    member->host = host;
    member->wire.fd = fd;
    member->addr = *addr;
    member->tokens = 2 * host->limits.n_frames;
    member->entered_at = member->tokens_at = since;
    quota_move(charge, &member->charge);
    gt_list_init(&member->seats);
    gt_list_init(&member->dirty);
    gt_list_append(&host->living, &member->of_host);
    host->n_members++;
    ev_io_init(&member->io, member_on_ready, fd, EV_READ);
    ev_init(&member->timer, member_on_timer);
    member_arm(member);
    member_shake(member);
}

void member_host_init(struct member_host *host, struct ev_loop *loop)
{
    *host = (struct member_host){.loop = loop};
    gt_list_init(&host->living);
    gt_list_init(&host->dead);
    gt_list_init(&host->dirty);
}

void member_host_settle(struct member_host *host)
{
    /* One that dies here may make others dirty. */
    while (!gt_list_is_empty(&host->dirty))
        member_settle(gt_list_entry(host->dirty.next, struct member, dirty));
    gt_list_for_each_safe (at, next, &host->dead) {
        struct member *member = gt_list_entry(at, struct member, of_host);
        gt_list_unlink(at);
        gt_wipe(member, sizeof(*member));
        free(member);
    }
}

void member_host_deinit(struct member_host *host)
{
    gt_list_for_each_safe (at, next, &host->living)
        member_drop(gt_list_entry(at, struct member, of_host), "the relay is stopping");
    member_host_settle(host);
}
