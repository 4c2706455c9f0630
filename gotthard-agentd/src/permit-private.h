/* SPDX-License-Identifier: ISC */
/* Shared by permit.c and permit-parse.c. */
#pragma once

#include "permit.h"

/* Returns true if the first @n_bits (0 to 128) are equal. */
bool permit_has_prefix(const uint8_t address[static 16], const uint8_t network[static 16],
                       unsigned n_bits);
/* Writes an address as IPv6. Returns false for another family. */
bool permit_normalize(const struct gt_addr *addr, uint8_t ret[static 16]);
