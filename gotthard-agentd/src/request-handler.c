/* SPDX-License-Identifier: ISC */
/*
 * From a message to a decision and a reply; see the header. The order matters in one place: a
 * worker is started before the request is granted, because the session keys exist only after the
 * grant.
 */
#include "request-handler.h"

#include <stdio.h>

#include "gotthard/base/log.h"
#include "message-budget.h"

/* Bytes. Names and host keys share a message of 8 KiB with a certificate and a signature. */
#define NAMES_BUDGET     1024
#define WILL_NAMES       256 /* CONNECT contains the will, before the broker's limit is known */
#define HOST_KEYS_BUDGET 1536

/* Bytes of an answer that leaves in one packet on any link, with the headers of MQTT, TLS, TCP and
 * IP: a link that loses large packets loses longer answers. */
#define ONE_PACKET     1100
#define ANSWER_FIXED   200 /* bytes of an answer without names, keys, certificate and signature */
#define SIGNATURE_SIZE 256 /* of RSA with 2048 bits */

struct request_handler {
    struct request_handler_settings settings;
    const struct request_handler_events *events;
    void *userdata;
    struct gt_responder *responder;
    struct message_budget budget;
    uint8_t key_ids[2][GT_KEY_ID_SIZE]; /* of the present key and of the one before a rotation */
    struct gt_incoming in;              /* the current message: too large for the stack */
    struct gt_log_rate dropped;         /* log lines that any sender can cause */
    struct gt_log_rate denied;          /* and those of holders of the key */
    struct gt_log_rate reduced;         /* ACKs that were too large */
    struct gt_fit state_fit;            /* of the last STATE, for one line for each change */
};

/* --- the size of messages */

/* @operator_: of an ACK, or "" for STATE. */
static void request_handler_log_fit(const struct request_handler *request_handler,
                                    const char *operator_, const struct gt_fit *fit, bool is_sent)
{
    static const char *const parts[] = {
        [GT_OMITTED_NONE] = "sent",
        [GT_OMITTED_HOST_KEYS] = "sent without host keys",
        [GT_OMITTED_SERVICES] = "sent without host keys and services",
        [GT_OMITTED_TAGS] = "sent without host keys, services and tags",
    };

    gt_log(is_sent ? GT_LOG_WARN : GT_LOG_ERROR, 0,
           "device=%s operator=%s message=%s larger than the broker accepts bytes=%zu limit=%zu "
           "result=\"%s\"",
           request_handler->settings.device, operator_[0] ? operator_ : "-",
           operator_[0] ? "ACK" : "STATE", fit->n, fit->max,
           is_sent ? parts[fit->omitted] : "not sent");
}

static void request_handler_log_reply_fit(struct request_handler *request_handler, bool is_sent)
{
    const struct gt_incoming *in = &request_handler->in;
    unsigned n_suppressed;

    if (in->fit.omitted == GT_OMITTED_NONE ||
        !gt_log_is_allowed(&request_handler->reduced, 1, &n_suppressed))
        return;
    request_handler_log_fit(request_handler, in->req.operator_, &in->fit, is_sent);
}

/* --- requests */

/* Returns the number of bytes added, at most @budget. */
static size_t add_service_names(const struct targets *services, size_t budget,
                                struct gt_extensions *ret)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < services->n && ret->n_services < GT_SERVICES_MAX; i++) {
        struct gt_span name = gt_span_text(services->all[i].name);

        if (n_bytes + 2 + name.n > budget)
            break;
        if (*name.data == '@') /* built in: no name for `connect` */
            continue;
        n_bytes += 2 + name.n;
        ret->services[ret->n_services++] = name;
    }
    return n_bytes;
}

/* Returns the room for host keys: the part of one packet that is left, or the whole budget if the
 * answer needs several packets anyway. */
static size_t host_keys_room(const struct request_handler_settings *settings, size_t n_names)
{
    size_t n = ANSWER_FIXED + n_names;

    if (settings->signer)
        n += gt_signer_certificate(settings->signer).n + SIGNATURE_SIZE;
    return n < ONE_PACKET ? ONE_PACKET - n : HOST_KEYS_BUDGET;
}

