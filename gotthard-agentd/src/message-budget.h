/* SPDX-License-Identifier: ISC */
/*
 * The CPU time of messages. Any client of the broker that may publish to the req topic can cause
 * it, and no check that is cheaper than opening a message recognizes garbage. Half of a CPU,
 * measured, is the same protection on a small device and on a large one. Within it every message is
 * opened, so that garbage does not displace the messages of operators.
 */
#pragma once

#include "gotthard/base/token-bucket.h"

struct message_budget {            /* fields are private */
    struct gt_token_bucket bucket; /* microseconds */
    uint64_t began_us;
};

/* @now_ms: CLOCK_BOOTTIME, here and below. */
void message_budget_init(struct message_budget *budget, uint64_t now_ms);
/* Returns false if the time is used up: drop the message. Otherwise message_budget_end follows. */
bool message_budget_begin(struct message_budget *budget, uint64_t now_ms) GT_MUST_CHECK;
/* Charges the time of this thread since begin. */
void message_budget_end(struct message_budget *budget, uint64_t now_ms);
