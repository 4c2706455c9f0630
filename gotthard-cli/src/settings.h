/* SPDX-License-Identifier: ISC */
/*
 * The settings of gotthard-cli: one struct and one table. config.h describes the layers.
 */
#pragma once

#include "gotthard/config/config.h"
#include "gotthard/config/mqtt-url.h"
#include "gotthard/net/host-port.h"

/* The commands as bits: which of them use a setting, and so accept its option. */
enum {
    COMMAND_CONNECT = 1 << 0,
    COMMAND_DISCONNECT = 1 << 1,
    COMMAND_STATUS = 1 << 2,
    COMMAND_DEVICES = 1 << 3,
    COMMAND_KEYGEN = 1 << 4,
    COMMAND_FINGERPRINT = 1 << 5,
    COMMAND_CONFIG = 1 << 6,
    COMMAND_VERSION = 1 << 7,
    COMMAND_HELP = 1 << 8,
    COMMAND_PROXY = 1 << 9,
    COMMAND_FORGET = 1 << 10,
    COMMAND_DOCTOR = 1 << 11,
    COMMAND_COMPLETION = 1 << 12,
    COMMAND_SSH = 1 << 13,
    COMMAND_SSH_CONFIG = 1 << 14,
    COMMAND_KNOWN_HOSTS = 1 << 15,
    COMMAND_SESSIONS = 1 << 16,
    COMMAND_RUN = 1 << 17,
    COMMAND_ACCESS = 1 << 18,
    COMMAND_REVOKE = 1 << 19,
    COMMAND_CA = 1 << 20,
    COMMAND_ENROLL = 1 << 21,
    COMMAND_JOIN = 1 << 22,
    COMMAND_ADD = 1 << 23,
    COMMAND_AUDIT = 1 << 24,
    COMMAND_END = 1 << 25, /* after the last command */
    COMMAND_ANY = COMMAND_END - 1,
};

struct settings {
    char *server_host;
    uint64_t server_port;
    bool is_single_port;
    struct gt_config_proxy server_proxy, mqtt_proxy;
    char *server_proxy_password, *mqtt_proxy_password;
    struct gt_config_map relays; /* in addition to "main", which is server_host:server_port */
    char *relay;                 /* the name of the relay to use */

    char *crypt_key, *crypt_iv, *crypt_key_previous;
    char *device_keys, *device_keys_previous; /* paths */

    char *mqtt_endpoint, *mqtt_cert_path, *mqtt_username, *mqtt_password, *mqtt_prefix;
    char *mqtt_alpn, *mqtt_version;
    uint64_t mqtt_keepalive_ms;

    char *client_name, *devices;
    uint64_t client_port; /* 0: any free port */
    bool is_shared;       /* every user of this machine may use the local ports */
    uint64_t lifetime_ms, answer_timeout_ms, hold_ms;
    uint64_t shared_idle_ms; /* until the shared connection is closed; 0: never */

    char *trust_policy, *trust_pins;
    char *trust_authority, *trust_authority_key; /* a key; the path of one */
    uint64_t access_max_age_ms;

    char *enroll_ca, *enroll_sign_command; /* a folder; a command of the shell */
    uint64_t enroll_validity_ms;

    uint64_t ring_size; /* 0: gt_tunnel_ring_size */
    uint64_t peer_timeout_ms, resume_window_ms, vanished_ms, linger_ms;
    char *log_level;
};

/* Returns the table. The default of client.name is settings_name_of_login(). */
const struct gt_config_program *settings_program(void);
/* The same without the default of client.name, which needs the user database. */
const struct gt_config_program *settings_table(void);
/* Writes @login as a valid name into @ret (GT_NAME_MAX + 1): other characters become '-'. The
 * result is "operator" if nothing valid remains. */
void settings_name_of_login(const char *login, char *ret);
/* Looks up the address of the relay @name. Returns false if there is no such name, or for "main"
 * without server.host. */
bool settings_relay(const struct settings *settings, const char *name, struct gt_host_port *ret);
/* Returns NULL and the broker's address (untouched without mqtt.endpoint), or the path of the
 * setting at fault with a sentence. */
const char *settings_broker(const struct settings *settings, struct gt_mqtt_url *ret, char *ret_why,
                            size_t cap) GT_MUST_CHECK;
