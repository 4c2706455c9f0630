# SPDX-License-Identifier: ISC
"""Every setting, in each of its forms, reaches its value; and each has a test of what it does.

The effects themselves are in test_settings_relayd.py, _agentd.py and _cli.py, and in other tests that carry the mark.
"""

import os
import pathlib
import re
import subprocess

import pytest

import harness
from harness import LIMIT, PROGRAMS, ROOT
from settings import COMPLETE, IV, KEY, NAMES, check, effect, help_of, items_of, marked, options_of, private_file, refuses, shown

OTHER_KEY = bytes(range(100, 132)).hex()

# A value of each setting that is not its default.
COMMON = {
    "server.port": "6999", "crypt.key": OTHER_KEY, "crypt.key_previous": OTHER_KEY, "crypt.iv": "5a" * 16,
    "log.level": "warn",
}
ENDS = {
    **COMMON, "server.host": "relay.example.org", "server.single_port": "true", "relays": "alps=127.0.0.1:7,jura=[::1]:8",
    "mqtt.endpoint": "mqtt://127.0.0.1:1884", "mqtt.cert_path": "@certificates",
    "mqtt.username": "zoe", "mqtt.password": "open sesame", "mqtt.prefix": "fleet/one", "mqtt.keepalive": "45s",
    "trust.policy": "psk", "trust.pins": "/nonexistent/pins", "stream.buffer": "128KiB", "limits.peer_timeout": "7s",
    "resume_window": "7s",
}
SAMPLES = {
    "relayd": {
        **COMMON, "server.bind": "127.0.0.2", "server.ports_from": "7500", "server.ports_to": "8500",
        "server.ports_rest": "7s", "relay.threads": "3", "relay.splice": "off", "relay.pipe_size": "128KiB",
        "relay.congestion": "reno", "relay.drain": "7s", "limits.handshake": "7s", "limits.hello": "7s",
        "limits.join": "7s", "limits.second_join": "7s", "limits.heartbeat": "7s", "limits.dead_after": "50s",
        "limits.half": "7s", "limits.grace": "7s", "limits.idle": "7s", "limits.lifetime": "7s",
        "limits.half_closed": "7s", "limits.ticket": "7s", "limits.preauth": "100", "limits.preauth_drop_from": "50",
        "limits.per_source": "3", "limits.penalty_failed": "7s", "limits.penalty_timeout": "7s",
        "limits.penalty_max": "7s", "limits.sessions": "3", "limits.sessions_per_identity": "3", "limits.streams": "3",
        "limits.tickets": "3", "limits.frames": "100", "limits.descriptors": "100",
    },
    "agentd": {
        **ENDS, "device.name": "GatewayEli", "services": "web=127.0.0.1:80,plc=10.0.0.1:102",
        "agent.data_host": "10.0.0.1", "agent.data_port": "2222", "agent.host_keys": "/nonexistent/*.pub",
        "limits.sessions": "3", "limits.per_operator": "3", "limits.streams": "3", "limits.lifetime": "7s",
        "limits.dial_timeout": "7s",
    },
    "cli": {**ENDS, "client.relay": "alps", "client.name": "zoe", "client.port": "5555", "client.lifetime": "7min",
            "client.answer_timeout": "7s", "client.spares": "3"},
}
ALL = [(program, path) for program in NAMES for path in SAMPLES[program]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=GatewayOli", "-keyout", folder / "private.key", "-out", folder / "cert.pem"],
                   check=True, capture_output=True)
    (folder / "ca.crt").write_bytes((folder / "cert.pem").read_bytes())
    os.chmod(folder / "private.key", 0o600)
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
def test_every_setting_and_option_has_a_test_of_its_effect(program):
    """A setting that does nothing is worse than none: chisel's documented secret was never read for three years."""
    there = set(items_of(program)) | options_of(program)
    tested = marked("effect")[program]
    assert not there - tested, "no test shows what these do: mark one with @effect"
    variables = {name for name in tested if re.fullmatch("[A-Z][A-Z_]+", name)}
    assert not tested - there - variables, "marks of what is no setting"


@pytest.mark.parametrize("program", NAMES)
def test_every_setting_that_guards_something_has_a_test_of_a_wrong_value(program):
    guards = {path for path in items_of(program)
              if path.startswith(("crypt.", "trust.")) or path in ("mqtt.cert_path", "mqtt.username", "mqtt.password", "services")}
    tested = marked("refuses")[program]
    assert not guards - tested, "no test shows that a wrong value is refused: mark one with @refuses"
    assert not tested - set(items_of(program)), "marks of what is no setting"


