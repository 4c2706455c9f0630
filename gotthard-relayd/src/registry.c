/* SPDX-License-Identifier: ISC */
/*
 * What a client may ask, and whom it concerns. What no honest client sends closes the connection; a
 * session that is not the asker's own looks like one that does not exist.
 */
#include "registry.h"

#include <netinet/tcp.h>

#include "gotthard/log.h"
#include "gotthard/sock.h"
#include "handover.h"

#define BACKLOG        512
#define DEFER_ACCEPT_S 1 /* a data connection is ours once it has said something */

static struct entry *registry_find(struct registry *registry, const uint8_t *rid)
{
    struct entry *entry;

    HASH_FIND(by_rid, registry->by_rid, rid, GT_RID_SIZE, entry);
    return entry;
}

/* The session that this member is in now; NULL also when it is somebody else's. */
static struct entry *registry_find_own(struct registry *registry, const struct member *member,
                                       const uint8_t *rid)
{
    struct entry *entry = registry_find(registry, rid);

    return entry && entry_member(entry, member->role) == member ? entry : NULL;
}

size_t registry_n_sessions(const struct registry *registry)
{
    return HASH_CNT(by_serial, registry->by_serial);
}

/* Into both tables. */
static int registry_enlist(struct registry *registry, struct entry *entry)
{
    HASH_ADD(by_rid, registry->by_rid, session.rid, GT_RID_SIZE, entry);
    if (entry->by_rid.tbl)
        HASH_ADD(by_serial, registry->by_serial, session.serial, sizeof(uint64_t), entry);
    return entry->by_rid.tbl && entry->by_serial.tbl ? 0 : -ENOMEM;
}

/* Out of those that it is in. */
static void registry_delist(struct registry *registry, struct entry *entry)
{
    if (entry->by_rid.tbl)
        HASH_DELETE(by_rid, registry->by_rid, entry);
    if (entry->by_serial.tbl)
        HASH_DELETE(by_serial, registry->by_serial, entry);
}

/* --- the birth of a session ------------------------------------------------------------------- */

/* A listener on a free port of the range; ports that others hold rest for a while. 0, or a code. */
static enum gt_code registry_listen(struct registry *registry, const struct gt_control_frame *frame,
                                    int *ret_fd, uint16_t *ret_port)
{
    struct gt_addr addr = registry->bind;
    uint64_t now = now_ms();
    uint16_t port;

    while (!ports_take(&registry->ports, frame->rendezvous.port_hint, frame->rid, now, &port)) {
        gt_addr_set_port(&addr, port);
        int fd = gt_sock_listen(&addr, BACKLOG);
        if (fd >= 0) {
            int seconds = DEFER_ACCEPT_S;
            setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
            *ret_fd = fd;
            *ret_port = port;
            return GT_CODE_NONE;
        }
        ports_skip(&registry->ports, port, now);
        gt_log(GT_LOG_DEBUG, fd, "port=%u skipped", port);
        if (fd != -EADDRINUSE && fd != -EACCES)
            return GT_CODE_INTERNAL;
    }
    return GT_CODE_NO_PORT;
}

static struct plane *registry_choose_plane(struct registry *registry)
{
    struct plane *best = registry->planes[registry->serial % registry->n_planes];

    for (size_t i = 0; i < registry->n_planes; i++)
        if (atomic_load(&registry->planes[i]->counts.n_docks) < atomic_load(&best->counts.n_docks))
            best = registry->planes[i];
    return best;
}

static enum gt_code registry_open_session(struct registry *registry, const struct member *member,
                                          const struct gt_control_frame *frame, struct entry **ret)
{
    gt_cleanup(gt_close) int fd = -1;
    uint16_t port;

    if (!quota_take_fd(registry->quota))
        return GT_CODE_LIMIT;
    enum gt_code code = registry_listen(registry, frame, &fd, &port);
    struct entry *entry = NULL;
    if (!code)
        entry = entry_new(&registry->entries, frame->rid, ++registry->serial,
                          registry_choose_plane(registry), port, &fd);
    if (entry && (entry_hold(entry, member->role, member->name) ||
                  registry_enlist(registry, entry) || entry_start(entry))) {
        registry_delist(registry, entry);
        entry = entry_free(entry);
    }
    if (!entry) {
        quota_give_fd(registry->quota);
        if (!code)
            ports_give_back(&registry->ports, port, frame->rid, now_ms());
        return code ? code : GT_CODE_INTERNAL;
    }
    registry->plane_of_port[port] = (uint8_t)entry->plane->index;
    registry->n_born++;
    *ret = entry;
    return GT_CODE_NONE;
}

