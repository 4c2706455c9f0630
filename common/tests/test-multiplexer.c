/* SPDX-License-Identifier: ISC */
/*
 * multiplexer.c: many streams between two ends, in random runs. The shared connection is cut, and
 * each end learns of it at another moment, with the last records lost. Streams move to connections
 * of their own and back, are reset and aborted. Each one is exact, or its applications learn that
 * it is not (stream-model.h), and no stream is remembered in the end.
 */
// clang-format off
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <time.h>

#include "gotthard/proto/multiplexer.h"
#include "stream-model.h"

#define N_STREAMS 10
#define N_RECORDS 64 /* in flight in one direction */

/* xorshift: the same numbers on every machine. */
struct random_source {
    struct model_source source;
    uint64_t x;
};

static uint32_t random_choose(struct model_source *source, uint32_t n)
{
    struct random_source *r = gt_container_of(source, struct random_source, source);

    r->x ^= r->x << 13;
    r->x ^= r->x >> 7;
    r->x ^= r->x << 17;
    return (uint32_t)((r->x >> 16) % n);
}

struct world;

struct stream_world { /* both ends of one stream */
    struct world *world;
    struct model model; /* its wires are those of its own connection */
    struct gt_shared_member members[2];
    bool is_known[2];
    uint32_t own_attempt; /* of its own connection; 0: none */
};

struct wire { /* records in flight, the oldest first */
    struct gt_span records[N_RECORDS];
    size_t n;
};

struct world {
    struct model_source *source;
    struct gt_multiplexer muxes[2];
    bool is_up[2];                /* as far as the end knows */
    struct wire wires[2];         /* by sender */
    struct stream_world *streams; /* N_STREAMS + 1, by number */
    uint32_t last_number[2], limit;
};

static struct gt_stream *stream_of(struct stream_world *sw, int e)
{
    return &sw->model.ends[e].s;
}

static bool is_there(const struct stream_world *sw, int e)
{
    return sw->is_known[e] && !sw->model.ends[e].is_forgotten;
}

/* --- members ---------------------------------------------------------------------------------- */

static struct stream_world *world_of(struct gt_shared_member *member, int *ret_e)
{
    struct world *w = member->shared->userdata;

    *ret_e = member->shared == &w->muxes[1];
    return &w->streams[member->number];
}

static size_t on_compose(struct gt_shared_member *member, size_t cap, struct gt_stream_record *ret)
{
    int e;
    struct stream_world *sw = world_of(member, &e);

    return gt_stream_has_output(stream_of(sw, e)) ? gt_stream_compose(stream_of(sw, e), cap, ret)
                                                  : 0;
}

static void on_consume(struct gt_shared_member *member, const uint8_t *data, size_t n)
{
    int e;
    struct stream_world *sw = world_of(member, &e);

    stream_of(sw, e)->now += .01;
    model_check("memory", gt_stream_consume(stream_of(sw, e), data, n) == 0);
}

static void on_reset(struct gt_shared_member *member)
{
    model_check("begins are valid", false);
}

static void on_settle(struct gt_shared_member *member)
{
}

static void on_lost(struct gt_shared_member *member)
{
    model_check("detached", !member->shared);
}

static const struct gt_shared_member_events member_events = {
    .compose = on_compose,
    .consume = on_consume,
    .reset = on_reset,
    .settle = on_settle,
    .lost = on_lost,
};

static void attach_shared(struct stream_world *sw, int e, uint32_t attempt)
{
    gt_shared_member_detach(&sw->members[e]);
    gt_stream_park(stream_of(sw, e));
    gt_stream_attach(stream_of(sw, e), attempt, GT_STREAM_SHARED);
    gt_multiplexer_attach(&sw->world->muxes[e], stream_of(sw, e)->number, attempt, &member_events,
                          &sw->members[e]);
}

static void stream_start(struct stream_world *sw, int e, uint32_t number)
{
    static const enum gt_role roles[] = {GT_ROLE_OPERATOR, GT_ROLE_DEVICE};
    struct model_source *from = sw->world->source;

    gt_stream_init(stream_of(sw, e), roles[e], number, e == 0 ? MODEL_SERVICE : NULL,
                   (size_t)GT_RING_MIN << from->choose(from, 9));
    sw->is_known[e] = true;
    sw->world->last_number[e] = number;
}

static void on_output(void *userdata)
{
}

static struct gt_shared_member *find(struct world *w, int e, uint32_t number)
{
    struct gt_shared_member *member = number <= N_STREAMS ? &w->streams[number].members[e] : NULL;

