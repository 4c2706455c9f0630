/* SPDX-License-Identifier: ISC */
/*
 * The words of `connect`. The lines keep the original tool's order: the message is sent, the port
 * listens, MQTT is connected, the device answered, the relay is reached, the tunnel is up, how to
 * use ssh.
 */
#include "voice.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gotthard/text.h"

#define COMPLAINTS 5 /* of one kind, a second */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void voice_init(struct voice *voice, struct print *print, const char *device, const char *bind,
                bool is_print_port)
{
    *voice = (struct voice){
        .print = print,
        .device = device,
        .bind = bind,
        .is_print_port = is_print_port,
        .began_ms = now_ms(),
    };
}

static const char *host_of(const struct voice *voice)
{
    return voice->bind && strcmp(voice->bind, "*") != 0 ? voice->bind : "localhost";
}

static void say_listening(struct voice *voice, const struct port *port)
{
    unsigned number = listener_port(port->listener);
    const char *service = port->target.service;
    if (port->is_moved)
        print_note(voice->print, "Local port %u is taken: using %u for %s.", port->target.local,
                   number, service);
    print_fact(voice->print, "listening on %s port %u for %s of %s", host_of(voice), number,
               service, voice->device);
    print_event(voice->print, "listening", "{s:s, s:i, s:s}", "address", host_of(voice), "port",
                (int)number, "service", service);
}

void voice_requesting(struct voice *voice, const struct ports *ports)
{
    if (ports->n_items > 0 && !gt_addr_is_loopback(listener_addr(ports->items[0].listener)))
        print_warning(voice->print, "listening on %s: whoever reaches it reaches %s", voice->bind,
                      voice->device);
    print_event(voice->print, "requesting", "{s:s}", "device", voice->device);
    print_fact(voice->print, "sending the MQTT message to %s", voice->device);
    for (size_t i = 0; i < ports->n_items; i++)
        say_listening(voice, &ports->items[i]);
    print_progress(voice->print, "asking %s", voice->device);
}

void voice_broker(struct voice *voice, const char *endpoint)
{
    print_fact(voice->print, "connected to MQTT at %s", endpoint);
    print_event(voice->print, "broker", "{s:s}", "endpoint", endpoint);
    print_progress(voice->print, "waiting for %s to answer", voice->device);
}

static json_t *list_texts(const struct gt_span *texts, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_stringn((const char *)texts[i].data, texts[i].n));
    return list;
}

void voice_answered(struct voice *voice, const struct gt_extensions *said)
{
    json_t *host_keys = list_texts(said->host_keys, said->n_host_keys);
    uint64_t ms = now_ms() - voice->began_ms;
    char took[32];
    print_fact(voice->print, "%s answered within %s", voice->device,
               gt_text_ago(ms, took, sizeof(took)));
    print_event(voice->print, "answered", "{s:s, s:I, s:O}", "device", voice->device, "ms",
                (json_int_t)ms, "host_keys", host_keys);
    json_decref(host_keys);
    print_progress(voice->print, "%s answered, joining it at the relay", voice->device);
}

static bool is_ssh(const struct port *port)
{
    return strcmp(port->target.service, "ssh") == 0 || strcmp(port->target.service, "22") == 0;
}

