/* SPDX-License-Identifier: ISC */
/*
 * The running agent. A service manager gives it an environment of its own (/etc/default): the proxy
 * variables that decide about its connections are those, and not the ones of the shell from which
 * the check was started. Any user can start a process with the agent's name. Its variables would
 * lead the connections of this check to that user, so that they are taken from the unit's process
 * and from our own user's only.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "doctor.h"

#define PROGRAM     "gotthard-agentd"
#define UNIT        "/gotthard-agentd.service"
#define CMD_MAX     4096 /* also of the files status and cgroup */
#define ENVIRON_MAX 65536
#define COMM_MAX    15 /* bytes of a process's name that the kernel keeps */

static ssize_t read_process(const char *pid, const char *name, char *ret, size_t cap)
{
    gt_cleanup(gt_free) char *path = NULL;

    if (asprintf(&path, "/proc/%s/%s", pid, name) < 0)
        return -1;
    FILE *file = fopen(path, "re");
    if (!file)
        return -1;
    size_t n = fread(ret, 1, cap - 1, file);
    fclose(file);
    ret[n] = 0;
    return (ssize_t)n;
}

/* An argument of a command line, whose arguments end with a NUL. */
static bool has_argument(const char *line, size_t n, const char *argument)
{
    for (size_t at = 0; at < n; at += strlen(line + at) + 1)
        if (strcmp(line + at, argument) == 0)
            return true;
    return false;
}

static bool is_agent(const char *pid)
{
    char name[64] = "", line[CMD_MAX];

    if (read_process(pid, "comm", name, sizeof(name)) < 0 || strncmp(name, PROGRAM, COMM_MAX) != 0)
        return false;
    ssize_t n = read_process(pid, "cmdline", line, sizeof(line));
    return n > 0 && !has_argument(line, (size_t)n, "--worker") &&
           !has_argument(line, (size_t)n, "--doctor") &&
           !has_argument(line, (size_t)n, "--check-config");
}

/* Of the same network namespace: another one is a container, which is another device. */
static bool is_on_this_network(const char *pid)
{
    gt_cleanup(gt_free) char *path = NULL;
    char own[64], other[64];

    if (asprintf(&path, "/proc/%s/ns/net", pid) < 0)
        return false;
    ssize_t n_own = readlink("/proc/self/ns/net", own, sizeof(own));
    ssize_t n_other = readlink(path, other, sizeof(other));
    if (n_own <= 0 || n_other <= 0)
        return true; /* not permitted to look */
    return n_own == n_other && memcmp(own, other, (size_t)n_own) == 0;
}

/* --- whose it is ------------------------------------------------------------------------------ */

/* A line of /proc/PID/cgroup, ID:CONTROLLERS:PATH. The manager of a user makes units of any name,
 * in the part that begins with its own unit. */
static bool is_unit_line(const char *line, size_t n)
{
    static const char own[] = "0::", named[] = ":name=systemd:";
    gt_cleanup(gt_free) char *text = strndup(line, n);

    if (!text || (strncmp(text, own, strlen(own)) != 0 && !strstr(text, named)))
        return false;
    return n >= strlen(UNIT) && strcmp(text + n - strlen(UNIT), UNIT) == 0 &&
           !strstr(text, "/user@");
}

bool doctor_is_unit_cgroup(const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        if (is_unit_line(text, n))
            return true;
    }
    return false;
}

static bool is_of_unit(const char *pid)
{
    char text[CMD_MAX];

    return read_process(pid, "cgroup", text, sizeof(text)) > 0 && doctor_is_unit_cgroup(text);
}

/* By all its user ids: a program that is set-user-ID has an environment of the user who started it.
 * The owner of /proc/PID is root for a process that cannot be dumped. */
