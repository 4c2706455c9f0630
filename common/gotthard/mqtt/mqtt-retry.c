/* SPDX-License-Identifier: ISC */
/* The policy of retries; see the header. */
#include "gotthard/mqtt/mqtt-retry.h"

#define LONG_S        120
#define STABLE_S      30
#define RETRY_MIN_MS  1000
#define RETRY_MAX_MS  60000
#define RIVAL_MIN_MS  5000 /* while another client uses our client id */
#define RIVAL_MAX_MS  300000
#define SPREAD_MAX_MS 40000  /* middle of the later waits, if the first is shorter */
#define BUSY_MAX_MS   160000 /* the same for a busy broker */
#define CONNACK_MAX_S 60

/* Returns @max_ms times a random fraction. */
static unsigned fraction_of(uint64_t max_ms, uint32_t random)
{
    return (unsigned)(max_ms * random / UINT32_MAX);
}

/* Doubles from @min_ms to four fifths of @max_ms, plus up to a quarter at random. */
static unsigned back_off(unsigned n_failures, unsigned min_ms, unsigned max_ms, uint64_t random)
{
    uint64_t base = (uint64_t)min_ms << GT_MIN(n_failures, 16u);

    base = GT_MIN(base, (uint64_t)max_ms * 4 / 5);
    return (unsigned)base + fraction_of(base / 4, (uint32_t)random);
}

/*
 * The first wait is spread evenly. A later one is between one half and three halves of a time that
 * doubles: whenever the broker is back, the remaining waits of all clients are spread again. A busy
 * broker gets fewer attempts, as an attempt that is given up costs it a TLS handshake for nothing.
 */
static unsigned spread(struct gt_mqtt_retry *retry, uint64_t random)
{
    unsigned n = retry->is_spreading ? retry->n_spread + 1 : 0;
    uint32_t part = (uint32_t)(random >> 32); /* back_off() uses the other half */
    unsigned min = GT_MAX(retry->spread_ms, RETRY_MIN_MS);

    retry->is_spreading = true;
    retry->n_spread = n;
    if (n == 0)
        return fraction_of(retry->spread_ms, part) + 1;
    uint64_t base = (uint64_t)min << GT_MIN(n - 1, 16u);
    base = GT_MIN(base, (uint64_t)GT_MAX(min, SPREAD_MAX_MS)) << GT_MIN(retry->n_busy, 2u);
    base = GT_MIN(base, (uint64_t)GT_MAX(min, BUSY_MAX_MS));
    return (unsigned)base / 2 + fraction_of(base, part);
}

/*
 * A connection that was lost soon may have been taken over by another client with our client id,
 * which waits as long as we do before it takes it over again. So only a connection that lasted
 * twice the last wait is stable and resets the waits. A short one that our own network ended does
 * not count.
 */
static void judge_connection(struct gt_mqtt_retry *retry, double lasted_s,
                             enum gt_mqtt_effect effect)
{
    if (lasted_s >= GT_MAX(STABLE_S, 2 * retry->wait_ms / 1e3))
        retry->n_failures = retry->n_short = 0;
    else if (effect != GT_MQTT_EFFECT_QUICK)
        retry->n_short++;
}

/* A busy broker and a lost network look the same, but a busy broker is one that has just restarted.
 */
static enum gt_mqtt_effect judge_silence(const struct gt_mqtt_retry_end *end)
{
    if (end->effect != GT_MQTT_EFFECT_SILENT)
        return end->effect;
    return end->lasted_s >= LONG_S ? GT_MQTT_EFFECT_QUICK : GT_MQTT_EFFECT_SPREAD;
}

/* A broker that restarts several times in a row looks like a rival, but to all its clients: then
 * the wait is spread as well. */
static unsigned wait_for_rival(struct gt_mqtt_retry *retry, bool is_spread, uint64_t random)
{
    unsigned n = retry->n_short - GT_MIN(retry->n_short, 2u);
    unsigned wait_ms = back_off(n, RIVAL_MIN_MS, RIVAL_MAX_MS, random);

    return is_spread ? wait_ms + spread(retry, random) : wait_ms;
}

static unsigned next_wait(struct gt_mqtt_retry *retry, const struct gt_mqtt_retry_end *end,
                          enum gt_mqtt_effect effect, uint64_t random)
{
    if (end->was_up)
        judge_connection(retry, end->lasted_s, effect);
    if (effect == GT_MQTT_EFFECT_QUICK) { /* not a failure of the broker */
        retry->is_spreading = false;
        return back_off(0, RETRY_MIN_MS, RETRY_MAX_MS, random);
    }
    bool is_spread = (effect == GT_MQTT_EFFECT_SPREAD || retry->is_spreading) && retry->spread_ms &&
                     !end->is_awaited;
    if (effect == GT_MQTT_EFFECT_RIVAL)
        return wait_for_rival(retry, false, random);
    if (end->was_up && gt_mqtt_retry_has_rival(retry))
        return wait_for_rival(retry, is_spread, random);
    unsigned n = retry->n_failures++;
    if (is_spread)
        return spread(retry, random);
    return back_off(n, RETRY_MIN_MS, RETRY_MAX_MS, random);
}

/* Returns true if this machine's network may be the cause. */
static bool is_own_network(enum gt_mqtt_effect effect)
{
    return effect == GT_MQTT_EFFECT_NETWORK || effect == GT_MQTT_EFFECT_QUICK ||
           effect == GT_MQTT_EFFECT_SILENT;
}

unsigned gt_mqtt_retry_next(struct gt_mqtt_retry *retry, const struct gt_mqtt_retry_end *end,
                            uint64_t random)
{
    enum gt_mqtt_effect effect = judge_silence(end);
    bool is_lost = end->was_up && end->effect == GT_MQTT_EFFECT_SPREAD;
    bool is_busy = effect == GT_MQTT_EFFECT_SPREAD && !is_lost;

    retry->n_busy = is_busy ? retry->n_busy + 1 : 0;
    retry->is_own_network = is_own_network(end->effect);
    retry->wait_ms = next_wait(retry, end, effect, random);
    return retry->wait_ms;
}

void gt_mqtt_retry_up(struct gt_mqtt_retry *retry)
{
    retry->is_spreading = false;
    retry->n_busy = 0;
}

bool gt_mqtt_retry_network_changed(struct gt_mqtt_retry *retry)
{
    if (!retry->is_own_network || gt_mqtt_retry_has_rival(retry))
        return false;
    retry->n_failures = 0;
    retry->is_spreading = false;
    return true;
}

bool gt_mqtt_retry_has_rival(const struct gt_mqtt_retry *retry)
{
    return retry->n_short > 1;
}

unsigned gt_mqtt_retry_connack_s(const struct gt_mqtt_retry *retry, unsigned limit_s)
{
    if (retry->is_spreading)
        return GT_MAX(limit_s, CONNACK_MAX_S);
    uint64_t grown_s = (uint64_t)limit_s * (retry->n_busy + 1ull);

    return (unsigned)GT_MAX((uint64_t)limit_s, GT_MIN(grown_s, (uint64_t)CONNACK_MAX_S));
}
