/* SPDX-License-Identifier: ISC */
/*
 * All commands:
 *
 *   listen HOST:PORT[-PORT] HOST[:PORT]   forwards to the same port, or to the range from that port
 *   seed N                                seeds the random generator
 *   new through|hold|refuse               policy for new connections; "through" forwards held ones
 *   handshake on|off                      whether a delay also delays the connect (on)
 *   delay MS   jitter MS                  one way
 *   rate BITS                             per second; 0: no limit
 *   queue BYTES                           in flight at most, when there is a delay
 *   black on|off                          nothing is moved, the sockets stay open
 *   stop on|off                           nothing is read
 *   chunk N                               writes of 1..N bytes; 0: unchanged
 *   idle SECONDS                          black for good after that much silence; 0: never
 *   flip OFFSET[^MASK]|+N[^MASK]|off      one byte, counted from the first byte or from now
 *   cut   reset                           FIN, RST
 *   replay ID                             repeats the first bytes of a connection over a new one
 *   scan HEX                              a pattern to search for; returns its number
 *   status                                JSON
 *
 * The commands from delay to reset end with the options of selection.h.
 */
#include "commands.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/text.h"
#include "listener.h"
#include "replay.h"
#include "selection.h"

#define COMMANDS_WORDS 8

enum { COMMANDS_E_SYNTAX = 1, COMMANDS_E_NOT_FOUND, COMMANDS_E_FULL };

/* --- impairments --- */

typedef int commands_value_fn(const char *text, struct impairments *impairments);

static int commands_decimal(const char *text, double factor, double *ret)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0) || value > 1e15)
        return COMMANDS_E_SYNTAX;
    *ret = value * factor;
    return 0;
}

static int commands_switch(const char *text, bool *ret)
{
    return gt_text_bool(text, ret) ? COMMANDS_E_SYNTAX : 0;
}

static int commands_size(const char *text, size_t *ret)
{
    uint64_t value;

    if (gt_text_number(text, 0, 1u << 30, &value))
        return COMMANDS_E_SYNTAX;
    *ret = (size_t)value;
    return 0;
}

static int commands_delay(const char *text, struct impairments *impairments)
{
    return commands_decimal(text, 1e-3, &impairments->delay);
}

static int commands_jitter(const char *text, struct impairments *impairments)
{
    return commands_decimal(text, 1e-3, &impairments->jitter);
}

static int commands_rate(const char *text, struct impairments *impairments)
{
    return commands_decimal(text, 1.0 / 8, &impairments->rate);
}

static int commands_idle(const char *text, struct impairments *impairments)
{
    return commands_decimal(text, 1, &impairments->idle);
}

static int commands_queue(const char *text, struct impairments *impairments)
{
    return commands_size(text, &impairments->queue);
}

static int commands_chunk(const char *text, struct impairments *impairments)
{
    return commands_size(text, &impairments->chunk);
}

static int commands_black(const char *text, struct impairments *impairments)
{
    return commands_switch(text, &impairments->is_black);
}

static int commands_stop(const char *text, struct impairments *impairments)
{
    return commands_switch(text, &impairments->is_stopped);
}

static int commands_flip(const char *text, struct impairments *impairments)
{
    unsigned long long at;
    unsigned mask = 1;

    impairments->is_flipping = strcmp(text, "off") != 0;
    if (!impairments->is_flipping)
        return 0;
    if (sscanf(text, "%llu^%u", &at, &mask) < 1 || !mask || mask > 255)
        return COMMANDS_E_SYNTAX;
    impairments->flip_at = at;
    impairments->flip_mask = (uint8_t)mask;
    return 0;
}

static void commands_change(const struct selection *selection, commands_value_fn *value,
                            const char *text, struct connection *connection)
{
    for (int direction = 0; direction < PROXY_DIRECTIONS; direction++) {
        struct impairments *impairments =
            connection_impairments(connection, (enum proxy_direction)direction);

        if (!selection->has_direction[direction] || value(text, impairments))
            continue;
        if (value == commands_flip && *text == '+') /* from now */
            impairments->flip_at += connection->flows[direction].n_in;
    }
    connection_update(connection);
}

static int commands_set_impairment(struct proxy *proxy, commands_value_fn *value, char **words)
{
    struct selection selection;
    struct impairments tried = impairments_none;
    size_t n = 0;

    if (!words[0] || value(words[0], &tried) || selection_parse(words + 1, &selection))
        return COMMANDS_E_SYNTAX;
    for (int direction = 0; direction < PROXY_DIRECTIONS; direction++)
        if (selection.is_future && selection.has_direction[direction] &&
            value(words[0], &proxy->impairments[direction]))
            return COMMANDS_E_SYNTAX;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);

        if (!selection_has(&selection, connection))
            continue;
        commands_change(&selection, value, words[0], connection);
        n++;
    }
    printf("ok %zu\n", n);
    return 0;
}

