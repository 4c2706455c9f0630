/* SPDX-License-Identifier: ISC */
/*
 * The running agent. A service manager gives it an environment of its own (/etc/default): the proxy
 * variables that decide about its connections are those, and not the ones of the shell from which
 * the check was started.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "doctor.h"

#define PROGRAM     "gotthard-agentd"
#define CMD_MAX     4096
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

static int find_agent(void)
{
    DIR *folder = opendir("/proc");
    const struct dirent *entry;
    int found = 0;

    while (folder && !found && (entry = readdir(folder))) {
        int pid = atoi(entry->d_name);

        if (pid > 0 && pid != getpid() && is_agent(entry->d_name) &&
            is_on_this_network(entry->d_name))
            found = pid;
    }
    if (folder)
        closedir(folder);
    return found;
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
    doctor->has_other_proxy = true;
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
    if (n <= 0 || !is_other_service(all, (size_t)n))
        return;
    for (size_t i = 0; i < GT_ARRAY_SIZE(names); i++)
        take_variable(doctor, names[i], find_variable(all, (size_t)n, names[i]));
}

/* --- the row ---------------------------------------------------------------------------------- */

void doctor_find_process(struct doctor *doctor)
{
    doctor->pid = find_agent();
    if (doctor->pid > 0)
        take_proxy_variables(doctor);
}

void doctor_check_process(struct doctor *doctor)
{
    if (doctor->pid > 0)
        gt_checkup_ok(&doctor->checkup, "agent", "process %d runs%s", doctor->pid,
                      doctor->has_other_proxy
                          ? "; its proxy variables are used, which differ from those of this shell"
                          : "");
    else
        gt_checkup_warn(&doctor->checkup, "agent",
                        "start it: systemctl start gotthard-agentd; its log: journalctl -u "
                        "gotthard-agentd",
                        "the agent does not run on this machine; proxy variables are those of this "
                        "shell");
}
