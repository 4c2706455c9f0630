/* SPDX-License-Identifier: ISC */
/*
 * The requests of one epoch that were accepted, each with its answer. Entries are never evicted,
 * only removed if the request had no effect: the whole epoch is dropped once no request may name
 * it.
 */
#pragma once

#include "gotthard/signaling/message.h"

struct gt_replay_record {
    struct gt_span reply;     /* empty while the request is being decided */
    uint8_t th1[GT_KEY_SIZE]; /* hash of the request: a different one must not reuse its id */
    uint64_t repeat_ms;       /* the reply is not repeated before */
    uint32_t wait_ms;         /* between two repetitions */
};

struct gt_replay_cache {
    uint8_t id[GT_EPOCH_SIZE]; /* of the epoch */
    uint64_t ends_ms;
    struct gt_replay_entry *entries; /* owned */
};

/* Starts an epoch with a fresh random id. Returns 0 or a negative errno. */
int gt_replay_cache_init(struct gt_replay_cache *epoch, uint64_t ends_ms) GT_MUST_CHECK;
void gt_replay_cache_deinit(struct gt_replay_cache *epoch);
size_t gt_replay_cache_count(const struct gt_replay_cache *epoch);
/* Returns the record of request @id (GT_REQ_ID_SIZE), or NULL; owned by the cache. */
struct gt_replay_record *gt_replay_cache_find(const struct gt_replay_cache *epoch,
                                              const uint8_t *id);
/* Returns true if the reply may be repeated now: at once, then after a wait that doubles from 0.25
 * s to 4 s. A broker can replay a request without limit, and each reply goes to its operator. */
bool gt_replay_record_may_repeat(struct gt_replay_record *seen, uint64_t now_ms) GT_MUST_CHECK;
/* Adds request @id, which must not be in the cache. Returns 0 or -ENOMEM. */
int gt_replay_cache_add(struct gt_replay_cache *epoch, const uint8_t *id,
                        const uint8_t *th1) GT_MUST_CHECK;
/* Stores a copy of the answer to request @id; does nothing if that is unknown. Returns 0 or
 * -ENOMEM. */
int gt_replay_cache_answer(struct gt_replay_cache *epoch, const uint8_t *id,
                           struct gt_span reply) GT_MUST_CHECK;
/* Removes request @id, if it is in the cache. */
void gt_replay_cache_remove(struct gt_replay_cache *epoch, const uint8_t *id);