/* --- other commands --- */

static int commands_end(struct proxy *proxy, char **words, void end(struct connection *))
{
    struct selection selection;
    size_t n = 0;

    if (selection_parse(words, &selection))
        return COMMANDS_E_SYNTAX;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);

        if (connection->state == CONNECTION_ENDING || !selection_has(&selection, connection))
            continue;
        end(connection);
        n++;
    }
    printf("ok %zu\n", n);
    return 0;
}

static int commands_cut(struct proxy *proxy, char **words)
{
    return commands_end(proxy, words, connection_cut);
}

static int commands_reset(struct proxy *proxy, char **words)
{
    return commands_end(proxy, words, connection_reset);
}

static int commands_parse_address(char *text, uint16_t default_port, struct gt_addr *ret)
{
    char host[GT_HOST_MAX + 1];
    uint16_t port;

    if (gt_text_host_port(text, default_port, host, &port))
        return COMMANDS_E_SYNTAX;
    return gt_addr_parse(host, port, ret) ? COMMANDS_E_SYNTAX : 0;
}

/* @text loses its "-PORT". */
static int commands_parse_range(char *text, struct gt_addr *ret_from, uint16_t *ret_n)
{
    char *dash = strrchr(text, '-');
    uint64_t last = 0;

    if (dash) {
        *dash = '\0';
        if (gt_text_number(dash + 1, 1, UINT16_MAX, &last))
            return COMMANDS_E_SYNTAX;
    }
    if (commands_parse_address(text, 0, ret_from))
        return COMMANDS_E_SYNTAX;
    if (last && last < gt_addr_port(ret_from))
        return COMMANDS_E_SYNTAX;
    *ret_n = last ? (uint16_t)(last - gt_addr_port(ret_from) + 1) : 1;
    return 0;
}

static int commands_listen(struct proxy *proxy, char **words)
{
    struct gt_addr at, to;
    uint16_t n, port = 0, first = 0;

    if (!words[0] || !words[1] || commands_parse_range(words[0], &at, &n) ||
        commands_parse_address(words[1], gt_addr_port(&at), &to))
        return COMMANDS_E_SYNTAX;
    for (uint16_t i = 0; i < n; i++) {
        int r = listener_open(proxy, &at, &to, &port);

        if (r)
            return r;
        first = first ? first : port;
        gt_addr_set_port(&at, (uint16_t)(gt_addr_port(&at) + 1));
        gt_addr_set_port(&to, (uint16_t)(gt_addr_port(&to) + 1));
    }
    printf("ok %u\n", first);
    return 0;
}

static int commands_seed(struct proxy *proxy, char **words)
{
    uint64_t seed;

    if (!words[0] || gt_text_number(words[0], 0, UINT64_MAX, &seed))
        return COMMANDS_E_SYNTAX;
    impairments_seed(seed);
    printf("ok\n");
    return 0;
}

static int commands_new(struct proxy *proxy, char **words)
{
    static const char *const names[] = {
        [PROXY_THROUGH] = "through", [PROXY_HOLD] = "hold", [PROXY_REFUSE] = "refuse"};
    unsigned i = 0;

    while (words[0] && i < GT_ARRAY_SIZE(names) && strcmp(words[0], names[i]) != 0)
        i++;
    if (!words[0] || i == GT_ARRAY_SIZE(names))
        return COMMANDS_E_SYNTAX;
    proxy->policy = (enum proxy_policy)i;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);

        if (proxy->policy == PROXY_THROUGH)
            connection_forward(connection);
        else if (proxy->policy == PROXY_REFUSE && connection->state == CONNECTION_HELD)
            connection_reset(connection);
    }
    printf("ok\n");
    return 0;
}

static int commands_handshake(struct proxy *proxy, char **words)
{
    if (!words[0] || commands_switch(words[0], &proxy->is_handshaking))
        return COMMANDS_E_SYNTAX;
    printf("ok\n");
    return 0;
}

static int commands_replay(struct proxy *proxy, char **words)
{
    uint64_t id;

    if (!words[0] || gt_text_number(words[0], 1, UINT32_MAX, &id))
        return COMMANDS_E_SYNTAX;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);

        if (connection->id != id)
            continue;
        int r = replay_new(connection);
        if (!r)
            printf("ok %zu\n", connection->n_flight);
        return r;
    }
    return COMMANDS_E_NOT_FOUND;
}

static int commands_scan(struct proxy *proxy, char **words)
{
    uint8_t pattern[CANARY_BYTES];
    size_t number, n = words[0] ? strlen(words[0]) / 2 : 0;

    if (n == 0 || n > sizeof(pattern) || gt_text_unhex(words[0], pattern, n))
        return COMMANDS_E_SYNTAX;
    if (canary_add(pattern, n, &number))
        return COMMANDS_E_FULL;
    printf("ok %zu\n", number);
    return 0;
}

