/* SPDX-License-Identifier: ISC */
/* See the header. */
#include "run-output.h"

#include <stdio.h>
#include <string.h>

#include "child-process.h"
#include "gotthard/base/text.h"
#include "identity.h"
#include "print-wait.h"

#define CLEAN_SIZE (4 * CHILD_LINE_MAX + 1)

/* C0, DEL, and C1 in UTF-8 (c2 80 to c2 9f). A tab stays. Returns the number of its bytes, or 0. */
static size_t count_control(struct gt_span line, size_t at)
{
    uint8_t c = line.data[at];

    if ((c < 0x20 && c != '\t') || c == 0x7f)
        return 1;
    return c == 0xc2 && at + 1 < line.n && line.data[at + 1] < 0xa0 ? 2 : 0;
}

const char *run_output_clean(struct gt_span line, char *ret, size_t cap)
{
    json_t *text = json_stringn((const char *)line.data, line.n);
    size_t n = 0;

    if (!text)
        return gt_text_escape(line, ret, cap);
    json_decref(text);
    for (size_t i = 0; i < line.n && n + 9 < cap;) {
        size_t n_control = count_control(line, i);

        for (size_t j = 0; j < n_control; j++)
            n += (size_t)snprintf(ret + n, cap - n, "\\x%02x", line.data[i + j]);
        if (n_control == 0)
            ret[n++] = (char)line.data[i];
        i += n_control > 0 ? n_control : 1;
    }
    ret[n] = 0;
    return ret;
}

void run_output_line(struct print *print, const char *device, bool is_error, struct gt_span line)
{
    static char clean[CLEAN_SIZE], whole[CLEAN_SIZE + 256];

    if (line.n > 0 && line.data[line.n - 1] == '\r')
        line.n--;
    if (print->is_json) {
        print_json_event(print, "output",
                         json_pack("{s:s, s:s, s:o}", "device", device, "stream",
                                   is_error ? "stderr" : "stdout", "line", print_json_text(line)));
        return;
    }
    print_clear_progress(print);
    run_output_clean(line, clean, sizeof(clean));
    size_t n = (size_t)snprintf(whole, sizeof(whole), "%s: %s\n", device, clean);
    if (is_error)
        (void)!print_wait_write(STDERR_FILENO, whole, n);
    else
        print_bytes(print, whole, n);
}

static bool has_text(struct gt_span line, const char *text)
{
    return memmem(line.data, line.n, text, strlen(text)) != NULL;
}

bool run_output_is_unreachable(struct gt_span line)
{
    return has_text(line, "[GTD-E") ||
           has_text(line, "Connection timed out during banner exchange");
}

bool run_output_take_warning(struct print *print, struct gt_span line, bool *is_warned)
{
    if (has_text(line, IDENTITY_FLEET_KEY)) /* this command has printed it */
        return true;
    if (!has_text(line, IDENTITY_UNPINNED))
        return false;
    if (!*is_warned)
        print_warning(print, IDENTITY_UNPINNED "these devices: pin them in devices.pins, or set "
                                               "trust.policy to psk");
    *is_warned = true;
    return true;
}

void run_output_started(struct print *print, const char *device)
{
    print_event(print, "started", "{s:s}", "device", device);
}

void run_output_ended(struct print *print, const char *device, enum run_result result, int status,
                      const char *why, double seconds)
{
    static const char *const names[] = {
        [RUN_WAITING] = "waiting", [RUN_RUNNING] = "interrupted",     [RUN_OK] = "ok",
        [RUN_FAILED] = "failed",   [RUN_UNREACHABLE] = "unreachable",
    };
    bool is_tried = *why == 0;

    if (print->is_json) {
        json_t *event = json_pack("{s:s, s:s}", "device", device, "result", names[result]);

        if (is_tried && (result == RUN_OK || result == RUN_FAILED))
            json_object_set_new(event, "exit", json_integer(status));
        if (is_tried)
            json_object_set_new(event, "seconds", json_real(seconds));
        else
            json_object_set_new(event, "reason", json_string(why));
        print_json_event(print, "ended", event);
        return;
    }
    print_clear_progress(print);
    if (result == RUN_FAILED && status == RUN_SSH_FAILED)
        print_warning(print, "%s: ssh failed (%d)", device, status);
    else if (result == RUN_FAILED)
        print_warning(print, "%s: exit status %d", device, status);
    else if (result == RUN_UNREACHABLE)
        print_warning(print, "%s: unreachable%s%s", device, is_tried ? "" : ", ", why);
}

void run_output_progress(struct print *print, const struct run_sum *sum)
{
    size_t n_done = sum->n_ok + sum->n_failed + sum->n_unreachable;

    if (n_done < sum->n)
        print_progress(print, "%zu of %zu done, %zu running", n_done, sum->n, sum->n_running);
}

void run_output_sum(struct print *print, const struct run_sum *sum)
{
    size_t n_left = sum->n - sum->n_ok - sum->n_failed - sum->n_unreachable;

    print_clear_progress(print);
    if (n_left > 0)
        print_note(print, "%zu devices: %zu ok, %zu failed, %zu unreachable, %zu not run", sum->n,
                   sum->n_ok, sum->n_failed, sum->n_unreachable, n_left);
    else
        print_note(print, "%zu device%s: %zu ok, %zu failed, %zu unreachable", sum->n,
                   sum->n == 1 ? "" : "s", sum->n_ok, sum->n_failed, sum->n_unreachable);
    print_event(print, "summary", "{s:I, s:I, s:I, s:I, s:I}", "devices", (json_int_t)sum->n, "ok",
                (json_int_t)sum->n_ok, "failed", (json_int_t)sum->n_failed, "unreachable",
                (json_int_t)sum->n_unreachable, "not_run", (json_int_t)n_left);
}
