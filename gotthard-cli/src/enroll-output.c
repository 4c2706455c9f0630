/* SPDX-License-Identifier: ISC */
/* See the header. The token is a secret, and is printed to standard output only. */
#include "enroll-output.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "command-line.h"
#include "qr.h"

static void print_usage_of_token(const struct provision *provision, const struct gt_token *token)
{
    static const char *const uses[] = {
        [GT_TOKEN_DEVICE] = "As root on the device: gotthard-agentd enroll",
        [GT_TOKEN_OPERATOR] = "The operator runs: gotthard-cli join",
        [GT_TOKEN_RELAY] = "As root on the new relay: gotthard-relayd enroll",
    };
    enum gt_token_kind kind = provision->kind;
    time_t until = (time_t)token->expires_at;
    char time_text[32] = "";
    struct tm tm;

    if (localtime_r(&until, &tm))
        (void)!strftime(time_text, sizeof(time_text), "%Y-%m-%d %H:%M", &tm);
    print_note(&provision->context->print,
               "This token is for the %s %s, once, until %s. It is a secret. %s",
               gt_token_kind_text(kind), provision->name, time_text, uses[kind]);
}

/* On standard error, which is the terminal. */
static void show_qr(const struct provision *provision, const char *token)
{
    struct print *print = &provision->context->print;
    bool can_show = print->style == PRINT_HUMAN && print->has_marks;
    char *text = can_show ? qr_text(token, print->has_color) : NULL;

    if (text) {
        (void)!write(STDERR_FILENO, text, strlen(text));
        gt_wipe(text, strlen(text));
    } else {
        print_warning(print, "no QR code: %s",
                      can_show ? "this program was built without libqrencode"
                               : "standard error is no terminal with UTF-8");
    }
    free(text);
}

void enroll_print_token(const struct provision *provision, const struct gt_token *token)
{
    struct print *print = &provision->context->print;
    char text[GT_TOKEN_TEXT_MAX];

    gt_token_format(token, text);
    print_event(print, "token", "{s:s, s:s, s:s, s:I}", "token", text, "kind",
                gt_token_kind_text(provision->kind), "name", provision->name, "expires",
                (json_int_t)token->expires_at);
    print_usage_of_token(provision, token);
    if (provision->context->line->given[OPTION_QR])
        show_qr(provision, text);
    if (!print->is_json) {
        print_bytes(print, text, strlen(text));
        print_bytes(print, "\n", 1);
    }
    gt_wipe(text, sizeof(text));
}

void enroll_print_request(const struct provision *provision,
                          const struct gt_enrolment_request *request)
{
    struct print *print = &provision->context->print;
    char text[GT_ENROLMENT_FINGERPRINT_TEXT], hex[2 * GT_KEY_SIZE + 1];
    const char *kind = gt_token_kind_text(provision->kind);

    gt_enrolment_format_fingerprint(request->fingerprint, text);
    gt_text_hex(request->fingerprint, GT_KEY_SIZE, hex);
    print_clear_progress(print);
    print_plain(print, "A newcomer asks to be the %s %s. The fingerprint of its key is", kind,
                provision->name);
    print_plain(print, "  %s", text);
    print_plain(print, "It claims to run %s, with %zu ssh host keys.", request->software,
                request->n_host_keys);
    print_fact(print, "request %s=%s fingerprint=%s software=%s", kind, provision->name, hex,
               request->software);
    print_event(print, "request", "{s:s, s:s, s:s, s:o}", "kind", kind, "name", provision->name,
                "fingerprint", hex, "software", print_json_text(gt_span_text(request->software)));
}

void enroll_print_success(const struct provision *provision,
                          const struct gt_enrolment_request *request)
{
    struct print *print = &provision->context->print;
    const char *kind = gt_token_kind_text(provision->kind);
    char hex[2 * GT_KEY_SIZE + 1];

    gt_text_hex(request->fingerprint, GT_KEY_SIZE, hex);
    print_clear_progress(print);
    print_done(print, "%s is enrolled as %s %s of the fleet", provision->name,
               provision->kind == GT_TOKEN_OPERATOR ? "an" : "a", kind);
    print_fact(print, "enrolled %s=%s fingerprint=%s", kind, provision->name, hex);
    print_event(print, "enrolled", "{s:s, s:s, s:s, s:b}", "kind", kind, "name", provision->name,
                "fingerprint", hex, "listed", provision->has_list);
    provision_print_next(provision, request->fingerprint);
}