static void add_host_keys(const struct request_handler_settings *settings, size_t room,
                          struct gt_extensions *ret)
{
    size_t n_bytes = 0;

    for (size_t i = 0; i < settings->n_host_keys && ret->n_host_keys < GT_HOST_KEYS_MAX; i++) {
        if (n_bytes + 2 + settings->host_keys[i].n > room)
            continue;
        n_bytes += 2 + settings->host_keys[i].n;
        ret->host_keys[ret->n_host_keys++] = settings->host_keys[i];
    }
}

/* Printable, as a reader demands. */
static struct gt_span fault_span(const char *fault)
{
    size_t n = fault ? strnlen(fault, GT_FAULT_TEXT - 1) : 0;
    struct gt_span span = gt_span(fault, n);

    return n > 0 && gt_text_is_ascii(span) ? span : gt_span(NULL, 0);
}

static void request_handler_fill_extensions(const struct request_handler *request_handler,
                                            struct gt_extensions *ret)
{
    ret->version = gt_span_text(GOTTHARD_VERSION);
    ret->access_serial = request_handler->settings.access_serial;
    ret->n_sessions = (uint16_t)GT_MIN(
        request_handler->events->count_sessions(request_handler->userdata, NULL), UINT16_MAX);
}

/* Everything that an operator may use. @n_bytes: of the other parts that @ret has. */
static void request_handler_fill_offer(const struct request_handler *request_handler,
                                       const struct targets *services, size_t n_bytes,
                                       struct gt_extensions *ret)
{
    request_handler_fill_extensions(request_handler, ret);
    ret->fault = fault_span(request_handler->settings.fault);
    n_bytes += ret->fault.n;
    n_bytes += add_service_names(services, NAMES_BUDGET, ret);
    add_host_keys(&request_handler->settings, host_keys_room(&request_handler->settings, n_bytes),
                  ret);
}

/* Returns the number of bytes added. */
static size_t request_handler_fill_tags(const struct request_handler *request_handler,
                                        struct gt_extensions *ret)
{
    const struct tags *tags = request_handler->settings.tags;
    size_t n_bytes = 0;

    for (size_t i = 0; tags && i < tags->n; i++) {
        n_bytes += 2 + tags->spans[i].n;
        ret->tags[ret->n_tags++] = tags->spans[i];
    }
    return n_bytes;
}

static void request_handler_publish_reply(struct request_handler *request_handler)
{
    request_handler->events->publish(
        request_handler->userdata, request_handler->in.rsp_topic,
        gt_span(request_handler->in.reply, request_handler->in.n_reply));
}

/* @refused_why: NULL: the operator asks. */
static void request_handler_note(const struct request_handler *request_handler,
                                 const char *refused_why)
{
    const struct gt_incoming *in = &request_handler->in;
    const struct gt_req *req = &in->req;
    bool is_close = !req->operator_[0];
    const struct request_handler_note note = {
        .is_refused = refused_why != NULL,
        .operator_ = is_close ? in->close.operator_ : req->operator_,
        .fingerprint = in->is_signed ? in->fingerprint : NULL,
        .service = req->service,
        .purpose = is_close ? in->close.purpose : req->purpose,
        .reason = refused_why     ? refused_why
                  : is_close      ? "close"
                  : req->is_query ? "status"
                                  : "session",
    };

    if (request_handler->events->on_note)
        request_handler->events->on_note(request_handler->userdata, &note);
}

/* @limit: as in struct grant. */
static int request_handler_deny(struct request_handler *request_handler, enum gt_ack_status status,
                                const char *why, const char *limit)
{
    const struct gt_req *req = &request_handler->in.req;
    char text[160];

    snprintf(text, sizeof(text), "%s%s%s", why, *limit ? ": " : "", limit);
    request_handler_note(request_handler, text);
    gt_warn("device=%s operator=%s refused service=%s relay=%s reason=\"%s%s%s\"", req->device,
            req->operator_, req->service, req->relay, why, *limit ? ": " : "", limit);
    int r = *limit
                ? gt_responder_deny_limit(request_handler->responder, &request_handler->in, limit)
                : gt_responder_deny(request_handler->responder, &request_handler->in, status);
    if (r == 0)
        request_handler_publish_reply(request_handler);
    return r;
}

