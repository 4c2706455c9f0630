# SPDX-License-Identifier: ISC
"""Every setting is read in each of its forms, and has a test of its effect.

The effects themselves are tested in test_settings_relayd.py, _agentd.py and _cli.py, and in other tests with the mark.
"""

import os
import pathlib
import re
import subprocess

import pytest

import harness
from harness import LIMIT, PROGRAMS, ROOT
from setting_markers import COMPLETE, IV, KEY, NAMES, check, effect, help_of, items_of, marked, options_of, private_file, refuses, shown

OTHER_KEY = bytes(range(100, 132)).hex()

# A value other than the default for each setting.
COMMON = {
    "server.port": "6999", "crypt.key": OTHER_KEY, "crypt.key_previous": OTHER_KEY, "crypt.iv": "5a" * 16,
    "log.level": "warn",
}
AUDIT = {"audit.size": "64KiB", "audit.files": "7"}
ENDS = {
    **COMMON, "server.host": "relay.example.org", "server.single_port": "true",
    "server.proxy": "http://oli@proxy.example.org:3128", "server.proxy_password": "open sesame", "relays": "alps=127.0.0.1:7,jura=[::1]:8",
    "mqtt.endpoint": "mqtts://127.0.0.1:1884", "mqtt.cert_path": "@certificates",
    "mqtt.username": "zoe", "mqtt.password": "open sesame", "mqtt.prefix": "fleet/one", "mqtt.keepalive": "45s",
    "mqtt.alpn": "fleet-mqtt", "mqtt.proxy": "socks5://oli@proxy.example.org:1080", "mqtt.proxy_password": "open sesame", "mqtt.version": "3.1.1",
    "trust.policy": "psk", "trust.pins": "/nonexistent/pins", "stream.buffer": "128KiB", "timeouts.peer": "7s",
    "timeouts.resume_window": "7s", "timeouts.vanished": "8s", "timeouts.linger": "7s",
}
SAMPLES = {
    "relayd": {
        **COMMON, **AUDIT, "server.bind": "127.0.0.2", "server.ports_from": "7500", "server.ports_to": "8500",
        "server.port_cooldown": "7s", "relay.threads": "3", "relay.splice": "off", "relay.pipe_size": "128KiB",
        "relay.congestion": "reno", "relay.drain": "7s", "relay.refused": "@certificates/refused",
        "relay.access_list": "/nonexistent/access", "trust.authority": "gk1a." + 43 * "A", "timeouts.handshake": "7s", "timeouts.hello": "7s",
        "timeouts.join": "7s", "timeouts.join_peer": "7s", "timeouts.heartbeat_interval": "7s", "timeouts.heartbeat": "50s",
        "timeouts.pairing": "7s", "timeouts.session_grace": "7s", "timeouts.idle": "7s", "timeouts.lifetime": "7s",
        "timeouts.half_closed": "7s", "timeouts.ticket": "7s", "limits.preauth": "100",
        "limits.per_source": "3", "limits.sessions": "3", "limits.sessions_per_identity": "3", "limits.streams": "3",
        "limits.tickets": "3", "limits.frames": "100", "limits.descriptors": "100",
    },
    "agentd": {
        **ENDS, **AUDIT, "device.name": "GatewayEli", "device.tags": "site=zurich,role=gateway", "services": "web=127.0.0.1:80,plc=10.0.0.1:102",
        "trust.pins": "@certificates/operators.pins", "agent.data_host": "10.0.0.1", "agent.data_port": "2222", "agent.host_keys": "/nonexistent/*.pub",
        "agent.permit": "10.0.0.0/8:80,443 plc.local:*", "agent.keep_sessions": "true", "mqtt.reconnect_spread": "7s",
        "limits.sessions": "3", "limits.sessions_per_operator": "3", "limits.streams": "3", "timeouts.lifetime": "7s",
        "timeouts.dial": "7s", "trust.authority": "gk1a." + 43 * "A", "trust.access_max_age": "3d",
    },
    "cli": {**ENDS, "client.relay": "alps", "client.name": "zoe", "client.port": "5555", "timeouts.lifetime": "7min",
            "timeouts.answer": "7s", "client.shared_idle": "7s", "client.hold": "7s", "client.share": "true",
            "client.devices": "GatewayOli GatewayEli", "crypt.device_keys": "/nonexistent/keys",
            "crypt.device_keys_previous": "/nonexistent/keys", "trust.authority_key": "/nonexistent/key",
            "trust.authority": "gk1a." + 43 * "A", "trust.access_max_age": "3d", "enroll.ca": "/nonexistent/ca",
            "enroll.sign_command": "sign", "enroll.validity": "30d"},
}
ALL = [(program, path) for program in NAMES for path in SAMPLES[program]]
NEEDS = {"mqtt.alpn": {"GOTTHARD_MQTT_ENDPOINT": "localhost"}}  # TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=GatewayOli", "-keyout", folder / "private.key", "-out", folder / "cert.pem"],
                   check=True, capture_output=True)
    (folder / "ca.crt").write_bytes((folder / "cert.pem").read_bytes())
    os.chmod(folder / "private.key", 0o600)
    (folder / "refused").write_text("o:mallory\n")
    (folder / "operators.pins").write_text("")  # a configured file must exist
    return folder


