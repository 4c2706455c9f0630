/* SPDX-License-Identifier: ISC */
/*
 * A text file with a line "NAME EPOCH" for each device, the latest first. Two commands that write
 * at the same time lose the line of one of them, which costs one round trip later.
 */
#include "epoch-memory.h"

#include <stdio.h>
#include <string.h>

#include "gotthard/base/log.h"
#include "gotthard/config/protected-file.h"
#include "remembered.h"

#define N_HEX    (2 * GT_EPOCH_SIZE)
#define FILE_MAX (EPOCH_MEMORY_MAX * (GT_NAME_MAX + 1 + N_HEX + 1)) /* bytes */

void epoch_memory_init(struct epoch_memory *memory, const struct settings *settings,
                       const struct identity *identity)
{
    if (!state_file_path("epochs", settings, identity, memory->path))
        memory->path[0] = 0;
}

/* Returns the whole text, or NULL. */
static char *read_text(const struct epoch_memory *memory)
{
    char *text = NULL;
    const char *why;
    size_t n;

    if (!memory->path[0] || gt_protectedfile_is_absent(memory->path) ||
        gt_config_read_file(memory->path, FILE_MAX, false, &text, &n, &why) != 0)
        return NULL;
    return text;
}

/* @line: up to its end, or that of the text. Returns true with the length of the name, and the
 * epoch. */
static bool parse_line(const char *line, size_t *ret_name, uint8_t ret[static GT_EPOCH_SIZE])
{
    size_t n = strcspn(line, "\n"), n_name = strcspn(line, " \n");
    char hex[N_HEX + 1];

    if (n != n_name + 1 + N_HEX || n_name > GT_NAME_MAX || !gt_text_is_name(gt_span(line, n_name)))
        return false;
    memcpy(hex, line + n_name + 1, N_HEX);
    hex[N_HEX] = 0;
    *ret_name = n_name;
    return gt_text_unhex(hex, ret, GT_EPOCH_SIZE) == 0;
}

bool epoch_memory_find(const struct epoch_memory *memory, const char *device,
                       uint8_t ret[static GT_EPOCH_SIZE])
{
    gt_cleanup(gt_free) char *text = read_text(memory);
    const char *line = text ? remembered_find(text, device) : NULL;
    uint8_t epoch[GT_EPOCH_SIZE];
    size_t n_name;

    if (!line || !parse_line(line, &n_name, epoch))
        return false;
    memcpy(ret, epoch, sizeof(epoch));
    return true;
}

/* Appends the lines of @text but that of @device, while there is room. */
static void copy_others(FILE *file, const char *text, const char *device)
{
    uint8_t ignored[GT_EPOCH_SIZE];
    size_t n_name, n_lines = 1;

    for (const char *line = text; *line && n_lines < EPOCH_MEMORY_MAX;) {
        size_t n = strcspn(line, "\n");

        if (parse_line(line, &n_name, ignored) &&
            !gt_span_equals(gt_span(line, n_name), gt_span_text(device))) {
            fprintf(file, "%.*s\n", (int)n, line);
            n_lines++;
        }
        line += n + (line[n] == '\n');
    }
}

/* Returns the text of the file with another epoch of @device; NULL without memory. */
static char *replace(const char *text, const char *device, const uint8_t *epoch, size_t *ret_n)
{
    char *made = NULL, hex[N_HEX + 1];
    FILE *file = open_memstream(&made, ret_n);

    if (!file)
        return NULL;
    if (epoch) {
        gt_text_hex(epoch, GT_EPOCH_SIZE, hex);
        fprintf(file, "%s %s\n", device, hex);
    }
    copy_others(file, text, device);
    if (fclose(file) == 0)
        return made;
    free(made);
    return NULL;
}

void epoch_memory_set(const struct epoch_memory *memory, const char *device, const uint8_t *epoch)
{
    gt_cleanup(gt_free) char *before = read_text(memory), *text = NULL;
    size_t n;

    if (!memory->path[0] || (!before && !epoch))
        return;
    text = replace(before ? before : "", device, epoch, &n);
    if (text && !state_file_write(memory->path, text, n, false))
        gt_debug("%s cannot be written: %s", memory->path, strerror(errno));
}