/* Not even the shortest ACK is small enough for the broker: the reply is a NAK. */
static int request_handler_reject_size(struct request_handler *request_handler)
{
    request_handler->events->cancel_session(request_handler->userdata);
    request_handler_log_reply_fit(request_handler, false);
    request_handler_publish_reply(request_handler);
    return 0;
}

static void request_handler_fill_ack(const struct request_handler *request_handler,
                                     const struct grant *grant, struct gt_ack *ret)
{
    const struct gt_req *req = &request_handler->in.req;

    ret->status = GT_ACK_OK;
    ret->lifetime_s = grant->lifetime_s;
    ret->max_streams = request_handler->settings.policy->streams_max;
    ret->window = request_handler->settings.stream_window;
    snprintf(ret->device, sizeof(ret->device), "%s", req->device);
    snprintf(ret->operator_, sizeof(ret->operator_), "%s", req->operator_);
    ret->extensions.session_version = GT_SESSION_VERSION;
    request_handler_fill_offer(request_handler, &grant->services, 0, &ret->extensions);
}

static int request_handler_grant(struct request_handler *request_handler,
                                 const struct request_handler_offer *offer)
{
    struct gt_session_keys keys;
    struct gt_ack ack = {0};

    int r = request_handler->events->prepare_session(request_handler->userdata, offer);
    if (r)
        return request_handler_deny(request_handler, r == -EACCES ? GT_ACK_DENIED : GT_ACK_INTERNAL,
                                    strerror(-r), "");
    request_handler_fill_ack(request_handler, offer->grant, &ack);
    r = gt_responder_grant(request_handler->responder, &request_handler->in, &ack, &keys);
    if (r == GT_RESPONDER_E_SIZE)
        return request_handler_reject_size(request_handler);
    if (r) {
        request_handler->events->cancel_session(request_handler->userdata);
        return r;
    }
    r = request_handler->events->start_session(request_handler->userdata, offer, &keys);
    gt_wipe(&keys, sizeof(keys));
    if (r)
        return r;
    request_handler_log_reply_fit(request_handler, true);
    request_handler_publish_reply(request_handler);
    return 0;
}

static int request_handler_decide(const struct request_handler *request_handler, struct grant *ret)
{
    const struct gt_incoming *in = &request_handler->in;
    struct policy_request request = {
        .req = &in->req,
        .pin = in->pin,
        .n_sessions = request_handler->events->count_sessions(request_handler->userdata, NULL),
        .n_of_operator =
            request_handler->events->count_sessions(request_handler->userdata, in->req.operator_),
    };

    return policy_decide(request_handler->settings.policy, &request, ret);
}

/* At a limit, a session that its operator has given up makes room for the operator's next one. */
static int request_handler_decide_replacing(const struct request_handler *request_handler,
                                            struct grant *ret)
{
    int r = request_handler_decide(request_handler, ret);

    if (r || ret->status != GT_ACK_QUOTA ||
        !request_handler->events->replace_session(request_handler->userdata,
                                                  request_handler->in.req.operator_))
        return r;
    grant_deinit(ret);
    return request_handler_decide(request_handler, ret);
}

static int request_handler_handle_request(struct request_handler *request_handler)
{
    const struct gt_incoming *in = &request_handler->in;
    struct grant grant;

    int r = request_handler_decide_replacing(request_handler, &grant);
    if (r)
        return r;
    struct request_handler_offer offer = {
        .device = in->req.device,
        .operator_ = in->req.operator_,
        .service = in->req.service,
        .purpose = in->req.purpose,
        .request_id = in->req.id,
        .rsp_topic = in->rsp_topic,
        .key_id = request_handler->key_ids[in->is_previous_key],
        .fingerprint = in->is_signed ? in->fingerprint : NULL,
        .grant = &grant,
    };
    r = grant.status == GT_ACK_OK
            ? request_handler_grant(request_handler, &offer)
            : request_handler_deny(request_handler, grant.status, grant.why, grant.limit);
    grant_deinit(&grant);
    return r;
}