@pytest.fixture
def sample(certificates):
    return lambda program, path: SAMPLES[program][path].replace("@certificates", str(certificates))


# --- the whole list -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", NAMES)
def test_help_shows_every_setting(program):
    assert set(items_of(program)) == set(shown(check(program)))
    assert set(items_of(program)) == set(SAMPLES[program]), "a setting without a sample value"


@pytest.mark.parametrize("program", NAMES)
def test_every_setting_and_option_has_an_effect_test(program):
    """A setting without effect is worse than none: for three years chisel did not read its documented secret."""
    known = set(items_of(program)) | options_of(program)
    tested = marked("effect")[program]
    assert not known - tested, "no test of the effect: mark one with @effect"
    variables = {name for name in tested if re.fullmatch("[A-Z][A-Z_]+", name)}
    assert not tested - known - variables, "marks of unknown settings"


@pytest.mark.parametrize("program", NAMES)
def test_every_protecting_setting_has_a_refusal_test(program):
    guards = {path for path in items_of(program)
              if path.startswith(("crypt.", "trust.")) or path in ("mqtt.cert_path", "mqtt.username", "mqtt.password", "services", "agent.permit",
                                                                       "server.proxy_password", "mqtt.proxy_password")}
    tested = marked("refuses")[program]
    assert not guards - tested, "no test that a wrong value is rejected: mark one with @refuses"
    assert not tested - set(items_of(program)), "marks of unknown settings"


def test_every_variable_has_an_effect_test():
    """Variables that the sources read by name. The variables of settings are tested in each form below."""
    read = set()
    for folder in ("common/gotthard", *(f"gotthard-{name}/src" for name in NAMES)):
        for source in (ROOT / folder).rglob("*.c"):
            read |= set(re.findall(r'\b(?:getenv|is_set|env_number)\("([A-Z_]+)"\)', source.read_text()))
    assert {"GOTTHARD_CONFIG_DIR", "NO_COLOR", "NOTIFY_SOCKET"} <= read
    tested = set().union(*marked("effect").values())
    assert not read - tested, "no test of the effect: mark one with @effect"


# --- each form reaches the value ------------------------------------------------------------------


