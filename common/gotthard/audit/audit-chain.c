/* SPDX-License-Identifier: ISC */
/* Splits bytes into lines, and compares each with the one before; see the header. */
#include "gotthard/audit/audit-chain.h"

static const uint8_t no_hash[GT_KEY_SIZE];

void gt_audit_chain_init(struct gt_audit_chain *chain, gt_audit_line_fn on_line, void *userdata)
{
    *chain = (struct gt_audit_chain){.on_line = on_line, .userdata = userdata};
}

static bool is_first(const struct gt_audit_chain *chain)
{
    return chain->n_lines == 0 && chain->n_malformed == 0;
}

/* The oldest line that is kept follows one that is not, unless it is the first of all. */
static bool begins_well(const struct gt_audit_line *line)
{
    return line->seq != 1 || memcmp(line->prev, no_hash, sizeof(no_hash)) == 0;
}

static enum gt_audit_verdict judge(const struct gt_audit_chain *chain,
                                   const struct gt_audit_line *line)
{
    bool is_torn = strcmp(line->event, gt_audit_kind_name(GT_AUDIT_TORN)) == 0;

    if (is_first(chain))
        return begins_well(line) ? GT_AUDIT_VERDICT_GOOD : GT_AUDIT_VERDICT_BROKEN;
    if (memcmp(line->prev, chain->head.hash, GT_KEY_SIZE) != 0)
        return GT_AUDIT_VERDICT_BROKEN;
    if (chain->n_malformed > 0)
        return is_torn && line->seq > chain->head.seq ? GT_AUDIT_VERDICT_TORN
                                                      : GT_AUDIT_VERDICT_BROKEN;
    return line->seq == chain->head.seq + 1 ? GT_AUDIT_VERDICT_GOOD : GT_AUDIT_VERDICT_BROKEN;
}

static void count(struct gt_audit_chain *chain, enum gt_audit_verdict verdict,
                  const struct gt_audit_line *line)
{
    chain->n_lines++;
    chain->n_broken += verdict == GT_AUDIT_VERDICT_BROKEN;
    chain->n_torn += verdict == GT_AUDIT_VERDICT_TORN;
    chain->n_malformed = 0;
    chain->head.seq = line->seq;
}

static bool report(const struct gt_audit_chain *chain, enum gt_audit_verdict verdict,
                   struct gt_span line, const struct gt_audit_line *decoded)
{
    return !chain->on_line || chain->on_line(chain->userdata, verdict, line, decoded);
}

/* Takes the bytes that are collected as a line. */
static int take_line(struct gt_audit_chain *chain)
{
    struct gt_span bytes = gt_span(chain->line, chain->n);
    enum gt_audit_verdict verdict = GT_AUDIT_VERDICT_MALFORMED;
    struct gt_audit_line line;
    bool is_line = gt_audit_line_decode(bytes, &line) == 0;

    if (is_line) {
        verdict = judge(chain, &line);
        count(chain, verdict, &line);
    } else {
        chain->n_malformed++;
    }
    chain->n = 0;
    int r = gt_sha256(&bytes, 1, chain->head.hash);
    if (r)
        return r < 0 ? r : -EIO;
    return report(chain, verdict, bytes, is_line ? &line : NULL) ? 0 : GT_AUDIT_CHAIN_E_STOPPED;
}

int gt_audit_chain_feed(struct gt_audit_chain *chain, struct gt_span bytes)
{
    while (bytes.n > 0) {
        const uint8_t *end = memchr(bytes.data, '\n', bytes.n);
        size_t n = end ? (size_t)(end - bytes.data) + 1 : bytes.n;

        n = GT_MIN(n, sizeof(chain->line) - chain->n);
        memcpy(chain->line + chain->n, bytes.data, n);
        chain->n += n;
        bytes = gt_span(bytes.data + n, bytes.n - n);
        bool is_whole = chain->line[chain->n - 1] == '\n' || chain->n == sizeof(chain->line);
        int r = is_whole ? take_line(chain) : 0;
        if (r)
            return r;
    }
    return 0;
}

int gt_audit_chain_end(struct gt_audit_chain *chain)
{
    struct gt_span bytes = gt_span(chain->line, chain->n);

    if (chain->n > 0 && !report(chain, GT_AUDIT_VERDICT_INCOMPLETE, bytes, NULL))
        return GT_AUDIT_CHAIN_E_STOPPED;
    return 0;
}

bool gt_audit_chain_is_incomplete(const struct gt_audit_chain *chain)
{
    return chain->n > 0;
}

bool gt_audit_chain_is_torn(const struct gt_audit_chain *chain)
{
    return chain->n_malformed > 0;
}

bool gt_audit_chain_is_intact(const struct gt_audit_chain *chain)
{
    return chain->n_broken == 0 && chain->n_malformed == 0;
}
