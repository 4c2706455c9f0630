/* SPDX-License-Identifier: ISC */
/*
 * Configuration: one table per program drives the environment variables, the files, the command
 * line, `--check-config`, `config show`, `--help`, etc/<program>.conf, the manual page and the
 * tests.
 *
 * Layers, the later one wins: the table's defaults, variables that other programs share
 * (https_proxy), GOTTHARD_ variables, systemd credentials,
 * /etc/gotthard/<program>.conf, <program>.conf.d/ *.conf in name order, (for the CLI)
 * the same two in ~/.config/gotthard, the command line. Each value keeps its origin. Nothing is
 * guessed: an unknown key, a wrong type, a number out of range or a duplicate is an error with
 * file:line and the expected form. A setting of an earlier version is ignored with a warning.
 * Values that a later layer overrides are checked as well. An empty variable counts as not given,
 * as does an empty text in a file if the setting is a text. An empty number, choice or duration in
 * a file is an error.
 */
#pragma once

#include "gotthard/base/text.h"

enum gt_config_type {
    GT_CONFIG_STRING,   /* char * (owned; NULL when unset and no default) */
    GT_CONFIG_NAME,     /* char *, gt_text_is_name */
    GT_CONFIG_HOST,     /* char *, gt_text_is_host */
    GT_CONFIG_PATH,     /* char *, absolute; see config-path.h */
    GT_CONFIG_PATHS,    /* char *, the same separated by blanks; wildcards stay */
    GT_CONFIG_SECRET,   /* char *, wiped when freed, shown as "set"; see struct gt_config_item */
    GT_CONFIG_NUMBER,   /* uint64_t within min..max */
    GT_CONFIG_BOOL,     /* bool */
    GT_CONFIG_DURATION, /* uint64_t milliseconds within min..max */
    GT_CONFIG_SIZE,     /* uint64_t bytes within min..max */
    GT_CONFIG_CHOICE,   /* char *, one of the words in ->choices */
    GT_CONFIG_PROXY,    /* struct gt_config_proxy, gt_proxy_parse; its password is never shown */
    GT_CONFIG_MAP,      /* struct gt_config_map: a group of texts, services = { ssh = "..."; } */
};

struct gt_config_pair {
    char *name, *value; /* both owned by the map */
};

struct gt_config_map {
    struct gt_config_pair *pairs; /* owned */
    size_t n_pairs;
};
struct gt_config_proxy {
    char *text;     /* owned; the first member, as in a STRING */
    bool is_shared; /* it is the value of a variable that all programs share (->standard) */
    /* That variable, if its value is no proxy that Gotthard can use, and nothing overrides it; it
     * does not count then. Or NULL. Owned by the configuration. */
    const char *unusable;
};
/* Returns the value of @name, owned by @map, or NULL if there is no such pair. */
const char *gt_config_map_get(const struct gt_config_map *map, const char *name);

/*
 * One setting. A SECRET has a second form that names a file: "<path>_file" in a configuration file,
 * "<variable>_FILE" in the environment. That file contains the secret alone, or a line
 * VARIABLE=secret (config-secret.h).
 */
struct gt_config_item {
    const char
        *path; /* "server.port", at most GT_CONFIG_PATH_MAX bytes; a MAP also without group */
    enum gt_config_type type;
    size_t offset;        /* in the program's settings struct */
    const char *env;      /* a variable of the original tool; NULL: see gt_config_variable() */
    const char *standard; /* "https_proxy HTTPS_PROXY": variables that all programs of a machine
                             share, the first that is not empty counts if no layer gives the
                             setting; NULL: none */
    const char *flag;     /* "server-port" without dashes, or NULL. Never for a SECRET or PROXY */
    uint32_t commands;    /* bits of the commands that accept the flag; 0: every command */
    const char *fallback; /* the default as text, NULL: none; MAP: "name=value,name=value" */
    const char *fallback_help; /* describes a default that depends on the machine, or NULL. Then an
                                  empty text counts as not given, for each type */
    uint64_t min, max;         /* NUMBER, DURATION (ms), SIZE; max UINT64_MAX: no upper limit */
    const char *choices;       /* CHOICE: "psk pin" */
    const char *help;          /* one sentence of at most GT_CONFIG_HELP_MAX bytes, for --help */
    const char *details;       /* more sentences for the file and the manual page, or NULL */
};

#define GT_CONFIG_PATH_MAX     48
#define GT_CONFIG_HELP_MAX     67 /* with the indentation of --help 100 columns */
#define GT_CONFIG_VARIABLE_MAX 64 /* bytes of a variable's name with its NUL */

