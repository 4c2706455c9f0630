/* SPDX-License-Identifier: ISC */
/*
 * Every order:
 *
 *   listen HOST:PORT[-PORT] HOST[:PORT]   to the same port, or the range beginning there
 *   seed N                                of the dice
 *   new through|hold|refuse               what becomes of those who come; "through" lets the held
 * go handshake on|off                      whether a delay counts for the connect, too (on) delay
 * MS  jitter MS                   one way rate BITS                             a second; 0: no
 * limit queue BYTES                           in flight at most, when there is a delay black on|off
 * nothing moves, the sockets stay stop on|off                           nothing is read chunk N
 * writes of 1..N bytes (1: a dribble); 0: as they come idle SECONDS                          black
 * for good after that much silence; 0: never flip OFFSET[^MASK] | +N[^MASK] | off  one byte of the
 * way, counted from its first or from now cut  reset                            FIN, RST replay ID
 * what this one said first, in a new connection scan HEX                              a pattern to
 * look for; answers its number status                                JSON
 *
 * Those from delay to reset end with the words of selection.h.
 */
#include "orders.h"

#include <stdio.h>
#include <string.h>

#include "door.h"
#include "gotthard/text.h"
#include "replay.h"
#include "selection.h"

#define ORDERS_WORDS 8

enum { ORDERS_E_SYNTAX = 1, ORDERS_E_NOBODY, ORDERS_E_FULL };

/* --- weather --- */

typedef int orders_value_fn(const char *text, struct weather *weather);

static int orders_decimal(const char *text, double factor, double *ret)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0) || value > 1e15)
        return ORDERS_E_SYNTAX;
    *ret = value * factor;
    return 0;
}

static int orders_switch(const char *text, bool *ret)
{
    return gt_text_bool(text, ret) ? ORDERS_E_SYNTAX : 0;
}

static int orders_size(const char *text, size_t *ret)
{
    uint64_t value;

    if (gt_text_number(text, 0, 1u << 30, &value))
        return ORDERS_E_SYNTAX;
    *ret = value;
    return 0;
}

static int orders_delay(const char *text, struct weather *weather)
{
    return orders_decimal(text, 1e-3, &weather->delay);
}

static int orders_jitter(const char *text, struct weather *weather)
{
    return orders_decimal(text, 1e-3, &weather->jitter);
}

static int orders_rate(const char *text, struct weather *weather)
{
    return orders_decimal(text, 1.0 / 8, &weather->rate);
}

static int orders_idle(const char *text, struct weather *weather)
{
    return orders_decimal(text, 1, &weather->idle);
}

static int orders_queue(const char *text, struct weather *weather)
{
    return orders_size(text, &weather->queue);
}

static int orders_chunk(const char *text, struct weather *weather)
{
    return orders_size(text, &weather->chunk);
}

static int orders_black(const char *text, struct weather *weather)
{
    return orders_switch(text, &weather->is_black);
}

static int orders_stop(const char *text, struct weather *weather)
{
    return orders_switch(text, &weather->is_stopped);
}

static int orders_flip(const char *text, struct weather *weather)
{
    unsigned long long at;
    unsigned mask = 1;

    weather->is_flipping = strcmp(text, "off") != 0;
    if (!weather->is_flipping)
        return 0;
    if (sscanf(text, "%llu^%u", &at, &mask) < 1 || !mask || mask > 255)
        return ORDERS_E_SYNTAX;
    weather->flip_at = at;
    weather->flip_mask = (uint8_t)mask;
    return 0;
}

static void orders_change(const struct selection *selection, orders_value_fn *value,
                          const char *text, struct connection *connection)
{
    for (int way = 0; way < PROXY_WAYS; way++) {
        struct weather *weather = connection_weather(connection, (enum proxy_way)way);
        if (!selection->has_way[way] || value(text, weather))
            continue;
        if (value == orders_flip && *text == '+') /* from now */
            weather->flip_at += connection->flows[way].n_in;
    }
    connection_update(connection);
}

static int orders_weather(struct proxy *proxy, orders_value_fn *value, char **words)
{
    struct selection selection;
    struct weather tried = weather_fair;
    size_t n = 0;

    if (!words[0] || value(words[0], &tried) || selection_parse(words + 1, &selection))
        return ORDERS_E_SYNTAX;
    for (int way = 0; way < PROXY_WAYS; way++)
        if (selection.is_future && selection.has_way[way] && value(words[0], &proxy->weather[way]))
            return ORDERS_E_SYNTAX;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);
        if (!selection_has(&selection, connection))
            continue;
        orders_change(&selection, value, words[0], connection);
        n++;
    }
    printf("ok %zu\n", n);
    return 0;
}

/* --- the others --- */

