/* SPDX-License-Identifier: ISC */
/*
 * Each microsecond of use takes two of the clock to pay (the generic cell rate algorithm, ITU-T
 * I.371). Unlike a token bucket it can be overdrawn: the cost of a message is known afterwards.
 */
#include "message-budget.h"

#include <time.h>

#define PRICE    2 /* half of a CPU */
#define BURST_US 250000

static uint64_t cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void message_budget_init(struct message_budget *budget)
{
    *budget = (struct message_budget){0};
}

bool message_budget_begin(struct message_budget *budget, uint64_t now_ms)
{
    budget->began_us = cpu_us();
    return budget->paid_at_us < now_ms * 1000 + (uint64_t)PRICE * BURST_US;
}

void message_budget_charge(struct message_budget *budget, uint64_t used_us, uint64_t now_ms)
{
    budget->paid_at_us = GT_MAX(budget->paid_at_us, now_ms * 1000) + PRICE * used_us;
}

void message_budget_end(struct message_budget *budget, uint64_t now_ms)
{
    message_budget_charge(budget, cpu_us() - budget->began_us, now_ms);
}
