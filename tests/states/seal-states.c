/* SPDX-License-Identifier: ISC */
/*
 * Seals STATE messages of any number of devices, as their agents would, for tests of large fleets.
 * One process seals 60,000 of them within seconds. The fleet key is $GOTTHARD_CRYPT_KEY with
 * $GOTTHARD_CRYPT_IV, the prefix of topics the only argument. Each line of standard input is a
 * state:
 *
 *     NAME online|offline EPOCH(32 hex digits) SEQ SINCE SESSIONS [SERVICE | TAG=VALUE]...
 *
 * and becomes one record on standard output: lp(topic) and lp(payload), with lengths of 16 bits in
 * network order. tests/lib/states.py is its only user.
 */
#include <stdio.h>
#include <string.h>

#include "gotthard/base/text.h"
#include "gotthard/signaling/message.h"
#include "gotthard/signaling/topic.h"

#define LINE_SIZE 4096
#define WORDS     6 /* before the services */

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "seal-states: %s\n", why);
    exit(1);
}

/* Splits @line at its blanks, in place. */
static size_t split(char *line, char *ret_words[static WORDS + GT_SERVICES_MAX])
{
    size_t n = 0;
    char *at = NULL;

    for (char *word = strtok_r(line, " \n", &at); word; word = strtok_r(NULL, " \n", &at)) {
        if (n == WORDS + GT_SERVICES_MAX)
            give_up("too many words in a line");
        ret_words[n++] = word;
    }
    return n;
}

static void state_of_words(char **words, size_t n, struct gt_state *ret)
{
    *ret = (struct gt_state){.is_online = strcmp(words[1], "online") == 0};
    if (strlen(words[2]) != 2 * GT_EPOCH_SIZE)
        give_up("an epoch has 32 hex digits");
    for (size_t i = 0; i < GT_EPOCH_SIZE; i++)
        if (sscanf(words[2] + 2 * i, "%2hhx", &ret->epoch[i]) != 1)
            give_up("an epoch has 32 hex digits");
    ret->seq = strtoull(words[3], NULL, 10);
    ret->extensions.since = strtoull(words[4], NULL, 10);
    ret->extensions.n_sessions = (uint16_t)strtoul(words[5], NULL, 10);
    ret->extensions.version = gt_span_text("1.0");
    for (size_t i = WORDS; i < n; i++) {
        struct gt_extensions *extensions = &ret->extensions;
        struct gt_span word = gt_span_text(words[i]);

        if (!strchr(words[i], '='))
            extensions->services[extensions->n_services++] = word;
        else if (extensions->n_tags < GT_TAGS_MAX)
            extensions->tags[extensions->n_tags++] = word;
    }
}

static void write_lp(struct gt_span span)
{
    uint8_t length[2] = {(uint8_t)(span.n >> 8), (uint8_t)span.n};

    fwrite(length, 1, sizeof(length), stdout);
    fwrite(span.data, 1, span.n, stdout);
}

static void seal(const struct gt_key *key, const char *prefix, const char *device,
                 const struct gt_state *state)
{
    uint8_t of_device[GT_KEY_SIZE], inner[GT_MESSAGE_MAX], message[GT_MESSAGE_MAX];
    struct gt_message_keys keys;
    char topic[GT_TOPIC_MAX + 1];
    struct gt_writer w = gt_writer(inner, sizeof(inner));
    size_t n;

    gt_state_encode(state, &w);
    if (w.failed || gt_topic_state(prefix, device, topic) != 0 ||
        gt_key_device(key, device, of_device) != 0 || gt_key_messages(of_device, &keys) != 0 ||
        gt_message_seal(keys.presence, GT_MESSAGE_STATE, topic, gt_span(inner, w.n), message, &n))
        give_up("cannot seal a state");
    write_lp(gt_span_text(topic));
    write_lp(gt_span(message, n));
}

int main(int argc, char **argv)
{
    char line[LINE_SIZE], *words[WORDS + GT_SERVICES_MAX];
    const char *key_text = getenv("GOTTHARD_CRYPT_KEY");
    struct gt_key key;
    struct gt_state state;

    if (argc != 2 || !key_text || gt_key_parse(key_text, getenv("GOTTHARD_CRYPT_IV"), &key) != 0)
        give_up("usage: GOTTHARD_CRYPT_KEY=KEY GOTTHARD_CRYPT_IV=SALT seal-states PREFIX <STATES");
    while (fgets(line, sizeof(line), stdin)) {
        size_t n = split(line, words);

        if (n < WORDS)
            give_up("too few words in a line");
        state_of_words(words, n, &state);
        seal(&key, argv[1], words[0], &state);
    }
    gt_key_wipe(&key);
    return fflush(stdout) == 0 ? 0 : 1;
}