/* --- status --- */

static void commands_print_connection(struct proxy *proxy, struct connection *connection)
{
    const struct flow *up = &connection->flows[PROXY_UP], *down = &connection->flows[PROXY_DOWN];

    printf("{\"id\":%u,\"port\":%u,\"state\":\"%s\",\"age\":%.3f,\"up\":%ju,\"down\":%ju,"
           "\"queued\":%zu,\"flipped\":%ju,\"forgotten\":%s}",
           connection->id, connection->port, connection_state_name(connection->state),
           impairments_clock() - connection->created_at, (uintmax_t)up->n_out,
           (uintmax_t)down->n_out, up->n_queued + down->n_queued,
           (uintmax_t)(up->n_flipped + down->n_flipped), up->is_forgotten ? "true" : "false");
}

static void commands_print_list(const char *name, struct proxy *proxy, struct gt_list *list,
                                void print(struct proxy *, struct gt_list *))
{
    printf(",\"%s\":[", name);
    gt_list_for_each_safe (at, next, list) {
        print(proxy, at);
        printf("%s", next == list ? "" : ",");
    }
    printf("]");
}

static void commands_print_as_connection(struct proxy *proxy, struct gt_list *at)
{
    commands_print_connection(proxy, gt_list_entry(at, struct connection, element));
}

static void commands_print_as_replay(struct proxy *proxy, struct gt_list *at)
{
    const struct replay *replay = gt_list_entry(at, struct replay, element);

    printf("{\"state\":\"%s\",\"sent\":%zu,\"got\":%zu}", replay_state_name(replay->state),
           replay->n, replay->n_got);
}

static int commands_status(struct proxy *proxy, char **words)
{
    uint64_t n[PROXY_DIRECTIONS] = {proxy->n_bytes[PROXY_UP], proxy->n_bytes[PROXY_DOWN]};

    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);

        for (int direction = 0; direction < PROXY_DIRECTIONS; direction++)
            n[direction] += connection_n_bytes(connection, (enum proxy_direction)direction);
    }
    printf("ok {\"accepted\":%ju,\"up\":%ju,\"down\":%ju,\"seen\":[", (uintmax_t)proxy->n_accepted,
           (uintmax_t)n[PROXY_UP], (uintmax_t)n[PROXY_DOWN]);
    for (size_t i = 0; i < canary_n(); i++)
        printf("%s%ju", i ? "," : "", (uintmax_t)canary_n_seen(i));
    printf("]");
    commands_print_list("connections", proxy, &proxy->connections, commands_print_as_connection);
    commands_print_list("replays", proxy, &proxy->replays, commands_print_as_replay);
    printf("}\n");
    return 0;
}

/* --- the table --- */

static const struct {
    const char *name;
    commands_value_fn *value; /* sets an impairment */
    int (*take)(struct proxy *proxy, char **words);
} commands[] = {
    {"delay", commands_delay, NULL}, {"jitter", commands_jitter, NULL},
    {"rate", commands_rate, NULL},   {"queue", commands_queue, NULL},
    {"black", commands_black, NULL}, {"stop", commands_stop, NULL},
    {"chunk", commands_chunk, NULL}, {"idle", commands_idle, NULL},
    {"flip", commands_flip, NULL},   {"listen", NULL, commands_listen},
    {"seed", NULL, commands_seed},   {"new", NULL, commands_new},
    {"cut", NULL, commands_cut},     {"handshake", NULL, commands_handshake},
    {"reset", NULL, commands_reset}, {"replay", NULL, commands_replay},
    {"scan", NULL, commands_scan},   {"status", NULL, commands_status},
};

static int commands_find(struct proxy *proxy, char **words)
{
    for (size_t i = 0; words[0] && i < GT_ARRAY_SIZE(commands); i++) {
        if (strcmp(words[0], commands[i].name) != 0)
            continue;
        return commands[i].value ? commands_set_impairment(proxy, commands[i].value, words + 1)
                                 : commands[i].take(proxy, words + 1);
    }
    return COMMANDS_E_SYNTAX;
}

void commands_execute(struct proxy *proxy, char *line)
{
    char *words[COMMANDS_WORDS + 1] = {NULL}, *at = NULL;
    int n = 0, r;

    for (char *word = strtok_r(line, " \n", &at); word && n < COMMANDS_WORDS;
         word = strtok_r(NULL, " \n", &at))
        words[n++] = word;
    r = commands_find(proxy, words);
    if (r < 0)
        printf("error %s\n", strerror(-r));
    else if (r > 0)
        printf("error %s\n", r == COMMANDS_E_NOT_FOUND ? "no such connection"
                             : r == COMMANDS_E_FULL    ? "too many patterns"
                                                       : "syntax error");
    fflush(stdout);
}
