/* SPDX-License-Identifier: ISC */
/*
 * Arrivals of parts. Each action of the input is two bytes: which part of which list, and which
 * byte of it is damaged. A text that comes out is one of the lists, and only a greater serial than
 * the one before comes out. The whole input is a part as well.
 */
#include "gotthard/trust/access-parts.h"

#define N_LISTS 4
#define N_PARTS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t key[GT_KEY_SIZE] = "fuzz";
static uint8_t authority[GT_KEY_SIZE];
static struct {
    uint8_t bytes[GT_ACCESS_PART_MAX];
    size_t n;
} parts[N_LISTS][N_PARTS];

static void must(bool condition)
{
    if (!condition)
        abort();
}

static struct gt_span text_of(size_t list)
{
    static const char *const texts[N_LISTS] = {"first", "second", "third list",
                                               "of third's serial"};

    return gt_span_text(texts[list]);
}

static uint64_t serial_of(size_t list)
{
    return GT_MIN(list + 1, (size_t)3);
}

static void make_parts(void)
{
    must(gt_ed25519_public(key, authority) == 0);
    for (size_t i = 0; i < N_LISTS; i++)
        for (size_t j = 0; j < N_PARTS; j++)
            must(gt_access_part_encode(key, text_of(i), serial_of(i), j, N_PARTS, parts[i][j].bytes,
                                       &parts[i][j].n) == 0);
}

/* Adds a part; returns the serial in force after it. */
static uint64_t add(struct gt_access_assembly *assembly, struct gt_span payload, size_t list,
                    uint64_t in_force)
{
    uint8_t *text = NULL;
    size_t n = 0;
    int r = gt_access_assembly_add(assembly, payload, authority, in_force, &text, &n);

    must(r >= 0);
    if (r == 0) {
        must(gt_span_equals(gt_span(text, n), text_of(list)) && serial_of(list) > in_force);
        in_force = serial_of(list);
    }
    free(text);
    return in_force;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_access_assembly assembly;
    uint64_t in_force = 0;

    if (!parts[0][0].n)
        make_parts();
    gt_access_assembly_init(&assembly);
    (void)add(&assembly, gt_span(data, n), 0, 0);
    for (size_t i = 0; i + 1 < n; i += 2) {
        size_t list = data[i] % N_LISTS, part = data[i] / N_LISTS % N_PARTS, damage = data[i + 1];
        uint8_t *bytes = parts[list][part].bytes;
        size_t n_bytes = parts[list][part].n;

        if (damage && damage <= n_bytes)
            bytes[damage - 1] ^= data[i] | 1;
        in_force = add(&assembly, gt_span(bytes, n_bytes), list, in_force);
        if (damage && damage <= n_bytes)
            bytes[damage - 1] ^= data[i] | 1;
    }
    gt_access_assembly_deinit(&assembly);
    return 0;
}
