/* SPDX-License-Identifier: ISC */
/*
 * Replays a corpus through a fuzz target without libFuzzer, so that every build runs the inputs
 * that fuzzing has found. Arguments are files or directories of files. Each input also runs
 * truncated to every power-of-two length, and the empty input always runs.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static size_t n_replayed;

static void replay_bytes(const uint8_t *data, size_t n)
{
    /* With a copy of exactly the right size, the address sanitizer detects a read after its end. */
    uint8_t *copy = calloc(1, n ? n : 1);

    if (!copy)
        abort();
    if (n)
        memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (!file)
        return -1;
    uint8_t *data = malloc(1 << 20);
    if (!data)
        abort();
    size_t n = fread(data, 1, 1 << 20, file);
    fclose(file);
    replay_bytes(data, n);
    for (size_t cut = 1; cut < n; cut *= 2)
        replay_bytes(data, cut);
    free(data);
    n_replayed++;
    return 0;
}

static int replay_directory(const char *path)
{
    DIR *directory = opendir(path);

    if (!directory)
        return -1;
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        failed |= replay_file(name);
    }
    closedir(directory);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;

    replay_bytes((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) < 0)
            failed = -1;
        else
            failed |= S_ISDIR(st.st_mode) ? replay_directory(argv[i]) : replay_file(argv[i]);
    }
    if (failed || !n_replayed) {
        fprintf(stderr, "replay: no corpus, or unreadable: %s\n", argc > 1 ? argv[1] : "(none)");
        return 1;
    }
    printf("replayed %zu inputs\n", n_replayed);
    return 0;
}
