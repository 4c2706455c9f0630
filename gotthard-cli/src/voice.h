/* SPDX-License-Identifier: ISC */
/*
 * What `connect` says at each of its milestones, in all three ways: to people, as lines, as events.
 * Words only; nothing is decided here.
 */
#pragma once

#include "gotthard/log.h"
#include "gotthard/message.h"
#include "gotthard/tunnel.h"
#include "ports.h"
#include "print.h"

struct voice {
    struct print *print; /* keeps */
    const char *device;  /* keeps */
    const char *bind;    /* keeps; NULL: loopback */
    bool is_print_port;
    uint64_t began_ms, lost_ms; /* lost: the link */
    struct gt_log_rate refused, broken;
};

void voice_init(struct voice *voice, struct print *print, const char *device, const char *bind,
                bool is_print_port);
void voice_requesting(struct voice *voice, const struct ports *ports);
void voice_broker(struct voice *voice, const char *endpoint);
/* @said: beside the answer; the event tells the ssh host keys that the device vouches for. */
void voice_answered(struct voice *voice, const struct gt_extensions *said);
void voice_up(struct voice *voice, const struct ports *ports, const char *relay_host,
              uint16_t relay_port);
void voice_peer_away(struct voice *voice, enum gt_code reason);
void voice_peer_back(struct voice *voice);
void voice_link_lost(struct voice *voice, const char *why);
void voice_link_back(struct voice *voice);
/* Before it was up. */
void voice_interrupted(struct voice *voice);
void voice_closing(struct voice *voice);
/* There was no way to the relay for the goodbye. */
void voice_unheard(struct voice *voice);
void voice_closed_by_device(struct voice *voice);
void voice_closed(struct voice *voice, const char *reason, int code);

void voice_stream_opened(struct voice *voice, const char *service, uint32_t stream,
                         const struct gt_addr *peer);
/* @err: what gt_tunnel_open returned. */
void voice_stream_refused(struct voice *voice, const char *service, int err);
void voice_stream_ended(struct voice *voice, const char *service, uint32_t stream, enum gt_rst code,
                        uint64_t n_up, uint64_t n_down);
void voice_streams_full(struct voice *voice, unsigned max_streams);