struct entry *registry_adopt(struct registry *registry, const struct handover_session *session,
                             int *fd)
{
    struct plane *plane = registry_choose_plane(registry);
    struct entry *entry = entry_adopt(&registry->entries, session, plane, fd);

    if (!entry)
        return NULL;
    quota_adopt_fd(registry->quota);
    dock_start(entry->dock, plane);
    if (registry_enlist(registry, entry)) {
        registry_delist(registry, entry);
        dock_end(gt_steal(&entry->dock));
        return entry_free(entry);
    }
    ports_adopt(&registry->ports, session->port, &(struct port){.state = PORT_TAKEN});
    registry->plane_of_port[session->port] = (uint8_t)plane->index;
    return entry;
}

/* May this member have one more session? 0, or the code that says why not. */
static enum gt_code registry_admit(struct registry *registry, const struct member *member,
                                   bool is_new)
{
    if (registry->state != REGISTRY_OPEN)
        return GT_CODE_SHUTDOWN;
    if (is_new && registry_n_sessions(registry) >= registry->limits.n_sessions)
        return GT_CODE_LIMIT;
    if (entry_n_held(&registry->entries, member->role, member->name) >=
        registry->limits.n_sessions_per_identity)
        return GT_CODE_LIMIT;
    return GT_CODE_NONE;
}

/* --- what members ask ------------------------------------------------------------------------- */

static void registry_warn_no_port(const struct registry *registry, const struct member *member)
{
    static struct gt_log_rate rate;
    unsigned left_out;

    if (gt_log_is_allowed(&rate, 1, &left_out))
        gt_warn("member=%s refused left-out=%u reason=\"all ports %u to %u are taken or resting\"",
                member->identity, left_out, registry->ports.from, registry->ports.to);
}

/* Comes back to a session that the other side has ended. */
static void registry_tell_end(struct member *member, const struct gt_control_frame *frame,
                              enum gt_code code)
{
    gt_info("member=%s came back to a session that is over: reason=\"%s\"", member->identity,
            gt_code_text(code));
    member_tire(member);
    member_send_code(member, GT_CONTROL_BYE, frame->rid, code);
}

static void registry_on_rendezvous(struct registry *registry, struct member *member,
                                   const struct gt_control_frame *frame)
{
    struct entry *entry = registry_find(registry, frame->rid);
    enum gt_code end = entry ? GT_CODE_NONE : tombs_find(&registry->tombs, frame->rid, now_ms());

    if (end) {
        registry_tell_end(member, frame, end);
        return;
    }
    bool is_here =
        entry && !strcmp(session_slot(&entry->session, member->role)->name, member->name);
    enum gt_code code = GT_CODE_NONE;

    if (!is_here) {
        member_tire(member); /* a refusal, too */
        code = registry_admit(registry, member, !entry);
    }
    if (!code && !entry)
        code = registry_open_session(registry, member, frame, &entry);
    if (code == GT_CODE_NO_PORT)
        registry_warn_no_port(registry, member);
    if (code)
        member_send_code(member, GT_CONTROL_ERROR, frame->rid, code);
    else
        entry_register(entry, member, frame);
}

static void registry_on_open(struct registry *registry, struct member *member,
                             const struct gt_control_frame *frame)
{
    struct entry *entry = registry_find_own(registry, member, frame->rid);

    if (member->role != GT_ROLE_OPERATOR) {
        member_fail(member, GT_CODE_PROTOCOL, frame->rid, "OPEN by a device");
        return;
    }
    if (!entry) {
        member_send_code(member, GT_CONTROL_ERROR, frame->rid, GT_CODE_NO_SESSION);
        return;
    }
    entry_open(entry, member, frame->open.stream, frame->open.attempt);
}

static void registry_on_spare(struct registry *registry, struct member *member,
                              const struct gt_control_frame *frame)
{
    struct entry *entry = registry_find_own(registry, member, frame->rid);

    if (member->role != GT_ROLE_OPERATOR)
        member_fail(member, GT_CODE_PROTOCOL, frame->rid, "SPARE by a device");
    else if (entry)
        entry_spare(entry, frame->spare.stream, frame->spare.attempt, frame->spare.is_spare);
}

static void registry_on_stream_end(struct registry *registry, struct member *member,
                                   const struct gt_control_frame *frame)
{
    struct entry *entry = registry_find_own(registry, member, frame->rid);

    if (entry)
        entry_stream_end(entry, member, frame);
}

/* BYE with a rid ends that session, one without all that this connection holds. */
static void registry_on_bye(struct registry *registry, struct member *member,
                            const struct gt_control_frame *frame)
{
    static const uint8_t all[GT_RID_SIZE];
    bool is_to_all = !memcmp(frame->rid, all, GT_RID_SIZE);
    struct entry *entry = registry_find_own(registry, member, frame->rid);

    if (entry)
        entry_bye(entry, member, frame->code);
    while (is_to_all && (entry = entry_of_member(member)))
        entry_bye(entry, member, frame->code);
    if (!member_is_seated(member))
        member_close(member, "said goodbye");
}

