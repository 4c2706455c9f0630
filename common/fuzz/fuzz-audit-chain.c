/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as an audit: pieces of any size have the same result, and every line is within its
 * limits. The same bytes as the values of an event: their line is one that the chain accepts.
 */
#include "gotthard/audit/audit-chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static bool check_line(void *userdata, enum gt_audit_verdict verdict, struct gt_span line,
                       const struct gt_audit_line *decoded)
{
    must(line.n > 0 && line.n <= GT_AUDIT_LINE_MAX);
    must((decoded == NULL) == (verdict >= GT_AUDIT_VERDICT_MALFORMED));
    must(!decoded || (line.data[line.n - 1] == '\n' &&
                      gt_text_is_ascii(gt_span(line.data, line.n - 1)) && decoded->event[0]));
    return true;
}

static struct gt_audit_chain verify(struct gt_span bytes, size_t piece)
{
    struct gt_audit_chain chain;

    gt_audit_chain_init(&chain, check_line, NULL);
    for (size_t at = 0; at < bytes.n; at += piece)
        must(gt_audit_chain_feed(&chain, gt_span(bytes.data + at, GT_MIN(piece, bytes.n - at))) ==
             0);
    must(gt_audit_chain_end(&chain) == 0);
    return chain;
}

static void compare_pieces(struct gt_span bytes)
{
    struct gt_audit_chain whole = verify(bytes, GT_MAX(bytes.n, 1u)), parts = verify(bytes, 7);

    must(memcmp(&whole.head, &parts.head, sizeof(whole.head)) == 0);
    must(whole.n_lines == parts.n_lines && whole.n_broken == parts.n_broken);
    must(whole.n_malformed == parts.n_malformed && whole.n == parts.n);
}

static void encode(struct gt_span bytes)
{
    char value[512], line[GT_AUDIT_LINE_MAX + 1];
    struct gt_audit_line decoded;
    size_t n = GT_MIN(bytes.n, sizeof(value) - 1);

    memcpy(value, bytes.data, n);
    value[n] = 0;
    const struct gt_audit_event event = {
        .kind = (enum gt_audit_kind)(bytes.n % GT_AUDIT_N_KINDS),
        .client = value,
        .operator_ = value,
        .service = value,
        .target = value,
        .purpose = value,
        .reason = value,
    };
    const struct gt_audit_head head = {.seq = bytes.n};
    n = gt_audit_line_encode(&event, &head, bytes.n * 1000003, line);
    must(n <= GT_AUDIT_LINE_MAX && strlen(line) == n && strchr(line, '\n') == line + n - 1);
    must(gt_audit_line_decode(gt_span(line, n), &decoded) == 0);
    must(decoded.seq == bytes.n + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gt_span bytes = gt_span(n ? data : (const uint8_t *)"", n);

    compare_pieces(bytes);
    encode(bytes);
    return 0;
}
