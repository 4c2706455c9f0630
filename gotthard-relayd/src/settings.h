/* SPDX-License-Identifier: ISC */
/*
 * The relay's settings, and the keys and the list that they name. They are loaded as a whole or not
 * at all: a reload must never mix old and new values.
 */
#pragma once

#include "gotthard/config/config.h"
#include "limits/admission.h"

struct settings {
    char *bind;
    uint64_t port, ports_from, ports_to, port_cooldown_ms;
    char *key, *key_previous, *iv;
    uint64_t n_threads, pipe_size, drain_ms;
    char *splice, *congestion, *refused, *authority, *access_list;
    uint64_t handshake_ms, hello_ms, join_ms, join_peer_ms, heartbeat_ms, dead_ms;
    uint64_t pairing_ms, grace_ms, idle_ms, lifetime_ms, half_closed_ms, ticket_ms;
    uint64_t n_preauth, n_per_source;
    uint64_t n_sessions, n_sessions_per_identity, n_streams, n_tickets, n_frames, n_descriptors;
    uint64_t audit_size, n_audit_files;
    char *level;
};

/* Returns the table. */
const struct gt_config_program *settings_program(void);

/* Loads the settings, derives the keys and reads the list of refused identities. Returns as
 * gt_config_load(). After 0 the caller frees *ret and *ret_admission. */
int settings_load(const struct gt_config_args *args, struct gt_config **ret,
                  struct admission *ret_admission,
                  char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
