/* SPDX-License-Identifier: ISC */
/* A copy of each row, by name; see the header. */
#include "device-changes.h"

#include <stdlib.h>
#include <string.h>

struct look {
    char name[GT_NAME_MAX + 1];
    bool is_known, is_online, is_selected;
    uint16_t n_sessions;
    char *version, *services, *tags; /* owned */
    UT_hash_handle hh;
};

struct device_changes {
    const struct selection *selection; /* keeps */
    struct look *looks;                /* a uthash by name; owned */
};

struct device_changes *device_changes_new(const struct selection *selection)
{
    struct device_changes *changes = calloc(1, sizeof(*changes));

    if (changes)
        changes->selection = selection;
    return changes;
}

static void look_clear(struct look *look)
{
    free(look->version);
    free(look->services);
    free(look->tags);
    look->version = look->services = look->tags = NULL;
}

struct device_changes *device_changes_free(struct device_changes *changes)
{
    struct look *look, *next;

    if (!changes)
        return NULL;
    HASH_ITER (hh, changes->looks, look, next) {
        HASH_DEL(changes->looks, look);
        look_clear(look);
        free(look);
    }
    free(changes);
    return NULL;
}

static struct look *find_or_add(struct device_changes *changes, const char *name)
{
    struct look *look;

    HASH_FIND_STR(changes->looks, name, look);
    if (look)
        return look;
    look = calloc(1, sizeof(*look));
    if (!look)
        return NULL;
    memcpy(look->name, name, strlen(name) + 1);
    HASH_ADD_STR(changes->looks, name, look);
    return look;
}

static bool is_other(const char *before, const char *now)
{
    return !before || strcmp(before, now) != 0;
}

static unsigned compare(const struct look *look, const struct device_row *row, bool is_selected)
{
    if (!look->is_known)
        return DEVICE_CHANGE_APPEARED;
    return (look->is_online != row->is_online ? DEVICE_CHANGE_ONLINE : 0u) |
           (look->n_sessions != row->n_sessions ? DEVICE_CHANGE_SESSIONS : 0u) |
           (is_other(look->services, row->services) ? DEVICE_CHANGE_SERVICES : 0u) |
           (is_other(look->tags, row->tags) ? DEVICE_CHANGE_TAGS : 0u) |
           (is_other(look->version, row->version) ? DEVICE_CHANGE_VERSION : 0u) |
           (look->is_selected != is_selected ? DEVICE_CHANGE_SELECTED : 0u);
}

/* Without memory a text is missing, and differs the next time. */
static void look_at(struct look *look, const struct device_row *row, bool is_selected)
{
    look_clear(look);
    look->version = strdup(row->version);
    look->services = strdup(row->services);
    look->tags = strdup(row->tags);
    look->is_known = true;
    look->is_online = row->is_online;
    look->is_selected = is_selected;
    look->n_sessions = row->n_sessions;
}

unsigned device_changes_take(struct device_changes *changes, const struct device_row *row)
{
    bool is_selected = selection_accepts(changes->selection, row);
    struct look *look = row->knowledge == DEVICE_AUTHENTIC ? find_or_add(changes, row->name) : NULL;

    if (!look)
        return 0;
    unsigned found = compare(look, row, is_selected);
    bool is_shown = is_selected || look->is_selected;
    if (found)
        look_at(look, row, is_selected);
    return is_shown ? found : 0;
}
