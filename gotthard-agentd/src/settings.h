/* SPDX-License-Identifier: ISC */
/*
 * The agent's settings: one struct and one table, which drives variables, files, flags,
 * --check-config, the manual page and etc/agentd.conf.
 */
#pragma once

#include "gotthard/config/config.h"
#include "gotthard/config/mqtt-url.h"

#define SETTINGS_STREAMS_MAX 8192 /* of limits.streams; an ACK has 16 bits for it */

struct settings {
    char *server_host;
    uint64_t server_port;
    bool is_single_port;
    struct gt_config_proxy server_proxy, mqtt_proxy;
    char *server_proxy_password, *mqtt_proxy_password;
    char *crypt_key, *crypt_iv, *crypt_key_previous;
    char *mqtt_endpoint, *mqtt_cert_path, *mqtt_username, *mqtt_password, *mqtt_prefix;
    char *mqtt_alpn, *mqtt_version;
    uint64_t reconnect_spread_ms;
    uint64_t mqtt_keepalive_ms;
    char *device_name;
    struct gt_config_map tags;
    struct gt_config_map services, relays;
    char *permit;
    char *data_host;
    uint64_t data_port;
    char *trust_policy, *trust_pins, *trust_authority;
    uint64_t access_max_age_ms;
    char *host_keys;
    bool keeps_sessions;
    uint64_t sessions_max, per_operator_max, streams_max;
    uint64_t lifetime_ms, dial_timeout_ms, peer_timeout_ms, resume_window_ms;
    uint64_t vanished_ms, linger_ms;
    uint64_t stream_buffer; /* 0: gt_tunnel_ring_size */
    uint64_t audit_size, audit_files;
    char *log_level;
};

/* Returns the table. */
const struct gt_config_program *settings_program(void);
/* Returns NULL and the broker's address (untouched without mqtt.endpoint), or the path of the
 * setting at fault with a sentence. */
const char *settings_broker(const struct settings *settings, struct gt_mqtt_url *ret, char *ret_why,
                            size_t cap) GT_MUST_CHECK;
