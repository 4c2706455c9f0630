/* SPDX-License-Identifier: ISC */
/* One line after another; only the beginning of each is kept. See the header. */
#include "gotthard/net/http-reply.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "gotthard/base/text.h"

#define CHALLENGE "Proxy-Authenticate:"

static bool is_interim(unsigned code)
{
    return code >= 100 && code < 200 && code != 101;
}

/* "HTTP/1.1 200 OK", also without the reason and the blank before it. */
static void handle_status_line(struct gt_http_reply *reply)
{
    const char *line = reply->line;
    uint64_t code;
    char digits[4] = {0};

    reply->state = GT_HTTP_REPLY_BAD;
    if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) || line[8] != ' ')
        return;
    line += 8 + strspn(line + 8, " ");
    memcpy(digits, line, strnlen(line, 3));
    if (gt_text_number(digits, 100, 999, &code) != 0 || (line[3] != ' ' && line[3] != 0))
        return;
    reply->code = (unsigned)code;
    line += 3 + strspn(line + 3, " ");
    gt_text_escape(gt_span_text(line), reply->reason, sizeof(reply->reason));
    reply->state = GT_HTTP_REPLY_MORE;
}

static void handle_field(struct gt_http_reply *reply)
{
    const char *value = reply->line + strlen(CHALLENGE);

    if (strncasecmp(reply->line, CHALLENGE, strlen(CHALLENGE)) != 0)
        return;
    reply->has_challenge = true;
    reply->has_basic |= strcasestr(value, "basic") != NULL;
}

/* The empty line: the head is complete. */
static void handle_end(struct gt_http_reply *reply)
{
    if (is_interim(reply->code))
        reply->code = 0;
    else
        reply->state = GT_HTTP_REPLY_DONE;
}

/* RFC 9112, section 2.2: an empty line before the status line is ignored. */
static void handle_line(struct gt_http_reply *reply)
{
    if (reply->n_line > 0 && reply->code == 0)
        handle_status_line(reply);
    else if (reply->n_line > 0)
        handle_field(reply);
    else if (reply->code != 0)
        handle_end(reply);
    reply->n_line = 0;
    reply->line[0] = 0;
}

static void take_byte(struct gt_http_reply *reply, char byte)
{
    if (byte == '\n') {
        size_t n = GT_MIN(reply->n_line, sizeof(reply->line) - 1);

        if (n > 0 && reply->line[n - 1] == '\r' && n == reply->n_line) {
            reply->line[n - 1] = 0;
            reply->n_line--;
        }
        handle_line(reply);
        return;
    }
    if (byte == 0) { /* in no text (RFC 9110, section 5.5) */
        reply->state = GT_HTTP_REPLY_BAD;
        return;
    }
    if (reply->n_line < sizeof(reply->line) - 1) {
        reply->line[reply->n_line] = byte;
        reply->line[reply->n_line + 1] = 0;
    }
    reply->n_line++;
}

size_t gt_http_reply_feed(struct gt_http_reply *reply, struct gt_span bytes)
{
    size_t n = 0;

    while (n < bytes.n && reply->state == GT_HTTP_REPLY_MORE) {
        take_byte(reply, (char)bytes.data[n++]);
        if (++reply->n_bytes >= GT_HTTP_REPLY_MAX && reply->state == GT_HTTP_REPLY_MORE)
            reply->state = GT_HTTP_REPLY_TOO_LONG;
    }
    return n;
}