/* The C type of the member for each type of setting. */
#define GT_CONFIG_MEMBER_STRING   char *
#define GT_CONFIG_MEMBER_NAME     char *
#define GT_CONFIG_MEMBER_HOST     char *
#define GT_CONFIG_MEMBER_PATH     char *
#define GT_CONFIG_MEMBER_PATHS    char *
#define GT_CONFIG_MEMBER_SECRET   char *
#define GT_CONFIG_MEMBER_CHOICE   char *
#define GT_CONFIG_MEMBER_PROXY    struct gt_config_proxy
#define GT_CONFIG_MEMBER_NUMBER   uint64_t
#define GT_CONFIG_MEMBER_DURATION uint64_t
#define GT_CONFIG_MEMBER_SIZE     uint64_t
#define GT_CONFIG_MEMBER_BOOL     bool
#define GT_CONFIG_MEMBER_MAP      struct gt_config_map

/* 1, and a compile error if the member has another type. */
#define GT_CONFIG_IS_OF_TYPE(struct_, field_, type_) \
    sizeof(char[__builtin_types_compatible_p(__typeof__(((struct_ *)0)->field_), type_) ? 1 : -1])

/* A row of a table: GT_CONFIG_ITEM(struct settings, "server.port", NUMBER, port, .min = 1, ...). */
#define GT_CONFIG_ITEM(struct_, path_, type_, field_, ...)                             \
    {                                                                                  \
        .path = path_, .type = GT_CONFIG_##type_,                                      \
        .offset = offsetof(struct_, field_) +                                          \
                  0 * GT_CONFIG_IS_OF_TYPE(struct_, field_, GT_CONFIG_MEMBER_##type_), \
        __VA_ARGS__                                                                    \
    }

/* The text above a group of settings in etc/<program>.conf and in the manual page. */
struct gt_config_group {
    const char *name; /* the path's part before the point */
    const char *help;
};

/* A setting of earlier versions. A file that gives it is accepted, with a warning. */
struct gt_config_removed {
    const char *path;
    const char *why; /* a clause: what replaces it */
};

struct gt_config_program {
    const char *name; /* "relayd": /etc/gotthard/relayd.conf */
    const struct gt_config_item *items;
    size_t n_items;
    size_t settings_size;
    bool has_home_file; /* reads the files of ~/.config/gotthard as well */
    /* Checks relations between values (FROM > TO); may be NULL. On failure it writes one sentence,
     * in which "{+server.host}" stands for a setting and its place (config-mention.h).
     * Returns the path of the item at fault, or NULL if all is well. */
    const char *(*check)(const void *settings, char *ret_why, size_t cap);
    const struct gt_config_group *groups;
    size_t n_groups;
    const struct gt_config_removed *removed;
    size_t n_removed;
    const char *manual; /* "gotthard-relayd(8)" */
    const char *usage;  /* how to show and apply a configuration: the head of the file */
};

/* Writes the name of the item's environment variable: ->env, else GOTTHARD_ and the path in upper
 * case with '_' for each point. Returns false for a MAP without ->env, which has no variable. */
bool gt_config_variable(const struct gt_config_item *item, char ret[static GT_CONFIG_VARIABLE_MAX]);

struct gt_config; /* a loaded configuration: the settings and the origin of each */

/* The message was written to @ret_error. E_FILE: a file cannot be read, or the file of a secret has
 * no usable content; it may be usable later (config-wait.h). E_BAD: a fault in the text of the
 * configuration. */
enum { GT_CONFIG_E_BAD = 1, GT_CONFIG_E_FILE = 2 };
#define GT_CONFIG_ERROR_MAX 512

struct gt_config_args {
    const char *file;        /* --config FILE replaces the /etc files; NULL: those.
                                $GOTTHARD_CONFIG_DIR replaces /etc/gotthard */
    const char *const *sets; /* pairs: flag name, value, flag name, value ... */
    size_t n_sets;           /* number of pairs */
};

/*
 * Loads all layers. @args: may be NULL; borrowed during the call.
 *
 * Secrets in variables are copied, overwritten in environ and unset. A second load (reload) uses
 * the copies. $CREDENTIALS_DIRECTORY/<variable in lower case> overrides the variable. Files of
 * secrets must not be readable by others.
 *
 * Returns 0 and a configuration that the caller frees, GT_CONFIG_E_BAD or GT_CONFIG_E_FILE with a
 * message in @ret_error, or a negative errno.
 */
int gt_config_load(const struct gt_config_program *program, const struct gt_config_args *args,
                   struct gt_config **ret,
                   char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
struct gt_config *gt_config_free(struct gt_config *config);
/* Returns the settings struct of settings_size bytes; owned by @config. */
const void *gt_config_settings(const struct gt_config *config);
/* Wipes the texts of all secrets, which are empty from now on. For a program that has derived its
 * keys and will not load again. */
void gt_config_forget_secrets(struct gt_config *config);
/* Returns true if any layer gave the setting, false if it has its default. */
bool gt_config_is_set(const struct gt_config *config, const char *path);
/* Returns "/etc/gotthard/relayd.conf:12", "GOTTHARD_SERVER_PORT", "--server-port" or "default";
 * owned by @config. */
const char *gt_config_origin(const struct gt_config *config, const char *path);
/* Returns the condition of an unusable value: E_FILE for a secret that came from a file of its own,
 * which may be half written, else E_BAD. */
int gt_config_fault(const struct gt_config *config, const char *path);

/* The secrets that were taken out of the environment, for a program that executes itself: it hands
 * them over through a channel that no other process can read, and the next image keeps them before
 * its first load. */
typedef void (*gt_config_taken_fn)(void *userdata, const char *variable, const char *text);
void gt_config_each_taken(gt_config_taken_fn on_taken, void *userdata);
/* Copies both. Returns 0 or -ENOMEM. */
int gt_config_keep_taken(const char *variable, const char *text) GT_MUST_CHECK;

/* Writes all settings in the syntax of a file, each with its origin in a comment: a file of this
 * text has the same values. Defaults, overridden values and secrets are comments; a secret that
 * came from a file is the path of that file. */
void gt_config_show(const struct gt_config *config, int fd);
/* The same for gt_config_load_saved(): with the secrets that have no file of their own, and without
 * overridden values. */
void gt_config_save(const struct gt_config *config, int fd);
/* Loads a text of gt_config_save() alone: no file, variable, credential or option changes it,
 * except that files of secrets are read, and the variables that other programs share. @name: of the
 * text, for messages. Returns as gt_config_load(). */
int gt_config_load_saved(const struct gt_config_program *program, const char *name,
                         struct gt_span text, struct gt_config **ret,
                         char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;

/* The table as text for people. Each writes the whole text to @fd and ignores write errors. */
/* The list of settings for --help. @commands: bits; shows only settings whose flag they accept,
 * and settings without a flag only if it is 0, which shows all. */
void gt_config_help(const struct gt_config_program *program, uint32_t commands, int fd);
/* etc/<program>.conf: every setting, commented out, at its default. */
void gt_config_format_file(const struct gt_config_program *program, int fd);
/* Parts of manual pages in scdoc(5)'s markup: the settings, the options that stand for settings,
 * and the variables. */
void gt_config_format_manual(const struct gt_config_program *program, int fd);
void gt_config_format_manual_options(const struct gt_config_program *program, int fd);
void gt_config_format_manual_variables(const struct gt_config_program *program, int fd);

/*
 * Reads a small file whole: a regular file of at most @max bytes without NUL that others may not
 * write. @is_secret: others may not read it either. Returns 0 and *ret_text (terminated; the caller
 * frees it), or with a reason in *ret_why (static, until the next call) GT_CONFIG_E_FILE, or
 * GT_CONFIG_E_BAD for its content; or a negative errno.
 */
int gt_config_read_file(const char *path, size_t max, bool is_secret, char **ret_text,
                        size_t *ret_n, const char **ret_why) GT_MUST_CHECK;

enum { GT_CONFIG_WORDS_ONLY = 2 }; /* of gt_config_parse's ->word */

/*
 * Takes a table's flags out of argv: "--flag value", "--flag=value"; for a BOOL "--flag" and
 * "--no-flag". Options that are not in the table go to ->other, all other arguments and everything
 * after "--" to ->word.
 */
struct gt_config_parse {
    const struct gt_config_program *program;
    /* @option: with its dashes; a text of argv unless "=" follows. Returns 0 if known, 1 if not.
     * Called once with @value NULL, which is the only call for an option without a value. If that
     * call sets *ret_takes_value, a second one passes the value. --config FILE is handled here. */
    int (*other)(void *userdata, const char *option, const char *value, bool *ret_takes_value);
    /* Returns 0, 1 if it is one argument too many, or GT_CONFIG_WORDS_ONLY: accepted, and every
     * following argument is a word, with dashes or without (for a command that passes its
     * arguments to another program). */
    int (*word)(void *userdata, const char *word);
    void *userdata;
    const char *optional; /* an option of ->other whose value, after '=', may be missing; or NULL */
};
/* Returns 0 and @ret_args, whose ->sets the caller frees and whose texts belong to @argv;
 * GT_CONFIG_E_BAD with a sentence in @ret_error (a usage error, exit status 64); or -ENOMEM. */
int gt_config_parse_args(const struct gt_config_parse *parse, int argc, char **argv,
                         struct gt_config_args *ret_args,
                         char ret_error[static GT_CONFIG_ERROR_MAX]) GT_MUST_CHECK;
/* Returns the first flag (without dashes) in @args that none of @commands accepts, or NULL. */
const char *gt_config_foreign_flag(const struct gt_config_program *program,
                                   const struct gt_config_args *args, uint32_t commands);
