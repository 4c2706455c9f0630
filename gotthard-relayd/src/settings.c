/* SPDX-License-Identifier: ISC */
/*
 * The table of the relay's settings, with the defaults of docs/protocol.md, section 3, the checks
 * that involve several values, and the keys. `tests/generate` writes etc/relayd.conf and the
 * settings of gotthard-relayd.conf(5) from the table.
 */
#include "settings.h"

#include <stdio.h>

#include "gotthard/config/config-mention.h"
#include "gotthard/net/sock.h"
#include "gotthard/state/audit-log.h"

#define SECOND 1000ull
#define HOUR   (3600 * SECOND)

#define REFUSED_MAX                                                               \
    (1u << 20) /* bytes of the file: more than 7,900 names of the greatest length \
                */

#define ITEM(...) GT_CONFIG_ITEM(struct settings, __VA_ARGS__)

static const struct gt_config_item items[] = {
    ITEM("server.bind", STRING, bind, .flag = "bind", .fallback = "*",
         .help = "Numeric address to listen on; * is every IPv6 and IPv4 address.",
         .details = "Set it on a machine with several addresses if only one of them may be used."),
    ITEM(
        "server.port", NUMBER, port, .flag = "server-port", .fallback = "7000", .min = 1,
        .max = 65535, .help = "Main port, for all control connections.",
        .details =
            "Data connections use it as well where a network blocks the range of ports. Set 443 for networks that allow only HTTPS."),
    ITEM("server.ports_from", NUMBER, ports_from, .flag = "server-ports-from", .fallback = "7001",
         .min = 1, .max = 65535, .help = "First port of the range for sessions.",
         .details = "Each session gets a port of its own from this range. It limits the number of "
                    "sessions: 7001 to 7999 allow 999."),
    ITEM("server.ports_to", NUMBER, ports_to, .flag = "server-ports-to", .fallback = "7999",
         .min = 1, .max = 65535, .help = "Last port of the range for sessions."),
    ITEM("server.port_cooldown", DURATION, port_cooldown_ms, .fallback = "5s", .max = HOUR,
         .help = "Time that a port stays unused after its session ends.",
         .details = "The port is reused earlier only if no other port is free."),

    ITEM("crypt.key", SECRET, key, .help = "Key of the relay, or the fleet key.",
         .details =
             "`gotthard-cli keygen relay` derives the relay's key, a string that begins with "
             "gk1r. Prefer it: the fleet key can do more than a relay needs."),
    ITEM("crypt.key_previous", SECRET, key_previous,
         .help = "Key before a rotation, still accepted.",
         .details = "Set it while some clients have the new key and others the old one."),
    ITEM("crypt.iv", SECRET, iv, .help = "Salt of the fleet.",
         .details = "It belongs to the fleet key; a key that begins with gk1r does not need it."),

    ITEM("relay.threads", NUMBER, n_threads, .fallback = "0", .max = 64,
         .help = "Number of data threads; 0 is one per processor, at most 8."),
    ITEM("relay.splice", CHOICE, splice, .fallback = "auto", .choices = "auto off",
         .help = "Whether payload stays in the kernel (auto) or is copied (off).",
         .details = "auto moves payload through kernel pipes with splice(2). Set off only if the "
                    "kernel's splice(2) is faulty."),
    ITEM("relay.pipe_size", SIZE, pipe_size, .fallback = "1MiB", .min = 65536, .max = 1 << 20,
         .help = "Size of a kernel pipe, as far as the kernel permits.",
         .details = "Pipes are smaller while many are in use."),
    ITEM("relay.congestion", STRING, congestion,
         .fallback_help = "the congestion control of the system",
         .help = "TCP congestion control of data connections, such as bbr.",
         .details = "bbr is often faster over lossy long-distance routes."),
    ITEM("relay.drain", DURATION, drain_ms, .fallback = "0s", .max = 9 * SECOND,
         .help = "Maximum time to wait for open streams before the relay exits.",
         .details = "Streams resume through the relay that is started next, and no tunnel can be "
                    "opened during the wait. Set it only if the relay will be away for long."),

    ITEM("relay.refused", PATH, refused, .help = "File of identities that the relay refuses.",
         .details = "One a line: o:NAME for an operator, d:NAME for a device. A reload also ends "
                    "their connections and sessions."),

    ITEM("relay.access_list", PATH, access_list,
         .help = "Directory in which the relay keeps the access list.",
         .details = "It must belong to the relay's user. Without it a restarted relay has no list "
                    "until a client sends it. The service may write to "
                    "/var/lib/gotthard-relayd."),

    ITEM("trust.authority", STRING, authority, .help = "Public key that signs the access list.",
         .details = "A string that begins with gk1a, as in the agents' trust.authority. Any client "
                    "may send the list. The relay refuses the operators and devices that it "
                    "revokes, and ends their connections and sessions at once."),

    ITEM("timeouts.handshake", DURATION, handshake_ms, .fallback = "10s", .min = 100, .max = HOUR,
         .help = "Maximum time for a TLS handshake on the main port.",
         .details = "It begins when the connection is accepted."),
    ITEM("timeouts.hello", DURATION, hello_ms, .fallback = "5s", .min = 100, .max = HOUR,
         .help = "Maximum time for the first frame of a control connection."),
    ITEM("timeouts.join", DURATION, join_ms, .fallback = "5s", .min = 100, .max = HOUR,
         .help = "Maximum time for the JOIN of a data connection.",
         .details = "JOIN is the first 64 bytes."),
    ITEM("timeouts.join_peer", DURATION, join_peer_ms, .fallback = "10s", .min = 100, .max = HOUR,
         .help = "Maximum time for the second data connection of a pair."),
    ITEM("timeouts.heartbeat_interval", DURATION, heartbeat_ms, .fallback = "15s", .min = 100,
         .max = HOUR, .help = "Interval at which clients send heartbeats.",
         .details = "The relay sends it to each client. If a client is silent for a third to two "
                    "thirds longer, the relay probes it. Set a longer interval where each byte is "
                    "paid for."),
    ITEM("timeouts.heartbeat", DURATION, dead_ms, .fallback = "45s", .min = 200, .max = HOUR,
         .help = "Silence after which a client counts as lost.",
         .details = "It must be longer than timeouts.heartbeat_interval."),
    ITEM("timeouts.pairing", DURATION, pairing_ms, .fallback = "30s", .min = 100, .max = HOUR,
         .help = "Maximum time that one side of a session waits for the other.",
         .details = "It is also the maximum time of a client without a session."),
    ITEM("timeouts.session_grace", DURATION, grace_ms, .fallback = "120s", .max = HOUR,
         .help = "Maximum time that a session waits for a lost side to reconnect."),
    ITEM("timeouts.idle", DURATION, idle_ms, .fallback = "0s", .max = 168 * HOUR,
         .help = "Maximum time of a session without a connection; 0 is no limit.",
         .details = "Without a limit a command that an operator runs keeps its tunnel. With one, "
                    "both sides report that this setting ended it."),
    ITEM("timeouts.lifetime", DURATION, lifetime_ms, .fallback = "12h", .min = 1 * SECOND,
         .max = 168 * HOUR, .help = "Maximum duration of a session.",
         .details = "The operator's and the device's timeouts.lifetime may shorten it."),
    ITEM("timeouts.half_closed", DURATION, half_closed_ms, .fallback = "120s", .min = 1 * SECOND,
         .max = HOUR, .help = "Maximum idle time of a half-closed data connection."),
    ITEM("timeouts.ticket", DURATION, ticket_ms, .fallback = "30s", .min = 1 * SECOND,
         .max = 300 * SECOND, .help = "Validity of the ticket for a data connection."),

    ITEM("limits.preauth", NUMBER, n_preauth, .fallback = "1024", .min = 1, .max = 4096,
         .help = "Maximum number of connections that wait for their first bytes.",
         .details =
             "Beyond it, the one that has waited longest is closed. A connection whose first "
             "bytes prove a key never waits."),
    ITEM("limits.per_source", NUMBER, n_per_source, .fallback = "512", .min = 1, .max = 4096,
         .help = "Maximum number of them from one source.",
         .details = "A source is an IPv4 address or an IPv6 /64. Beyond it, the connection of this "
                    "source that has waited longest is closed."),
    ITEM("limits.sessions", NUMBER, n_sessions, .fallback = "999", .min = 1, .max = 65535,
         .help = "Maximum number of sessions.",
         .details = "The range of ports is a limit as well: the default suits the default range. "
                    "The relay warns at its start if the range is smaller."),
    ITEM("limits.sessions_per_identity", NUMBER, n_sessions_per_identity, .fallback = "64",
         .min = 1, .max = 65535, .help = "Maximum number of sessions of one operator or device.",
         .details = "Raise it if one operator opens tunnels to many devices at once."),
    ITEM("limits.streams", NUMBER, n_streams, .fallback = "64", .min = 1, .max = 1024,
         .help = "Maximum number of data connections in one session.",
         .details = "The shared one, which every session has, does not count. A stream that "
                    "transfers much has a connection of its own; beyond the limit it stays in the "
                    "shared one. The agents' limits.streams limits the number of streams."),
    ITEM("limits.tickets", NUMBER, n_tickets, .fallback = "16", .min = 1, .max = 1024,
         .help = "Maximum number of unused tickets of one session.",
         .details = "Further streams wait in a queue."),
    ITEM("limits.frames", NUMBER, n_frames, .fallback = "5000", .min = 10, .max = 100000,
         .help = "Maximum number of control frames a second from one client.",
         .details = "A client that sends more is slowed down."),
    ITEM("limits.descriptors", NUMBER, n_descriptors, .fallback = "0", .max = 1 << 20,
         .help = "Maximum number of file descriptors; 0 is the system's limit."),

    ITEM(
        "audit.size", SIZE, audit_size, .fallback = "1MiB", .min = GT_AUDIT_LOG_SIZE_MIN,
        .max = GT_AUDIT_LOG_SIZE_MAX, .help = "Maximum size of a file of the audit.",
        .details =
            "The relay records its clients and sessions in the file audit.log of its state directory. Each line has the hash of the line before. See FILES in gotthard-relayd(8)."),
    ITEM("audit.files", NUMBER, n_audit_files, .fallback = "4", .max = GT_AUDIT_LOG_FILES_MAX,
         .help = "Maximum number of files of the audit; 0 is no audit.",
         .details = "The audit takes at most so many times audit.size. When a file is full, the "
                    "oldest one is removed. Without a state directory there is no audit."),

    ITEM("log.level", CHOICE, level, .flag = "log-level", .fallback = "info",
         .choices = "debug info warn error", .help = "Least severe level that is logged."),
};

