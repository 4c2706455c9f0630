/* SPDX-License-Identifier: ISC */
/* The encoding: a magic, the fields of the table, the services, the relay. With another magic the
 * purpose follows, and with the third one the permitted targets as well: an agent that does not
 * know them would end the worker. With the fourth one, of a grant that was changed, the numbers of
 * the grant stand before the fields, and a checksum at the end: the worker may read while the next
 * change is written, and must not take a mixture of both for the new one. */
#include "session-info.h"

#include "gotthard/base/fields.h"
#include "gotthard/crypto/crypto.h"

#define MAGIC         0x47545733u /* "GTW3" */
#define MAGIC_PURPOSE 0x47545734u /* "GTW4" */
#define MAGIC_PERMIT  0x47545735u /* "GTW5" */
#define MAGIC_CHANGED 0x47545736u /* "GTW6" */
#define CHECKSUM_SIZE 8           /* bytes of the SHA-256 */

static const struct gt_field grant_fields[] = {
    GT_FIELD_U8(struct session_info, grant),
    GT_FIELD_U8(struct session_info, applied),
};

static const struct gt_field fields[] = {
    GT_FIELD_U32(struct session_info, pid),
    GT_FIELD_NAME(struct session_info, device),
    GT_FIELD_NAME(struct session_info, operator_),
    GT_FIELD_BYTES(struct session_info, rid, GT_RID_SIZE),
    GT_FIELD_BYTES(struct session_info, key_id, GT_KEY_ID_SIZE),
    GT_FIELD_FLAG(struct session_info, is_signed),
    GT_FIELD_BYTES(struct session_info, fingerprint, GT_KEY_SIZE),
    GT_FIELD_U64(struct session_info, ends_at_ms),
};

static const struct gt_field purpose_field = GT_FIELD_STRING(struct session_info, purpose);
static const struct gt_field permit_field = GT_FIELD_STRING(struct session_info, permit);

void session_info_deinit(struct session_info *info)
{
    targets_deinit(&info->services);
    *info = (struct session_info){0};
}

/* The least magic whose fields have all values of @info. */
static uint32_t magic_of(const struct session_info *info)
{
    if (info->grant)
        return MAGIC_CHANGED;
    if (info->permit[0])
        return MAGIC_PERMIT;
    return info->purpose[0] ? MAGIC_PURPOSE : MAGIC;
}

/* Without ->applied, which the worker writes by itself. @content: at least up to that. */
static int checksum(struct gt_span content, uint8_t ret[static CHECKSUM_SIZE])
{
    const size_t after = SESSION_INFO_APPLIED_AT + 1;
    const struct gt_span parts[] = {gt_span(content.data, SESSION_INFO_APPLIED_AT),
                                    gt_span(content.data + after, content.n - after)};
    uint8_t digest[GT_KEY_SIZE];

    int r = gt_sha256(parts, GT_ARRAY_SIZE(parts), digest);
    if (r == 0)
        memcpy(ret, digest, CHECKSUM_SIZE);
    return r;
}

static int add_checksum(struct gt_writer *w, const uint8_t *bytes)
{
    uint8_t sum[CHECKSUM_SIZE];

    int r = w->failed ? 0 : checksum(gt_span(bytes, w->n), sum);
    if (r == 0)
        gt_write_bytes(w, sum, sizeof(sum));
    return r;
}

/* Removes the checksum from @bytes if they have one. E_BAD: it is wrong. */
static int take_checksum(struct gt_span *bytes)
{
    struct gt_reader reader = gt_reader(bytes->data, bytes->n);
    uint8_t sum[CHECKSUM_SIZE];

    if (gt_read_u32(&reader) != MAGIC_CHANGED)
        return 0;
    if (bytes->n <= SESSION_INFO_APPLIED_AT + CHECKSUM_SIZE)
        return SESSION_INFO_E_BAD;
    bytes->n -= CHECKSUM_SIZE;
    int r = checksum(*bytes, sum);
    if (r)
        return r;
    return memcmp(bytes->data + bytes->n, sum, CHECKSUM_SIZE) == 0 ? 0 : SESSION_INFO_E_BAD;
}

int session_info_encode(const struct session_info *info, uint8_t ret[static WORKER_PARAMETERS_MAX],
                        size_t *ret_n)
{
    struct gt_writer w = gt_writer(ret, WORKER_PARAMETERS_MAX);

    uint32_t magic = magic_of(info);
    gt_write_u32(&w, magic);
    if (magic == MAGIC_CHANGED)
        gt_fields_write(&w, grant_fields, GT_ARRAY_SIZE(grant_fields), info);
    gt_fields_write(&w, fields, GT_ARRAY_SIZE(fields), info);
    targets_encode(&info->services, &w);
    target_encode(&info->relay, &w);
    if (magic != MAGIC)
        gt_fields_write(&w, &purpose_field, 1, info);
    if (magic >= MAGIC_PERMIT)
        gt_fields_write(&w, &permit_field, 1, info);
    int r = magic == MAGIC_CHANGED ? add_checksum(&w, ret) : 0;
    if (r)
        return r;
    if (w.failed)
        return SESSION_INFO_E_BAD;
    *ret_n = w.n;
    return 0;
}

int session_info_decode(struct gt_span bytes, struct session_info *ret)
{
    struct session_info info = {0};

    int r = take_checksum(&bytes);
    if (r)
        return r;
    struct gt_reader reader = gt_reader(bytes.data, bytes.n);
    uint32_t magic = gt_read_u32(&reader);
    if (magic == MAGIC_CHANGED)
        gt_fields_read(&reader, grant_fields, GT_ARRAY_SIZE(grant_fields), &info);
    gt_fields_read(&reader, fields, GT_ARRAY_SIZE(fields), &info);
    r = targets_decode(&reader, &info.services);
    target_decode(&reader, &info.relay);
    if (magic > MAGIC && magic <= MAGIC_CHANGED)
        gt_fields_read(&reader, &purpose_field, 1, &info);
    if (magic == MAGIC_PERMIT || magic == MAGIC_CHANGED)
        gt_fields_read(&reader, &permit_field, 1, &info);
    /* kill(2) with 0 or a negative number would signal groups of processes; 1 is init. */
    bool has_magic = magic == magic_of(&info);
    if (r == 0 && (!has_magic || !gt_reader_is_done(&reader) || info.pid < 2))
        r = SESSION_INFO_E_BAD;
    if (r)
        session_info_deinit(&info);
    else
        *ret = info;
    return r;
}
