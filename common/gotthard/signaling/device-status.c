/* SPDX-License-Identifier: ISC */
/* One table of fields for each record; see the header. */
#include "gotthard/signaling/device-status.h"

#include "gotthard/base/fields.h"

static const struct gt_field head_fields[] = {
    GT_FIELD_U64(struct gt_device_status, time),
    GT_FIELD_U32(struct gt_device_status, uptime_s),
    GT_FIELD_U16(struct gt_device_status, n_sessions),
    GT_FIELD_U16(struct gt_device_status, n_others),
}; /* then the number of relays u8, the relays, the number of listed sessions u8, and the sessions
    */

static const struct gt_field relay_fields[] = {
    GT_FIELD_STRING(struct gt_status_relay, name), GT_FIELD_STRING(struct gt_status_relay, address),
    GT_FIELD_U8(struct gt_status_relay, state),    GT_FIELD_U32(struct gt_status_relay, age_s),
    GT_FIELD_STRING(struct gt_status_relay, why),
};

static const struct gt_field session_fields[] = {
    GT_FIELD_NAME(struct gt_status_session, operator_),
    GT_FIELD_STRING(struct gt_status_session, service),
    GT_FIELD_U8(struct gt_status_session, state),
    GT_FIELD_U32(struct gt_status_session, age_s),
    GT_FIELD_FLAG(struct gt_status_session, has_usage),
    GT_FIELD_U16(struct gt_status_session, n_streams),
    GT_FIELD_U64(struct gt_status_session, n_up),
    GT_FIELD_U64(struct gt_status_session, n_down),
};

/* --- encoding --------------------------------------------------------------------------------- */

/* Appends the sessions that have room. */
static size_t write_sessions(const struct gt_device_status *status, struct gt_writer *w)
{
    size_t n = 0;

    for (; n < status->n_listed; n++) {
        struct gt_writer before = *w;

        gt_fields_write(w, session_fields, GT_ARRAY_SIZE(session_fields), &status->sessions[n]);
        if (w->failed) {
            *w = before;
            break;
        }
    }
    return n;
}

size_t gt_device_status_encode(const struct gt_device_status *status,
                               uint8_t ret[static GT_STATUS_SIZE])
{
    struct gt_writer w = gt_writer(ret, GT_STATUS_SIZE);

    gt_fields_write(&w, head_fields, GT_ARRAY_SIZE(head_fields), status);
    gt_write_u8(&w, (uint8_t)status->n_relays);
    for (size_t i = 0; i < status->n_relays; i++)
        gt_fields_write(&w, relay_fields, GT_ARRAY_SIZE(relay_fields), &status->relays[i]);
    size_t count_at = w.n;
    gt_write_u8(&w, 0);
    ret[count_at] = (uint8_t)write_sessions(status, &w);
    return w.n;
}

/* --- decoding --------------------------------------------------------------------------------- */

static bool is_printable(const char *text)
{
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            return false;
    return true;
}

static void read_relay(struct gt_reader *r, struct gt_status_relay *ret)
{
    gt_fields_read(r, relay_fields, GT_ARRAY_SIZE(relay_fields), ret);
    if (ret->state > GT_STATUS_RELAY_FAILED || !gt_text_is_name(gt_span_text(ret->name)) ||
        !is_printable(ret->address) || !is_printable(ret->why))
        r->failed = true;
}

static void read_session(struct gt_reader *r, struct gt_status_session *ret)
{
    gt_fields_read(r, session_fields, GT_ARRAY_SIZE(session_fields), ret);
    if (ret->state > GT_STATUS_ALONE || !is_printable(ret->service))
        r->failed = true;
}

/* Returns a number of records, which is 0 after a failure. */
static size_t read_count(struct gt_reader *r, size_t max)
{
    size_t n = gt_read_u8(r);

    if (n > max)
        r->failed = true;
    return r->failed ? 0 : n;
}

int gt_device_status_decode(struct gt_span bytes, struct gt_device_status *ret)
{
    struct gt_reader r = gt_reader(bytes.data, bytes.n);
    struct gt_device_status status = {0};

    gt_fields_read(&r, head_fields, GT_ARRAY_SIZE(head_fields), &status);
    status.n_relays = read_count(&r, GT_STATUS_RELAYS_MAX);
    for (size_t i = 0; i < status.n_relays && !r.failed; i++)
        read_relay(&r, &status.relays[i]);
    status.n_listed = read_count(&r, GT_STATUS_SESSIONS_MAX);
    for (size_t i = 0; i < status.n_listed && !r.failed; i++)
        read_session(&r, &status.sessions[i]);
    if (!gt_reader_is_done(&r))
        return GT_MESSAGE_E_BAD;
    *ret = status;
    return 0;
}
