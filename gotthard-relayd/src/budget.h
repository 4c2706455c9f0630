/* SPDX-License-Identifier: ISC */
/*
 * How many descriptors there are, and who may have how many: counted once, at the start, so that
 * running out of them is a refusal and never an accident.
 */
#pragma once

#include "settings.h"

struct budget {
    size_t n_connections;
    size_t n_pipes; /* of one plane; two descriptors each */
};

enum { BUDGET_E_SMALL = 1 /* less than budget_least(), which is too few to be useful */ };

/* As many as the system grants, or as the configuration allows. Raises the soft limit. */
size_t budget_n_descriptors(const struct settings *settings);
/* How many planes there will be. */
size_t budget_n_threads(const struct settings *settings);
size_t budget_least(size_t n_planes);
int budget_make(size_t n_descriptors, size_t n_planes, struct budget *ret) GT_MUST_CHECK;
