/* SPDX-License-Identifier: ISC */
/*
 * The table, and what no single value can show to be wrong. Limits stand here with the defaults of
 * docs/protocol.md, section 3.
 */
#include "settings.h"

#include <stdio.h>

#include "gotthard/sock.h"

#define SECONDS 1000ull
#define MINUTES (60 * SECONDS)
#define HOURS   (60 * MINUTES)

#define AT(field) offsetof(struct settings, field)
/* path, type, where, default, min, max, help */
#define ITEM(path_, type_, field, fallback_, min_, max_, help_)                               \
    {                                                                                         \
        .path = path_, .type = GT_CONFIG_##type_, .offset = AT(field), .fallback = fallback_, \
        .min = min_, .max = max_, .help = help_                                               \
    }

static const struct gt_config_item items[] = {
    {.path = "server.bind",
     .flag = "bind",
     .type = GT_CONFIG_STRING,
     .offset = AT(bind),
     .fallback = "*",
     .help = "The address to listen on; * is every one, IPv6 and IPv4."},
    {.path = "server.port",
     .env = "GOTTHARD_SERVER_PORT",
     .flag = "server-port",
     .type = GT_CONFIG_NUMBER,
     .offset = AT(port),
     .fallback = "7000",
     .min = 1,
     .max = 65535,
     .help = "The main port: control connections, and data for networks that let out one port."},
    {.path = "server.ports_from",
     .env = "GOTTHARD_SERVER_PORTS_FROM",
     .flag = "server-ports-from",
     .type = GT_CONFIG_NUMBER,
     .offset = AT(ports_from),
     .fallback = "7001",
     .min = 1,
     .max = 65535,
     .help = "The first port of the range that sessions get a port of their own from."},
    {.path = "server.ports_to",
     .env = "GOTTHARD_SERVER_PORTS_TO",
     .flag = "server-ports-to",
     .type = GT_CONFIG_NUMBER,
     .offset = AT(ports_to),
     .fallback = "7999",
     .min = 1,
     .max = 65535,
     .help = "The last port of that range."},
    ITEM("server.ports_rest", DURATION, ports_rest_ms, "5s", 0, HOURS,
         "How long a port rests after its session before another gets it, if there are others."),
    {.path = "crypt.key",
     .env = "GOTTHARD_CRYPT_KEY",
     .type = GT_CONFIG_SECRET,
     .offset = AT(key),
     .help = "The relay's key (gk1r...., from `gotthard-cli keygen relay`), or the fleet's."},
    {.path = "crypt.key_previous",
     .env = "GOTTHARD_CRYPT_KEY_PREVIOUS",
     .type = GT_CONFIG_SECRET,
     .offset = AT(key_previous),
     .help = "The key before a rotation; still accepted."},
    {.path = "crypt.iv",
     .env = "GOTTHARD_CRYPT_IV",
     .type = GT_CONFIG_SECRET,
     .offset = AT(iv),
     .help = "The fleet's salt; not needed with a gk1r key."},
    ITEM("relay.threads", NUMBER, n_threads, "0", 0, 64,
         "How many threads carry data; 0 is one for each processor, eight at most."),
    {.path = "relay.splice",
     .type = GT_CONFIG_CHOICE,
     .offset = AT(splice),
     .fallback = "auto",
     .choices = "auto off",
     .help = "Whether bytes go through kernel pipes (auto) or are copied (off)."},
    ITEM("relay.pipe_size", SIZE, pipe_size, "1MiB", 65536, 1 << 20,
         "The size of those pipes, as far as the kernel grants it; less where many are in use."),
    {.path = "relay.congestion",
     .type = GT_CONFIG_STRING,
     .offset = AT(congestion),
     .help = "The TCP congestion control of data connections, such as bbr; unset is the system's."},
    ITEM("relay.drain", DURATION, drain_ms, "0s", 0, 9 * SECONDS,
         "How long the relay waits for open streams when it is told to stop; they outlive it."),
    ITEM("limits.handshake", DURATION, handshake_ms, "10s", 100, HOURS,
         "The time for the first byte and the TLS handshake on the main port."),
    ITEM("limits.hello", DURATION, hello_ms, "5s", 100, HOURS,
         "The time for the first frame of a control connection."),
    ITEM("limits.join", DURATION, join_ms, "5s", 100, HOURS,
         "The time for the 64 bytes that a data connection begins with."),
    ITEM("limits.second_join", DURATION, second_ms, "10s", 100, HOURS,
         "How long the first of two data connections waits for the second."),
    ITEM("limits.heartbeat", DURATION, heartbeat_ms, "15s", 100, HOURS,
         "How long a control connection may be silent before it is asked for a sign of life."),
    ITEM("limits.dead_after", DURATION, dead_ms, "45s", 200, HOURS,
         "How long it may be silent before it counts as lost."),
    ITEM("limits.half", DURATION, half_ms, "30s", 100, HOURS,
         "How long one side of a session waits for the other, or a client stays without session."),
    ITEM("limits.grace", DURATION, grace_ms, "120s", 0, HOURS,
         "How long a session waits for a lost side to come back."),
    ITEM("limits.idle", DURATION, idle_ms, "30min", 1 * SECONDS, 168 * HOURS,
         "How long a session may be without any stream."),
    ITEM("limits.lifetime", DURATION, lifetime_ms, "12h", 1 * SECONDS, 168 * HOURS,
         "How long a session may last in all."),
    ITEM("limits.half_closed", DURATION, half_closed_ms, "120s", 1 * SECONDS, HOURS,
         "How long a connection that one side has ended may go without a byte."),
    ITEM("limits.ticket", DURATION, ticket_ms, "30s", 1 * SECONDS, 300 * SECONDS,
         "How long the ticket for a data connection is good."),
    ITEM("limits.preauth", NUMBER, n_preauth, "256", 1, 4096,
         "How many connections may be open that have not yet proved who they are."),
    ITEM("limits.preauth_drop_from", NUMBER, n_preauth_drop_from, "64", 1, 4096,
         "From how many of them on new ones are dropped by chance, the more the likelier."),
    ITEM("limits.per_source", NUMBER, n_per_source, "16", 1, 4096,
         "How many of them may come from one IPv4 address or IPv6 /64."),
    ITEM("limits.penalty_failed", DURATION, penalty_failed_ms, "5s", 0, HOURS,
         "For how long a source is shut out after a failed handshake or data connection."),
    ITEM("limits.penalty_timeout", DURATION, penalty_timeout_ms, "10s", 0, HOURS,
         "For how long after one that took too long."),
    ITEM("limits.penalty_max", DURATION, penalty_max_ms, "10min", 0, 24 * HOURS,
         "How much of that can add up."),
    ITEM("limits.sessions", NUMBER, n_sessions, "10000", 1, 65535,
         "How many sessions there may be in all."),
    ITEM("limits.sessions_per_identity", NUMBER, n_sessions_per_identity, "8", 1, 65535,
         "How many sessions one operator or one device may have."),
    ITEM("limits.streams", NUMBER, n_streams, "64", 1, 1024,
         "How many streams one session may have at a time."),
    ITEM("limits.tickets", NUMBER, n_tickets, "16", 1, 1024,
         "How many unused tickets one session may have; further streams wait for their turn."),
    ITEM("limits.frames", NUMBER, n_frames, "5000", 10, 100000,
         "How many control frames a second are read from one client before it is slowed down."),
    ITEM("limits.descriptors", NUMBER, n_descriptors, "0", 0, 1 << 20,
         "How many file descriptors may be used; 0 is as many as the system allows."),
    {.path = "log.level",
     .env = "GOTTHARD_LOG_LEVEL",
     .flag = "log-level",
     .type = GT_CONFIG_CHOICE,
     .offset = AT(level),
     .fallback = "info",
     .choices = "debug info warn error",
     .help = "How much is logged."},
};