    return member && member->shared ? member : NULL;
}

static struct gt_shared_member *operator_find(void *userdata, uint32_t number)
{
    return find(userdata, 0, number);
}

static struct gt_shared_member *device_find(void *userdata, uint32_t number)
{
    return find(userdata, 1, number);
}

static struct gt_shared_member *on_begin(void *userdata, uint32_t number,
                                         const struct gt_frame *hello, enum gt_rst *ret_code)
{
    struct world *w = userdata;
    struct stream_world *sw = &w->streams[number];

    *ret_code = GT_RST_LOST;
    if (number > w->limit) {
        *ret_code = GT_RST_LIMIT;
        sw->model.is_aborted = true;
        return NULL;
    }
    if (sw->is_known[1] ? !is_there(sw, 1) : number <= w->last_number[1])
        return NULL;
    if (!sw->is_known[1])
        stream_start(sw, 1, number);
    model_check("attempts rise", hello->attempt > stream_of(sw, 1)->attempt);
    attach_shared(sw, 1, hello->attempt);
    return &sw->members[1];
}

static const struct gt_multiplexer_events mux_events[2] = {
    {.on_output = on_output, .find = operator_find},
    {.on_output = on_output, .find = device_find, .on_begin = on_begin},
};

/* --- the shared connection -------------------------------------------------------------------- */

static void wire_drop(struct wire *wire, size_t n_kept)
{
    while (wire->n > n_kept)
        free((void *)wire->records[--wire->n].data);
}

/* A record that is sent into a lost connection is lost. */
static void world_compose(struct world *w, int e, size_t cap)
{
    static uint8_t bytes[GT_SEGMENT_MAX + 1];
    struct gt_multiplexer_record record;
    struct gt_writer out = gt_writer(bytes, sizeof(bytes));
    struct wire *wire = &w->wires[e];

    if (!w->is_up[e] || wire->n == N_RECORDS)
        return;
    size_t n = gt_multiplexer_compose(&w->muxes[e], cap, &record);
    for (size_t i = 0; i < record.n_parts; i++)
        gt_write_span(&out, record.parts[i]);
    model_check("record", !out.failed && n == out.n && n <= cap);
    if (n == 0 || !w->is_up[!e])
        return;
    uint8_t *copy = malloc(n);
    model_check("memory", copy);
    memcpy(copy, bytes, n);
    wire->records[wire->n++] = gt_span(copy, n);
}

static void world_deliver(struct world *w, int e)
{
    struct wire *wire = &w->wires[!e];

    if (!w->is_up[e] || wire->n == 0)
        return;
    struct gt_span record = wire->records[0];
    memmove(wire->records, wire->records + 1, --wire->n * sizeof(record));
    model_check("well-formed", gt_multiplexer_receive(&w->muxes[e], record) == 0);
    gt_multiplexer_settle(&w->muxes[e]);
    free((void *)record.data);
}

/* @e learns that the connection is lost. Its last records may not arrive. */
static void world_cut(struct world *w, int e)
{
    struct model_source *from = w->source;

    if (!w->is_up[e])
        return;
    w->is_up[e] = false;
    gt_multiplexer_reset(&w->muxes[e]);
    gt_multiplexer_lose_members(&w->muxes[e]);
    for (uint32_t i = 1; i <= N_STREAMS; i++)
        if (is_there(&w->streams[i], e) &&
            stream_of(&w->streams[i], e)->connection.kind == GT_STREAM_SHARED)
            gt_stream_park(stream_of(&w->streams[i], e));
    wire_drop(&w->wires[!e], 0);
    wire_drop(&w->wires[e], from->choose(from, (uint32_t)w->wires[e].n + 1));
}

static uint32_t next_attempt(struct stream_world *sw)
{
    return GT_MAX(stream_of(sw, 0)->attempt, sw->own_attempt) + 1;
}

/* The operator begins a stream again, from nowhere or from its own connection. */
static void world_begin(struct world *w, uint32_t number)
{
    struct stream_world *sw = &w->streams[number];

    if (w->is_up[0] && is_there(sw, 0) && !sw->members[0].shared)
        attach_shared(sw, 0, next_attempt(sw));
}

static void world_connect(struct world *w)
{
    if (w->is_up[0] || w->is_up[1])
        return;
    w->is_up[0] = w->is_up[1] = true;
    for (int e = 0; e < 2; e++)
        wire_drop(&w->wires[e], 0);
    for (uint32_t i = 1; i <= N_STREAMS; i++)
        if (stream_of(&w->streams[i], 0)->connection.kind != GT_STREAM_OWN)
            world_begin(w, i);
}

