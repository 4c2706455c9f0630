/* SPDX-License-Identifier: ISC */
/*
 * Parser of the options that select connections. Each option stands for itself. If two contradict,
 * the later one counts.
 */
#include "selection.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/text.h"

static int selection_parse_ids(char *text, struct selection *selection)
{
    char *at = NULL;

    for (char *word = strtok_r(text, ",", &at); word; word = strtok_r(NULL, ",", &at)) {
        uint64_t id;

        if (selection->n_ids == SELECTION_IDS || gt_text_number(word, 1, UINT32_MAX, &id))
            return SELECTION_E_SYNTAX;
        selection->ids[selection->n_ids++] = (unsigned)id;
    }
    return selection->n_ids ? 0 : SELECTION_E_SYNTAX;
}

static int selection_parse_share(char *text, struct selection *selection)
{
    uint64_t percent;

    text[strlen(text) - 1] = '\0';
    if (gt_text_number(text, 0, 100, &percent))
        return SELECTION_E_SYNTAX;
    selection->share = (double)percent / 100;
    return 0;
}

static int selection_parse_on(char *text, struct selection *selection)
{
    selection->is_live = strcmp(text, "new") != 0;
    selection->is_future = strcmp(text, "new") == 0 || strcmp(text, "all") == 0;
    if (selection->is_future || strcmp(text, "live") == 0)
        return 0;
    if (strchr(text, '%'))
        return selection_parse_share(text, selection);
    return selection_parse_ids(text, selection);
}

static int selection_parse_direction(const char *text, struct selection *selection)
{
    selection->has_direction[PROXY_UP] = strcmp(text, "up") == 0;
    selection->has_direction[PROXY_DOWN] = strcmp(text, "down") == 0;
    return selection->has_direction[PROXY_UP] || selection->has_direction[PROXY_DOWN]
               ? 0
               : SELECTION_E_SYNTAX;
}

static int selection_parse_port(const char *text, struct selection *selection)
{
    int n = sscanf(text, "%hu-%hu", &selection->port_from, &selection->port_to);

    if (n == 1)
        selection->port_to = selection->port_from;
    selection->is_future = false;
    return n >= 1 ? 0 : SELECTION_E_SYNTAX;
}

static int selection_parse_word(char *word, struct selection *selection)
{
    if (strncmp(word, "way=", 4) == 0)
        return selection_parse_direction(word + 4, selection);
    if (strncmp(word, "on=", 3) == 0)
        return selection_parse_on(word + 3, selection);
    if (strncmp(word, "port=", 5) == 0)
        return selection_parse_port(word + 5, selection);
    return SELECTION_E_SYNTAX;
}

int selection_parse(char **words, struct selection *ret)
{
    struct selection selection = {.has_direction = {true, true},
                                  .is_future = true,
                                  .is_live = true,
                                  .share = 1,
                                  .port_to = UINT16_MAX};

    for (; *words; words++)
        if (selection_parse_word(*words, &selection))
            return SELECTION_E_SYNTAX;
    *ret = selection;
    return 0;
}

static bool selection_has_id(const struct selection *selection, unsigned id)
{
    for (size_t i = 0; i < selection->n_ids; i++)
        if (selection->ids[i] == id)
            return true;
    return selection->n_ids == 0;
}

bool selection_has(const struct selection *selection, const struct connection *connection)
{
    return selection->is_live && connection->port >= selection->port_from &&
           connection->port <= selection->port_to && selection_has_id(selection, connection->id) &&
           (selection->share >= 1 || impairments_random_fraction() < selection->share);
}