def test_every_variable_that_is_read_has_a_test_of_its_effect():
    """Those of the tables are tested in each form below; these are looked up by name."""
    read = set()
    for folder in ("common/gotthard", *(f"gotthard-{name}/src" for name in NAMES)):
        for source in (ROOT / folder).glob("*.c"):
            read |= set(re.findall(r'\b(?:getenv|is_set|env_number)\("([A-Z_]+)"\)', source.read_text()))
    assert {"GOTTHARD_CONFIG_DIR", "NO_COLOR", "NOTIFY_SOCKET"} <= read
    tested = set().union(*marked("effect").values())
    assert not read - tested, "no test shows what these do: mark one with @effect"


# --- each form reaches the value ------------------------------------------------------------------


@pytest.mark.parametrize("program, path", ALL)
def test_each_form(program, path, sample, tmp_path):
    """Variable, file, drop-in file, option: the value, and where it came from; the later form wins over the earlier."""
    item, value = items_of(program)[path], sample(program, path)
    wanted = "set" if item.kind == "SECRET" else value
    assert shown(check(program))[path][0] != value
    env = {"GOTTHARD_CONFIG_DIR": str(tmp_path)}
    if item.variable:
        env[item.variable] = value
        assert shown(check(program, env=env))[path] == (wanted, item.variable)
    main = private_file(tmp_path / f"{program}.conf", "\n" + item.in_file(value))
    assert shown(check(program, env=env))[path] == (wanted, f"{main}:2")
    drop_in = private_file(tmp_path / f"{program}.conf.d" / "10-more.conf", item.in_file(value))
    assert shown(check(program, env=env))[path] == (wanted, f"{drop_in}:1")
    if item.flag and item.kind:
        for words in ([item.flag, value], [f"{item.flag}={value}"]):
            assert shown(check(program, *words, env=env))[path] == (wanted, item.flag)
    elif item.flag:
        assert shown(check(program, item.flag, env=env))[path] == ("true", item.flag)
        assert shown(check(program, item.flag.replace("--", "--no-"), env=env))[path] == ("false", item.flag)


SECRETS = [(program, path) for program, path in ALL if path.startswith("crypt.") or path == "mqtt.password"]


@effect("all", "CREDENTIALS_DIRECTORY")
@pytest.mark.parametrize("program, path", SECRETS)
def test_each_form_of_a_secret(program, path, sample, tmp_path):
    """VARIABLE_FILE, a credential of systemd's, key_file in a file; none may be readable by others, nor empty."""
    item, value = items_of(program)[path], sample(program, path)
    assert item.kind == "SECRET" and item.variable and not item.flag
    secret = private_file(tmp_path / "secret", value + "\n")
    credential = private_file(tmp_path / "credentials" / item.variable.lower(), value)
    conf = private_file(tmp_path / f"{program}.conf", item.in_file(secret, "_file"))
    twice = check(program, env={item.variable: value, f"{item.variable}_FILE": str(secret)})
    assert twice.returncode == 78 and "twice" in twice.stderr and value not in twice.stderr
    env = {item.variable: None, f"{item.variable}_FILE": str(secret)}
    for source, more, origin in (
            (secret, {}, f"{item.variable}_FILE"),
            (credential, {"CREDENTIALS_DIRECTORY": str(credential.parent)}, str(credential)),
            (secret, {"GOTTHARD_CONFIG_DIR": str(tmp_path)}, f"{conf}:1")):
        env.update(more)
        done = check(program, env=env)
        assert shown(done)[path] == ("set", origin)
        assert value not in done.stdout + done.stderr
        source.chmod(0o644)
        done = check(program, env=env)
        assert done.returncode == 78 and str(source) in done.stderr and value not in done.stderr
        source.chmod(0o600)
        source.write_text("\n")
        assert check(program, env=env).returncode == 78
        source.write_text(value)


def use_key(program, env):
    """The exit code of what reads the key."""
    if program != "cli":
        return check(program, env=env).returncode
    return subprocess.run([PROGRAMS["cli"], "keygen", "relay"], env=harness.clean_environment(**env), capture_output=True,
                          timeout=LIMIT, check=False).returncode


