/* SPDX-License-Identifier: ISC */
/*
 * A text file with a line "NAME UNIXTIME SERVICE... KEY=VALUE..." for each device. The time has the
 * precision of a day, so that a list which shows the same devices again writes nothing.
 */
#include "device-memory.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/config/protected-file.h"
#include "remembered.h"
#include "state-file.h"

#define FILE_MAX (32u << 20) /* bytes: more than DEVICE_TABLE_MAX lines */
#define DAY_S    86400u
#define KEEP_S   (90u * DAY_S)

/* --- its text -----------------------------------------------------------------------------------
 */

static void load_line(struct device_table *table, char *text)
{
    struct remembered line;

    if (!remembered_parse(text, &line))
        return;
    struct device_row *row = device_table_expect(table, line.name);
    if (!row)
        return;
    row->seen = line.seen;
    free(row->remembered);
    row->remembered = strdup(line.words);
}

void device_memory_load(const struct settings *settings, const struct identity *identity,
                        struct print *print, struct device_table *table)
{
    char path[PATH_MAX], *at = NULL;
    gt_cleanup(gt_free) char *text = NULL;
    const char *why = "cannot be read";
    size_t n;

    if (!state_file_path("devices", settings, identity, path) || gt_protectedfile_is_absent(path))
        return;
    if (gt_config_read_file(path, FILE_MAX, false, &text, &n, &why) != 0) {
        print_warning(print, "%s is not used: %s", path, why);
        return;
    }
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at))
        load_line(table, line);
}

/* Returns the time to write for @row, 0 to leave it out. */
static uint64_t seen_time(const struct device_row *row, uint64_t now)
{
    if (row->knowledge == DEVICE_AUTHENTIC)
        return now - now % DAY_S;
    return row->seen + KEEP_S >= now ? row->seen : 0;
}

/* An offline device's state may have no services: those that were seen before are kept. */
static void format_row(FILE *file, const struct device_row *row, uint64_t seen)
{
    bool is_authentic = row->knowledge == DEVICE_AUTHENTIC;
    const char *remembered = row->remembered ? row->remembered : "";

    fprintf(file, "%s %llu", row->name, (unsigned long long)seen);
    remembered_write(file, is_authentic && *row->services ? row->services : remembered,
                     REMEMBERED_SERVICES);
    remembered_write(file, is_authentic ? row->tags : remembered, REMEMBERED_TAGS);
    fprintf(file, "\n");
}

/* Returns the whole text, or NULL without memory. */
static char *format(const struct device_table *table, uint64_t now, size_t *ret_n)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, ret_n);

    if (!file)
        return NULL;
    for (const struct device_row *row = table->rows; row; row = row->hh.next)
        if (seen_time(row, now) > 0)
            format_row(file, row, seen_time(row, now));
    if (fclose(file) == 0)
        return text;
    free(text);
    return NULL;
}

void device_memory_save(const struct settings *settings, const struct identity *identity,
                        const struct device_table *table, uint64_t now)
{
    char path[PATH_MAX];
    gt_cleanup(gt_free) char *before = NULL, *text = NULL;
    const char *why;
    size_t n_before = 0, n = 0;

    if (!state_file_path("devices", settings, identity, path) || !(text = format(table, now, &n)))
        return;
    bool is_read = !gt_protectedfile_is_absent(path) &&
                   gt_config_read_file(path, FILE_MAX, false, &before, &n_before, &why) == 0;
    if (is_read ? n == n_before && memcmp(text, before, n) == 0 : n == 0)
        return;
    if (!state_file_write(path, text, n, true))
        gt_debug("%s cannot be written: %s", path, strerror(errno));
}

void device_memory_forget(const struct settings *settings, const struct identity *identity,
                          struct print *print, const char *name, uint64_t now)
{
    struct device_table table = {0};
    struct device_row *row;

    device_memory_load(settings, identity, print, &table);
    HASH_FIND_STR(table.rows, name, row);
    if (row) {
        row->seen = 0;
        device_memory_save(settings, identity, &table, now);
    }
    device_table_deinit(&table);
}