@pytest.mark.parametrize("program, path", ALL)
def test_each_form(program, path, sample, tmp_path):
    """Variable, file, drop-in file, option: the value and its origin. A later form overrides an earlier one."""
    item, value = items_of(program)[path], sample(program, path)
    wanted = "set" if item.kind == "SECRET" else value
    assert shown(check(program))[path][0] != value
    variables = {"GOTTHARD_CONFIG_DIR": str(tmp_path), **NEEDS.get(path, {})}
    if item.variable:
        variables[item.variable] = value
        assert shown(check(program, env=variables))[path] == (wanted, item.variable)
    main = private_file(tmp_path / f"{program}.conf", "\n" + item.in_file(value))
    assert shown(check(program, env=variables))[path] == (wanted, f"{main}:2")
    drop_in = private_file(tmp_path / f"{program}.conf.d" / "10-more.conf", item.in_file(value))
    assert shown(check(program, env=variables))[path] == (wanted, f"{drop_in}:1")
    if item.flag and item.kind:
        for words in ([item.flag, value], [f"{item.flag}={value}"]):
            assert shown(check(program, *words, env=variables))[path] == (wanted, item.flag)
    elif item.flag:
        assert shown(check(program, item.flag, env=variables))[path] == ("true", item.flag)
        assert shown(check(program, item.flag.replace("--", "--no-"), env=variables))[path] == ("false", item.flag)


# Values without use for each kind of setting, and for single settings. A group's values are texts of pairs.
BAD_KINDS = {
    "N": ["2000000000"], "": ["2"], "TIME": ["1", "-1s", "1.5s", "99999d", "soon"], "SIZE": ["1", "1MB", "999GiB"],
    "WORD": ["nonsense", "Auto"], "NAME": ["a/b", "a b", "-x"], "HOST": ["https://x", "a b", "x:7000", "x/y", "-x", "1.2.3"],
    "PATH": ["~oli/x"], "PATHS": ["~oli/x /y"], "TEXT": ["bell\x07"],
    "URL": ["https://proxy:1", "proxy:0", "http://:pw@proxy:1", "http://a%zz@proxy:1", "proxy:1/path"],
    "GROUP": ["x=a b"],
}
BAD_VALUES = {
    "server.port": ["0", "65536"], "server.ports_from": ["0", "65536"], "server.ports_to": ["0", "65536"],
    "agent.data_port": ["0", "65536"], "client.port": ["65536"], "server.bind": ["nonsense", "localhost", "1.2.3.4:7000"],
    "relay.congestion": ["a b", "of-sixteen-bytes", "x/y"], "mqtt.prefix": ["a/#", "+", "a b", "a/b/c/d/e/f"],
    "mqtt.endpoint": ["https://x", "mqtt://x/path", "x:0", "x:65536", "a b", "mqtts://", "wss://x", "ws://x:80/mqtt"],
    "mqtt.alpn": ["a b"], "device.tags": ["x=a*", "x=" + 65 * "x"],
    **dict.fromkeys(("services", "relays"), ["x=nowhere", "x=h:0", "x=h:65536", "x=h:1:2", "x=:1"]),
}
PAIRS_OF_RANGE = {"relayd": ["server = { ports_from = 9000; ports_to = 8000; };", "server = { port = 9005; ports_from = 9000; ports_to = 9010; };",
                             "timeouts = { heartbeat_interval = \"60s\"; heartbeat = \"50s\"; };", "limits = { descriptors = 5; };"],
                  **dict.fromkeys(("agentd", "cli"), ['mqtt = { password = "x"; username = ""; };',
                                                      'mqtt = { endpoint = "mqtt://x"; alpn = "fleet-mqtt"; };'])}


@pytest.mark.parametrize("program, path", [each for each in ALL if not each[1].startswith("crypt.") and each[1] not in ("mqtt.password", "server.proxy_password", "mqtt.proxy_password")])
def test_value_without_use_is_refused_with_its_place(program, path, tmp_path):
    """For each setting: the message names the setting, the file and line or the variable, and the value."""
    item = items_of(program)[path]
    values = BAD_KINDS[item.kind] + BAD_VALUES.get(path, [])
    assert values, "a setting without a value that is refused"
    for value in values:
        shown_as = value.partition("=")[2] if item.kind == "GROUP" else value.replace("\x07", "\\x07")
        if item.kind == "URL":
            shown_as = "expected http://HOST:PORT, socks5://HOST:PORT or none"  # the value may contain a password
        conf = private_file(tmp_path / "my.conf", "\n\n" + item.in_file(value))
        done = check(program, "--config", conf, env={item.variable: None} if item.variable else None)
        assert done.returncode == 78, f"{value} is accepted"
        assert f"{conf}:3: {path}" in done.stderr and shown_as in done.stderr, done.stderr
        if not item.variable:
            continue
        done = check(program, env={item.variable: value})
        assert done.returncode == 78, f"{value} is accepted"
        assert f"{item.variable}: {path}: " in done.stderr and shown_as in done.stderr, done.stderr


