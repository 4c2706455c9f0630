/* SPDX-License-Identifier: ISC */
/*
 * Configuration: one table per program drives the variables, the files, the command line,
 * `--check-config`, `config show`, the examples in etc/ and the tests.
 *
 * Layers, the later one wins: the table's defaults, environment variables,
 * /etc/gotthard/<program>.conf, <program>.conf.d/ *.conf in name order, (for the CLI)
 * ~/.config/gotthard/cli.conf, the command line. Each value remembers where it came from. Nothing
 * is guessed: an unknown key, a wrong type, a number out of range or a duplicate is an error with
 * file:line and what would be right; also in a value that a later layer hides. A variable or a text
 * in a file that is empty counts as not given, if it stands for a text; an empty number, choice or
 * duration is an error.
 */
#pragma once

#include "gotthard/text.h"

enum gt_config_type {
    GT_CONFIG_STRING, /* char * (owned; NULL when unset and no default) */
    GT_CONFIG_NAME,   /* char *, gt_text_is_name */
    GT_CONFIG_HOST,   /* char *, gt_text_is_host */
    GT_CONFIG_PATH,   /* char *, absolute or relative to the working directory */
    GT_CONFIG_SECRET, /* char *, wiped when freed, shown as "set"; also VAR_FILE and key_file forms,
                         whose file is the secret alone, or has a line VAR=secret
                       */
    GT_CONFIG_NUMBER, /* uint64_t within min..max */
    GT_CONFIG_BOOL,   /* bool */
    GT_CONFIG_DURATION, /* uint64_t milliseconds within min..max */
    GT_CONFIG_SIZE,     /* uint64_t bytes within min..max */
    GT_CONFIG_CHOICE,   /* char *, one of the words in ->choices */
    GT_CONFIG_MAP,      /* struct gt_config_map: a group of string settings, e.g. services = { ssh =
                           "127.0.0.1:22"; } */
};

struct gt_config_pair {
    char *name, *value;
};

struct gt_config_map {
    struct gt_config_pair *pairs; /* owned */
    size_t n_pairs;
};
const char *gt_config_map_get(const struct gt_config_map *map,
                              const char *name); /* NULL: not there */

struct gt_config_item {
    const char *path; /* "server.port"; a SECRET's file form is "<path>_file" */
    const char *env;  /* or NULL; a SECRET's file form is "<env>_FILE" */
    const char *flag; /* "server-port" without dashes, or NULL. Never for a SECRET */
    enum gt_config_type type;
    size_t offset; /* in the program's settings struct */
    const char
        *fallback; /* the default as text, or NULL for none; MAP: "name=value,name=value" or NULL */
    uint64_t min, max;   /* NUMBER, DURATION (ms), SIZE; max UINT64_MAX: no upper end */
    const char *choices; /* CHOICE: "psk pin" */
    const char *help;    /* one sentence */
};

struct gt_config_program {
    const char *name; /* "relayd": /etc/gotthard/relayd.conf */
    const struct gt_config_item *items;
    size_t n_items;
    size_t settings_size;
    bool has_home_file; /* ~/.config/gotthard/<name>.conf too */
    /* Checks what no single value can (FROM > TO); NULL if nothing. On failure writes one sentence.
     * Returns the path of the item at fault, or NULL when all is well. */
    const char *(*check)(const void *settings, char *ret_why, size_t cap);
};

struct gt_config; /* a loaded configuration: the settings and where each came from */

enum { GT_CONFIG_E_BAD = 1 }; /* the message was written to @ret_error */
#define GT_CONFIG_ERROR_MAX 512

struct gt_config_args {
    const char *file; /* --config FILE instead of the /etc files; NULL: those ($GOTTHARD_CONFIG_DIR
                         replaces /etc/gotthard) */
    const char *const
        *sets;     /* pairs: flag name, value, flag name, value ... (from the command line) */
    size_t n_sets; /* number of pairs */
};

/*
 * Secrets in variables are copied, overwritten in environ and unset; a second load (reload) uses
 * the copies. Key files must not be readable by others. $CREDENTIALS_DIRECTORY/<env name in lower
 * case> is looked at before the variable.
 */
int gt_config_load(const struct gt_config_program *program, const struct gt_config_args *args,
                   struct gt_config **ret,
                   char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
struct gt_config *gt_config_free(struct gt_config *config);
const void *
gt_config_settings(const struct gt_config *config); /* of settings_size; owned by @config */
/* Was it given by anybody, or is it the default? */
/* For a program that has made what it needs of its secrets and will not load again: their texts are
 * wiped, and empty from now on. */
void gt_config_forget_secrets(struct gt_config *config);
bool gt_config_is_set(const struct gt_config *config, const char *path);
/* What was taken out of the environment, for a program that executes itself anew: it tells itself
 * by a way that nobody else can read, and there keeps it before the first load. */
typedef void (*gt_config_taken_fn)(void *userdata, const char *variable, const char *text);
void gt_config_each_taken(gt_config_taken_fn on_taken, void *userdata);
int gt_config_keep_taken(const char *variable, const char *text) GT_MUST_CHECK;
/* "/etc/gotthard/relayd.conf:12", "GOTTHARD_SERVER_PORT", "--server-port", "default". */
const char *gt_config_origin(const struct gt_config *config, const char *path);

/* `path = value   # origin` a line each, secrets as "set"; a hidden value is shown after it. */
void gt_config_show(const struct gt_config *config, int fd);
/* The list of options for --help. */
void gt_config_help(const struct gt_config_program *program, int fd);

/* Reads a whole small file: regular, at most @max bytes, no NUL, not one that others may write.
 * *ret_text owned, terminated. Positive: E_BAD with a reason in @ret_why (static). @is_secret:
 * refuse one that others may read, too. */
int gt_config_read_file(const char *path, size_t max, bool is_secret, char **ret_text,
                        size_t *ret_n, const char **ret_why) GT_MUST_CHECK;

enum { GT_CONFIG_WORDS_ONLY = 2 };

/*
 * The flags of a table out of argv: "--flag value", "--flag=value", "--flag" for a BOOL (also
 * --no-flag). What is no flag of the table is left to the program through @other (an option, with
 * its dashes; *ret_takes_value tells whether the next argument belongs to it) and @word (anything
 * else, and all after "--").
 */
struct gt_config_parse {
    const struct gt_config_program *program;
    /* Returns 0 known, 1 unknown. Called once with @value NULL, which is all for an option without
     * a value; one that sets *ret_takes_value is called again with it. --config FILE is known here.
     */
    int (*other)(void *userdata, const char *option, const char *value, bool *ret_takes_value);
    /* 0, 1: one too many, or GT_CONFIG_WORDS_ONLY: taken, and whatever follows is a word as well,
     * dashes or not (for a command that hands its arguments on). */
    int (*word)(void *userdata, const char *word);
    void *userdata;
};
/* E_BAD with a sentence in @ret_error (a usage error: exit 64). @ret_args->sets is allocated: free
 * it. */
int gt_config_parse_args(const struct gt_config_parse *parse, int argc, char **argv,
                         struct gt_config_args *ret_args,
                         char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
