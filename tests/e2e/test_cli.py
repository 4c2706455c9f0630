# SPDX-License-Identifier: ISC
"""gotthard-cli by itself: its output and exit statuses, without a tunnel and mostly without a broker."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import LIMIT, PROGRAMS, ROOT, Process, clean_environment, free_ports, wait_until
from setting_markers import shown
from terminal import Terminal

CLI = str(PROGRAMS["cli"])
KEY = bytes(range(32)).hex()
IV = bytes(range(0xA0, 0xB0)).hex()
GOOD = {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV, "GOTTHARD_SERVER_HOST": "localhost",
        "GOTTHARD_CLIENT_PORT": "0", "GOTTHARD_MQTT_ENDPOINT": "mqtt://127.0.0.1:1"}


def run(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec=None, program=CLI, cwd=None, **variables):
    return subprocess.run([program, *map(str, args)], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True,
                          env=clean_environment(**variables), timeout=LIMIT, preexec_fn=preexec, cwd=cwd)


def run_on_terminal(*args, **variables):
    """With standard error on a pseudo-terminal: (exit status, output)."""
    reader, terminal = pty.openpty()
    child = subprocess.Popen([CLI, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal,
                             env=clean_environment(**{"TERM": "xterm", "LANG": "C.UTF-8", **variables}))
    os.close(terminal)
    text = b""
    while select.select([reader], [], [], LIMIT)[0]:
        try:
            data = os.read(reader, 65536)
        except OSError:
            break
        if not data:
            break
        text += data
    os.close(reader)
    return child.wait(LIMIT), text.decode()


def error_id(result):
    found = re.search(r"\[(GTD-E\d+)\]", result.stderr)
    return found and found.group(1)


# --- usage ----------------------------------------------------------------------------------------


def test_no_arguments():
    result = run()
    assert result.returncode == 64
    assert result.stdout == ""
    assert "connect DEVICE" in result.stderr


@pytest.mark.parametrize("args", [
    ["frobnicate"], ["connect"], ["connect", "dev", "1:2:3:4"], ["connect", "dev", "65536"], ["connect", "dev", ""],
    ["disconnect"], ["disconnect", "a", "b"], ["devices", "1x=y"], ["status", "a", "b"], ["forget"], ["forget", "a"], ["forget", "a", "b"], ["config"], ["config", "hide"], ["completion"], ["completion", "tcsh"],
    ["keygen", "device"], ["keygen", "device", "a", "b"], ["keygen", "device", "enroll-1"], ["keygen", "operator", "bob", "enroll-1"],
    ["connect", "enroll-1"], ["keygen", "operator"], ["keygen", "operator", "a/b"],
    ["keygen", "operator", "bob", "a/b"], ["keygen", "operator", "bob", "x", "y", "x"], ["keygen", "relay", "x"], ["keygen", "house"], ["keygen", ""], ["fingerprint", "x"], ["version", "x"], ["--frob"],
    ["connect", "--frob", "dev"], ["-x"], ["connect", "-x"], ["connect", "--bind"], ["connect", "dev", "--client-port"],
    ["--json=yes", "version"], ["--", "--help"], ["connect", "dev", *["0:22"] * 70],
])
def test_misuse(args):
    result = run(*args, **GOOD)
    assert result.returncode == 64, result.stderr
    assert result.stdout == ""
    assert "--help" in result.stderr or "see --help" in result.stderr


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["connect", "--help"], ["--version"], ["-V"], ["version"]])
def test_help_and_version_are_fast(args):
    began = time.monotonic()
    result = run(*args)
    assert result.returncode == 0
    assert result.stdout
    assert result.stderr == ""
    assert time.monotonic() - began < 5  # a machine under load and sanitizers; by itself it takes milliseconds


def test_version_is_the_one_version():
    version = (ROOT / "common" / "VERSION").read_text().strip()
    assert run("--version").stdout == f"gotthard-cli {version}\n"
    assert json.loads(run("version", "--json").stdout)["version"] == version


COMMANDS = ("connect", "proxy", "ssh", "run", "ssh-config", "known-hosts", "sessions", "disconnect", "status", "devices", "forget", "doctor", "keygen", "fingerprint", "access", "revoke", "ca", "enroll", "join", "add", "config", "completion", "version", "help")
ANY_OPTION = {"--json": [], "--print-port": [], "--bind": ["nonsense"], "--socket": ["/nonexistent/x"], "--config": ["/nonexistent"], "--server-host": ["x"],
              "--server-port": ["1"], "--single-port": [], "--no-single-port": [], "--relay": ["x"], "--client-name": ["x"],
              "--client-port": ["0"], "--share": [], "--mqtt-endpoint": ["x"], "--cert-path": ["/"], "--lifetime": ["1h"],
              "--answer-timeout": ["1s"], "--log-level": ["info"], "--online": [], "--yes": [], "--all": [], "--reason": ["x"], "--wait=1s": [], "--background": [], "--device": [], "--for": ["1h"], "--operator": [], "--new-relay": [], "--fingerprint": ["00" * 32], "--replace": [], "--qr": [], "--output": ["/nonexistent/x"], "--force": []}
ARGUMENTS = {"ca": ["init"], "enroll": ["dev", "--yes"], "join": ["/nonexistent"], "add": ["device", "dev", "--output", "/nonexistent/x"], "access": ["show"], "revoke": ["x"], "completion": ["bash"], "connect": ["dev"], "proxy": ["dev"], "ssh": ["dev"], "run": ["--on", "dev", "true"], "known-hosts": ["dev"], "disconnect": ["dev"], "forget": ["dev", "--yes"], "config": ["show"]}


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_help_names_each_command(args):
    text = run(*args).stdout
    for command in ("connect", "proxy", "ssh", "ssh-config", "known-hosts", "disconnect", "config show"):
        assert f"\n  {command}" in text
    assert "server\n" not in text
    assert set(re.findall(r"^  ([a-z-]+)", text, re.MULTILINE)) == set(COMMANDS)


def test_manual_has_synopsis_of_each_command():
    manual = (ROOT / "gotthard-cli" / "gotthard-cli.1.scd").read_text()
    synopsis = manual.split("# SYNOPSIS")[1].split("\n# ")[0]
    assert set(re.findall(r"\*gotthard-cli\* \*([a-z-]+)", synopsis)) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_command_has_usage_options_and_example(command):
    text = run("help", command).stdout
    assert text.startswith(f"Usage: gotthard-cli {command}")
    assert "\nOptions:\n" in text and "\nExample:\n" in text and f"\n  gotthard-cli {command}" in text
    for args in ([command, "--help"], ["--help", command], [command, "-h", *ARGUMENTS.get(command, [])]):
        result = run(*args)
        assert (result.returncode, result.stdout, result.stderr) == (0, text, "")


def test_help_of_a_command_with_its_second_word():
    """`help` takes the words of the usage: config show."""
    assert run("help", "config", "show").stdout == run("help", "config").stdout
    result = run("help", "config", "hide")
    assert result.returncode == 64 and "unexpected argument 'hide'" in result.stderr


def test_help_of_unknown_command():
    for args in (["help", "frobnicate"], ["frobnicate", "--help"]):
        result = run(*args)
        assert (result.returncode, result.stdout) == (64, "")
        assert result.stderr.startswith("gotthard-cli: unknown command 'frobnicate'\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_accepts_the_options_of_its_help_only(command):
    """Each option of any command is either in the help of this one, or a usage error here."""
    text = run("help", command).stdout
    for option, values in ANY_OPTION.items():
        args = [*ARGUMENTS.get(command, []), option, *values]
        if command == "ssh":  # the arguments after the device are ssh's
            args = [option, *values, "dev"]
        if command == "run":
            args = [option, *values, *ARGUMENTS["run"]]
        variables = {**GOOD, "GOTTHARD_SERVER_HOST": ""} if command == "enroll" else GOOD  # it would wait at a relay
        result = run(command, *args, **variables)
        if re.search(rf"^  (-., )?{option.replace('--no-', '--').split('=')[0]}\b", text, re.M):
            assert result.returncode != 64, result.stderr
        else:
            assert (result.returncode, result.stdout) == (64, ""), option
            name = option.replace("--no-", "--").split("=")[0]
            assert result.stderr == (f"gotthard-cli {command}: unrecognized option '{name}'\n"
                                     f"Try 'gotthard-cli {command} --help'.\n")


def test_options_of_commands():
    """Spot checks of the table: what version and connect accept."""
    assert run("version", "--bind", "nonsense").returncode == 64
    assert run("--bind", "nonsense", "version").returncode == 64
    assert run("version", "--log-level", "debug").returncode == 64
    for option in ("--json", "--print-port", "--bind", "--config", "--server-host", "--share", "--log-level"):
        assert option in run("help", "connect").stdout


@pytest.mark.parametrize("args, message", [
    (["connect"], "gotthard-cli connect: missing argument\n"),
    (["status", "a", "b"], "gotthard-cli status: unexpected argument 'b'\n"),
    (["frobnicate"], "gotthard-cli: unknown command 'frobnicate'\n"),
    (["--frob"], "gotthard-cli: unrecognized option '--frob'\n"),
    (["connect", "--frob", "dev"], "gotthard-cli connect: unrecognized option '--frob'\n"),
    (["connect", "--bind"], "gotthard-cli connect: option '--bind' requires an argument\n"),
    (["--json=yes", "version"], "gotthard-cli: option '--json' doesn't allow an argument\n"),
])
def test_usage_errors_have_the_usual_form(args, message):
    assert run(*args, **GOOD).stderr.startswith(message)


def test_name_with_escape_sequences_is_not_shown_raw():
    result = run("connect", "\x1b[31mred", **GOOD)
    assert result.returncode == 64
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("name", ["a/b", "#", "+", "a b", " a", "a ", "-x", "", "x" * 129, "x" * 256, "a\nb", "é", "$SYS", ".a"])
@pytest.mark.parametrize("command", ["connect", "disconnect", "status"])
def test_bad_device_names(command, name):
    result = run(command, "--", name, **GOOD)
    assert result.returncode == 64
    assert result.stdout == ""


# --- standard descriptors -------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["version"], ["keygen"], ["config", "show"], ["--help"]])
def test_closed_standard_output(args):
    result = run(*args, stdout=None, preexec=lambda: os.close(1))
    assert result.returncode == 70
    assert "standard output" in result.stderr


@pytest.mark.parametrize("args", [["version"], ["keygen"], ["config", "show"], ["--help"]])
def test_full_standard_output(args):
    with open("/dev/full", "w", encoding="ascii") as full:
        result = run(*args, stdout=full)
    assert result.returncode == 70


def test_full_standard_error():
    with open("/dev/full", "w", encoding="ascii") as full:
        assert run("connect", "dev", stderr=full, **GOOD).returncode == 69
        assert run(stderr=full).returncode == 64


def test_all_standard_descriptors_closed():
    def close_all():
        for fd in (0, 1, 2):
            os.close(fd)

    assert run("connect", "--json", "dev", stdout=None, stderr=None, preexec=close_all, **GOOD).returncode == 69


def test_reader_goes_away():
    reader, writer = os.pipe()
    os.close(reader)
    result = run("connect", "--json", "dev", stdout=writer, **GOOD)
    os.close(writer)
    assert result.returncode == 69


# --- keys -----------------------------------------------------------------------------------------


def keygen(*args, **variables):
    result = run("keygen", *args, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_keygen_makes_an_environment_file():
    made = dict(line.split("=", 1) for line in keygen().splitlines())
    assert list(made) == ["GOTTHARD_CRYPT_KEY", "GOTTHARD_CRYPT_IV"]
    assert re.fullmatch("[0-9a-f]{64}", made["GOTTHARD_CRYPT_KEY"])
    assert re.fullmatch("[0-9a-f]{32}", made["GOTTHARD_CRYPT_IV"])
    assert keygen() != keygen()
    assert keygen("relay", **made).startswith("gk1r.")
    assert keygen("device", "GatewayOli", **made).startswith("gk1d.GatewayOli.")
    assert keygen("relay", **made) == keygen("relay", **made)
    assert keygen("device", "a", **made) != keygen("device", "b", **made)
    assert keygen("operator", "bob", **made).startswith("gk1o.bob.")


def test_keygen_known_answers():
    """Against the vectors of docs/protocol.md, section 6."""
    import base64

    def decode(text):
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()

    variables = {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV}
    assert decode(keygen("relay", **variables).strip().split(".")[1]) == \
        "0580b76a5553feb1b03167035fc3314d9673bd93e951a36cf22f264d8a4665bc"
    assert decode(keygen("device", "GatewayOli", **variables).strip().split(".")[2]) == \
        "1aff7256a80cabf5934aaa9e1db39c9f30d85664884d48d32f2ccae6d8872896" \
        "e0faf111578d5609441878ac6b0a896ded88e682f8f5cb5f14caffd6d322e120"
    assert keygen("operator", "alice", **variables) == \
        "gk1o.alice.8zqhyV4tgBqAcwWXsOLqA4FG-ra7jDfGGXsN7_A12gB8JVArjT2ryNLZcu5pcH3YY2_VG9_7ffT1a8ON97TKpQ\n"
    assert keygen("operator", "alice", "GatewayOli", "Pump7", **variables) == \
        "GOTTHARD_CRYPT_KEY=gk1o.alice.fCVQK409q8jS2XLuaXB92GNv1Rvf-3309WvDjfe0yqU\n" \
        "GatewayOli Gv9yVqgMq_WTSqqeHbOcnzDYVmSITUjTLyzK5tiHKJY\n" \
        "Pump7 g77Ac3nRNfhAXg9SbKv5iAicuIb2XAKPJ1U44S2bG6w\n"


def test_only_the_fleet_key_derives_keys():
    master = {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV}
    for derived in (keygen("relay", **master), keygen("device", "dev", **master), keygen("operator", "bob", **master),
                    keygen("operator", "bob", "dev", **master).splitlines()[0].split("=")[1]):
        for words in (["relay"], ["device", "dev"], ["operator", "bob"], ["operator", "bob", "dev"]):
            result = run("keygen", *words, GOTTHARD_CRYPT_KEY=derived.strip(), GOTTHARD_CLIENT_NAME="bob")
            assert (result.returncode, error_id(result), result.stdout) == (78, "GTD-E11", ""), result.stderr
            assert "only the fleet key can derive other keys" in result.stderr and derived.strip() not in result.stderr


def test_keygen_warns_of_a_readable_file(tmp_path):
    for mode, is_warned in ((0o644, True), (0o600, False)):
        path = tmp_path / f"{mode:o}"
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, mode), "w", encoding="ascii") as out:
            os.fchmod(out.fileno(), mode)
            result = run("keygen", stdout=out)
        assert result.returncode == 0
        assert ("can be read by others" in result.stderr) == is_warned


def test_derived_keys_are_not_enough_for_an_operator():
    master = {"GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV}
    for derived in (keygen("relay", **master), keygen("device", "dev", **master)):
        result = run("connect", "dev", **{**GOOD, "GOTTHARD_CRYPT_KEY": derived.strip()})
        assert (result.returncode, error_id(result)) == (78, "GTD-E11")


@pytest.mark.parametrize("command", [["connect", "dev"], ["disconnect", "dev"], ["status", "dev"], ["devices"],
                                     ["keygen", "relay"], ["keygen", "device", "dev"]])
@pytest.mark.parametrize("wrong", [
    {"GOTTHARD_CRYPT_KEY": None}, {"GOTTHARD_CRYPT_KEY": ""}, {"GOTTHARD_CRYPT_KEY": "0" * 64},
    {"GOTTHARD_CRYPT_KEY": "short"}, {"GOTTHARD_CRYPT_KEY": "gk1r.x"}, {"GOTTHARD_CRYPT_IV": None},
    {"GOTTHARD_CRYPT_KEY": IV + IV, "GOTTHARD_CRYPT_IV": IV + IV},
    {"GOTTHARD_CRYPT_KEY_PREVIOUS": "short"},
])
def test_wrong_keys(command, wrong):
    variables = {**GOOD, **wrong}
    result = run(*command, **variables)
    assert (result.returncode, error_id(result)) == (78, "GTD-E11"), result.stderr
    assert KEY not in result.stderr and result.stdout == ""


def test_key_in_a_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    variables = {"GOTTHARD_CRYPT_KEY_FILE": path, "GOTTHARD_CRYPT_IV": IV}
    path.chmod(0o600)
    assert keygen("relay", **variables) == keygen("relay", GOTTHARD_CRYPT_KEY=KEY, GOTTHARD_CRYPT_IV=IV)
    path.chmod(0o644)
    assert run("keygen", "relay", **variables).returncode == 78


def make_certificate(folder, *key_options):
    subprocess.run(["openssl", "req", "-x509", "-newkey", *key_options, "-nodes", "-days", "2", "-subj", "/CN=alice",
                    "-keyout", folder / "private.key", "-out", folder / "cert.pem"], check=True, capture_output=True)
    os.chmod(folder / "private.key", 0o600)


def test_fingerprint_equals_openssl(tmp_path):
    make_certificate(tmp_path, "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    der = subprocess.run(f"openssl x509 -in {tmp_path}/cert.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
                         shell=True, check=True, capture_output=True, text=True).stdout.split()[0]
    result = run("fingerprint", GOTTHARD_AWS_CERT_PATH=tmp_path, GOTTHARD_CLIENT_NAME="alice")
    assert (result.returncode, result.stdout) == (0, f"alice {der}\n")


def test_fingerprint_without_certificate(tmp_path):
    for variables in ({}, {"GOTTHARD_AWS_CERT_PATH": tmp_path}):
        result = run("fingerprint", **variables)
        assert (result.returncode, error_id(result)) == (78, "GTD-E10")


def test_readable_private_key_is_refused(tmp_path):
    make_certificate(tmp_path, "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    os.chmod(tmp_path / "private.key", 0o644)
    result = run("fingerprint", GOTTHARD_AWS_CERT_PATH=tmp_path)
    assert (result.returncode, error_id(result)) == (78, "GTD-E10")
    assert "private.key" in result.stderr


def test_half_a_certificate(tmp_path):
    make_certificate(tmp_path, "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    os.unlink(tmp_path / "cert.pem")
    result = run("connect", "dev", **{**GOOD, "GOTTHARD_AWS_CERT_PATH": tmp_path})
    assert (result.returncode, error_id(result)) == (78, "GTD-E10")


def test_pins(tmp_path):
    """A pin file with an invalid line is rejected as a whole, with the number of the line."""
    pins = tmp_path / "pins"
    pins.write_text(f"# fleet\nGatewayOli {'ab' * 32} role=device\nnonsense\n")
    result = run("connect", "dev", GOTTHARD_TRUST_PINS=pins, **GOOD)
    assert (result.returncode, error_id(result)) == (78, "GTD-E10")
    assert "pins:3" in result.stderr
    pins.write_text(f"GatewayOli {'ab' * 32} role=device\n")
    assert run("connect", "dev", GOTTHARD_TRUST_PINS=pins, **GOOD).returncode == 69
    assert run("connect", "dev", GOTTHARD_TRUST_PINS=tmp_path / "none", GOTTHARD_TRUST_POLICY="pin", **GOOD).returncode == 78


# --- configuration --------------------------------------------------------------------------------


def test_config_show_origins(tmp_path):
    (tmp_path / "cli.conf").write_text('client = {\n  name = "bob";\n  port = 5000;\n};\nserver = { host = "relay"; };\n')
    result = run("config", "show", "--server-port", "7100", GOTTHARD_CONFIG_DIR=tmp_path, GOTTHARD_CLIENT_PORT="4000",
                 GOTTHARD_MQTT_PREFIX="fleet", GOTTHARD_CRYPT_KEY=KEY)
    values = shown(result)
    assert values["client.name"] == ("bob", f"{tmp_path}/cli.conf:2")
    assert values["client.port"] == ("5000", f"{tmp_path}/cli.conf:3")
    assert values["server.host"] == ("relay", f"{tmp_path}/cli.conf:5")
    assert values["server.port"] == ("7100", "--server-port")
    assert values["mqtt.prefix"] == ("fleet", "GOTTHARD_MQTT_PREFIX")
    assert values["mqtt.keepalive"] == ("30s", "default")
    assert values["crypt.key"] == ("set", "GOTTHARD_CRYPT_KEY")
    assert KEY not in result.stdout
    assert "GOTTHARD_CLIENT_PORT" in result.stdout  # the value that the file hides


def test_home_file_overrides_system_file(tmp_path):
    home = tmp_path / "home"
    (home / ".config" / "gotthard").mkdir(parents=True)
    (tmp_path / "cli.conf").write_text('client = { name = "system"; port = 1; };')
    (home / ".config" / "gotthard" / "cli.conf").write_text('client = { name = "mine"; };')
    values = shown(run("config", "show", GOTTHARD_CONFIG_DIR=tmp_path, HOME=home))
    assert values["client.name"][0] == "mine"
    assert values["client.port"][0] == "1"


def test_config_option(tmp_path):
    path = tmp_path / "my.conf"
    path.write_text('client = { name = "carol"; };')
    assert shown(run("config", "show", "--config", path))["client.name"] == ("carol", f"{path}:1")
    assert run("config", "show", "--config", tmp_path / "none").returncode == 78
    assert run("config", "show", "--config", tmp_path).returncode == 78


@pytest.mark.parametrize("text", ["clint = { };", "client = { prt = 1; };", "client = { port = \"4444\"; };",
                                  "client = { port = 65536; };", "client = { port = 4294967318; };",
                                  "client = { name = \"a/b\"; };", "client = {", "relays = { x = \"nowhere\"; };",
                                  "trust = { policy = \"tofu\"; };", "@include \"x\""])
def test_bad_files(tmp_path, text):
    (tmp_path / "cli.conf").write_text(text)
    result = run("config", "show", GOTTHARD_CONFIG_DIR=tmp_path)
    assert (result.returncode, error_id(result)) == (78, "GTD-E10"), result.stderr
    assert "cli.conf" in result.stderr


def test_example_shows_each_setting_at_its_default(tmp_path):
    example = (ROOT / "etc" / "cli.conf").read_text()
    path = tmp_path / "cli.conf"
    path.write_text(example)  # as it is installed: nothing is set
    defaults = shown(run("config", "show"))
    values = shown(run("config", "show", "--config", path))
    assert values.pop("relays")[0] == ""  # the group is there, and empty
    assert values == {k: v for k, v in defaults.items() if k != "relays"}
    path.write_text(re.sub(r"^( *)#(?=\w)", r"\1", example, flags=re.MULTILINE))  # all of it switched on
    values = shown(run("config", "show", "--config", path))
    assert {k: v[0] for k, v in values.items()} == {k: v[0] for k, v in defaults.items()}
    sections = re.split(r"^(\w+) = \{$", example, flags=re.MULTILINE)
    alone = set(re.findall(r"^#(\w+) = ", example, re.MULTILINE))
    named = alone | {f"{sections[i]}.{key}" for i in range(1, len(sections), 2)
             for key in re.findall(r"^ *#(\w+) = ", sections[i + 1], re.MULTILINE)}
    named |= {sections[i] for i in range(1, len(sections), 2)}
    assert set(defaults) <= named


def test_help_and_example_agree_on_variables():
    text = run("help", "config").stdout
    example = (ROOT / "etc" / "cli.conf").read_text()
    variables = set(re.findall(r"GOTTHARD_[A-Z_]+", text))
    assert len(variables) > 20
    for variable in variables:
        assert variable in example


def test_missing_settings():
    for missing, code in (("GOTTHARD_MQTT_ENDPOINT", 78), ("GOTTHARD_SERVER_HOST", 78)):
        result = run("connect", "dev", **{**GOOD, missing: None})
        assert (result.returncode, error_id(result)) == (code, "GTD-E10")
        assert missing in result.stderr
    result = run("connect", "dev", "--relay", "alps", **GOOD)
    assert (result.returncode, error_id(result)) == (78, "GTD-E10")


# --- ports ----------------------------------------------------------------------------------------


def test_busy_port():
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        for args, variables in ((["dev", f"{port}:ssh"], {}), (["dev"], {"GOTTHARD_CLIENT_PORT": port}),
                                (["dev", "--client-port", port], {})):
            result = run("connect", *args, **{**GOOD, **variables})
            assert (result.returncode, error_id(result)) == (75, "GTD-E60"), result.stderr
        # a PORT alone is only preferred
        result = run("connect", "--json", "dev", port, **GOOD)
        assert error_id(result) == "GTD-E20"
        listening = [e for e in map(json.loads, result.stdout.splitlines()) if e["event"] == "listening"]
        assert listening[0]["port"] != port and listening[0]["service"] == str(port)


@pytest.mark.parametrize("address", ["nonsense", "192.0.2.1", "localhost", "1.2.3"])
def test_bad_bind(address):
    result = run("connect", "--bind", address, "dev", **GOOD)
    assert (result.returncode, error_id(result)) == (77, "GTD-E61")


def test_bind_to_all_warns():
    result = run("connect", "--bind", "*", "dev", **GOOD)
    assert (result.returncode, error_id(result)) == (69, "GTD-E20")
    assert "any host that can reach" in result.stderr


# --- the broker -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["connect", "dev"], ["disconnect", "dev"], ["status", "dev"], ["devices"]])
def test_broker_down(command):
    result = run(*command, **GOOD)
    assert (result.returncode, error_id(result)) == (69, "GTD-E20")
    assert result.stdout == ""


def test_error_event():
    result = run("connect", "--json", "dev", **GOOD)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["event"] for e in events] == ["requesting", "listening", "error"]
    assert events[-1]["id"] == "GTD-E20" and events[-1]["exit"] == result.returncode == 69
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["time"]) for e in events)


def test_lines_have_time_and_level():
    result = run("connect", "dev", **GOOD)
    for line in result.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z? (info|warn|error)", line), line
    assert "\x1b" not in result.stderr


def test_quiet_prints_errors_only():
    result = run("connect", "-q", "dev", **GOOD)
    assert result.returncode == 69
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("variables, args, has_color, has_marks", [
    ({}, [], True, True), ({"NO_COLOR": "1"}, [], False, True), ({}, ["--no-color"], False, True),
    ({"TERM": "dumb"}, [], False, False), ({"LANG": "C"}, [], True, False),
])
def test_on_a_terminal(variables, args, has_color, has_marks):
    code, text = run_on_terminal("connect", *args, "dev", **{**GOOD, **variables})
    assert code == 69
    assert "GTD-E20" in text
    assert ("\x1b" in text) == has_color, text
    assert ("✗" in text) == has_marks, text


def silent_server():
    """Accepts connections and never sends anything."""
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [["connect", "dev"], ["disconnect", "dev"], ["status", "dev"], ["devices"]])
def test_interrupted_before_it_is_up(env, command, number):
    with silent_server() as server:
        variables = clean_environment(**{**GOOD, "GOTTHARD_MQTT_ENDPOINT": f"mqtt://127.0.0.1:{server.getsockname()[1]}"})
        cli = Process(env, env.unique("cli"), [CLI, *command], env=variables)
        server.settimeout(LIMIT)
        connection, _ = server.accept()
        connection.recv(1)  # CONNECT is sent: the signal handlers are installed
        cli.send(number)
        assert cli.wait(10) == 130
        connection.close()


def test_broker_closes_connection(env):
    with silent_server() as server:
        variables = clean_environment(**{**GOOD, "GOTTHARD_MQTT_ENDPOINT": f"mqtt://127.0.0.1:{server.getsockname()[1]}"})
        cli = Process(env, env.unique("cli"), [CLI, "connect", "dev"], env=variables)
        server.settimeout(LIMIT)
        for _ in range(2):  # MQTT 5, then 3.1.1
            connection, _ = server.accept()
            connection.recv(1)
            connection.close()
        assert cli.wait() == 69
        assert "GTD-E20" in cli.log()


def test_broker_without_devices(env):
    env.broker()
    result = env.cli("devices")  # nothing shows whether the broker withholds states
    assert (result.returncode, error_id(result), result.stdout) == (69, "GTD-E34", "")
    assert "no device named absent: the broker has no state of it, and it did not answer" in env.cli("status", "absent").stderr
    assert "a device has no user here: gotthard-cli ssh pi@absent" in env.cli("status", "pi@absent.gotthard").stderr
    for command in (["status", "absent"], ["connect", "absent"], ["disconnect", "absent"]):
        began = time.monotonic()
        result = env.cli(*command)
        assert (result.returncode, error_id(result)) == (69, "GTD-E30"), result.stderr
        assert time.monotonic() - began < 15  # the broker reports at once that the device is not subscribed


def test_broker_refuses(env):
    """A broker with another CA: the handshake fails, on either side."""
    env.broker()
    folder = env.folder / "foreign"
    folder.mkdir()
    make_certificate(folder, "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    (folder / "ca.crt").write_bytes((folder / "cert.pem").read_bytes())
    result = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder)
    assert (result.returncode, error_id(result)) == (77, "GTD-E22"), result.stderr


def test_missing_ca(env):
    folder = env.folder / "empty"
    folder.mkdir()
    result = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder)
    assert (result.returncode, error_id(result)) == (78, "GTD-E10")
    result = env.cli("devices", GOTTHARD_AWS_CERT_PATH=folder / "nowhere")
    assert (result.returncode, error_id(result)) == (78, "GTD-E10")


# --- `gotthard` -----------------------------------------------------------------------------------


@pytest.fixture
def link(tmp_path):
    path = tmp_path / "bin" / "gotthard"
    path.parent.mkdir()
    path.symlink_to(CLI)
    return path


def test_link_has_the_original_commands(link):
    text = run("--help", program=link).stdout
    for word in ("connect", "disconnect", "server", "edge-device"):
        assert f"\n  {word}" in text
    assert run("connect", program=link).returncode == 64


@pytest.mark.parametrize("word, daemon", [("server", "gotthard-relayd"), ("edge-device", "gotthard-agentd")])
def test_daemons_are_executed(tmp_path, link, word, daemon):
    """Found in PATH; arguments and environment are passed unchanged."""
    fake = tmp_path / "path" / daemon
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$0 $* $GOTTHARD_CRYPT_KEY"\nexit 42\n')
    fake.chmod(0o755)
    result = run(word, "--check-config", program=link, PATH=f"{fake.parent}:{os.environ['PATH']}", GOTTHARD_CRYPT_KEY=KEY)
    assert result.returncode == 42, result.stderr
    assert result.stdout.split() == [str(fake), "--check-config", KEY]
    result = run(word, program=link, PATH="/nonexistent")
    assert result.returncode == 78
    assert daemon in result.stderr


# --- a whole tunnel -------------------------------------------------------------------------------


@pytest.fixture
def fleet(env):
    """A broker, a relay and one device whose `ssh` sends <ssh!> and whose `echo` echoes."""
    from harness import echo

    def greet(sock):
        sock.sendall(b"<ssh!>")
        sock.recv(1)

    env.broker()
    env.relay()
    services = f'services = {{ echo = "127.0.0.1:{env.target(echo).port}"; }};'
    folder = env.config_folder(agentd=services + "limits = { streams = 4; };")
    env.agent("GatewayOli", GOTTHARD_AGENT_DATA_PORT=env.target(greet).port, GOTTHARD_CONFIG_DIR=folder)
    return env


def test_host_keys_of_names_that_differ_in_case(env):
    """ssh ignores the case of a HostKeyAlias: two devices must not share a line of known_hosts."""
    env.broker()
    env.relay()
    known_hosts = env.folder / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", env.folder / "key"], check=True)
    lines = ""
    for name in ("Oli", "oli"):
        env.agent(name)
        tunnel = harness.Process(env, f"connect-{name}", [harness.PROGRAMS["cli"], "connect", name, "0:ssh"], env=env.cli_environment())
        alias = tunnel.wait_for(r"to log in: ssh -p \d+ -o HostKeyAlias=(\S+) ")[1]
        known_hosts.write_text(lines)
        assert subprocess.run(["ssh-keygen", "-F", alias, "-f", known_hosts], capture_output=True, check=False).returncode == 1, lines
        lines += f"{alias} {(env.folder / 'key.pub').read_text()}"
        known_hosts.write_text(lines)
        assert subprocess.run(["ssh-keygen", "-F", alias, "-f", known_hosts], capture_output=True, check=False).returncode == 0, lines


def test_output_on_a_terminal(fleet):
    port = free_ports(1)
    terminal = Terminal(fleet, "GatewayOli", GOTTHARD_CLIENT_PORT=port)
    try:
        terminal.wait_for("Press Ctrl+C to close.")
        overwritten = re.sub(r"[^\n]*\r\x1b\[K", "", terminal.text.replace("\r\n", "\n"))
        shown_lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", overwritten).splitlines() if line]
        assert re.fullmatch(r"✓ GatewayOli answered \([0-9.]+ m?s\), tunnel is up", shown_lines[0]), shown_lines
        assert shown_lines[1] == f"→ localhost:{port}  ⇢  GatewayOli:ssh"
        assert shown_lines[2] == f"  ssh -p {port} -o HostKeyAlias=gatewayoli+81.gotthard localhost"
        terminal.child.send_signal(signal.SIGINT)
        terminal.wait_for("Closing")
        assert terminal.child.wait(10) == 0
        terminal.wait_for("closed")
    finally:
        terminal.end()


def test_milestones_in_the_original_order(fleet):
    cli = Process(fleet, fleet.unique("lines"), [CLI, "connect", "GatewayOli"], env=fleet.cli_environment())
    cli.wait_for("to log in")
    cli.stop(signal.SIGTERM)
    assert cli.child.returncode == 0
    milestones = ["sending the MQTT message", "listening on localhost port", "connected to MQTT", "GatewayOli answered",
                  "relay reached", "end-to-end tunnel to GatewayOli is up", "ssh -p ", "closing", "closed"]
    found = [next(i for i, line in enumerate(cli.log().splitlines()) if text in line) for text in milestones]
    assert found == sorted(found)
    assert cli.out() == ""


def test_several_services(fleet):
    port = free_ports(1)
    tunnel = fleet.connect("GatewayOli", "0:ssh", f"{port}:echo")
    assert tunnel.port("echo") == port
    up = tunnel.event("up")
    assert up["ports"] == [tunnel.port("ssh"), port] and up["device"] == "GatewayOli"
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port), timeout=LIMIT) as sock:
            sock.sendall(b"a round trip!!")
            assert sock.recv(100) == b"a round trip!!"
    with tunnel.dial("ssh") as sock:
        assert sock.recv(100) == b"<ssh!>"
    opened = [e for e in tunnel.events() if e["event"] == "stream-opened"]
    first = opened[0]["stream"]
    assert [e["stream"] for e in opened] == [first, first + 1, first + 2]
    ended = tunnel.event("stream-ended", stream=first)
    assert (ended["service"], ended["code"], ended["up"], ended["down"]) == ("echo", 0, 14, 14)


def test_print_port_prints_each(fleet):
    cli = Process(fleet, fleet.unique("ports"), [CLI, "connect", "-q", "--print-port", "GatewayOli", ":ssh", "0:echo"],
                  env=fleet.cli_environment())
    wait_until(lambda: cli.out().count("\n") == 2, "both ports are printed")
    for port in map(int, cli.out().split()):
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT).close()
    assert cli.stop(signal.SIGINT) == 0
    assert cli.log() == ""


def test_more_connections_than_streams_wait(fleet):
    tunnel = fleet.connect("GatewayOli", "0:echo")
    sockets = [tunnel.dial() for _ in range(5)]
    for sock in sockets:
        sock.sendall(b"x")
    assert tunnel.event("streams-full")["streams"] == 4
    for sock in sockets[:4]:
        assert sock.recv(1) == b"x"
    sockets[4].settimeout(0.3)
    with pytest.raises(socket.timeout):
        sockets[4].recv(1)
    for _ in range(30):  # each takes the place of one that has ended here and may still be ending at the device
        sockets.pop(0).close()
        sockets[3].settimeout(LIMIT)
        assert sockets[3].recv(1) == b"x"
        sockets.append(tunnel.dial())
        sockets[4].sendall(b"x")
    for sock in sockets:
        sock.close()


def test_busy_default_port_moves(fleet):
    """4444 is in use and was not set: a free port is used and reported."""
    try:
        occupied = socket.create_server(("127.0.0.1", 4444))
    except OSError:
        occupied = None  # in use by another program, which serves as well
    cli = Process(fleet, fleet.unique("moved"), [CLI, "connect", "--print-port", "GatewayOli"],
                  env=fleet.cli_environment(GOTTHARD_CLIENT_PORT=None))
    wait_until(lambda: cli.out().endswith("\n"), "the port is printed")
    if occupied:
        occupied.close()
    assert int(cli.out()) != 4444
    assert "4444 is in use" in cli.log()
    with socket.create_connection(("127.0.0.1", int(cli.out())), timeout=LIMIT) as sock:
        assert sock.recv(100) == b"<ssh!>"


def frozen(env, name):
    process = next(p for p in env.processes if name in p.name and p.is_running())
    os.kill(process.pid, signal.SIGSTOP)
    return process


def test_first_interrupt_closes_within_its_deadline(fleet):
    """The relay is frozen: the command exits after two seconds."""
    tunnel = fleet.connect("GatewayOli")
    relay = frozen(fleet, "relayd")
    began = time.monotonic()
    code = tunnel.stop(signal.SIGINT, 10)
    os.kill(relay.pid, signal.SIGCONT)
    assert code == 0
    assert time.monotonic() - began < 5


def test_second_interrupt_exits_at_once(fleet):
    tunnel = fleet.connect("GatewayOli")
    with tunnel.dial() as sock:
        assert sock.recv(6) == b"<ssh!>"
        relay = frozen(fleet, "relayd")
        tunnel.send(signal.SIGINT)
        tunnel.event("closing")
        tunnel.send(signal.SIGINT)
        code = tunnel.wait(10)
        os.kill(relay.pid, signal.SIGCONT)
    assert code in (130, 0)  # 0: it had closed before the second signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_closes(fleet, number):
    tunnel = fleet.connect("GatewayOli")
    assert tunnel.stop(number) == 0
    assert tunnel.event("closed")["exit"] == 0


def test_ignored_hangup_stays_ignored(fleet):
    """nohup gotthard-cli connect ..."""
    tunnel = fleet.connect("GatewayOli", env=fleet.cli_environment(), wait=False)
    tunnel.wait_up()
    cli = Process(fleet, fleet.unique("nohup"), ["nohup", CLI, "connect", "--print-port", "GatewayOli", "0:ssh"],
                  env=fleet.cli_environment())
    wait_until(lambda: cli.out().endswith("\n"), "the port is printed")
    cli.send(signal.SIGHUP)
    with socket.create_connection(("127.0.0.1", int(cli.out())), timeout=LIMIT) as sock:
        assert sock.recv(100) == b"<ssh!>"
    assert cli.stop(signal.SIGTERM) == 0


def test_interrupted_while_joining(fleet):
    """The session is agreed and the relay does not answer: 130, at once or after the deadline of closing."""
    relay = frozen(fleet, "relayd")
    tunnel = fleet.connect("GatewayOli", wait=False)
    tunnel.event("answered")
    code = tunnel.stop(signal.SIGINT, 10)
    os.kill(relay.pid, signal.SIGCONT)
    assert code == 130


def test_relay_unreachable(fleet):
    result = fleet.cli("connect", "GatewayOli", GOTTHARD_SERVER_PORT=free_ports(1), GOTTHARD_TIMEOUTS_PEER="1s")
    assert (result.returncode, error_id(result)) == (69, "GTD-E50"), result.stderr
    result = fleet.cli("connect", "GatewayOli", GOTTHARD_SERVER_HOST="no-such-host.invalid", GOTTHARD_TIMEOUTS_PEER="1s")
    assert (result.returncode, error_id(result)) == (69, "GTD-E50"), result.stderr


def test_relay_without_free_ports(env):
    env.broker()
    first = env.relay_ports
    env.relay(env=env.relay_environment(GOTTHARD_SERVER_PORTS_FROM=first, GOTTHARD_SERVER_PORTS_TO=first))
    env.agent("dev-aaaa")
    env.connect("dev-aaaa")
    result = env.cli("connect", "dev-aaaa")
    assert (result.returncode, error_id(result)) == (75, "GTD-E52"), result.stderr


def test_unknown_relay_name(fleet):
    folder = fleet.config_folder(cli=f'relays = {{ alps = "localhost:{fleet.relay_port}"; }};')
    result = fleet.cli("connect", "GatewayOli", "--relay", "alps", GOTTHARD_CONFIG_DIR=folder)
    assert (result.returncode, error_id(result)) == (77, "GTD-E43"), result.stderr


def test_status_for_people_and_scripts(fleet):
    result = fleet.cli("status", "GatewayOli")
    assert result.returncode == 0
    assert result.stdout.startswith("GatewayOli is online\n")
    assert "echo" in result.stdout and "ssh" in result.stdout
    next(p for p in fleet.processes if "agentd" in p.name).stop()
    result = fleet.cli("status", "GatewayOli")
    assert (result.returncode, error_id(result)) == (69, "GTD-E31")
    assert re.search(r"\n  since +20\d\d-", result.stdout)
    result = fleet.cli("status", "GatewayOli", GOTTHARD_CRYPT_KEY=KEY)
    assert (result.returncode, error_id(result)) == (69, "GTD-E32")