static bool is_of_own_user(const char *pid)
{
    char text[CMD_MAX];
    unsigned real, effective, saved;

    if (read_process(pid, "status", text, sizeof(text)) <= 0)
        return false;
    const char *line = strstr(text, "\nUid:");
    return line && sscanf(line, "\nUid: %u %u %u", &real, &effective, &saved) == 3 &&
           real == geteuid() && effective == geteuid() && saved == geteuid();
}

static bool is_trusted(const char *pid)
{
    return is_of_unit(pid) || is_of_own_user(pid);
}

/* Takes one that is not trusted if there is no other. */
static void find_agent(struct doctor *doctor)
{
    DIR *folder = opendir("/proc");
    const struct dirent *entry;

    while (folder && !doctor->is_trusted && (entry = readdir(folder))) {
        int pid = atoi(entry->d_name);

        if (pid <= 0 || pid == getpid() || !is_agent(entry->d_name) ||
            !is_on_this_network(entry->d_name))
            continue;
        doctor->pid = pid;
        doctor->is_trusted = is_trusted(entry->d_name);
    }
    if (folder)
        closedir(folder);
}

/* --- its environment -------------------------------------------------------------------------- */

/* Returns the value of a variable in the bytes of /proc/PID/environ, or NULL. */
static const char *find_variable(const char *all, size_t n, const char *name)
{
    size_t n_name = strlen(name);

    for (size_t at = 0; at < n; at += strlen(all + at) + 1)
        if (strncmp(all + at, name, n_name) == 0 && all[at + n_name] == '=')
            return all + at + n_name + 1;
    return NULL;
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : !a && !b;
}

/* systemd.exec(5): each start of a unit has an INVOCATION_ID of its own. */
static bool is_other_service(const char *all, size_t n)
{
    const char *its = find_variable(all, n, "INVOCATION_ID");

    return its && !is_same(its, getenv("INVOCATION_ID"));
}

static void take_variable(struct doctor *doctor, const char *name, const char *value)
{
    if (is_same(value, getenv(name)))
        return;
    doctor->variables = DOCTOR_VARIABLES_OTHER;
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static void take_proxy_variables(struct doctor *doctor)
{
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY",   "no_proxy",    "NO_PROXY"};
    gt_cleanup(gt_free) char *all = malloc(ENVIRON_MAX);
    char pid[12];

    snprintf(pid, sizeof(pid), "%d", doctor->pid);
    ssize_t n = all ? read_process(pid, "environ", all, ENVIRON_MAX) : -1;
    if (n <= 0)
        doctor->variables = DOCTOR_VARIABLES_UNREADABLE;
    if (n <= 0 || !is_other_service(all, (size_t)n))
        return;
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++)
        take_variable(doctor, names[i], find_variable(all, (size_t)n, names[i]));
}

/* --- the row ---------------------------------------------------------------------------------- */

void doctor_find_process(struct doctor *doctor)
{
    find_agent(doctor);
    if (doctor->is_trusted)
        take_proxy_variables(doctor);
    else
        doctor->variables = DOCTOR_VARIABLES_NOT_TRUSTED;
}

void doctor_check_process(struct doctor *doctor)
{
    static const char *const notes[] = {
        [DOCTOR_VARIABLES_SAME] = "",
        [DOCTOR_VARIABLES_OTHER] =
            "; its proxy variables are used, which differ from those of this shell",
        [DOCTOR_VARIABLES_UNREADABLE] =
            "; its environment cannot be read: proxy variables are those of this shell",
        [DOCTOR_VARIABLES_NOT_TRUSTED] =
            "; it is of another user: proxy variables are those of this shell",
    };

    if (doctor->pid > 0)
        gt_checkup_ok(&doctor->checkup, "agent", "process %d runs%s", doctor->pid,
                      notes[doctor->variables]);
    else
        gt_checkup_warn(&doctor->checkup, "agent",
                        "start it: systemctl start gotthard-agentd; its log: journalctl -u "
                        "gotthard-agentd",
                        "the agent does not run on this machine; proxy variables are those of this "
                        "shell");
}