static const struct gt_config_group groups[] = {
    {"server", "Addresses and ports."},
    {"crypt", "Keys."},
    {"relay", "The data path, and who may use it."},
    {"trust", "Whose access list revokes identities."},
    {"timeouts", "Durations."},
    {"limits", "Amounts."},
    {"audit", "The record of events in the state directory."},
    {"log", "Logging to standard error."},
};

static const char *settings_check_bind(const struct settings *settings, char *ret_why, size_t cap)
{
    struct gt_addr addr;

    if (strcmp(settings->bind, "*") == 0 || gt_addr_parse(settings->bind, 0, &addr) == 0)
        return NULL;
    snprintf(ret_why, cap, "\"%.64s\": expected a numeric address of this machine, or * for all",
             settings->bind);
    return "server.bind";
}

static const char *settings_check_ports(const struct settings *settings, char *ret_why, size_t cap)
{
    if (settings->ports_from > settings->ports_to) {
        snprintf(ret_why, cap, "%llu: must not be above server.ports_to (%llu)",
                 (unsigned long long)settings->ports_from, (unsigned long long)settings->ports_to);
        return "server.ports_from";
    }
    if (settings->port >= settings->ports_from && settings->port <= settings->ports_to) {
        snprintf(ret_why, cap,
                 "the range %llu to %llu must not contain the main port (server.port = %llu)",
                 (unsigned long long)settings->ports_from, (unsigned long long)settings->ports_to,
                 (unsigned long long)settings->port);
        return "server.ports_from";
    }
    return NULL;
}

