/* SPDX-License-Identifier: ISC */
/*
 * The table of commands. Help, the checks of arguments and options, and the dispatch follow from
 * it.
 */
#include <assert.h>
#include <string.h>

#include "commands.h"
#include "forwards.h"
#include "selection.h"
#include "ssh-options.h"

static const struct command commands[] = {
    {
        .name = "connect",
        .bit = COMMAND_CONNECT,
        .settings = COMMAND_CONNECT,
        .usage = "DEVICE [[udp:][LOCAL:|PATH:](SERVICE|[HOST:]PORT|socks)]...",
        .help = "Hold a tunnel to a device; \":22\" or \"0:22\" takes a free local port.",
        .examples = "connect GatewayOli 8080:1880",
        .n_arguments_min = 1,
        .n_arguments_max = 1 + FORWARDS_MAX,
        .run = cmd_connect,
    },
    {
        .name = "proxy",
        .bit = COMMAND_PROXY,
        .settings = COMMAND_PROXY,
        .usage = "DEVICE [SERVICE|[HOST:]PORT]",
        .help = "Connect standard input and output to a service, for ssh's ProxyCommand.",
        .examples = "proxy GatewayOli ssh",
        .n_arguments_min = 1,
        .n_arguments_max = 2,
        .run = cmd_proxy,
    },
    {
        .name = "ssh",
        .bit = COMMAND_SSH,
        .settings = COMMAND_PROXY,
        .passes_settings = true,
        .passed_letters = SSH_LETTERS,
        .usage = "[USER@]DEVICE [SSH-ARGUMENT]...",
        .help = "Run ssh to a device, through `proxy`; the options of ssh are accepted.",
        .examples = "ssh pi@GatewayOli uptime",
        .n_arguments_min = 1,
        .n_arguments_max = SIZE_MAX,
        .run = cmd_ssh,
    },
    {
        .name = "run",
        .bit = COMMAND_RUN,
        .settings = COMMAND_PROXY | COMMAND_DEVICES,
        .passes_settings = true,
        .passed_letters = SSH_LETTERS,
        .usage = "--on SELECTION... [SSH-OPTION]... COMMAND [ARGUMENT]...",
        .help = "Run a command on many devices over ssh, by tags and names.",
        .examples = "run --on site=zurich --user pi -- uptime",
        .n_arguments_min = 1,
        .n_arguments_max = SIZE_MAX,
        .run = cmd_run,
    },
    {
        .name = "ssh-config",
        .bit = COMMAND_SSH_CONFIG,
        .settings = COMMAND_PROXY,
        .passes_settings = true,
        .usage = "",
        .help =
            "Print the lines of ~/.ssh/config for `ssh USER@DEVICE.gotthard`, scp, git and others.",
        .examples = "ssh-config",
        .run = cmd_ssh_config,
    },
    {
        .name = "known-hosts",
        .bit = COMMAND_KNOWN_HOSTS,
        .settings = COMMAND_PROXY,
        .usage = "DEVICE [HOSTNAME]",
        .help = "Print the host keys of a device for ssh's KnownHostsCommand.",
        .examples = "known-hosts GatewayOli",
        .n_arguments_min = 1,
        .n_arguments_max = 2,
        .run = cmd_known_hosts,
    },
    {
        .name = "sessions",
        .bit = COMMAND_SESSIONS,
        .usage = "",
        .help = "List your open tunnels of this machine.",
        .examples = "sessions --json",
        .run = cmd_sessions,
    },
    {
        .name = "disconnect",
        .bit = COMMAND_DISCONNECT,
        .settings = COMMAND_DISCONNECT,
        .usage = "DEVICE",
        .help = "Close your sessions with a device, or with --all everybody's.",
        .examples = "disconnect GatewayOli\ndisconnect GatewayOli --all --reason maintenance",
        .n_arguments_min = 1,
        .n_arguments_max = 1,
        .run = cmd_disconnect,
    },
    {
        .name = "status",
        .bit = COMMAND_STATUS,
        .settings = COMMAND_STATUS,
        .usage = "[DEVICE]",
        .help = "Show whether a device is online, since when, and its services.",
        .examples = "status GatewayOli",
        .n_arguments_max = 1,
        .run = cmd_status,
    },
    {
        .name = "devices",
        .bit = COMMAND_DEVICES,
        .settings = COMMAND_DEVICES,
        .usage = "[TAG=VALUE | PATTERN]...",
        .help =
            "List the devices at the broker, and known ones without a state there, by tags and names.",
        .examples =
            "devices --watch\ndevices --online\ndevices site=zurich role!=spare\ndevices 'plant-7-*' --json",
        .n_arguments_max = SELECTION_MAX,
        .run = cmd_devices,
    },
    {
        .name = "forget",
        .bit = COMMAND_FORGET,
        .settings = COMMAND_FORGET,
        .usage = "DEVICE",
        .help = "Delete the state at the broker of a device that is gone.",
        .examples = "forget GatewayOli",
        .n_arguments_min = 1,
        .n_arguments_max = 1,
        .run = cmd_forget,
    },
    {
        .name = "doctor",
        .bit = COMMAND_DOCTOR,
        .settings = COMMAND_DOCTOR,
        .usage = "[DEVICE]",
        .help = "Check each hop to the broker, the relay and a device, and name what to repair.",
        .examples = "doctor\ndoctor GatewayOli",
        .n_arguments_max = 1,
        .run = cmd_doctor,
        .on_misconfigured = cmd_doctor_misconfigured,
    },
    {
        .name = "keygen",
        .bit = COMMAND_KEYGEN,
        .settings = COMMAND_KEYGEN,
        .usage = "[device NAME | operator NAME [DEVICE]... | relay]",
        .help = "Generate a fleet key, or derive the key of a device, an operator or the relay.",
        .examples = "keygen\nkeygen device GatewayOli\nkeygen operator bob",
        .n_arguments_max = SIZE_MAX,
        .run = cmd_keygen,
    },
    {
        .name = "fingerprint",
        .bit = COMMAND_FINGERPRINT,
        .settings = COMMAND_FINGERPRINT,
        .usage = "",
        .help = "Print this operator's line for the pin files of devices.",
        .examples = "fingerprint --cert-path /etc/gotthard/alice",
        .run = cmd_fingerprint,
    },
    {
        .name = "access",
        .bit = COMMAND_ACCESS,
        .settings = COMMAND_ACCESS,
        .usage = "init | add operator|device NAME FINGERPRINT [RIGHT]... | remove operator|device "
                 "NAME | show | edit | refresh | publish | fetch",
        .help = "Make and change the signed list of all operators' rights on all devices.",
        .examples = "access init\naccess add operator bob 5e884898...1542d8 services=ssh "
                    "devices='plant-7-*'\naccess show",
        .n_arguments_min = 1,
        .n_arguments_max = SIZE_MAX,
        .run = cmd_access,
    },
    {
        .name = "revoke",
        .bit = COMMAND_REVOKE,
        .settings = COMMAND_REVOKE,
        .usage = "[--device] NAME",
        .help = "Revoke an operator, or a device, on all devices, and count those that know it.",
        .examples = "revoke bob\nrevoke --device GatewayOli",
        .n_arguments_min = 1,
        .n_arguments_max = 1,
        .run = cmd_revoke,
    },
    {
        .name = "enroll",
        .bit = COMMAND_ENROLL,
        .settings = COMMAND_ENROLL,
        .usage = "NAME [RIGHT]...",
        .help = "Print a one-time token, and make its user a device or an operator of the fleet.",
        .examples = "enroll GatewayOli\nenroll --operator bob services=ssh",
        .n_arguments_min = 1,
        .n_arguments_max = SIZE_MAX,
        .run = cmd_enroll,
    },
    {
        .name = "join",
        .bit = COMMAND_JOIN,
        .settings = COMMAND_JOIN,
        .usage = "[TOKEN|FILE|-]",
        .help = "Become an operator of a fleet, with a token of `enroll --operator`.",
        .examples = "join\njoin token.txt",
        .n_arguments_max = 1,
        .run = cmd_join,
    },
    {
        .name = "add",
        .bit = COMMAND_ADD,
        .settings = COMMAND_ADD,
        .usage = "device|relay NAME",
        .help = "Write one file with all that the first relay, or a device, needs.",
        .examples = "add relay main --output relay.bundle\nadd device Pump7 --output Pump7.bundle",
        .n_arguments_min = 2,
        .n_arguments_max = 2,
        .run = cmd_add,
    },
    {
        .name = "ca",
        .bit = COMMAND_CA,
        .settings = COMMAND_CA,
        .usage = "init",
        .help = "Make the fleet's own certificate authority, which signs for the broker.",
        .examples = "ca init",
        .n_arguments_min = 1,
        .n_arguments_max = 1,
        .run = cmd_ca,
    },
    {
        .name = "audit",
        .bit = COMMAND_AUDIT,
        .settings = COMMAND_AUDIT,
        .usage = "[DEVICE] [--file PATH]",
        .help = "Print and verify the record of requests, grants, sessions and connections.",
        .examples = "audit GatewayOli --since 2h\naudit --file /var/lib/gotthard-relayd --verify",
        .n_arguments_max = 1,
        .run = cmd_audit,
    },
    {
        .name = "config",
        .bit = COMMAND_CONFIG,
        .settings = COMMAND_ANY,
        .usage = "show",
        .help = "Print each setting with its origin.",
        .examples = "config show",
        .n_arguments_min = 1,
        .n_arguments_max = 1,
        .run = cmd_config,
    },
    {
        .name = "completion",
        .bit = COMMAND_COMPLETION,
        .usage = "bash|zsh|fish",
        .help = "Print the completion script of a shell.",
        .examples = "completion bash",
        .n_arguments_min = 1,
        .n_arguments_max = 1,
        .run = cmd_completion,
    },
    {
        .name = "version",
        .bit = COMMAND_VERSION,
        .usage = "",
        .help = "Print the version.",
        .examples = "version",
        .run = cmd_version,
    },
    {
        .name = "help",
        .bit = COMMAND_HELP,
        .usage = "[COMMAND]",
        .help = "List the commands, or describe one.",
        .examples = "help connect",
        .n_arguments_max = 2,
        .run = cmd_help,
    },
};

static_assert(COMMAND_END == 1 << GT_ARRAY_SIZE(commands), "a bit in settings.h for each command");

static const struct daemon_command daemons[] = {
    {"server", "gotthard-relayd", "Run the relay (gotthard-relayd)."},
    {"edge-device", "gotthard-agentd", "Run the agent of a device (gotthard-agentd)."},
};

const struct command *command_table(size_t *ret_n)
{
    *ret_n = GT_ARRAY_SIZE(commands);
    return commands;
}

const struct daemon_command *daemon_table(size_t *ret_n)
{
    *ret_n = GT_ARRAY_SIZE(daemons);
    return daemons;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

const struct daemon_command *daemon_find(const char *name)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(daemons); i++)
        if (strcmp(daemons[i].name, name) == 0)
            return &daemons[i];
    return NULL;
}
