/* SPDX-License-Identifier: ISC */
/*
 * The rows. A failure's message names the device, the relay or the setting of one run. These texts
 * describe the id in general, and are also the manual page.
 */
#include "failure-table.h"

static const struct failure_row rows[] = {
    {
        .id = FAILURE_CONFIG,
        .exit = GT_EXIT_CONFIGURATION,
        .title = "The configuration cannot be used.",
        .cause = "It is incomplete or contradictory, or one of its files cannot be read.",
        .hint = "show all settings with their origins: gotthard-cli config show",
    },
    {
        .id = FAILURE_KEY,
        .exit = GT_EXIT_CONFIGURATION,
        .title = "The key is missing or cannot be used.",
        .cause =
            "It is all zero, equal to the salt, too short, or derived for another party. Or it is "
            "the key of another operator, or not for this device. Only the fleet key derives "
            "other keys.",
        .hint = "check {crypt.key} and {crypt.iv}",
    },
    {
        .id = FAILURE_USAGE,
        .exit = GT_EXIT_USAGE,
        .title = "The command line is not valid.",
        .cause = "A command, an option or an argument is unknown, missing or malformed. The id is "
                 "in the event of --json only.",
        .hint = "see the help of the command: gotthard-cli help COMMAND",
    },
    {
        .id = FAILURE_CLOCK,
        .exit = GT_EXIT_CONFIGURATION,
        .title = "The clock of this machine is wrong.",
        .cause = "It shows a time before the release of this program, and certificates are not "
                 "valid yet at that time.",
        .hint = "set the clock of this machine",
    },
    {
        .id = FAILURE_CERTIFICATE,
        .exit = GT_EXIT_CONFIGURATION,
        .title = "The certificate of this operator has expired, or is not valid yet.",
        .cause = "The broker does not accept it. The message has its name and its dates.",
        .hint = "renew cert.pem in {mqtt.cert_path}: make-certificate-example --renew FOLDER where "
                "the authority is, then copy FOLDER/cert.pem",
    },
    {
        .id = FAILURE_AUTHORITY,
        .exit = GT_EXIT_CONFIGURATION,
        .title = "The authority's key, or its access list, cannot be used.",
        .cause = "A file is missing, damaged or readable by others, or the list would not be "
                 "valid. Nothing was signed.",
        .hint = "check {trust.authority_key}, and the list in the file beside it",
    },
    {
        .id = FAILURE_LIST_NEWER,
        .exit = GT_EXIT_REFUSED,
        .title = "The access list at the broker is newer than the one on this machine.",
        .cause = "Another machine with the authority's key has changed it. Nothing was signed.",
        .hint = "take it from the broker: gotthard-cli access fetch, then repeat the change",
    },
    {
        .id = FAILURE_CA,
        .exit = GT_EXIT_CONFIGURATION,
        .title = "The certificate authority of this fleet, or the command that signs certificates, "
                 "cannot be used.",
        .cause = "A file is missing, damaged or readable by others, or the command has failed or "
                 "printed something else than the certificate. Nothing was issued.",
        .hint = "check {enroll.ca} and {enroll.sign_command}",
    },
    {
        .id = FAILURE_ENROLMENT,
        .exit = GT_EXIT_REFUSED,
        .title = "The enrolment was refused, or has failed.",
        .cause = "The operator has refused the newcomer, the token is damaged, has expired or was "
                 "used before, or an answer or a request was not made with this token. A token "
                 "is used once.",
        .hint = "make a new token: gotthard-cli enroll; if a token may be in wrong hands, look who "
                "was enrolled",
    },
    {
        .id = FAILURE_NAME,
        .exit = GT_EXIT_REFUSED,
        .title = "The name of the newcomer cannot be used.",
        .cause = "The access list has it already, or it was revoked.",
        .hint = "use another name",
    },
    {
        .id = FAILURE_BROKER_UNREACHABLE,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The broker cannot be reached.",
        .cause = "Its name cannot be resolved, or there is no answer at its address and port.",
        .hint =
            "check {mqtt.endpoint}, and the route and the firewalls between this machine and it",
    },
    {
        .id = FAILURE_BROKER_REFUSED,
        .exit = GT_EXIT_REFUSED,
        .title = "The broker rejects the connection or the request.",
        .cause = "It does not accept the certificate, the user name or the client id of this "
                 "operator, or the access rights are missing. Or a message is larger than the "
                 "broker permits.",
        .hint = "check the certificate in {mqtt.cert_path} and its permissions at the broker",
    },
    {
        .id = FAILURE_BROKER_UNTRUSTED,
        .exit = GT_EXIT_REFUSED,
        .title = "The certificate of the broker is not accepted.",
        .cause = "It has expired, is for another name, or is from an unknown authority. Or another "
                 "server answers in place of the broker.",
        .hint = "check {mqtt.endpoint} and ca.crt in {mqtt.cert_path}",
    },
    {
        .id = FAILURE_BROKER_FOREIGN,
        .exit = GT_EXIT_PROTOCOL,
        .title = "The server at the address of the broker is no MQTT broker, or violates the "
                 "protocol.",
        .cause = "The port is for something else, or a login page of the network answers. Or one "
                 "side uses TLS and the other does not.",
        .hint = "check {mqtt.endpoint}",
    },
    {
        .id = FAILURE_UNKNOWN_DEVICE,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The broker has no state of a device with this name, and the device did not "
                 "answer.",
        .cause = "",
        .hint = "list all devices: gotthard-cli devices (names are case-sensitive)",
    },
    {
        .id = FAILURE_OFFLINE,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The device is offline.",
        .cause = "",
        .hint = "check the power and the network of the device, it reconnects by itself; systemctl "
                "status gotthard-agentd there shows whether the agent runs",
    },
    {
        .id = FAILURE_NO_ANSWER,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The device is online but does not answer.",
        .cause = "It hangs, it has another key, or the broker does not deliver its answer to this "
                 "operator.",
        .hint = "try again in a minute; if it lasts, see the log of the device",
    },
    {
        .id = FAILURE_UNTRUSTED,
        .exit = GT_EXIT_REFUSED,
        .title = "The answer is not signed by a key that this operator's pin file, or the access "
                 "list, has for the device.",
        .cause = "",
        .hint = "compare the device's fingerprint with its line in {trust.pins}",
    },
    {
        .id = FAILURE_LIST_NOT_WHOLE,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The list of devices is not whole.",
        .cause = "The broker dropped or withheld states of devices, or the connection was lost. "
                 "The devices that were found are listed. gotthard-cli(1) has the reasons.",
        .hint = "run the command again",
    },
    {
        .id = FAILURE_LIST_NOT_EVERYWHERE,
        .exit = GT_EXIT_TRY_AGAIN,
        .title = "Some devices or relays do not have the access list yet.",
        .cause = "A device is offline, or has not proven within the time of the command that it "
                 "has the list. The broker keeps the list, and it gets it when it is online. Or a "
                 "relay could not be reached, or did not take the list.",
        .hint = "repeat the command later, it counts again; a device whose policy is not list "
                "needs trust.authority",
    },
    {
        .id = FAILURE_NO_COUNTERPART,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The other side of an enrolment did not come, or broke off.",
        .cause =
            "The token was not used before it expired, or the operator's command has ended, or "
            "the connection was lost.",
        .hint = "make a new token: gotthard-cli enroll",
    },
    {
        .id = FAILURE_DENIED,
        .exit = GT_EXIT_REFUSED,
        .title = "The policy of the device denies this operator the request.",
        .cause = "",
        .hint = "add a pin for this operator to the pin file of the device",
    },
    {
        .id = FAILURE_NO_SERVICE,
        .exit = GT_EXIT_REFUSED,
        .title = "The device does not offer this service to this operator.",
        .cause = "",
        .hint =
            "list its services: gotthard-cli status {device}; they are configured on the device",
    },
    {
        .id = FAILURE_QUOTA,
        .exit = GT_EXIT_TRY_AGAIN,
        .title = "The device has reached its maximum number of sessions.",
        .cause = "The limit is of all sessions, or of this operator's; the message names the "
                 "setting and its value. Or the device was busy with other requests until "
                 "timeouts.answer.",
        .hint = "gotthard-cli status {device} shows the sessions; gotthard-cli disconnect {device} "
                "--all closes everybody's",
    },
    {
        .id = FAILURE_NO_RELAY,
        .exit = GT_EXIT_REFUSED,
        .title = "The device has no relay of that name in its configuration.",
        .cause = "",
        .hint = "configure the relay under the same name on both sides",
    },
    {
        .id = FAILURE_DEVICE_INTERNAL,
        .exit = GT_EXIT_TRY_AGAIN,
        .title = "The device failed for an internal reason.",
        .cause = "",
        .hint = "see the log of the device",
    },
    {
        .id = FAILURE_WITHDRAWN,
        .exit = GT_EXIT_REFUSED,
        .title = "The device has withdrawn the access while the tunnel was open.",
        .cause = "",
        .hint = "the log of the device has the reason: a pin, a service or a key was changed there",
    },
    {
        .id = FAILURE_TARGET,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The device cannot connect to the target of a service.",
        .cause = "The program does not run, or the service has another address or port in the "
                 "settings of the device.",
        .hint = "start the program on the device, or correct services in its settings: "
                "gotthard-agentd --doctor there shows both",
    },
    {
        .id = FAILURE_CLOSED,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The other side has closed the tunnel.",
        .cause = "An operator has closed it by gotthard-cli disconnect, or the agent of the device "
                 "was stopped.",
        .hint = "connect again; the log of the device has the operator's name and reason",
    },
    {
        .id = FAILURE_VERSION,
        .exit = GT_EXIT_PROTOCOL,
        .title = "The versions of gotthard-cli and of the device's gotthard-agentd cannot work "
                 "together.",
        .cause = "One of them is 0.1.0, and the other a later one.",
        .hint = "install the same version on both",
    },
    {
        .id = FAILURE_RELAY_UNREACHABLE,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The relay cannot be reached.",
        .cause = "",
        .hint =
            "check {server.host} and {server.port}, and the firewalls between this machine and it",
    },
    {
        .id = FAILURE_RELAY_REFUSED,
        .exit = GT_EXIT_REFUSED,
        .title = "The relay rejects a side.",
        .cause =
            "It has another key, no longer accepts the key of a side, or refuses the operator "
            "or the device (by the access list, or relay.refused of gotthard-relayd.conf(5)). Or another kind of server "
            "answers at its address.",
        .hint = "check that it is a gotthard-relayd; to give it a key of this fleet: "
                "gotthard-cli keygen relay > relay.key, copy it to crypt.key_file of the relay, "
                "then systemctl reload gotthard-relayd",
    },
    {
        .id = FAILURE_RELAY_FULL,
        .exit = GT_EXIT_TRY_AGAIN,
        .title = "The relay has no free port.",
        .cause = "",
        .hint = "try again later, or widen server.ports_from and server.ports_to of the relay",
    },
    {
        .id = FAILURE_RELAY_ERROR,
        .exit = GT_EXIT_PROTOCOL,
        .title = "The relay rejects the session for another reason, or violates the protocol.",
        .cause = "",
        .hint = "see the log of the relay",
    },
    {
        .id = FAILURE_DEVICE_RELAY,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The device cannot reach the relay.",
        .cause = "The message has its reason and the address that it uses.",
        .hint = "check the relay in the settings of the device, and its DNS, route and firewall",
    },
    {
        .id = FAILURE_RELAY_LIMIT,
        .exit = GT_EXIT_TRY_AGAIN,
        .title = "The relay has no room for the session.",
        .cause = "It is over its limits.sessions, limits.sessions_per_identity or "
                 "limits.descriptors; the message names the limit and its value.",
        .hint = "see the log of the relay",
    },
    {
        .id = FAILURE_PROXY,
        .exit = GT_EXIT_REFUSED,
        .title = "The proxy denies a connection to the relay or the broker.",
        .cause = "It requires a user and a password, rejects them, or does not permit CONNECT to "
                 "the port. The message has its answer.",
        .hint = "check {server.proxy} and {server.proxy_password}; none is a direct connection",
    },
    {
        .id = FAILURE_PORT_BUSY,
        .exit = GT_EXIT_TRY_AGAIN,
        .title = "Another program uses the requested local port or socket.",
        .cause = "",
        .hint = "use another local port, or 0 for any free one",
    },
    {
        .id = FAILURE_BIND,
        .exit = GT_EXIT_REFUSED,
        .title = "The local address cannot be used.",
        .cause = "It is not an address of this machine, or the port requires a privilege. Or the "
                 "path of a socket: its folder is missing or writable by others, or another file "
                 "is there.",
        .hint = "use a port above 1023, and --bind with an address of this machine",
    },
    {
        .id = FAILURE_TUNNEL_LOST,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The tunnel was up and is lost.",
        .cause = "The relay could not be reached again within timeouts.resume_window.",
        .hint = "connect again; {timeouts.resume_window} limits the wait for the relay",
    },
    {
        .id = FAILURE_DEVICE_LOST,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The device is lost, or did not connect to the relay.",
        .cause = "The limits are timeouts.resume_window and timeouts.peer, and timeouts.pairing of "
                 "the relay.",
        .hint = "show whether it is online: gotthard-cli status {device}",
    },
    {
        .id = FAILURE_TUNNEL_IDLE,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "No connection used the tunnel for longer than timeouts.idle of the relay.",
        .cause = "The relay has no such limit by default.",
        .hint = "connect again",
    },
    {
        .id = FAILURE_TUNNEL_EXPIRED,
        .exit = GT_EXIT_UNAVAILABLE,
        .title = "The lifetime of the tunnel has expired.",
        .cause = "It is the shortest timeouts.lifetime of operator, device and relay, 12 h by "
                 "default; the message names the side that set it.",
        .hint = "connect again",
    },
    {
        .id = FAILURE_INTERNAL,
        .exit = GT_EXIT_INTERNAL,
        .title = "Internal error.",
        .cause = "",
        .hint = "please report this as a bug",
    },
};

const struct failure_row *failure_table(size_t *ret_n)
{
    *ret_n = GT_ARRAY_SIZE(rows);
    return rows;
}

const struct failure_row *failure_row(enum failure_id id)
{
    for (size_t i = 0; i < GT_ARRAY_SIZE(rows); i++)
        if (rows[i].id == id)
            return &rows[i];
    abort();
}