/* Under `psk` any holder of the key is the operator, and sees all sessions. */
static int request_handler_handle_query(struct request_handler *request_handler)
{
    const struct gt_incoming *in = &request_handler->in;
    struct gt_extensions extensions = {0};
    struct gt_device_status status;
    uint8_t bytes[GT_STATUS_SIZE];

    request_handler_fill_extensions(request_handler, &extensions);
    request_handler->events->fill_status(request_handler->userdata, in->req.operator_,
                                         gt_pin_is_admin(in->pin), &status);
    extensions.fault = fault_span(request_handler->settings.fault);
    extensions.status = gt_span(bytes, gt_device_status_encode(&status, bytes));
    int r = gt_responder_inform(request_handler->responder, &request_handler->in, &extensions);
    if (r)
        return r;
    gt_debug("device=%s operator=%s query answered", in->req.device, in->req.operator_);
    request_handler_log_reply_fit(request_handler, true);
    request_handler_publish_reply(request_handler);
    return 0;
}

static int request_handler_handle_close(struct request_handler *request_handler)
{
    const struct gt_close *close = &request_handler->in.close;
    enum gt_nak_code code = GT_NAK_CLOSED;

    int n = request_handler->events->close_sessions(request_handler->userdata, close,
                                                    gt_pin_is_admin(request_handler->in.pin));
    if (n < 0) {
        request_handler_note(request_handler, "the session is another operator's");
        gt_warn("device=%s operator=%s close refused reason=\"the session is another operator's\"",
                close->device, close->operator_);
        code = GT_NAK_DENIED;
        n = 0;
    }
    int r = gt_responder_closed(request_handler->responder, &request_handler->in, code,
                                (uint16_t)GT_MIN(n, UINT16_MAX));
    if (r == 0)
        request_handler_publish_reply(request_handler);
    return r;
}

/* A message that the responder handled alone. Unauthenticated senders cause these lines, so their
 * rate is limited. */
static void request_handler_log(struct request_handler *request_handler, const char *outcome)
{
    const struct gt_incoming *in = &request_handler->in;
    const char *operator_ = in->req.operator_[0] ? in->req.operator_ : in->close.operator_;
    struct gt_log_rate *rate = in->is_denied ? &request_handler->denied : &request_handler->dropped;
    unsigned n_suppressed;

    if (!gt_log_is_allowed(rate, 5, &n_suppressed))
        return;
    gt_log(in->is_denied ? GT_LOG_WARN : GT_LOG_INFO, 0,
           "device=%s operator=%s message %s reason=\"%s\" suppressed=%u",
           request_handler->settings.device, operator_[0] ? operator_ : "-", outcome, in->why,
           n_suppressed);
}

static int request_handler_apply_verdict(struct request_handler *request_handler)
{
    switch (request_handler->in.verdict) {
    case GT_VERDICT_DROP: request_handler_log(request_handler, "dropped"); return 0;
    case GT_VERDICT_REPLY:
        if (request_handler->in.is_denied)
            request_handler_note(request_handler, request_handler->in.why);
        request_handler_log(request_handler,
                            request_handler->in.is_denied ? "refused" : "answered");
        request_handler_publish_reply(request_handler);
        return 0;
    case GT_VERDICT_REQUEST:
        request_handler_note(request_handler, NULL);
        return request_handler->in.req.is_query ? request_handler_handle_query(request_handler)
                                                : request_handler_handle_request(request_handler);
    case GT_VERDICT_CLOSE:
        request_handler_note(request_handler, NULL);
        return request_handler_handle_close(request_handler);
    }
    return 0;
}

static int request_handler_handle(struct request_handler *request_handler, uint64_t now_ms,
                                  time_t now, const char *topic, bool is_retained,
                                  struct gt_span payload)
{
    int r = gt_responder_receive(request_handler->responder, now_ms, now, topic, is_retained,
                                 payload, &request_handler->in);
    bool is_state_due = r == 0 && request_handler->in.is_state_due;

    if (r == 0) {
        r = request_handler_apply_verdict(request_handler);
        if (r)
            gt_responder_forget(request_handler->responder, &request_handler->in);
    }
    if (is_state_due)
        request_handler->events->on_state_due(request_handler->userdata);
    gt_wipe(&request_handler->in, sizeof(request_handler->in));
    return r > 0 ? -EPROTO : r;
}

