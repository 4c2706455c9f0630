/* SPDX-License-Identifier: ISC */
/*
 * A hash table from message ids to answers. Only authentic messages get in, and the rate they may
 * come at is limited before, so its size is bounded by its users: see responder.c.
 */
#include "gotthard/epoch.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct gt_epoch_entry {
    uint8_t id[GT_REQ_ID_SIZE];
    struct gt_seen seen;
    uint8_t *reply; /* owned */
    UT_hash_handle hh;
};

int gt_epoch_init(struct gt_epoch *epoch, uint64_t ends_ms)
{
    struct gt_epoch fresh = {.ends_ms = ends_ms};
    int r = gt_random(fresh.id, sizeof(fresh.id));
    if (r == 0)
        *epoch = fresh;
    return r;
}

void gt_epoch_deinit(struct gt_epoch *epoch)
{
    struct gt_epoch_entry *entry, *next;
    HASH_ITER (hh, epoch->entries, entry, next) {
        HASH_DEL(epoch->entries, entry);
        free(entry->reply);
        free(entry);
    }
    *epoch = (struct gt_epoch){0};
}

size_t gt_epoch_count(const struct gt_epoch *epoch)
{
    return HASH_COUNT(epoch->entries);
}

static struct gt_epoch_entry *find_entry(const struct gt_epoch *epoch, const uint8_t *id)
{
    struct gt_epoch_entry *entry;
    HASH_FIND(hh, epoch->entries, id, GT_REQ_ID_SIZE, entry);
    return entry;
}

const struct gt_seen *gt_epoch_find(const struct gt_epoch *epoch, const uint8_t *id)
{
    const struct gt_epoch_entry *entry = find_entry(epoch, id);
    return entry ? &entry->seen : NULL;
}

int gt_epoch_add(struct gt_epoch *epoch, const uint8_t *id, const uint8_t *th1)
{
    struct gt_epoch_entry *entry = calloc(1, sizeof(*entry));
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

int gt_epoch_answer(struct gt_epoch *epoch, const uint8_t *id, struct gt_span reply)
{
    struct gt_epoch_entry *entry = find_entry(epoch, id);
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