static const char *settings_check_bind(const struct settings *settings, char *ret_why, size_t cap)
{
    struct gt_addr addr;

    if (!strcmp(settings->bind, "*") || !gt_addr_parse(settings->bind, 0, &addr))
        return NULL;
    snprintf(ret_why, cap, "it takes a numeric address of this machine, or * for all");
    return "server.bind";
}

static const char *settings_check_ports(const struct settings *settings, char *ret_why, size_t cap)
{
    if (settings->ports_from > settings->ports_to) {
        snprintf(ret_why, cap, "the range ends (server.ports_to = %llu) before it begins",
                 (unsigned long long)settings->ports_to);
        return "server.ports_from";
    }
    if (settings->port >= settings->ports_from && settings->port <= settings->ports_to) {
        snprintf(ret_why, cap, "the main port (server.port = %llu) must be outside the range",
                 (unsigned long long)settings->port);
        return "server.ports_from";
    }
    return NULL;
}

static const char *settings_check_limits(const struct settings *settings, char *ret_why, size_t cap)
{
    if (settings->dead_ms <= settings->heartbeat_ms) {
        snprintf(ret_why, cap, "it must be longer than limits.heartbeat");
        return "limits.dead_after";
    }
    if (settings->n_preauth_drop_from > settings->n_preauth) {
        snprintf(ret_why, cap, "it must not be above limits.preauth (%llu)",
                 (unsigned long long)settings->n_preauth);
        return "limits.preauth_drop_from";
    }
    if (settings->congestion && strlen(settings->congestion) > 15) {
        snprintf(ret_why, cap, "no congestion control has so long a name");
        return "relay.congestion";
    }
    return NULL;
}

