/* SPDX-License-Identifier: ISC */
/*
 * A hash table from request ids to answers. Its user bounds the size: only authentic requests are
 * added, and their rate is limited before (responder.c).
 */
#include "gotthard/signaling/replay-cache.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define REPEAT_WAIT_MS     250
#define REPEAT_WAIT_MAX_MS 4000

struct gt_replay_entry {
    uint8_t id[GT_REQ_ID_SIZE];
    struct gt_replay_record seen;
    uint8_t *reply; /* owned */
    UT_hash_handle hh;
};

int gt_replay_cache_init(struct gt_replay_cache *epoch, uint64_t ends_ms)
{
    struct gt_replay_cache fresh = {.ends_ms = ends_ms};
    int r = gt_random(fresh.id, sizeof(fresh.id));

    if (r == 0)
        *epoch = fresh;
    return r;
}

static void remove_entry(struct gt_replay_cache *epoch, struct gt_replay_entry *entry)
{
    HASH_DEL(epoch->entries, entry);
    free(entry->reply);
    free(entry);
}

void gt_replay_cache_deinit(struct gt_replay_cache *epoch)
{
    struct gt_replay_entry *entry, *next;

    HASH_ITER (hh, epoch->entries, entry, next)
        remove_entry(epoch, entry);
    *epoch = (struct gt_replay_cache){0};
}

size_t gt_replay_cache_count(const struct gt_replay_cache *epoch)
{
    return HASH_COUNT(epoch->entries);
}

static struct gt_replay_entry *find_entry(const struct gt_replay_cache *epoch, const uint8_t *id)
{
    struct gt_replay_entry *entry;

    HASH_FIND(hh, epoch->entries, id, GT_REQ_ID_SIZE, entry);
    return entry;
}

struct gt_replay_record *gt_replay_cache_find(const struct gt_replay_cache *epoch,
                                              const uint8_t *id)
{
    struct gt_replay_entry *entry = find_entry(epoch, id);

    return entry ? &entry->seen : NULL;
}

void gt_replay_cache_remove(struct gt_replay_cache *epoch, const uint8_t *id)
{
    struct gt_replay_entry *entry = find_entry(epoch, id);

    if (entry)
        remove_entry(epoch, entry);
}

bool gt_replay_record_may_repeat(struct gt_replay_record *seen, uint64_t now_ms)
{
    if (now_ms < seen->repeat_ms)
        return false;
    seen->wait_ms = seen->wait_ms ? GT_MIN(2 * seen->wait_ms, REPEAT_WAIT_MAX_MS) : REPEAT_WAIT_MS;
    seen->repeat_ms = now_ms + seen->wait_ms;
    return true;
}

int gt_replay_cache_add(struct gt_replay_cache *epoch, const uint8_t *id, const uint8_t *th1)
{
    struct gt_replay_entry *entry = calloc(1, sizeof(*entry));

    if (!entry)
        return -ENOMEM;
    memcpy(entry->id, id, sizeof(entry->id));
    memcpy(entry->seen.th1, th1, sizeof(entry->seen.th1));
    HASH_ADD(hh, epoch->entries, id, sizeof(entry->id), entry);
    if (entry->hh.tbl)
        return 0;
    free(entry);
    return -ENOMEM;
}

int gt_replay_cache_answer(struct gt_replay_cache *epoch, const uint8_t *id, struct gt_span reply)
{
    struct gt_replay_entry *entry = find_entry(epoch, id);

    if (!entry)
        return 0;
    uint8_t *copy = malloc(reply.n);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, reply.data, reply.n);
    free(entry->reply);
    entry->reply = copy;
    entry->seen.reply = gt_span(copy, reply.n);
    return 0;
}
