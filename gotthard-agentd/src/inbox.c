/* SPDX-License-Identifier: ISC */
/*
 * From a message to a decision, and the answer to it; see the header. The order matters in one
 * place: a worker stands ready before the operator is told yes, and gets the keys that only the yes
 * makes.
 */
#include "inbox.h"

#include <stdio.h>

#include "gotthard/log.h"

/* Names and host keys share 8 KiB with a certificate and a signature: these are what is left. */
#define NAMES_BUDGET     1024
#define HOST_KEYS_BUDGET 1536

struct inbox {
    struct inbox_settings settings;
    const struct inbox_events *events;
    void *userdata;
    struct gt_responder *responder;
    struct gt_incoming in; /* of the message at hand: large, so not on the stack */
    struct gt_log_rate strange;
};

static void list_names(const struct targets *services, struct gt_extensions *ret)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < services->n && ret->n_services < GT_SERVICES_MAX; i++) {
        struct gt_span name = gt_span_text(services->all[i].name);
        n_bytes += 2 + name.n;
        if (n_bytes > NAMES_BUDGET)
            return;
        ret->services[ret->n_services++] = name;
    }
}

static void list_host_keys(const struct inbox_settings *settings, struct gt_extensions *ret)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < settings->n_host_keys && ret->n_host_keys < GT_HOST_KEYS_MAX; i++) {
        if (n_bytes + 2 + settings->host_keys[i].n > HOST_KEYS_BUDGET)
            continue;
        n_bytes += 2 + settings->host_keys[i].n;
        ret->host_keys[ret->n_host_keys++] = settings->host_keys[i];
    }
}

static void inbox_fill(const struct inbox *inbox, const struct targets *services,
                       struct gt_extensions *ret)
{
    ret->version = gt_span_text(GOTTHARD_VERSION);
    ret->n_sessions =
        (uint16_t)GT_MIN(inbox->events->count_sessions(inbox->userdata, NULL), UINT16_MAX);
    list_names(services, ret);
    list_host_keys(&inbox->settings, ret);
}

static void inbox_publish(struct inbox *inbox)
{
    inbox->events->publish(inbox->userdata, inbox->in.rsp_topic,
                           gt_span(inbox->in.reply, inbox->in.n_reply));
}

static int inbox_deny(struct inbox *inbox, enum gt_ack_status status, const char *why)
{
    const struct gt_req *req = &inbox->in.req;
    char service[64], relay[64];

    gt_warn("device=%s operator=%s refused: service=%s relay=%s reason=\"%s\"", req->device,
            req->operator_, gt_text_escape(gt_span_text(req->service), service, sizeof(service)),
            gt_text_escape(gt_span_text(req->relay), relay, sizeof(relay)), why);
    int r = gt_responder_deny(inbox->responder, &inbox->in, status);
    if (r == 0)
        inbox_publish(inbox);
    return r;
}

static void inbox_fill_ack(const struct inbox *inbox, const struct grant *grant, struct gt_ack *ret)
{
    const struct gt_req *req = &inbox->in.req;

    ret->status = GT_ACK_OK;
    ret->lifetime_s = grant->lifetime_s;
    ret->max_streams = inbox->settings.policy->streams_max;
    ret->window = inbox->settings.stream_window;
    snprintf(ret->device, sizeof(ret->device), "%s", req->device);
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", req->operator_);
    inbox_fill(inbox, &grant->services, &ret->extensions);
    ret->extensions.n_sessions++; /* this one */
}

static int inbox_grant(struct inbox *inbox, const struct inbox_offer *offer)
{
    struct gt_session_keys keys;
    struct gt_ack ack = {0};

    int r = inbox->events->prepare_session(inbox->userdata, offer);
    if (r)
        return inbox_deny(inbox, GT_ACK_INTERNAL, strerror(-r));
    inbox_fill_ack(inbox, offer->grant, &ack);
    r = gt_responder_grant(inbox->responder, &inbox->in, &ack, &keys);
    if (r) {
        (void)inbox->events->begin_session(inbox->userdata, offer, NULL);
        return r;
    }
    r = inbox->events->begin_session(inbox->userdata, offer, &keys);
    gt_wipe(&keys, sizeof(keys));
    if (r == 0)
        inbox_publish(inbox);
    return r;
}

static int inbox_on_request(struct inbox *inbox)
{
    const struct gt_incoming *in = &inbox->in;
    struct policy_question question = {
        .req = &in->req,
        .pin = in->pin,
        .n_sessions = inbox->events->count_sessions(inbox->userdata, NULL),
        .n_of_operator = inbox->events->count_sessions(inbox->userdata, in->req.operator_),
    };
    struct grant grant;

    int r = policy_decide(inbox->settings.policy, &question, &grant);
    if (r)
        return r;
    struct inbox_offer offer = {in->req.operator_, in->req.service, in->pin, &grant};
    r = grant.status == GT_ACK_OK ? inbox_grant(inbox, &offer)
                                  : inbox_deny(inbox, grant.status, grant.why);
    grant_deinit(&grant);
    return r;
}