@pytest.mark.parametrize("program, text", [(program, text) for program, texts in PAIRS_OF_RANGE.items() for text in texts])
def test_settings_that_contradict_each_other_are_refused(program, text, tmp_path):
    done = check(program, "--config", private_file(tmp_path / "my.conf", text), env={"GOTTHARD_MQTT_USERNAME": None, "GOTTHARD_MQTT_ENDPOINT": "x"})
    assert done.returncode == 78, done.stdout


@pytest.mark.parametrize("program", ["agentd", "cli"])
def test_endpoint_with_a_password_is_refused_without_showing_it(program):
    done = check(program, env={"GOTTHARD_MQTT_ENDPOINT": "mqtts://oli:sesame@broker.example.org"})
    assert done.returncode == 78 and "mqtt.username" in done.stderr and "sesame" not in done.stderr


@pytest.mark.parametrize("source", ["variables", "file"])
@pytest.mark.parametrize("program", NAMES)
def test_shown_configuration_is_a_configuration_file(program, source, sample, tmp_path):
    """What --check-config and config show print is accepted as a file, and has the same values. Secrets are not in it, but
    the files that contain them are."""
    items = items_of(program)
    variables, text = {}, []
    for path, item in items.items():
        value = sample(program, path)
        if item.kind == "SECRET":
            variables[f"{item.variable}_FILE"] = private_file(tmp_path / "secrets" / path, value)
        elif source == "variables" and item.variable:
            variables[item.variable] = value
        else:
            text.append((path.rpartition(".")[0], item.in_file(value)))
    groups = {}
    for group, line in text:
        groups.setdefault(group, []).append(re.sub(r"^\w+ = \{ (.*) \};$", r"\1", line) if group else line)
    first = private_file(tmp_path / "first.conf", "\n".join(
        f"{group} = {{ {' '.join(lines)} }};" if group else "\n".join(lines) for group, lines in groups.items()))
    empty = {name: None for name in COMPLETE[program]}
    done = check(program, "--config", first, env={**empty, **variables})
    values = shown(done)
    assert all(origin != "default" for _, origin in values.values()), values
    second = private_file(tmp_path / "second.conf", done.stdout)
    again = check(program, "--config", second, env=empty)
    assert {path: value for path, (value, _) in shown(again).items()} == {path: value for path, (value, _) in values.items()}
    assert all(str(second) in origin for _, origin in shown(again).values())
    assert OTHER_KEY not in done.stdout and "open sesame" not in done.stdout


@pytest.mark.parametrize("program", ["agentd", "cli"])
def test_shown_text_with_special_characters_is_read_again(program, tmp_path):
    name, value = "GOTTHARD_MQTT_USERNAME", 'J\u00fcrg "the" \\ one; # }'
    done = check(program, env={name: value})
    again = check(program, "--config", private_file(tmp_path / "file", done.stdout),
                  env={name: None})
    assert shown(again)["mqtt.username"][0] == shown(done)["mqtt.username"][0] == value


# --- paths ----------------------------------------------------------------------------------------

PATHS = [(program, path) for program, path in ALL if path in ("mqtt.cert_path", "trust.pins", "agent.host_keys", "crypt.device_keys")]