static bool is_congestion(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

    return n == strlen(text) && n <= 15;
}

static const char *settings_check_limits(const struct settings *settings, char *ret_why, size_t cap)
{
    if (settings->dead_ms <= settings->heartbeat_ms) {
        snprintf(ret_why, cap, "%llu ms: must be longer than timeouts.heartbeat_interval (%llu ms)",
                 (unsigned long long)settings->dead_ms, (unsigned long long)settings->heartbeat_ms);
        return "timeouts.heartbeat";
    }
    if (settings->congestion && !is_congestion(settings->congestion)) {
        snprintf(ret_why, cap, "\"%.64s\": expected a name of at most 15 letters, digits, _ and -",
                 settings->congestion);
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

const struct gt_config_program *settings_program(void)
{
    static const struct gt_config_program program = {
        .name = "relayd",
        .items = items,
        .n_items = GT_ARRAY_SIZE(items),
        .settings_size = sizeof(struct settings),
        .check = settings_check,
        .groups = groups,
        .n_groups = GT_ARRAY_SIZE(groups),
        .manual = "gotthard-relayd(8)",
        .usage =
            "`gotthard-relayd --check-config` prints each value with its origin. `systemctl "
            "reload gotthard-relayd` applies a changed configuration, or rejects it as a whole "
            "if it contains an error.",
    };

    return &program;
}

static int settings_bad_value(const struct gt_config *config, const char *path, const char *what,
                              char *ret_error)
{
    char complete[GT_CONFIG_ERROR_MAX - 100];

    snprintf(ret_error, GT_CONFIG_ERROR_MAX, "%s: %s: %s", gt_config_origin(config, path), path,
             gt_config_mention_all(config, what, complete, sizeof(complete)));
    return gt_config_fault(config, path);
}

/* Parses a key. The relay needs K_rel, which the fleet key and a gk1r key contain. The keys of
 * devices and operators do not. */
static int settings_derive(const struct gt_config *config, const char *path, const char *text,
                           struct admission *admission, char *ret_error)
{
    const struct settings *settings = gt_config_settings(config);
    struct gt_key key;
    int r = gt_key_parse(text, settings->iv, &key);

    if (r > 0)
        return settings_bad_value(config, gt_key_is_of_iv(r) ? "crypt.iv" : path,
                                  gt_key_strerror(r), ret_error);
    if (r < 0)
        return r;
    if (key.kind == GT_KEY_DEVICE)
        r = settings_bad_value(config, path,
                               "this is a device's key, expected the relay's (gk1r...)", ret_error);
    else if (key.kind == GT_KEY_OPERATOR)
        r = settings_bad_value(
            config, path, "this is an operator's key, expected the relay's (gk1r...)", ret_error);
    else
        r = admission_add_key(admission, &key);
    gt_key_wipe(&key);
    return r;
}

static int settings_derive_keys(const struct gt_config *config, struct admission *admission,
                                char *ret_error)
{
    const struct settings *settings = gt_config_settings(config);

    if (!settings->key)
        return settings_bad_value(config, "crypt.key", "missing; set {+crypt.key}", ret_error);
    int r = settings_derive(config, "crypt.key", settings->key, admission, ret_error);
    if (r != 0 || !settings->key_previous)
        return r;
    return settings_derive(config, "crypt.key_previous", settings->key_previous, admission,
                           ret_error);
}

/* E_FILE: the file may be half written. */
static int settings_load_refused(const struct gt_config *config, struct admission *admission,
                                 char *ret_error)
{
    const struct settings *settings = gt_config_settings(config);
    const char *why;
    char *text, where[GT_CONFIG_ERROR_MAX - 128];
    size_t n, line;

    if (!settings->refused)
        return 0;
    int r = gt_config_read_file(settings->refused, REFUSED_MAX, false, &text, &n, &why);
    if (r > 0)
        snprintf(where, sizeof(where), "%s: %s", settings->refused, why);
    if (r == 0) {
        r = refused_parse(text, &admission->refused, &line, &why);
        if (r > 0)
            snprintf(where, sizeof(where), "%s:%zu: %s", settings->refused, line, why);
    }
    if (r > 0)
        (void)settings_bad_value(config, "relay.refused", where, ret_error);
    return r > 0 ? GT_CONFIG_E_FILE : r;
}

static int settings_load_authority(const struct gt_config *config, struct admission *admission,
                                   char *ret_error)
{
    const struct settings *settings = gt_config_settings(config);
    const char *why;

    if (!settings->authority)
        return 0;
    if (gt_authority_parse_public(settings->authority, admission->authority, &why) != 0)
        return settings_bad_value(config, "trust.authority", why, ret_error);
    admission->has_authority = true;
    return 0;
}

int settings_load(const struct gt_config_args *args, struct gt_config **ret,
                  struct admission *ret_admission, char ret_error[static GT_CONFIG_ERROR_MAX])
{
    struct gt_config *config;
    struct admission admission = {0};
    int r = gt_config_load(settings_program(), args, &config, ret_error);

    if (r != 0)
        return r;
    r = settings_derive_keys(config, &admission, ret_error);
    if (r == 0)
        r = settings_load_refused(config, &admission, ret_error);
    if (r == 0)
        r = settings_load_authority(config, &admission, ret_error);
    if (r == 0) {
        *ret = config;
        admission_move(&admission, ret_admission);
    } else {
        gt_config_free(config);
        admission_deinit(&admission);
    }
    return r;
}
