/* SPDX-License-Identifier: ISC */
/* The bytes under a signature; see the header. */
#include "gotthard/crypto/statement.h"

int gt_statement_make(const char *context, const struct gt_span *parts, size_t n_parts,
                      struct gt_statement *ret)
{
    uint8_t hash[GT_KEY_SIZE];
    struct gt_writer w = gt_writer(ret->bytes, sizeof(ret->bytes));
    int r = gt_sha256(parts, n_parts, hash);

    if (r)
        return r < 0 ? r : -EIO;
    memset(gt_write_room(&w, 64), ' ', 64);
    gt_write_bytes(&w, context, strlen(context) + 1);
    gt_write_bytes(&w, hash, sizeof(hash));
    if (w.failed)
        return -EOVERFLOW;
    ret->n = w.n;
    return 0;
}
