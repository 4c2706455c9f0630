/* SPDX-License-Identifier: ISC */
/* See the header. The shell expands $VISUAL and $EDITOR, which may have arguments. */
#include "access-edit.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "access-text.h"
#include "gotthard/config/config.h"

#define COPY_TEMPLATE "/tmp/gotthard-access-XXXXXX"
#define EDIT_COMMAND  "exec ${VISUAL:-${EDITOR:-vi}} \"$1\""

extern char **environ;

/* --- the editor ------------------------------------------------------------------------------- */

/* Returns its exit status, or 127 if it cannot be started. */
static int run_editor(const char *path)
{
    char *argv[] = {"sh", "-c", EDIT_COMMAND, "sh", (char *)path, NULL};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int status = 0;
    pid_t pid;

    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    sigaction(SIGINT, &ignore, &before); /* ^C is for the editor */
    int err = posix_spawn(&pid, "/bin/sh", NULL, &attributes, argv, environ);
    while (err == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    sigaction(SIGINT, &before, NULL);
    posix_spawnattr_destroy(&attributes);
    return err == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

/* --- the copy --------------------------------------------------------------------------------- */

static int write_copy(const char *text, char *path, struct failure *ret_failure)
{
    size_t n = strlen(text);
    gt_cleanup(gt_close) int fd = mkstemp(path);

    if (fd >= 0 && write(fd, text, n) == (ssize_t)n)
        return 0;
    return failure_set(ret_failure, FAILURE_AUTHORITY, "make room there", "%s: %s", path,
                       strerror(errno));
}

static int fail_copy(const char *path, const char *why, struct failure *ret_failure)
{
    failure_set(ret_failure, FAILURE_AUTHORITY, NULL, "the list was not changed: %s", why);
    failure_hint(ret_failure,
                 "your copy is kept: correct it, and give it to the editor of "
                 "gotthard-cli access edit: %s",
                 path);
    return 1;
}

/* Checks a text with its head as receivers will. */
static int check_text(const char *path, const char *text, struct failure *ret_failure)
{
    struct gt_access_list *list = NULL;
    char why[GT_ACCESS_WHY] = "";
    int r = gt_access_list_parse(gt_span_text(text), &list, why);

    gt_access_list_free(list);
    if (r == 0)
        return 0;
    return fail_copy(path, r < 0 ? strerror(-r) : why, ret_failure);
}

/* Names must not disappear without the line `revoked`, unless the person means it. */
static int check_names(struct access_change *change, const char *path, const char *body,
                       struct failure *ret_failure)
{
    struct context *context = change->context;
    char why[ACCESS_TEXT_WHY] = "";

    if (!access_text_loses(change->body, body, why) || context->is_confirmed)
        return 0;
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO) &&
        command_is_agreed("%s: keys that were derived for the name work at the relay. Was the "
                          "fleet key changed, so that they do not?",
                          why))
        return 0;
    fail_copy(path, why, ret_failure);
    failure_hint(ret_failure,
                 "revoke names in place of removing them: gotthard-cli revoke NAME; after a change "
                 "of the fleet key: access edit --yes. Your copy is kept: %s",
                 path);
    return 1;
}

static int read_copy(const char *path, char **ret, struct failure *ret_failure)
{
    const char *why = "cannot be read";
    size_t n = 0;

    return gt_config_read_file(path, GT_ACCESS_TEXT_MAX, false, ret, &n, &why) == 0
               ? 0
               : fail_copy(path, why, ret_failure);
}

/* Applies the copy in @path. */
static int apply_copy(struct access_change *change, const char *path, struct failure *ret_failure)
{
    gt_cleanup(gt_free) char *text = NULL;
    gt_cleanup(gt_free) char *body = NULL;
    gt_cleanup(gt_free) char *whole = NULL;

    if (read_copy(path, &text, ret_failure) != 0)
        return 1;
    body = access_text_body(text);
    whole = body ? access_text_with_head(body, authority_serial(&change->authority) + 1, time(NULL))
                 : NULL;
    if (!whole)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    if (strcmp(body, change->body) == 0) {
        print_note(&change->context->print, "Nothing was changed.");
        unlink(path);
        return 0;
    }
    if (check_text(path, whole, ret_failure) != 0 ||
        check_names(change, path, body, ret_failure) != 0)
        return 1;
    int r = access_change_apply(change, body, ret_failure);
    if (r == 0)
        unlink(path);
    else
        print_note(&change->context->print, "Your copy is kept: %s", path);
    return r;
}

int access_edit(struct access_change *change, struct failure *ret_failure)
{
    char path[] = COPY_TEMPLATE;
    gt_cleanup(gt_free) char *text =
        access_text_with_head(change->body, authority_serial(&change->authority) + 1, time(NULL));

    if (!text)
        return failure_set(ret_failure, FAILURE_INTERNAL, NULL, "out of memory");
    if (write_copy(text, path, ret_failure) != 0)
        return 1;
    int status = run_editor(path);
    if (status == 0)
        return apply_copy(change, path, ret_failure);
    unlink(path);
    return failure_set(ret_failure, FAILURE_AUTHORITY, "set the variable EDITOR to your editor",
                       "the editor ended with status %d; nothing was changed", status);
}