int request_handler_receive(struct request_handler *request_handler, uint64_t now_ms, time_t now,
                            const char *topic, bool is_retained, struct gt_span payload)
{
    if (!message_budget_begin(&request_handler->budget, now_ms)) {
        request_handler->in.why = "more messages than half of a CPU can open";
        request_handler_log(request_handler, "dropped");
        return 0;
    }
    int r = request_handler_handle(request_handler, now_ms, now, topic, is_retained, payload);
    message_budget_end(&request_handler->budget, now_ms);
    return r;
}

void request_handler_tick(struct request_handler *request_handler, uint64_t now_ms)
{
    if (gt_responder_tick(request_handler->responder, now_ms))
        request_handler->events->on_state_due(request_handler->userdata);
}

const char *request_handler_req_topic(const struct request_handler *request_handler)
{
    return gt_responder_req_topic(request_handler->responder);
}

const char *request_handler_state_topic(const struct request_handler *request_handler)
{
    return gt_responder_state_topic(request_handler->responder);
}

void request_handler_set_message_max(struct request_handler *request_handler, size_t n)
{
    gt_responder_set_message_max(request_handler->responder, n);
}

static void request_handler_log_state_fit(struct request_handler *request_handler,
                                          const struct gt_fit *fit, bool is_sent)
{
    struct gt_fit before = request_handler->state_fit;

    request_handler->state_fit = *fit;
    if ((fit->omitted != before.omitted || fit->max != before.max) &&
        (fit->omitted != GT_OMITTED_NONE || !is_sent))
        request_handler_log_fit(request_handler, "", fit, is_sent);
}

int request_handler_state(struct request_handler *request_handler, enum gt_state_kind kind,
                          uint32_t connection, uint64_t since, uint8_t *ret, size_t *ret_n)
{
    struct gt_extensions extensions = {.since = since};
    struct gt_state_form form = {kind, connection, &extensions};
    const struct targets *services = &request_handler->settings.policy->services;
    struct gt_fit fit;

    size_t n_tags = request_handler_fill_tags(request_handler, &extensions);
    if (kind == GT_STATE_ONLINE) {
        request_handler_fill_offer(request_handler, services, n_tags, &extensions);
    } else {
        request_handler_fill_extensions(request_handler, &extensions);
        add_service_names(services, WILL_NAMES, &extensions);
    }
    int r = gt_responder_state(request_handler->responder, &form, &fit, ret, ret_n);
    if (r >= 0)
        request_handler_log_state_fit(request_handler, &fit, r == 0);
    return r;
}

void request_handler_set(struct request_handler *request_handler,
                         const struct request_handler_settings *settings)
{
    request_handler->settings = *settings;
    gt_responder_set_trust(request_handler->responder, settings->signer, settings->trust);
}

struct request_handler *request_handler_free(struct request_handler *request_handler)
{
    if (!request_handler)
        return NULL;
    gt_responder_free(request_handler->responder);
    gt_wipe(request_handler, sizeof(*request_handler));
    free(request_handler);
    return NULL;
}

int request_handler_new(const struct request_handler_settings *settings,
                        const uint8_t of_device[static GT_KEY_SIZE], const uint8_t *previous,
                        uint64_t now_ms, const struct request_handler_events *events,
                        void *userdata, struct request_handler **ret)
{
    struct gt_responder_settings responder = {
        .prefix = settings->prefix,
        .device = settings->device,
        .signer = settings->signer,
        .trust = settings->trust,
    };
    struct request_handler *request_handler = calloc(1, sizeof(*request_handler));

    if (!request_handler)
        return -ENOMEM;
    request_handler->settings = *settings;
    request_handler->events = events;
    request_handler->userdata = userdata;
    message_budget_init(&request_handler->budget);
    int r = gt_key_device_id(of_device, request_handler->key_ids[0]);
    if (r == 0 && previous)
        r = gt_key_device_id(previous, request_handler->key_ids[1]);
    if (r == 0)
        r = gt_responder_new(&responder, of_device, previous, now_ms, &request_handler->responder);
    if (r) {
        request_handler_free(request_handler);
        return r;
    }
    *ret = request_handler;
    return 0;
}