@pytest.mark.parametrize("program, path", PATHS)
def test_path_is_relative_to_its_file_or_to_the_home(program, path, certificates, tmp_path):
    item = items_of(program)[path]
    for where in (tmp_path / "etc", tmp_path / "home", tmp_path / "working"):
        where.mkdir()
        (where / "pins").write_text("")
        (where / "keys").symlink_to(certificates)
    name = "keys" if path == "mqtt.cert_path" else "pins"

    def value(text, cwd="/", **variables):
        command = ["config", "show"] if program == "cli" else ["--check-config"]
        conf = private_file(tmp_path / "etc/my.conf", item.in_file(text) if text else "")
        config = os.path.relpath(conf, cwd)
        done = subprocess.run([PROGRAMS[program], *command, "--config", config], cwd=cwd, capture_output=True, text=True,
                              timeout=LIMIT, check=False, env=harness.clean_environment(
                                  **{**COMPLETE[program], "HOME": tmp_path / "home", **variables}))
        return shown(done)[path][0]

    assert value(name) == str(tmp_path / "etc" / name)
    assert value("./" + name, cwd=tmp_path) == str(tmp_path / "etc" / name)
    assert value("../working/" + name) == str(tmp_path / "etc/../working" / name)
    assert value("~/" + name) == str(tmp_path / "home" / name)
    assert value("", cwd=tmp_path / "working", **{item.variable: name}) == str(tmp_path / "working" / name)
    assert value("", **{item.variable: f"~/{name}"}) == str(tmp_path / "home" / name)
    bad = check(program, "--config", private_file(tmp_path / "bad.conf", item.in_file("~oli/" + name)))
    assert bad.returncode == 78 and f"bad.conf:1: {path}:" in bad.stderr and "~oli/" in bad.stderr, bad.stderr


@pytest.mark.parametrize("program", NAMES)
def test_file_of_a_secret_is_relative_to_its_file_or_to_the_home(program, tmp_path):
    item = items_of(program)["crypt.key"]
    private_file(tmp_path / "etc/key", KEY)
    private_file(tmp_path / "home/key", KEY)
    bare = {"GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_IV": IV, "HOME": str(tmp_path / "home")}
    for text in ("key", "~/key", "../home/key"):
        conf = private_file(tmp_path / "etc/my.conf", item.in_file(text, "_file"))
        assert shown(check(program, "--config", conf, env=bare))["crypt.key"] == ("set", f"{conf}:1"), text
    empty = private_file(tmp_path / "empty.conf", "")
    done = check(program, "--config", empty, env={**bare, "GOTTHARD_CRYPT_KEY_FILE": "~/key"})
    assert shown(done)["crypt.key"][0] == "set"


SECRETS = [(program, path) for program, path in ALL if path in ("crypt.key", "crypt.iv", "crypt.key_previous", "mqtt.password")]


@effect("all", "CREDENTIALS_DIRECTORY")
@pytest.mark.parametrize("program, path", SECRETS)
def test_each_form_of_a_secret(program, path, sample, tmp_path):
    """VARIABLE_FILE, a credential of systemd, key_file in a file. A file readable by others or an empty file is rejected."""
    item, value = items_of(program)[path], sample(program, path)
    assert item.kind == "SECRET" and item.variable and not item.flag
    secret = private_file(tmp_path / "secret", value + "\n")
    credential = private_file(tmp_path / "credentials" / item.variable.lower(), value)
    conf = private_file(tmp_path / f"{program}.conf", item.in_file(secret, "_file"))
    twice = check(program, env={item.variable: value, f"{item.variable}_FILE": str(secret)})
    assert twice.returncode == 78 and "twice" in twice.stderr and value not in twice.stderr
    variables = {item.variable: None, f"{item.variable}_FILE": str(secret)}
    for source, more, origin in (
            (secret, {}, f"{item.variable}_FILE"),
            (credential, {"CREDENTIALS_DIRECTORY": str(credential.parent)}, str(credential)),
            (secret, {"GOTTHARD_CONFIG_DIR": str(tmp_path)}, f"{conf}:1")):
        variables.update(more)
        done = check(program, env=variables)
        assert shown(done)[path] == ("set", origin)
        assert value not in done.stdout + done.stderr
        source.chmod(0o644)
        done = check(program, env=variables)
        assert done.returncode == 78 and str(source) in done.stderr and value not in done.stderr
        source.chmod(0o600)
        source.write_text("\n")
        assert check(program, env=variables).returncode == 78
        source.write_text(value)


