/* SPDX-License-Identifier: ISC */
/*
 * Arbitrary bytes never open as a record, and are not read beyond their end. A record that was
 * sealed opens, and does not after one bit was changed. The first four bytes of the input select
 * the bit.
 */
#include "gotthard/tls/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const uint8_t secret[GT_KEY_SIZE] = {1, 2, 3};
static uint8_t sealed[GT_RECORD_SIZE], out[GT_RECORD_SIZE];

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

static struct gt_record record_of(enum gt_record_suite suite, bool is_sealing)
{
    struct gt_record record;

    must(gt_record_init(&record, suite, secret, is_sealing) == 0);
    return record;
}

/* Opens one record with a new key. */
static int open_one(enum gt_record_suite suite, const uint8_t *data, size_t n, size_t *ret_n,
                    unsigned *ret_type)
{
    struct gt_record record = record_of(suite, false);
    int r = gt_record_open(&record, data, n, out, ret_n, ret_type);

    gt_record_deinit(&record);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_reader r = gt_reader(data, n);
    uint32_t bit = gt_read_u32(&r);
    enum gt_record_suite suite = bit & 0x10000 ? GT_RECORD_AES128 : GT_RECORD_CHACHA20;
    struct gt_span bytes = gt_span(r.at, GT_MIN(r.left, GT_RECORD_MAX));
    size_t n_record, n_content;
    unsigned type;

    if (bytes.n >= GT_RECORD_HEADER && gt_record_size(bytes.data, &n_record) == 0 &&
        n_record <= bytes.n)
        must(open_one(suite, bytes.data, n_record, &n_content, &type) == GT_RECORD_E_BAD);

    struct gt_record sealing = record_of(suite, true);
    must(gt_record_seal(&sealing, GT_RECORD_DATA, &bytes, 1, sealed) == 0);
    gt_record_deinit(&sealing);
    n_record = bytes.n + GT_RECORD_OVERHEAD;
    must(open_one(suite, sealed, n_record, &n_content, &type) == 0);
    must(n_content == bytes.n && type == GT_RECORD_DATA);
    must(bytes.n == 0 || memcmp(out, bytes.data, bytes.n) == 0);
    bit %= (uint32_t)(8 * n_record);
    sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    must(open_one(suite, sealed, n_record, &n_content, &type) == GT_RECORD_E_BAD);
    return 0;
}
