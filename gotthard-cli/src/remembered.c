/* SPDX-License-Identifier: ISC */
/* Text in, text out. Malformed parts are left out: the file is a convenience. */
#include "remembered.h"

#include <string.h>

#include "gotthard/base/text.h"

/* Drops words that are no names of services, in place. */
static void keep_services(char *services)
{
    char *out = services;

    for (char *at = NULL, *word = strtok_r(services, " ", &at); word;
         word = strtok_r(NULL, " ", &at)) {
        size_t n = strlen(word);

        if (n > GT_SERVICE_MAX || !gt_text_is_name(gt_span(word, n)))
            continue;
        if (out > services)
            *out++ = ' ';
        memmove(out, word, n);
        out += n;
    }
    *out = 0;
}

bool remembered_parse(char *text, struct remembered *ret)
{
    char *number = strchr(text, ' '), *services = number ? strchr(number + 1, ' ') : NULL;

    if (!number)
        return false;
    *number++ = 0;
    if (services)
        *services++ = 0;
    ret->name = text;
    ret->services = services ? services : number + strlen(number);
    if (!gt_text_is_name(gt_span_text(text)) ||
        gt_text_number(number, 1, INT64_MAX, &ret->seen) != 0)
        return false;
    keep_services(ret->services);
    return true;
}

const char *remembered_find(const char *text, const char *device)
{
    size_t n = strlen(device);

    for (const char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, device, n) == 0 && at[n] == ' ')
            return at;
    return NULL;
}

bool remembered_has_services(const char *line, const char *services)
{
    const char *number = strchr(line, ' ');
    const char *at = number + 1 + strcspn(number + 1, " \n");
    size_t n = strcspn(at, "\n");

    at += *at == ' ';
    n -= n > 0;
    return strlen(services) == n && memcmp(at, services, n) == 0;
}