def use_key(program, variables):
    """Returns the exit status of a command that reads the key."""
    if program != "cli":
        return check(program, env=variables).returncode
    return subprocess.run([PROGRAMS["cli"], "keygen", "relay"], env=harness.clean_environment(**variables), capture_output=True,
                          timeout=LIMIT, check=False).returncode


@refuses("all", "crypt.key", "crypt.iv", "crypt.key_previous")
@pytest.mark.parametrize("program, path", [s for s in SECRETS if s[1] != "mqtt.password"])
def test_each_form_of_a_key_is_read(program, path, tmp_path):
    """An invalid key is refused in each form of the setting, which shows that each form is read."""
    item = items_of(program)[path]
    whole = {**COMPLETE[program], "GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV}
    wrong = KEY if path == "crypt.iv" else "short"  # a salt may be anything but the key
    forms = {
        "variable": {item.variable: wrong},
        "file": {f"{item.variable}_FILE": private_file(tmp_path / "secret", wrong)},
        "credential": {"CREDENTIALS_DIRECTORY": private_file(tmp_path / "c" / item.variable.lower(), wrong).parent},
        "in a file": {"GOTTHARD_CONFIG_DIR": private_file(tmp_path / "a" / f"{program}.conf", item.in_file(wrong)).parent},
        "by a file": {"GOTTHARD_CONFIG_DIR": private_file(
            tmp_path / "b" / f"{program}.conf", item.in_file(tmp_path / "secret", "_file")).parent},
    }
    assert use_key(program, whole) == 0
    for name, form in forms.items():
        bare = whole if name == "variable" else {**whole, item.variable: None}
        assert use_key(program, {**bare, **form}) == 78, name


@pytest.mark.parametrize("program", NAMES)
def test_key_file_accepts_output_of_keygen(program, tmp_path):
    made = subprocess.run([PROGRAMS["cli"], "keygen"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    path = private_file(tmp_path / "fleet.key", made)
    variables = {**COMPLETE[program], "GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_IV": None}
    assert use_key(program, {**variables, "GOTTHARD_CRYPT_KEY_FILE": path, "GOTTHARD_CRYPT_IV_FILE": path}) == 0
    assert use_key(program, variables) == 78


# --- paths of the files ---------------------------------------------------------------------------


@effect("all", "GOTTHARD_CONFIG_DIR")
@pytest.mark.parametrize("program", NAMES)
def test_config_dir(program, tmp_path):
    """Replaces /etc/gotthard: the program's file and then its drop-ins in the order of their names, and no other file."""
    def port(**more):
        return shown(check(program, GOTTHARD_CONFIG_DIR=tmp_path, **more))["server.port"]

    def write(name, number):
        return private_file(tmp_path / name, f"server = {{ port = {number}; }};")

    write("other.conf", 1)
    assert port() == ("7000", "default")
    main = write(f"{program}.conf", 9001)
    assert port() == ("9001", f"{main}:1")
    last = write(f"{program}.conf.d/20-b.conf", 9003)
    write(f"{program}.conf.d/10-a.conf", 9002)
    write(f"{program}.conf.d/30-c.conf.off", 9004)
    write(f"{program}.conf.d/.40-d.conf", 9005)
    assert port() == ("9003", f"{last}:1")
    assert port(GOTTHARD_SERVER_PORT=9006) == ("9003", f"{last}:1")
    private_file(tmp_path / f"{program}.conf.d/20-b.conf", "server = { prt = 1; };")
    done = check(program, GOTTHARD_CONFIG_DIR=tmp_path)
    assert done.returncode == 78 and f"{last}:1" in done.stderr


@effect("cli", "HOME", "XDG_CONFIG_HOME")
def test_folder_of_the_user(tmp_path):
    home = private_file(tmp_path / "home/.config/gotthard/cli.conf", 'client = { name = "home"; };')
    moved = private_file(tmp_path / "xdg/gotthard/cli.conf", 'client = { name = "moved"; };')
    variables = {"HOME": str(tmp_path / "home")}
    assert shown(check("cli", env=variables))["client.name"] == ("home", f"{home}:1")
    assert shown(check("cli", XDG_CONFIG_HOME=tmp_path / "xdg", env=variables))["client.name"] == ("moved", f"{moved}:1")
    assert shown(check("cli", XDG_CONFIG_HOME="not/absolute", env=variables))["client.name"] == ("home", f"{home}:1")
    for program in ("relayd", "agentd"):  # services do not read the user's folder
        private_file(tmp_path / f"home/.config/gotthard/{program}.conf", "server = { port = 1; };")
        assert shown(check(program, env=variables))["server.port"][0] == "7000"


@effect("all", "--config")
@pytest.mark.parametrize("program", NAMES)
def test_config_option(program, tmp_path):
    """The given file replaces the usual ones."""
    private_file(tmp_path / f"{program}.conf", 'server = { port = 1; }; log = { level = "error"; };')
    mine = private_file(tmp_path / "mine", "server = { port = 2; };")
    values = shown(check(program, "--config", mine, GOTTHARD_CONFIG_DIR=tmp_path))
    assert values["server.port"] == ("2", f"{mine}:1") and values["log.level"] == ("info", "default")
    for missing in (tmp_path / "none", tmp_path):
        assert check(program, "--config", missing).returncode == 78


# --- the daemons' own options ---------------------------------------------------------------------


def run(program, *args, **variables):
    return subprocess.run([PROGRAMS[program], *args], env=harness.clean_environment(**variables), capture_output=True, text=True,
                          timeout=LIMIT, check=False)


@effect("relayd", "--check-config")
@effect("agentd", "--check-config")
@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_check_config(program):
    """Exits with 0 or 78 without listening or connecting: neither broker nor ports exist."""
    done = check(program, "--log-level", "debug")
    assert done.returncode == 0 and shown(done)["log.level"][0] == "debug"
    assert "listening" not in done.stderr and "started" not in done.stderr
    assert check(program, GOTTHARD_CRYPT_KEY=None).returncode == 78
    assert check(program, GOTTHARD_SERVER_PORT="0").returncode == 78


@effect("all", "--help", "--version")
@pytest.mark.parametrize("program", NAMES)
def test_help_and_version(program):
    """They need no configuration and also have a short form."""
    broken = {"GOTTHARD_SERVER_PORT": "nonsense"}
    version = (ROOT / "common" / "VERSION").read_text().strip()
    for args in (["--version"], ["-V"]):
        done = run(program, *args, **broken)
        assert (done.returncode, done.stdout) == (0, f"gotthard-{program} {version}\n")
    for args in (["--help"], ["-h"]):
        done = run(program, *args, **broken)
        assert (done.returncode, done.stdout, done.stderr) == (0, help_of(program), "")
    for args in (["--frob"], ["--helpful"], ["-x"], ["--server-port"], ["--crypt-key", KEY]):
        assert run(program, *args).returncode == 64


@effect("all", "JOURNAL_STREAM")
@pytest.mark.parametrize("program", NAMES)
def test_lines_for_the_journal(program, tmp_path):
    """If standard error is the journal's stream, a line begins with its priority and has no time."""
    command = ["connect", "GatewayOli"] if program == "cli" else []
    with open(tmp_path / "stream", "w", encoding="ascii") as stream:
        st = os.fstat(stream.fileno())
        for journal in (f"{st.st_dev}:{st.st_ino}", f"{st.st_dev}:{st.st_ino + 1}"):
            subprocess.run([PROGRAMS[program], *command], env=harness.clean_environment(JOURNAL_STREAM=journal),
                           stderr=stream, timeout=LIMIT, check=False)
    first, second = pathlib.Path(stream.name).read_text().splitlines()[:2]
    assert re.match("<[0-7]>[^0-9]", first), first
    assert re.match(r"\d{4}-\d\d-\d\dT", second), second
