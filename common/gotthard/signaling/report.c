/* SPDX-License-Identifier: ISC */
/*
 * The encoding of a REPORT. Its texts reach a terminal, so that both sides check every character.
 */
#include "gotthard/signaling/report.h"

#include "gotthard/base/fields.h"

#define VERSION 1

static const struct gt_field fields[] = {
    GT_FIELD_FIXED16(struct gt_report, VERSION), GT_FIELD_U16(struct gt_report, seq),
    GT_FIELD_U8(struct gt_report, kind),         GT_FIELD_FLAG(struct gt_report, is_last),
    GT_FIELD_U16(struct gt_report, code),        GT_FIELD_STRING(struct gt_report, relay),
    GT_FIELD_STRING(struct gt_report, why),
};

static bool is_printable(char c)
{
    return c >= 0x20 && c <= 0x7e;
}

static void copy_printable(const char *text, size_t size, char *ret)
{
    size_t n = strnlen(text, size - 1);

    for (size_t i = 0; i < n; i++)
        ret[i] = is_printable(text[i]) ? text[i] : '?';
    ret[n] = 0;
}

static bool has_only_printable(const char *text)
{
    while (*text && is_printable(*text))
        text++;
    return !*text;
}

void gt_report_encode(const struct gt_report *report, struct gt_writer *w)
{
    gt_fields_write(w, fields, GT_ARRAY_SIZE(fields), report);
}

int gt_report_decode(struct gt_span inner, struct gt_report *ret)
{
    struct gt_reader reader = gt_reader(inner.data, inner.n);
    struct gt_report report = {0};

    gt_fields_read(&reader, fields, GT_ARRAY_SIZE(fields), &report);
    if (!gt_reader_is_done(&reader) || !has_only_printable(report.relay) ||
        !has_only_printable(report.why))
        return GT_MESSAGE_E_BAD;
    *ret = report;
    return 0;
}

int gt_report_seal(const uint8_t key[static GT_KEY_SIZE], const char *topic,
                   const struct gt_report *report, uint8_t *ret, size_t *ret_n)
{
    uint8_t inner[sizeof(*report) + 16];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    struct gt_report clean = *report;

    copy_printable(report->relay, sizeof(clean.relay), clean.relay);
    copy_printable(report->why, sizeof(clean.why), clean.why);
    gt_report_encode(&clean, &w);
    int r = w.failed
                ? GT_MESSAGE_E_BAD
                : gt_message_seal(key, GT_MESSAGE_REPORT, topic, gt_span(inner, w.n), ret, ret_n);
    return r > 0 ? -EINVAL : r;
}

int gt_report_open(const uint8_t key[static GT_KEY_SIZE], const char *topic, struct gt_span payload,
                   struct gt_report *ret)
{
    uint8_t inner[GT_MESSAGE_MAX];
    size_t n = 0;
    int r = gt_message_open(key, GT_MESSAGE_REPORT, topic, payload, inner, &n);

    return r ? r : gt_report_decode(gt_span(inner, n), ret);
}
