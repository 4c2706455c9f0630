/* SPDX-License-Identifier: ISC */
/*
 * The rows of each type, and the bounds of its enums and numbers.
 */
#include "holder-message.h"

#include "gotthard/base/fields.h"

#define M struct holder_message

static const struct gt_field hello[] = {GT_FIELD_BYTES(M, check, GT_KEY_SIZE)};
static const struct gt_field open_[] = {GT_FIELD_STRING(M, service)};
static const struct gt_field notice[] = {GT_FIELD_U8(M, notice.kind),
                                         GT_FIELD_STRING(M, notice.text)};
static const struct gt_field failure[] = {
    GT_FIELD_U16(M, failure.id),
    GT_FIELD_STRING(M, failure.message),
    GT_FIELD_STRING(M, failure.hint),
};
static const struct gt_field end[] = {GT_FIELD_U16(M, end.status), GT_FIELD_STRING(M, end.text)};
static const struct gt_field status[] = {
    GT_FIELD_U8(M, status.kind),         GT_FIELD_U8(M, status.state),
    GT_FIELD_U32(M, status.pid),         GT_FIELD_NAME(M, status.device),
    GT_FIELD_NAME(M, status.operator_),  GT_FIELD_STRING(M, status.relay),
    GT_FIELD_STRING(M, status.forwards), GT_FIELD_U64(M, status.age_ms),
    GT_FIELD_U64(M, status.n_up),        GT_FIELD_U64(M, status.n_down),
    GT_FIELD_U16(M, status.n_streams),
};
static const struct gt_field host_keys[] = {GT_FIELD_STRING(M, host_keys)};

static const struct row {
    const struct gt_field *fields;
    size_t n;
} rows[] = {
    [HOLDER_HELLO] = {hello, GT_ARRAY_SIZE(hello)},
    [HOLDER_READY] = {NULL, 0},
    [HOLDER_STALE] = {NULL, 0},
    [HOLDER_OPEN] = {open_, GT_ARRAY_SIZE(open_)},
    [HOLDER_ACCEPTED] = {NULL, 0},
    [HOLDER_NOTICE] = {notice, GT_ARRAY_SIZE(notice)},
    [HOLDER_CONNECTED] = {NULL, 0},
    [HOLDER_FAILURE] = {failure, GT_ARRAY_SIZE(failure)},
    [HOLDER_END] = {end, GT_ARRAY_SIZE(end)},
    [HOLDER_STATUS_QUERY] = {NULL, 0},
    [HOLDER_STATUS] = {status, GT_ARRAY_SIZE(status)},
    [HOLDER_HOST_KEYS_QUERY] = {NULL, 0},
    [HOLDER_HOST_KEYS] = {host_keys, GT_ARRAY_SIZE(host_keys)},
};

size_t holder_message_encode(const struct holder_message *message,
                             uint8_t ret[static HOLDER_MESSAGE_MAX])
{
    struct gt_writer w = gt_writer(ret, HOLDER_MESSAGE_MAX);

    gt_write_u8(&w, HOLDER_VERSION);
    gt_write_u8(&w, (uint8_t)message->type);
    gt_fields_write(&w, rows[message->type].fields, rows[message->type].n, message);
    return w.n;
}

static bool is_valid(const struct holder_message *message)
{
    switch (message->type) {
    case HOLDER_NOTICE: return message->notice.kind <= HOLDER_NOTICE_LOG;
    case HOLDER_END: return message->end.status <= UINT8_MAX;
    case HOLDER_STATUS:
        return message->status.kind <= HOLDER_KIND_CONNECT &&
               message->status.state <= HOLDER_STATE_CLOSING;
    case HOLDER_HELLO:
    case HOLDER_READY:
    case HOLDER_STALE:
    case HOLDER_OPEN:
    case HOLDER_ACCEPTED:
    case HOLDER_CONNECTED:
    case HOLDER_FAILURE:
    case HOLDER_STATUS_QUERY:
    case HOLDER_HOST_KEYS_QUERY:
    case HOLDER_HOST_KEYS: return true;
    }
    return false;
}

int holder_message_decode(struct gt_span bytes, struct holder_message *ret)
{
    struct gt_reader reader = gt_reader(bytes.data, bytes.n);
    struct holder_message message = {0};
    uint8_t version = gt_read_u8(&reader), type = gt_read_u8(&reader);

    if (version != HOLDER_VERSION || type < HOLDER_HELLO || type >= GT_ARRAY_SIZE(rows))
        return HOLDER_MESSAGE_E_BAD;
    message.type = type;
    gt_fields_read(&reader, rows[type].fields, rows[type].n, &message);
    if (!gt_reader_is_done(&reader) || !is_valid(&message))
        return HOLDER_MESSAGE_E_BAD;
    *ret = message;
    return 0;
}