static void world_open(struct world *w)
{
    uint32_t number = w->last_number[0] + 1;

    if (number > N_STREAMS)
        return;
    stream_start(&w->streams[number], 0, number);
    world_begin(w, number);
}

/* --- connections of their own ----------------------------------------------------------------- */

/* OPEN: it is not handshaken yet. The operator requests it when the device has answered the begin
 * of the present attachment: then no begin is in flight that would be older. */
static void world_request_own(struct stream_world *sw)
{
    if (!is_there(sw, 0) || stream_of(sw, 0)->state != GT_STREAM_OPEN)
        return;
    sw->own_attempt = next_attempt(sw);
    memset(&sw->model.wires, 0, sizeof(sw->model.wires));
}

/* Only two ends that know the stream complete a handshake, and the operator's does so first: it is
 * the TLS client. A stream that is over stays where it is. */
static void world_attach_own(struct stream_world *sw, int e)
{
    bool is_first = e == 0 || stream_of(sw, 0)->attempt >= sw->own_attempt;

    if (!is_there(sw, 0) || !is_there(sw, 1) || !is_first || gt_stream_is_over(stream_of(sw, e)) ||
        stream_of(sw, e)->attempt >= sw->own_attempt)
        return;
    gt_shared_member_detach(&sw->members[e]);
    gt_stream_park(stream_of(sw, e));
    gt_stream_attach(stream_of(sw, e), sw->own_attempt, GT_STREAM_OWN);
}

static bool is_on_own(struct stream_world *sw, int e)
{
    return is_there(sw, e) && stream_of(sw, e)->connection.kind == GT_STREAM_OWN;
}

static void world_cut_own(struct stream_world *sw, int e)
{
    if (is_on_own(sw, e))
        gt_stream_park(stream_of(sw, e));
}

static void world_move_own(struct stream_world *sw, int e, size_t n, bool is_output)
{
    if (!is_on_own(sw, e))
        return;
    if (stream_of(sw, e)->attempt != sw->own_attempt)
        gt_stream_park(stream_of(sw, e)); /* replaced by a newer one */
    else if (is_output)
        model_produce(&sw->model, e, GT_PRODUCE_MIN + GT_MIN(n, (size_t)15872));
    else
        model_deliver(&sw->model, e, n);
}

/* --- the run ---------------------------------------------------------------------------------- */

static void world_check(struct world *w)
{
    for (uint32_t i = 1; i <= N_STREAMS; i++) {
        struct stream_world *sw = &w->streams[i];

        for (int e = 0; e < 2; e++) {
            if (!is_there(sw, e))
                continue;
            model_check_end(&sw->model, e);
            model_forget(&sw->model, e);
            if (sw->model.ends[e].is_forgotten)
                gt_shared_member_detach(&sw->members[e]);
            else if (gt_stream_has_output(stream_of(sw, e)))
                gt_shared_member_want_turn(&sw->members[e]);
        }
    }
}

static void step_application(struct stream_world *sw, int e, uint32_t what, size_t n)
{
    if (!is_there(sw, e))
        return;
    if (what < 10)
        model_write(&sw->model, e, n);
    else if (what < 20)
        model_read(&sw->model, e, n);
    else if (what < 24)
        model_deliver_end(&sw->model, e);
    else if (what < 25)
        gt_stream_trim(stream_of(sw, e));
    else if (what < 26 && n % 4 == 1)
        model_finish(&sw->model, e);
    else if (what < 27 && n % 16 == 2)
        model_reset(&sw->model, e);
    else if (what < 28 && n % 32 == 3)
        model_abort(&sw->model, e);
}

static void step_own(struct stream_world *sw, int e, uint32_t what, size_t n)
{
    if (what < 8)
        world_move_own(sw, e, n, true);
    else if (what < 16)
        world_move_own(sw, e, n, false);
    else if (what < 17 && n % 4 == 0)
        world_request_own(sw);
    else if (what < 19)
        world_attach_own(sw, e);
    else if (what < 20 && n % 8 == 0)
        world_cut_own(sw, e);
}