void registry_on_frame(struct registry *registry, struct member *member,
                       const struct gt_control_frame *frame)
{
    switch (frame->type) {
    case GT_CONTROL_RENDEZVOUS: registry_on_rendezvous(registry, member, frame); return;
    case GT_CONTROL_OPEN: registry_on_open(registry, member, frame); return;
    case GT_CONTROL_STREAM_END: registry_on_stream_end(registry, member, frame); return;
    case GT_CONTROL_SPARE: registry_on_spare(registry, member, frame); return;
    case GT_CONTROL_BYE: registry_on_bye(registry, member, frame); return;
    case GT_CONTROL_HELLO:
    case GT_CONTROL_WELCOME:
    case GT_CONTROL_SESSION:
    case GT_CONTROL_PEER:
    case GT_CONTROL_TICKET:
    case GT_CONTROL_PING:
    case GT_CONTROL_PONG:
    case GT_CONTROL_RESTARTING:
    case GT_CONTROL_ERROR: return; /* the member's own affair */
    }
}

void registry_on_gone(struct registry *registry, struct member *member)
{
    struct entry *entry;

    while ((entry = entry_of_member(member)))
        entry_lose(entry, member);
}

struct plane *registry_plane_of(const struct registry *registry, const struct gt_join *join)
{
    unsigned port = (unsigned)join->id[0] << 8 | join->id[1];

    return registry->planes[registry->plane_of_port[port]];
}

/* --- what planes report ----------------------------------------------------------------------- */

void registry_on_letter(struct registry *registry, const struct letter *letter)
{
    struct entry *entry;

    HASH_FIND(by_serial, registry->by_serial, &letter->serial, sizeof(uint64_t), entry);
    if (entry) /* else its session ended first */
        entry_on_letter(entry, letter);
}

/* --- the registry ----------------------------------------------------------------------------- */

/* A goodbye is final, heard or not; all else may begin again. */
static void registry_on_ended(void *userdata, struct entry *entry, enum gt_code code)
{
    struct registry *registry = userdata;
    uint64_t until = now_ms() + registry->entries.limits.session.grace_ms;

    if (code == GT_CODE_BYE || code == GT_CODE_NEW_PROCESS)
        tombs_add(&registry->tombs, entry->session.rid, code, until);

    registry_delist(registry, entry);
    ports_give_back(&registry->ports, entry->session.port, entry->session.rid, now_ms());
    gt_list_append(&registry->dead, &entry->dead);
}

/* After a restart sessions ask for the ports that they had: new ones should not be given just
 * those, from the first on. */
static int registry_shuffle(struct registry *registry)
{
    uint16_t random;
    int r = gt_random(&random, sizeof(random));

    registry->ports.cursor = r ? 0 : random % ports_n(&registry->ports);
    return r;
}

int registry_init(struct registry *registry, struct ev_loop *loop, struct quota *quota,
                  uint16_t ports_from, uint16_t ports_to, uint64_t rest_ms)
{
    *registry = (struct registry){
        .quota = quota,
        .entries = {.loop = loop, .on_ended = registry_on_ended, .userdata = registry}};
    gt_list_init(&registry->dead);
    int r = ports_init(&registry->ports, ports_from, ports_to, rest_ms);
    return r ? r : registry_shuffle(registry);
}

void registry_set_planes(struct registry *registry, struct plane **planes, size_t n_planes)
{
    registry->planes = planes;
    registry->n_planes = n_planes;
}

void registry_bury(struct registry *registry)
{
    gt_list_for_each_safe (at, next, &registry->dead) {
        entry_free(gt_list_entry(at, struct entry, dead));
    }
}

void registry_deinit(struct registry *registry)
{
    registry_close(registry, GT_CODE_SHUTDOWN);
    registry_bury(registry);
    ports_deinit(&registry->ports);
}

void registry_drain(struct registry *registry)
{
    registry->state = REGISTRY_DRAINING;
}

void registry_close(struct registry *registry, enum gt_code code)
{
    struct entry *entry, *next;

    registry->state = REGISTRY_CLOSED;
    HASH_ITER (by_serial, registry->by_serial, entry, next)
        entry_stop(entry, code);
}

bool registry_is_busy(const struct registry *registry)
{
    struct entry *entry, *next;

    HASH_ITER (by_serial, registry->by_serial, entry, next)
        if (entry->session.streams.n_live > entry->session.streams.n_spares)
            return true;
    return false;
}

void registry_show(const struct registry *registry)
{
    struct entry *entry, *next;

    HASH_ITER (by_serial, registry->by_serial, entry, next) {
        entry_show(entry);
    }
}