static int orders_end(struct proxy *proxy, char **words, void end(struct connection *))
{
    struct selection selection;
    size_t n = 0;

    if (selection_parse(words, &selection))
        return ORDERS_E_SYNTAX;
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

static int orders_cut(struct proxy *proxy, char **words)
{
    return orders_end(proxy, words, connection_cut);
}

static int orders_reset(struct proxy *proxy, char **words)
{
    return orders_end(proxy, words, connection_reset);
}

static int orders_parse_address(char *text, uint16_t default_port, struct gt_addr *ret)
{
    char host[GT_HOST_MAX + 1];
    uint16_t port;

    if (gt_text_host_port(text, default_port, host, &port))
        return ORDERS_E_SYNTAX;
    return gt_addr_parse(host, port, ret) ? ORDERS_E_SYNTAX : 0;
}

/* @text loses its "-PORT". */
static int orders_parse_range(char *text, struct gt_addr *ret_from, uint16_t *ret_n)
{
    char *dash = strrchr(text, '-');
    uint64_t last = 0;

    if (dash) {
        *dash = '\0';
        if (gt_text_number(dash + 1, 1, UINT16_MAX, &last))
            return ORDERS_E_SYNTAX;
    }
    if (orders_parse_address(text, 0, ret_from))
        return ORDERS_E_SYNTAX;
    if (last && last < gt_addr_port(ret_from))
        return ORDERS_E_SYNTAX;
    *ret_n = last ? (uint16_t)(last - gt_addr_port(ret_from) + 1) : 1;
    return 0;
}

static int orders_listen(struct proxy *proxy, char **words)
{
    struct gt_addr at, to;
    uint16_t n, port = 0, first = 0;

    if (!words[0] || !words[1] || orders_parse_range(words[0], &at, &n) ||
        orders_parse_address(words[1], gt_addr_port(&at), &to))
        return ORDERS_E_SYNTAX;
    for (uint16_t i = 0; i < n; i++) {
        int r = door_open(proxy, &at, &to, &port);
        if (r)
            return r;
        first = first ? first : port;
        gt_addr_set_port(&at, (uint16_t)(gt_addr_port(&at) + 1));
        gt_addr_set_port(&to, (uint16_t)(gt_addr_port(&to) + 1));
    }
    printf("ok %u\n", first);
    return 0;
}

static int orders_seed(struct proxy *proxy, char **words)
{
    uint64_t seed;

    if (!words[0] || gt_text_number(words[0], 0, UINT64_MAX, &seed))
        return ORDERS_E_SYNTAX;
    weather_seed(seed);
    printf("ok\n");
    return 0;
}

static int orders_new(struct proxy *proxy, char **words)
{
    static const char *const names[] = {
        [PROXY_THROUGH] = "through", [PROXY_HOLD] = "hold", [PROXY_REFUSE] = "refuse"};
    unsigned i = 0;

    while (words[0] && i < GT_ARRAY_SIZE(names) && strcmp(words[0], names[i]))
        i++;
    if (!words[0] || i == GT_ARRAY_SIZE(names))
        return ORDERS_E_SYNTAX;
    proxy->welcome = (enum proxy_welcome)i;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);
        if (proxy->welcome == PROXY_THROUGH)
            connection_let_through(connection);
        else if (proxy->welcome == PROXY_REFUSE && connection->state == CONNECTION_HELD)
            connection_reset(connection);
    }
    printf("ok\n");
    return 0;
}

static int orders_handshake(struct proxy *proxy, char **words)
{
    if (!words[0] || orders_switch(words[0], &proxy->is_handshaking))
        return ORDERS_E_SYNTAX;
    printf("ok\n");
    return 0;
}

static int orders_replay(struct proxy *proxy, char **words)
{
    uint64_t id;

    if (!words[0] || gt_text_number(words[0], 1, UINT32_MAX, &id))
        return ORDERS_E_SYNTAX;
    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);
        if (connection->id != id)
            continue;
        int r = replay_new(connection);
        if (!r)
            printf("ok %zu\n", connection->n_flight);
        return r;
    }
    return ORDERS_E_NOBODY;
}

static int orders_scan(struct proxy *proxy, char **words)
{
    uint8_t pattern[CANARY_BYTES];
    size_t number, n = words[0] ? strlen(words[0]) / 2 : 0;

    if (n == 0 || n > sizeof(pattern) || gt_text_unhex(words[0], pattern, n))
        return ORDERS_E_SYNTAX;
    if (canary_add(pattern, n, &number))
        return ORDERS_E_FULL;
    printf("ok %zu\n", number);
    return 0;
}

/* --- status --- */