/* --- one device ---------------------------------------------------------------------------------
 */

/* Returns the file's text with @line, which may be NULL, replaced by a new one; NULL without
 * memory. The tags stay. */
static char *replace_line(const char *text, const char *line, const char *device,
                          const char *services, uint64_t now, size_t *ret_n)
{
    const char *end = line ? line + strcspn(line, "\n") : NULL;
    char *made = NULL;
    FILE *file = open_memstream(&made, ret_n);

    if (!file)
        return NULL;
    fprintf(file, "%.*s", line ? (int)(line - text) : (int)strlen(text), text);
    fprintf(file, "%s %llu", device, (unsigned long long)(now - now % DAY_S));
    remembered_write(file, services, REMEMBERED_SERVICES);
    remembered_write(file, line ? remembered_words(line) : "", REMEMBERED_TAGS);
    fprintf(file, "\n%s", end && *end ? end + 1 : "");
    if (fclose(file) == 0)
        return made;
    free(made);
    return NULL;
}

void device_memory_note(const struct settings *settings, const struct identity *identity,
                        const char *device, const char *services, uint64_t now)
{
    char path[PATH_MAX];
    gt_cleanup(gt_free) char *before = NULL, *text = NULL;
    const char *why;
    size_t n = 0;

    if (!state_file_path("devices", settings, identity, path))
        return;
    if (!gt_protectedfile_is_absent(path) &&
        gt_config_read_file(path, FILE_MAX, false, &before, &n, &why) != 0)
        return;
    const char *line = before ? remembered_find(before, device) : NULL;
    if (line &&
        (!*services || remembered_equal(remembered_words(line), services, REMEMBERED_SERVICES)))
        return;
    text = replace_line(before ? before : "", line, device, services, now, &n);
    if (text && !state_file_write(path, text, n, true))
        gt_debug("%s cannot be written: %s", path, strerror(errno));
}

void device_memory_note_answer(const struct settings *settings, const struct identity *identity,
                               const char *device, const struct gt_extensions *extensions,
                               uint64_t now)
{
    char services[GT_SERVICES_MAX * (GT_SERVICE_MAX + 1)] = "";
    size_t n = 0;

    for (size_t i = 0; i < extensions->n_services; i++) {
        struct gt_span name = extensions->services[i];

        if (name.n <= GT_SERVICE_MAX && gt_text_is_name(name))
            n += (size_t)snprintf(services + n, sizeof(services) - n, "%s%.*s", n ? " " : "",
                                  (int)name.n, (const char *)name.data);
    }
    device_memory_note(settings, identity, device, services, now);
}

/* --- all files ----------------------------------------------------------------------------------
 */

static void each_line(const char *path, device_memory_fn on_device, void *userdata)
{
    gt_cleanup(gt_free) char *text = NULL;
    char *at = NULL;
    const char *why;
    struct remembered line;
    size_t n;

    if (gt_config_read_file(path, FILE_MAX, false, &text, &n, &why) != 0)
        return;
    for (char *row = strtok_r(text, "\n", &at); row; row = strtok_r(NULL, "\n", &at))
        if (remembered_parse(row, &line))
            on_device(userdata, line.name, line.words);
}

/* Only the names that state_file_path() makes: no temporary file. */
static bool is_memory(const char *name)
{
    const char *hex = name + strlen("devices-");

    return strncmp(name, "devices-", strlen("devices-")) == 0 && strlen(hex) == STATE_FILE_ID &&
           strspn(hex, "0123456789abcdef") == STATE_FILE_ID;
}

void device_memory_each(device_memory_fn on_device, void *userdata)
{
    char folder[PATH_MAX], path[PATH_MAX];
    DIR *files = state_file_folder(folder) ? opendir(folder) : NULL;

    if (!files)
        return;
    for (struct dirent *entry; (entry = readdir(files));) {
        int n = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);

        if (is_memory(entry->d_name) && n > 0 && (size_t)n < sizeof(path))
            each_line(path, on_device, userdata);
    }
    closedir(files);
}
