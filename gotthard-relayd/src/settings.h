/* SPDX-License-Identifier: ISC */
/*
 * What the relay can be told: the table behind its variables, its file and its flags, and the key
 * that follows from them. Loaded as a whole or not at all, so that a reload never leaves half of
 * the old beside half of the new.
 */
#pragma once

#include "gotthard/config.h"
#include "gotthard/key.h"

struct settings {
    char *bind;
    uint64_t port, ports_from, ports_to, ports_rest_ms;
    char *key, *key_previous, *iv;
    uint64_t n_threads, pipe_size, drain_ms;
    char *splice, *congestion;
    uint64_t handshake_ms, hello_ms, join_ms, second_ms, heartbeat_ms, dead_ms;
    uint64_t half_ms, grace_ms, idle_ms, lifetime_ms, half_closed_ms, ticket_ms;
    uint64_t n_preauth, n_preauth_drop_from, n_per_source;
    uint64_t penalty_failed_ms, penalty_timeout_ms, penalty_max_ms;
    uint64_t n_sessions, n_sessions_per_identity, n_streams, n_tickets, n_frames, n_descriptors;
    char *level;
};

extern const struct gt_config_program settings_program;

/* The key, and the one before it while a fleet changes its key. */
struct settings_keys {
    enum { SETTINGS_ONE_KEY, SETTINGS_TWO_KEYS } n;
    struct gt_key current, previous;
};
void settings_wipe_keys(struct settings_keys *keys);

/* Loads the settings and derives the keys. E_BAD as of gt_config_load, with the sentence in
 * @ret_error. */
int settings_load(const struct gt_config_args *args, struct gt_config **ret,
                  struct settings_keys *ret_keys,
                  char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
