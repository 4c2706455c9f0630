/* SPDX-License-Identifier: ISC */
/*
 * The messages of one epoch that were taken up, and what was answered to each. Nothing is ever
 * evicted: an epoch is forgotten whole, when nobody may name it any more.
 */
#pragma once

#include "gotthard/message.h"

/* Empty: being decided. */
struct gt_seen {
    struct gt_span reply;
    uint8_t th1[GT_KEY_SIZE]; /* of the message: another one may not take its id */
};

struct gt_epoch {
    uint8_t id[GT_EPOCH_SIZE];
    uint64_t ends_ms;
    struct gt_epoch_entry *entries; /* owned */
};

/* A fresh random id, and nothing seen. */
int gt_epoch_init(struct gt_epoch *epoch, uint64_t ends_ms) GT_MUST_CHECK;
void gt_epoch_deinit(struct gt_epoch *epoch);
size_t gt_epoch_count(const struct gt_epoch *epoch);
/* NULL when @id was not seen; borrows. */
const struct gt_seen *gt_epoch_find(const struct gt_epoch *epoch, const uint8_t *id);
/* @id must not have been seen. -ENOMEM. */
int gt_epoch_add(struct gt_epoch *epoch, const uint8_t *id, const uint8_t *th1) GT_MUST_CHECK;
/* Copies @reply; nothing happens when @id was not seen. -ENOMEM. */
int gt_epoch_answer(struct gt_epoch *epoch, const uint8_t *id, struct gt_span reply) GT_MUST_CHECK;