static int inbox_on_close(struct inbox *inbox)
{
    const struct gt_close *close = &inbox->in.close;
    enum gt_nak_code code = GT_NAK_CLOSED;

    int n = inbox->events->close_sessions(inbox->userdata, close->operator_,
                                          gt_pin_is_admin(inbox->in.pin),
                                          close->is_all ? NULL : close->rid);
    if (n < 0) {
        gt_warn("device=%s operator=%s may not close that session", close->device,
                close->operator_);
        code = GT_NAK_DENIED;
        n = 0;
    }
    int r =
        gt_responder_closed(inbox->responder, &inbox->in, code, (uint16_t)GT_MIN(n, UINT16_MAX));
    if (r == 0)
        inbox_publish(inbox);
    return r;
}

/* A message that the responder dealt with alone: what strangers cause, so not every one is told. */
static void inbox_log(struct inbox *inbox, const char *what)
{
    const struct gt_incoming *in = &inbox->in;
    const char *operator_ = in->req.operator_[0] ? in->req.operator_ : in->close.operator_;
    unsigned n_left_out;

    if (!gt_log_is_allowed(&inbox->strange, 5, &n_left_out))
        return;
    gt_log(in->is_denied ? GT_LOG_WARN : GT_LOG_INFO, 0,
           "device=%s operator=%s message %s: reason=\"%s\" unlogged=%u", inbox->settings.device,
           operator_[0] ? operator_ : "-", what, in->why, n_left_out);
}

static int inbox_act(struct inbox *inbox)
{
    switch (inbox->in.verdict) {
    case GT_VERDICT_DROP: inbox_log(inbox, "dropped"); return 0;
    case GT_VERDICT_REPLY:
        inbox_log(inbox, inbox->in.is_denied ? "refused" : "answered");
        inbox_publish(inbox);
        return 0;
    case GT_VERDICT_REQUEST: return inbox_on_request(inbox);
    case GT_VERDICT_CLOSE: return inbox_on_close(inbox);
    }
    return 0;
}

int inbox_receive(struct inbox *inbox, uint64_t now_ms, time_t now, const char *topic,
                  bool is_retained, struct gt_span payload)
{
    int r = gt_responder_receive(inbox->responder, now_ms, now, topic, is_retained, payload,
                                 &inbox->in);
    bool is_epoch_rotated = r == 0 && inbox->in.is_epoch_rotated;

    if (r == 0)
        r = inbox_act(inbox);
    if (is_epoch_rotated)
        inbox->events->on_epoch(inbox->userdata);
    gt_wipe(&inbox->in, sizeof(inbox->in));
    return r > 0 ? -EPROTO : r;
}

void inbox_tick(struct inbox *inbox, uint64_t now_ms)
{
    if (gt_responder_tick(inbox->responder, now_ms))
        inbox->events->on_epoch(inbox->userdata);
}

const char *inbox_req_topic(const struct inbox *inbox)
{
    return gt_responder_req_topic(inbox->responder);
}

const char *inbox_state_topic(const struct inbox *inbox)
{
    return gt_responder_state_topic(inbox->responder);
}

int inbox_state(struct inbox *inbox, bool is_online, uint64_t since, uint8_t *ret, size_t *ret_n)
{
    struct gt_extensions extensions = {.since = since};

    inbox_fill(inbox, &inbox->settings.policy->services, &extensions);
    return gt_responder_state(inbox->responder, is_online, &extensions, ret, ret_n);
}

void inbox_set(struct inbox *inbox, const struct inbox_settings *settings)
{
    inbox->settings = *settings;
    gt_responder_set_trust(inbox->responder, settings->signer, settings->trust);
}

struct inbox *inbox_free(struct inbox *inbox)
{
    if (!inbox)
        return NULL;
    gt_responder_free(inbox->responder);
    gt_wipe(inbox, sizeof(*inbox));
    free(inbox);
    return NULL;
}

int inbox_new(const struct inbox_settings *settings, const uint8_t of_device[static GT_KEY_SIZE],
              const uint8_t *previous, uint64_t now_ms, const struct inbox_events *events,
              void *userdata, struct inbox **ret)
{
    struct gt_responder_settings responder = {
        .prefix = settings->prefix,
        .device = settings->device,
        .signer = settings->signer,
        .trust = settings->trust,
    };
    struct inbox *inbox = calloc(1, sizeof(*inbox));
    if (!inbox)
        return -ENOMEM;
    inbox->settings = *settings;
    inbox->events = events;
    inbox->userdata = userdata;
    int r = gt_responder_new(&responder, of_device, previous, now_ms, &inbox->responder);
    if (r) {
        inbox_free(inbox);
        return r;
    }
    *ret = inbox;
    return 0;
}
