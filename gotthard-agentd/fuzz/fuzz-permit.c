/* SPDX-License-Identifier: ISC */
/*
 * Parses arbitrary text as the setting agent.permit. A list that is accepted covers itself, permits
 * no metadata address unless its text has it, and only what its entries state.
 */
#include <string.h>

#include "permit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_entries(const struct permit *permit)
{
    must(permit->n <= PERMIT_ENTRIES_MAX);
    for (size_t i = 0; i < permit->n; i++) {
        const struct permit_entry *entry = &permit->entries[i];

        must(entry->n_ranges >= 1 && entry->n_ranges <= PERMIT_RANGES_MAX);
        must(entry->n_bits <= 128 && strlen(entry->name) <= GT_HOST_MAX);
        for (size_t k = 0; k < entry->n_ranges; k++)
            must(entry->ranges[k].first >= 1 && entry->ranges[k].first <= entry->ranges[k].last);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[PERMIT_TEXT_MAX + 1], why[256] = "";
    struct permit permit = {0};
    struct permit_target to;
    struct gt_addr metadata;

    if (n > PERMIT_TEXT_MAX)
        return 0;
    memcpy(text, data, n);
    text[n] = 0;
    if (permit_split(text, &to))
        must(to.to.port > 0 && to.to.host[0]);
    int r = permit_parse(text, &permit, why, sizeof(why));
    must(r == 0 || (r == PERMIT_E_BAD && why[0]));
    if (r)
        return 0;
    check_entries(&permit);
    must(permit_covers(&permit, &permit));
    must(gt_addr_parse("169.254.169.254", 80, &metadata) == 0);
    if (!strstr(text, "169.254.169.254") && !strchr(text, '['))
        must(!permit_allows_address(&permit, &metadata, false, true) &&
             !permit_allows_address(&permit, &metadata, true, true));
    permit_deinit(&permit);
    return 0;
}
