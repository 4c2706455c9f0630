/* SPDX-License-Identifier: ISC */
/*
 * The encoder follows two tables: the members in their order, and the kinds with the numbers that
 * they have. The decoder knows the two fixed ends of a line only.
 */
#include "gotthard/audit/audit-line.h"

#include <stdio.h>
#include <time.h>

#define LAST_SECOND UINT64_C(253402300799) /* of the year 9999 */

/* Numbers of a line. */
enum {
    HAS_STREAM = 1 << 0,
    HAS_STREAMS = 1 << 1,
    HAS_BYTES = 1 << 2,
    HAS_SECONDS = 1 << 3,
    HAS_LOST = 1 << 4,
};

static const struct {
    const char *name;
    unsigned has;
    bool is_limited;
} kinds[GT_AUDIT_N_KINDS] = {
    [GT_AUDIT_START] = {"start", 0, false},
    [GT_AUDIT_STOP] = {"stop", 0, false},
    [GT_AUDIT_RELOAD] = {"reload", 0, false},
    [GT_AUDIT_UPGRADE] = {"upgrade", 0, false},
    [GT_AUDIT_ACCESS_LIST] = {"access-list", 0, false},
    [GT_AUDIT_ASKED] = {"asked", 0, true},
    [GT_AUDIT_REFUSED] = {"refused", 0, true},
    [GT_AUDIT_GRANTED] = {"granted", HAS_SECONDS, false},
    [GT_AUDIT_RESTORED] = {"restored", 0, false},
    [GT_AUDIT_CHANGED] = {"changed", 0, false},
    [GT_AUDIT_DIALLED] = {"dialled", HAS_STREAM, true},
    [GT_AUDIT_ENDED] = {"ended", HAS_STREAM | HAS_BYTES | HAS_SECONDS, true},
    [GT_AUDIT_WAITING] = {"waiting", 0, true},
    [GT_AUDIT_PAIRED] = {"paired", 0, true},
    [GT_AUDIT_CLOSED] = {"closed", HAS_STREAMS | HAS_BYTES | HAS_SECONDS, false},
    [GT_AUDIT_CLIENT_UP] = {"client-up", 0, true},
    [GT_AUDIT_CLIENT_DOWN] = {"client-down", 0, true},
    [GT_AUDIT_LOST] = {"lost", HAS_LOST, false},
    [GT_AUDIT_TORN] = {"torn", 0, false},
};

static const struct {
    const char *name;
    size_t offset;
} texts[] = {
    {"client", offsetof(struct gt_audit_event, client)},
    {"address", offsetof(struct gt_audit_event, address)},
    {"session", offsetof(struct gt_audit_event, session)},
    {"device", offsetof(struct gt_audit_event, device)},
    {"operator", offsetof(struct gt_audit_event, operator_)},
    {"service", offsetof(struct gt_audit_event, service)},
    {"target", offsetof(struct gt_audit_event, target)},
    {"source", offsetof(struct gt_audit_event, source)},
    {"software", offsetof(struct gt_audit_event, software)},
    {"purpose", offsetof(struct gt_audit_event, purpose)},
    {"reason", offsetof(struct gt_audit_event, reason)},
};

const char *gt_audit_kind_name(enum gt_audit_kind kind)
{
    return kinds[kind].name;
}

bool gt_audit_kind_is_limited(enum gt_audit_kind kind)
{
    return kinds[kind].is_limited;
}

/* --- encoder ---------------------------------------------------------------------------------- */

static void write_text(struct gt_writer *w, const char *text)
{
    gt_write_bytes(w, text, strlen(text));
}

/* Writes one byte of a value to @ret, which has room for six. Returns their number. */
static size_t escape(uint8_t byte, char *ret)
{
    static const char digits[] = "0123456789abcdef";

    if (byte == '"' || byte == '\\') {
        ret[0] = '\\';
        ret[1] = (char)byte;
        return 2;
    }
    if (byte >= ' ' && byte <= '~') {
        ret[0] = (char)byte;
        return 1;
    }
    memcpy(ret, "\\u00", 4);
    ret[4] = digits[byte >> 4];
    ret[5] = digits[byte & 15];
    return 6;
}

/* An escape is written whole, or not at all. */
static void write_escaped(struct gt_writer *w, const char *text)
{
    static const char dots[] = "...";
    size_t end = w->n + GT_AUDIT_VALUE_MAX - strlen(dots);

    for (; *text; text++) {
        char bytes[6];
        size_t n = escape((uint8_t)*text, bytes);

        if (w->n + n > end) {
            write_text(w, dots);
            return;
        }
        gt_write_bytes(w, bytes, n);
    }
}

static void write_member(struct gt_writer *w, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    write_text(w, ",\"");
    write_text(w, name);
    write_text(w, "\":\"");
    write_escaped(w, value);
    write_text(w, "\"");
}

static void write_hash(struct gt_writer *w, const char *name, const uint8_t *hash)
{
    char hex[2 * GT_KEY_SIZE + 1];

    if (!hash)
        return;
    gt_text_hex(hash, GT_KEY_SIZE, hex);
    write_member(w, name, hex);
}

static void write_number(struct gt_writer *w, bool is_given, const char *name, uint64_t value)
{
    char text[48];

    if (!is_given)
        return;
    snprintf(text, sizeof(text), ",\"%s\":%llu", name, (unsigned long long)value);
    write_text(w, text);
}

static void write_head(struct gt_writer *w, uint64_t seq, uint64_t time_ms, const char *event)
{
    time_t seconds = (time_t)GT_MIN(time_ms / 1000, LAST_SECOND);
    char text[160], date[sizeof("2026-11-30T14:05:00")] = "";
    struct tm utc;

    gmtime_r(&seconds, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, sizeof(text), "{\"seq\":%llu,\"time\":\"%s.%03uZ\",\"event\":\"%s\"",
             (unsigned long long)seq, date, (unsigned)(time_ms % 1000), event);
    write_text(w, text);
}