static void orders_print_connection(struct proxy *proxy, struct connection *connection)
{
    const struct flow *up = &connection->flows[PROXY_UP], *down = &connection->flows[PROXY_DOWN];

    printf("{\"id\":%u,\"port\":%u,\"state\":\"%s\",\"age\":%.3f,\"up\":%ju,\"down\":%ju,"
           "\"queued\":%zu,\"flipped\":%ju,\"forgotten\":%s}",
           connection->id, connection->port, connection_state_name(connection->state),
           weather_clock() - connection->born_at, (uintmax_t)up->n_out, (uintmax_t)down->n_out,
           up->n_queued + down->n_queued, (uintmax_t)(up->n_flipped + down->n_flipped),
           up->is_forgotten ? "true" : "false");
}

static void orders_print_list(const char *name, struct proxy *proxy, struct gt_list *list,
                              void print(struct proxy *, struct gt_list *))
{
    printf(",\"%s\":[", name);
    gt_list_for_each_safe (at, next, list) {
        print(proxy, at);
        printf("%s", next == list ? "" : ",");
    }
    printf("]");
}

static void orders_print_as_connection(struct proxy *proxy, struct gt_list *at)
{
    orders_print_connection(proxy, gt_list_entry(at, struct connection, element));
}

static void orders_print_as_replay(struct proxy *proxy, struct gt_list *at)
{
    const struct replay *replay = gt_list_entry(at, struct replay, element);

    printf("{\"state\":\"%s\",\"sent\":%zu,\"got\":%zu}", replay_state_name(replay->state),
           replay->n, replay->n_got);
}

static int orders_status(struct proxy *proxy, char **words)
{
    uint64_t n[PROXY_WAYS] = {proxy->n_bytes[PROXY_UP], proxy->n_bytes[PROXY_DOWN]};

    gt_list_for_each_safe (at, next, &proxy->connections) {
        struct connection *connection = gt_list_entry(at, struct connection, element);
        for (int way = 0; way < PROXY_WAYS; way++)
            n[way] += connection_n_bytes(connection, (enum proxy_way)way);
    }
    printf("ok {\"accepted\":%ju,\"up\":%ju,\"down\":%ju,\"seen\":[", (uintmax_t)proxy->n_accepted,
           (uintmax_t)n[PROXY_UP], (uintmax_t)n[PROXY_DOWN]);
    for (size_t i = 0; i < canary_n(); i++)
        printf("%s%ju", i ? "," : "", (uintmax_t)canary_n_seen(i));
    printf("]");
    orders_print_list("connections", proxy, &proxy->connections, orders_print_as_connection);
    orders_print_list("replays", proxy, &proxy->replays, orders_print_as_replay);
    printf("}\n");
    return 0;
}

/* --- the table --- */

static const struct {
    const char *name;
    orders_value_fn *value; /* an order about the weather */
    int (*take)(struct proxy *proxy, char **words);
} orders[] = {
    {"delay", orders_delay, NULL}, {"jitter", orders_jitter, NULL},
    {"rate", orders_rate, NULL},   {"queue", orders_queue, NULL},
    {"black", orders_black, NULL}, {"stop", orders_stop, NULL},
    {"chunk", orders_chunk, NULL}, {"idle", orders_idle, NULL},
    {"flip", orders_flip, NULL},   {"listen", NULL, orders_listen},
    {"seed", NULL, orders_seed},   {"new", NULL, orders_new},
    {"cut", NULL, orders_cut},     {"handshake", NULL, orders_handshake},
    {"reset", NULL, orders_reset}, {"replay", NULL, orders_replay},
    {"scan", NULL, orders_scan},   {"status", NULL, orders_status},
};

static int orders_find(struct proxy *proxy, char **words)
{
    for (size_t i = 0; words[0] && i < GT_ARRAY_SIZE(orders); i++) {
        if (strcmp(words[0], orders[i].name))
            continue;
        return orders[i].value ? orders_weather(proxy, orders[i].value, words + 1)
                               : orders[i].take(proxy, words + 1);
    }
    return ORDERS_E_SYNTAX;
}

void orders_take(struct proxy *proxy, char *line)
{
    char *words[ORDERS_WORDS + 1] = {NULL}, *at = NULL;
    int n = 0, r;

    for (char *word = strtok_r(line, " \n", &at); word && n < ORDERS_WORDS;
         word = strtok_r(NULL, " \n", &at))
        words[n++] = word;
    r = orders_find(proxy, words);
    if (r < 0)
        printf("error %s\n", strerror(-r));
    else if (r > 0)
        printf("error %s\n", r == ORDERS_E_NOBODY ? "nobody of this number"
                             : r == ORDERS_E_FULL ? "too many patterns"
                                                  : "not understood");
    fflush(stdout);
}