static const char *settings_check(const void *opaque, char *ret_why, size_t cap)
{
    const char *at_fault = settings_check_bind(opaque, ret_why, cap);

    if (!at_fault)
        at_fault = settings_check_ports(opaque, ret_why, cap);
    return at_fault ? at_fault : settings_check_limits(opaque, ret_why, cap);
}

const struct gt_config_program settings_program = {
    .name = "relayd",
    .items = items,
    .n_items = GT_ARRAY_SIZE(items),
    .settings_size = sizeof(struct settings),
    .check = settings_check,
};

void settings_wipe_keys(struct settings_keys *keys)
{
    gt_wipe(keys, sizeof(*keys));
}

static int settings_bad_key(const struct gt_config *config, const char *path, const char *what,
                            char *ret_error)
{
    snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s (%s): %s", path, gt_config_origin(config, path),
             what);
    return GT_CONFIG_E_BAD;
}

/* The relay needs K_rel, which the master and gk1r hold and a device's key does not. */
static int settings_derive(const struct gt_config *config, const char *path, const char *text,
                           struct gt_key *ret_key, char *ret_error)
{
    const struct settings *settings = gt_config_settings(config);
    int r = gt_key_parse(text, settings->iv, ret_key);

    if (r > 0)
        return settings_bad_key(config, path, gt_key_strerror(r), ret_error);
    if (r < 0 || ret_key->kind != GT_KEY_DEVICE)
        return r;
    gt_key_wipe(ret_key);
    return settings_bad_key(
        config, path, "this is a device's key; the relay needs its own (gk1r....)", ret_error);
}

static int settings_derive_keys(const struct gt_config *config, struct settings_keys *ret_keys,
                                char *ret_error)
{
    const struct settings *settings = gt_config_settings(config);

    *ret_keys = (struct settings_keys){.n = SETTINGS_ONE_KEY};
    if (!settings->key)
        return settings_bad_key(config, "crypt.key",
                                "there is none; set GOTTHARD_CRYPT_KEY, its _FILE, or "
                                "crypt.key_file",
                                ret_error);
    int r = settings_derive(config, "crypt.key", settings->key, &ret_keys->current, ret_error);
    if (r || !settings->key_previous)
        return r;
    ret_keys->n = SETTINGS_TWO_KEYS;
    return settings_derive(config, "crypt.key_previous", settings->key_previous,
                           &ret_keys->previous, ret_error);
}

int settings_load(const struct gt_config_args *args, struct gt_config **ret,
                  struct settings_keys *ret_keys, char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config;
    struct settings_keys keys;
    int r = gt_config_load(&settings_program, args, &config, ret_error);

    if (r)
        return r;
    r = settings_derive_keys(config, &keys, ret_error);
    if (r) {
        gt_config_free(config);
    } else {
        *ret = config;
        *ret_keys = keys;
    }
    settings_wipe_keys(&keys);
    return r;
}