static void write_numbers(struct gt_writer *w, const struct gt_audit_event *event)
{
    unsigned has = kinds[event->kind].has;

    write_number(w, has & HAS_STREAM, "stream", event->stream);
    write_number(w, has & HAS_STREAMS, "streams", event->n_streams);
    write_number(w, event->port != 0, "port", event->port);
    write_number(w, has & HAS_BYTES, "up", event->n_up);
    write_number(w, has & HAS_BYTES, "down", event->n_down);
    write_number(w, has & HAS_SECONDS, "seconds", event->seconds);
    write_number(w, has & HAS_LOST, "n", event->n_lost);
    write_number(w, event->code != 0, "code", event->code);
    write_number(w, event->serial != 0, "serial", event->serial);
}

size_t gt_audit_line_encode(const struct gt_audit_event *event, const struct gt_audit_head *head,
                            uint64_t time_ms, char ret[static GT_AUDIT_LINE_MAX + 1])
{
    struct gt_writer w = gt_writer(ret, GT_AUDIT_LINE_MAX);

    write_head(&w, head->seq + 1, time_ms, kinds[event->kind].name);
    for (size_t i = 0; i < GT_ARRAY_SIZE(texts); i++)
        write_member(&w, texts[i].name,
                     *(const char *const *)(const void *)((const char *)event + texts[i].offset));
    write_hash(&w, "key", event->key);
    write_numbers(&w, event);
    write_hash(&w, "prev", head->hash);
    write_text(&w, "}\n");
    ret[w.n] = 0;
    return w.n; /* it cannot fail: all values at their limit have less than the capacity */
}

/* --- decoder ---------------------------------------------------------------------------------- */

/* Reads @text, or fails. */
static void read_text(struct gt_reader *r, const char *text)
{
    if (!gt_span_equals(gt_read_bytes(r, strlen(text)), gt_span_text(text)))
        r->failed = true;
}

static uint64_t read_number(struct gt_reader *r)
{
    char digits[21] = "";
    uint64_t value = 0;
    size_t n = 0;

    while (n < sizeof(digits) - 1 && n < r->left && r->at[n] >= '0' && r->at[n] <= '9')
        n++;
    struct gt_span text = gt_read_bytes(r, n);
    memcpy(digits, text.data, text.n);
    if (gt_text_number(digits, 1, UINT64_MAX, &value) != 0)
        r->failed = true;
    return value;
}

static void read_time(struct gt_reader *r, char ret[static sizeof("2026-11-30T14:05:00.123Z")])
{
    static const char form[] = "0000-00-00T00:00:00.000Z";
    struct gt_span text = gt_read_bytes(r, sizeof(form) - 1);

    for (size_t i = 0; i < text.n; i++) {
        bool is_digit = text.data[i] >= '0' && text.data[i] <= '9';

        if (form[i] == '0' ? !is_digit : text.data[i] != (uint8_t)form[i])
            r->failed = true;
    }
    snprintf(ret, sizeof(form), "%.*s", (int)text.n, (const char *)text.data);
}

static void read_event(struct gt_reader *r, char ret[static GT_AUDIT_NAME_MAX + 1])
{
    size_t n = 0;

    while (n < GT_AUDIT_NAME_MAX && n < r->left &&
           (r->at[n] == '-' || (r->at[n] >= 'a' && r->at[n] <= 'z')))
        n++;
    if (n == 0)
        r->failed = true;
    struct gt_span text = gt_read_bytes(r, n);
    memcpy(ret, text.data, text.n);
    ret[text.n] = 0;
}

static void read_prev(struct gt_reader *r, uint8_t ret[static GT_KEY_SIZE])
{
    struct gt_span text = gt_read_bytes(r, 2 * GT_KEY_SIZE);
    char hex[2 * GT_KEY_SIZE + 1] = "", again[2 * GT_KEY_SIZE + 1];

    memcpy(hex, text.data, text.n);
    if (gt_text_unhex(hex, ret, GT_KEY_SIZE) != 0) {
        r->failed = true;
        return;
    }
    gt_text_hex(ret, GT_KEY_SIZE, again); /* lowercase only: a line has one form */
    if (strcmp(hex, again) != 0)
        r->failed = true;
}

#define PREV_SIZE (sizeof(",\"prev\":\"\"}\n") - 1 + 2 * GT_KEY_SIZE)

int gt_audit_line_decode(struct gt_span line, struct gt_audit_line *ret)
{
    struct gt_reader r = gt_reader(line.data, line.n);
    struct gt_audit_line decoded = {0};

    if (line.n > GT_AUDIT_LINE_MAX || line.n < PREV_SIZE ||
        !gt_text_is_ascii(gt_span(line.data, line.n - 1)))
        return GT_AUDIT_LINE_E_BAD;
    read_text(&r, "{\"seq\":");
    decoded.seq = read_number(&r);
    read_text(&r, ",\"time\":\"");
    read_time(&r, decoded.time);
    read_text(&r, "\",\"event\":\"");
    read_event(&r, decoded.event);
    read_text(&r, "\"");
    if (r.failed || r.left < PREV_SIZE)
        return GT_AUDIT_LINE_E_BAD;
    (void)gt_read_bytes(&r, r.left - PREV_SIZE);
    read_text(&r, ",\"prev\":\"");
    read_prev(&r, decoded.prev);
    read_text(&r, "\"}\n");
    if (!gt_reader_is_done(&r))
        return GT_AUDIT_LINE_E_BAD;
    *ret = decoded;
    return 0;
}