@refuses("all", "crypt.key", "crypt.iv", "crypt.key_previous")
@pytest.mark.parametrize("program, path", [s for s in SECRETS if s[1] != "mqtt.password"])
def test_each_form_of_a_key_is_read(program, path, tmp_path):
    """A key that is none, in each form, is refused by what needs it: so each form is what is used."""
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
def test_a_key_s_file_may_be_what_keygen_prints(program, tmp_path):
    made = subprocess.run([PROGRAMS["cli"], "keygen"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    path = private_file(tmp_path / "fleet.key", made)
    env = {**COMPLETE[program], "GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_IV": None}
    assert use_key(program, {**env, "GOTTHARD_CRYPT_KEY_FILE": path, "GOTTHARD_CRYPT_IV_FILE": path}) == 0
    assert use_key(program, env) == 78


# --- where files are looked for -------------------------------------------------------------------


@effect("all", "GOTTHARD_CONFIG_DIR")
@pytest.mark.parametrize("program", NAMES)
def test_config_dir(program, tmp_path):
    """Moves /etc/gotthard: the program's file, then its drop-ins in the order of their names, and nothing else."""
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
    env = {"HOME": str(tmp_path / "home")}
    assert shown(check("cli", env=env))["client.name"] == ("home", f"{home}:1")
    assert shown(check("cli", XDG_CONFIG_HOME=tmp_path / "xdg", env=env))["client.name"] == ("moved", f"{moved}:1")
    assert shown(check("cli", XDG_CONFIG_HOME="not/absolute", env=env))["client.name"] == ("home", f"{home}:1")
    for program in ("relayd", "agentd"):  # services have no home
        private_file(tmp_path / f"home/.config/gotthard/{program}.conf", "server = { port = 1; };")
        assert shown(check(program, env=env))["server.port"][0] == "7000"


@effect("all", "--config")
@pytest.mark.parametrize("program", NAMES)
def test_config_option(program, tmp_path):
    """That file instead of the usual ones, not beside them."""
    private_file(tmp_path / f"{program}.conf", 'server = { port = 1; }; log = { level = "error"; };')
    mine = private_file(tmp_path / "mine", "server = { port = 2; };")
    values = shown(check(program, "--config", mine, GOTTHARD_CONFIG_DIR=tmp_path))
    assert values["server.port"] == ("2", f"{mine}:1") and values["log.level"] == ("info", "default")
    for missing in (tmp_path / "none", tmp_path):
        assert check(program, "--config", missing).returncode == 78


# --- the daemons' own options ---------------------------------------------------------------------


def run(program, *args, **env):
    return subprocess.run([PROGRAMS[program], *args], env=harness.clean_environment(**env), capture_output=True, text=True,
                          timeout=LIMIT, check=False)


@effect("relayd", "--check-config")
@effect("agentd", "--check-config")
@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_check_config(program):
    """Ends by itself, with 0 or 78, and neither listens nor dials: the broker and the ports are not even there."""
    done = check(program, "--log-level", "debug")
    assert done.returncode == 0 and shown(done)["log.level"][0] == "debug"
    assert "listening" not in done.stderr and "started" not in done.stderr
    assert check(program, GOTTHARD_CRYPT_KEY=None).returncode == 78
    assert check(program, GOTTHARD_SERVER_PORT="0").returncode == 78


@effect("all", "--help", "--version")
@pytest.mark.parametrize("program", NAMES)
def test_help_and_version(program):
    """They need no configuration, and take a letter too."""
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
    """Where standard error is the journal's stream a line begins with its priority; the journal knows the time."""
    command = ["connect", "GatewayOli"] if program == "cli" else []
    with open(tmp_path / "stream", "w", encoding="ascii") as stream:
        st = os.fstat(stream.fileno())
        for journal in (f"{st.st_dev}:{st.st_ino}", f"{st.st_dev}:{st.st_ino + 1}"):
            subprocess.run([PROGRAMS[program], *command], env=harness.clean_environment(JOURNAL_STREAM=journal),
                           stderr=stream, timeout=LIMIT, check=False)
    first, second = pathlib.Path(stream.name).read_text().splitlines()[:2]
    assert re.match("<[0-7]>[^0-9]", first), first
    assert re.match(r"\d{4}-\d\d-\d\dT", second), second
