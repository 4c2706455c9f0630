/* SPDX-License-Identifier: ISC */
/*
 * The CPU time of messages. Any client of the broker that may publish to the req topic can cause
 * it, and no check that is cheaper than opening a message recognizes garbage. Half of a CPU,
 * measured, is the same protection on a small device and on a large one. Within it every message is
 * opened, so that garbage does not displace the messages of operators.
 */
#pragma once

#include "gotthard/base/base.h"

struct message_budget { /* fields are private */
    uint64_t began_us;
    uint64_t paid_at_us; /* when the time that was used is paid */
};

/* The budget is full. */
void message_budget_init(struct message_budget *budget);
/* @now_ms: CLOCK_BOOTTIME, here and below. Returns false if the time is used up: drop the message.
 * Otherwise message_budget_end follows. */
bool message_budget_begin(struct message_budget *budget, uint64_t now_ms) GT_MUST_CHECK;
/* Charges the time of this thread since begin. */
void message_budget_end(struct message_budget *budget, uint64_t now_ms);
/* Charges @used_us. One message may use more than there is: later ones wait until that is paid. */
void message_budget_charge(struct message_budget *budget, uint64_t used_us, uint64_t now_ms);
