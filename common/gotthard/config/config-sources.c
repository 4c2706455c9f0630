/* SPDX-License-Identifier: ISC */
/* See the header. The origin of a value is "/path/of/file:12", "GOTTHARD_X" or "--x". */
#include "gotthard/config/config-sources.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/config/config-private.h"

#define FILES_MAX 16 /* shown */

struct sources {
    struct gt_span files[FILES_MAX];
    size_t n_files, n_variables, n_options;
};

static bool has_file(const struct sources *sources, struct gt_span file)
{
    for (size_t i = 0; i < sources->n_files; i++)
        if (sources->files[i].n == file.n && memcmp(sources->files[i].data, file.data, file.n) == 0)
            return true;
    return false;
}

static void sources_add(struct sources *sources, const char *origin)
{
    const char *colon = strrchr(origin, ':');
    struct gt_span file = gt_span(origin, colon ? (size_t)(colon - origin) : strlen(origin));

    if (strncmp(origin, "--", 2) == 0)
        sources->n_options++;
    else if (*origin != '/' && !colon)
        sources->n_variables++;
    else if (!has_file(sources, file) && sources->n_files < FILES_MAX)
        sources->files[sources->n_files++] = file;
}

static size_t append(char *ret, size_t cap, size_t n, const char *text, size_t n_text)
{
    int r = snprintf(ret + n, cap - n, "%s%.*s", n > 0 ? ", " : "", (int)n_text, text);

    return GT_MIN(n + (size_t)GT_MAX(r, 0), cap - 1);
}

static size_t append_number(char *ret, size_t cap, size_t n, size_t number, const char *what)
{
    char text[48];

    if (number == 0)
        return n;
    int n_text = snprintf(text, sizeof(text), "%zu %s%s", number, what, number == 1 ? "" : "s");
    return append(ret, cap, n, text, (size_t)n_text);
}

const char *gt_config_sources(const struct gt_config *config, char *ret, size_t cap)
{
    struct sources sources = {0};
    size_t n = 0;

    for (size_t i = 0; i < config->program->n_items; i++) {
        const struct gt_config_assignments *given = &config->assignments[i];

        if (given->n > 0)
            sources_add(&sources, given->all[given->n - 1].origin);
    }
    *ret = 0;
    for (size_t i = 0; i < sources.n_files; i++)
        n = append(ret, cap, n, (const char *)sources.files[i].data, sources.files[i].n);
    n = append_number(ret, cap, n, sources.n_variables, "variable");
    n = append_number(ret, cap, n, sources.n_options, "option");
    if (n == 0)
        snprintf(ret, cap, "defaults only");
    return ret;
}
