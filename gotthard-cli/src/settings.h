/* SPDX-License-Identifier: ISC */
/*
 * What gotthard-cli can be told: one struct, one table (settings.c). Where each value comes from
 * is config.h's.
 */
#pragma once

#include "gotthard/config.h"

struct settings {
    char *server_host;
    uint64_t server_port;
    bool is_single_port;
    struct gt_config_map relays; /* beside "main", which is server_host:server_port */
    char *relay;                 /* the name of the one to meet at */

    char *crypt_key, *crypt_iv, *crypt_key_previous;

    char *mqtt_endpoint, *mqtt_cert_path, *mqtt_username, *mqtt_password, *mqtt_prefix;
    uint64_t mqtt_keepalive_ms;

    char *client_name;
    uint64_t client_port; /* 0: any free one */
    uint64_t lifetime_ms, answer_timeout_ms, n_spares;

    char *trust_policy, *trust_pins;

    uint64_t ring_size, peer_timeout_ms, resume_window_ms;
    char *log_level;
};

/* The table; client.name's default is the login name, made fit. */
const struct gt_config_program *settings_program(void);
/* @login as a name: what is not allowed in one becomes '-'; "operator" when nothing is left.
 * @ret has room for GT_NAME_MAX + 1. */
void settings_name_of_login(const char *login, char *ret);
/* Where the relay @name listens. False: no such name, or "main" without server.host. @ret_host has
 * room for GT_HOST_MAX + 1. */
bool settings_relay(const struct settings *settings, const char *name, char *ret_host,
                    uint16_t *ret_port);