/* "gatewayoli.gotthard": ssh keeps a device's host key under this name, whatever the local port. */
static const char *host_key_alias(const char *device, char *ret, size_t cap)
{
    snprintf(ret, cap, "%s.gotthard", device);
    for (char *at = ret; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    return ret;
}

static void say_arrows(struct voice *voice, const struct ports *ports)
{
    bool has_marks = voice->print->has_marks;
    for (size_t i = 0; i < ports->n_items; i++)
        print_plain(voice->print, "%s %s:%u  %s  %s:%s", has_marks ? "→" : "->", host_of(voice),
                    listener_port(ports->items[i].listener), has_marks ? "⇢" : "=>", voice->device,
                    ports->items[i].target.service);
}

static void say_how_to_use(struct voice *voice, const struct ports *ports)
{
    char alias[GT_NAME_MAX + sizeof(".gotthard")];
    host_key_alias(voice->device, alias, sizeof(alias));
    print_plain(voice->print, "%s", "");
    for (size_t i = 0; i < ports->n_items; i++) {
        if (!is_ssh(&ports->items[i]))
            continue;
        unsigned port = listener_port(ports->items[i].listener);
        print_plain(voice->print, "  ssh -p %u -o HostKeyAlias=%s <user>@%s", port, alias,
                    host_of(voice));
        print_fact(voice->print, "to log in: ssh -p %u -o HostKeyAlias=%s <user>@%s", port, alias,
                   host_of(voice));
    }
    if (ports->n_items == 1 && is_ssh(&ports->items[0]))
        print_plain(voice->print, "  another port of the device: gotthard-cli connect %s 1880",
                    voice->device);
    print_plain(voice->print, "\nPress Ctrl+C to close.");
}

static void say_ports(struct voice *voice, const struct ports *ports, uint64_t ms)
{
    json_t *numbers = json_array();
    for (size_t i = 0; i < ports->n_items; i++) {
        unsigned port = listener_port(ports->items[i].listener);
        json_array_append_new(numbers, json_integer(port));
        if (voice->is_print_port && !voice->print->is_json)
            print_data(voice->print, "%u\n", port);
    }
    print_event(voice->print, "up", "{s:s, s:I, s:i, s:O}", "device", voice->device, "ms",
                (json_int_t)ms, "port", (int)listener_port(ports->items[0].listener), "ports",
                numbers);
    json_decref(numbers);
}

void voice_up(struct voice *voice, const struct ports *ports, const char *relay_host,
              uint16_t relay_port)
{
    uint64_t ms = now_ms() - voice->began_ms;
    char took[32];
    print_fact(voice->print, "relay reached: %s port %u", relay_host, relay_port);
    print_event(voice->print, "relay", "{s:s, s:i}", "host", relay_host, "port", (int)relay_port);
    print_fact(voice->print, "end-to-end tunnel to %s is up", voice->device);
    print_done(voice->print, "%s answered (%s), tunnel is up", voice->device,
               gt_text_ago(ms, took, sizeof(took)));
    say_arrows(voice, ports);
    say_how_to_use(voice, ports);
    say_ports(voice, ports, ms);
}

void voice_peer_away(struct voice *voice, enum gt_code reason)
{
    print_event(voice->print, "peer-lost", "{s:s}", "reason", gt_code_text(reason));
    print_warning(voice->print, "%s is gone (%s), waiting for it", voice->device,
                  gt_code_text(reason));
}

void voice_peer_back(struct voice *voice)
{
    print_event(voice->print, "peer-back", "{s:s}", "device", voice->device);
    print_note(voice->print, "%s is back.", voice->device);
}

void voice_link_lost(struct voice *voice, const char *why)
{
    voice->lost_ms = now_ms();
    print_event(voice->print, "link-lost", "{s:s}", "reason", why);
    print_warning(voice->print, "connection to the relay lost (%s), trying again", why);
}

void voice_link_back(struct voice *voice)
{
    uint64_t ms = now_ms() - voice->lost_ms;
    char took[32];
    print_event(voice->print, "link-back", "{s:f}", "seconds", (double)ms / 1000.);
    print_note(voice->print, "Connection to the relay is back (%s).",
               gt_text_ago(ms, took, sizeof(took)));
}

void voice_interrupted(struct voice *voice)
{
    print_note(voice->print, "Interrupted.");
}

void voice_closing(struct voice *voice)
{
    print_plain(voice->print, "\nClosing (Ctrl+C again leaves at once).");
    print_fact(voice->print, "closing");
    print_event(voice->print, "closing", "{}");
}

void voice_unheard(struct voice *voice)
{
    print_warning(voice->print,
                  "%s could not be told and waits for a while; gotthard-cli disconnect %s tells it "
                  "another way",
                  voice->device, voice->device);
}

void voice_closed_by_device(struct voice *voice)
{
    print_note(voice->print, "Closed from %s's side.", voice->device);
}

void voice_closed(struct voice *voice, const char *reason, int code)
{
    if (code == 0)
        print_note(voice->print, "Tunnel to %s closed.", voice->device);
    print_event(voice->print, "closed", "{s:s, s:i}", "reason", reason, "exit", code);
}

/* --- single connections: few words on a terminal, where somebody else's output may stand ------ */

void voice_stream_opened(struct voice *voice, const char *service, uint32_t stream,
                         const struct gt_addr *peer)
{
    char text[GT_ADDR_TEXT];
    gt_addr_text(peer, text);
    print_fact(voice->print, "stream=%" PRIu32 " service=%s peer=%s opened", stream, service, text);
    print_event(voice->print, "stream-opened", "{s:I, s:s, s:s}", "stream", (json_int_t)stream,
                "service", service, "peer", text);
}

/* What all connections may meet at once: a few lines a second, and later how many there were more.
 */
static void voice_complain(struct voice *voice, struct gt_log_rate *rate, const char *service,
                           const char *what, const char *why)
{
    unsigned n_left_out;
    char more[48] = "";
    if (!gt_log_is_allowed(rate, COMPLAINTS, &n_left_out))
        return;
    if (n_left_out)
        snprintf(more, sizeof(more), " (and %u more before it)", n_left_out);
    print_warning(voice->print, "a connection to %s %s: %s%s", service, what, why, more);
}

void voice_stream_refused(struct voice *voice, const char *service, int err)
{
    const char *why = err > 0 ? "too many at once" : strerror(-err);
    voice_complain(voice, &voice->refused, service, "was closed", why);
    print_event(voice->print, "stream-refused", "{s:s, s:s}", "service", service, "reason", why);
}

void voice_stream_ended(struct voice *voice, const char *service, uint32_t stream, enum gt_rst code,
                        uint64_t n_up, uint64_t n_down)
{
    print_event(voice->print, "stream-ended", "{s:I, s:s, s:i, s:I, s:I}", "stream",
                (json_int_t)stream, "service", service, "code", (int)code, "up", (json_int_t)n_up,
                "down", (json_int_t)n_down);
    if (code == GT_RST_NONE || code == GT_RST_LOCAL || code == GT_RST_CLOSED)
        print_fact(voice->print,
                   "stream=%" PRIu32 " service=%s up=%" PRIu64 " down=%" PRIu64 " ended%s%s",
                   stream, service, n_up, n_down, code ? ": " : "", code ? gt_rst_text(code) : "");
    else
        voice_complain(voice, &voice->broken, service, "broke", gt_rst_text(code));
}

void voice_streams_full(struct voice *voice, unsigned max_streams)
{
    print_note(voice->print, "%u connections are open, as many as %s takes: more will wait.",
               max_streams, voice->device);
    print_event(voice->print, "streams-full", "{s:i}", "streams", (int)max_streams);
}