static void step_shared(struct world *w, int e, uint32_t what, size_t n)
{
    if (what < 8)
        world_compose(w, e, GT_SEGMENT_HEADER + GT_PRODUCE_MIN + GT_MIN(n, (size_t)15866));
    else if (what < 18)
        world_deliver(w, e);
    else if (what < 19 && n % 64 == 0)
        world_cut(w, e);
    else if (what < 20)
        world_connect(w);
    else if (what < 21 && n % 4 == 0)
        world_open(w);
    else if (what < 22 && n % 16 == 0)
        gt_multiplexer_ping(&w->muxes[e]);
    else if (what < 23 && n % 4 == 0)
        world_begin(w, 1 + (uint32_t)(n / 4) % N_STREAMS);
}

static void world_step(struct world *w)
{
    struct model_source *from = w->source;
    int e = (int)from->choose(from, 2);
    uint32_t what = from->choose(from, 72);
    size_t n = from->choose(from, 1u << (from->choose(from, 4) * 4 + 3)); /* 8 B to 32 KiB */
    struct stream_world *sw = &w->streams[1 + from->choose(from, N_STREAMS)];

    if (what < 28)
        step_application(sw, e, what, n);
    else if (what < 48)
        step_own(sw, e, what - 28, n);
    else
        step_shared(w, e, what - 48, n);
    world_check(w);
}

static bool world_is_done(const struct world *w)
{
    for (uint32_t i = 1; i <= N_STREAMS; i++) {
        const struct stream_world *sw = &w->streams[i];

        if (is_there(sw, 0) || (is_there(sw, 1) && !gt_stream_is_over(&sw->model.ends[1].s)))
            return false;
    }
    return true;
}

static void world_drain_once(struct world *w)
{
    for (int e = 0; e < 2; e++) {
        for (uint32_t i = 1; i <= N_STREAMS; i++) {
            struct stream_world *sw = &w->streams[i];

            if (!is_there(sw, e))
                continue;
            model_finish(&sw->model, e);
            model_read(&sw->model, e, SIZE_MAX);
            model_deliver_end(&sw->model, e);
        }
        world_check(w);
        world_compose(w, e, 16384);
        world_deliver(w, !e);
        world_check(w);
    }
}

/* Without further cuts each stream ends at both ends, and is forgotten. A device keeps only a
 * stream that is over, whose operator has received its DONE; its window ends that. */
static void world_drain(struct world *w)
{
    for (uint32_t i = 1; i <= N_STREAMS; i++)
        for (int e = 0; e < 2; e++)
            world_cut_own(&w->streams[i], e);
    for (int e = 0; e < 2; e++)
        if (!w->is_up[0] || !w->is_up[1])
            world_cut(w, e);
    world_connect(w);
    for (uint32_t i = 1; i <= N_STREAMS; i++)
        world_begin(w, i);
    for (int round = 0; round < 5000 && !world_is_done(w); round++)
        world_drain_once(w);
    for (int round = 0; round < 2 * N_RECORDS; round++) /* the last DONEs */
        world_drain_once(w);
    model_check("all ended", world_is_done(w));
    for (int e = 0; e < 2; e++) {
        model_check("no member remains", gt_list_is_empty(&w->muxes[e].members));
        model_check("no output remains", !gt_multiplexer_has_output(&w->muxes[e]));
    }
}

static void world_run(struct model_source *source, unsigned n_steps)
{
    struct world w = {.source = source, .limit = N_STREAMS - source->choose(source, 2)};

    w.streams = calloc(N_STREAMS + 1, sizeof(*w.streams));
    model_check("memory", w.streams);
    for (uint32_t i = 0; i <= N_STREAMS; i++) {
        w.streams[i].world = &w;
        w.streams[i].model.source = source;
    }
    gt_multiplexer_init(&w.muxes[0], GT_ROLE_OPERATOR, &mux_events[0], &w);
    gt_multiplexer_init(&w.muxes[1], GT_ROLE_DEVICE, &mux_events[1], &w);
    world_connect(&w);
    for (unsigned i = 0; i < n_steps; i++)
        world_step(&w);
    world_drain(&w);
    for (uint32_t i = 1; i <= N_STREAMS; i++)
        for (int e = 0; e < 2; e++)
            if (w.streams[i].is_known[e])
                gt_stream_deinit(stream_of(&w.streams[i], e));
    for (int e = 0; e < 2; e++)
        wire_drop(&w.wires[e], 0);
    free(w.streams);
}

static void test_random_runs_are_exact_or_reset_and_end(void **state)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned i = 0; i < 300; i++) {
        struct random_source source = {{random_choose, false}, (seed + i) * 2654435761u + 1};

        world_run(&source.source, 200u + random_choose(&source.source, 10000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_runs_are_exact_or_reset_and_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
