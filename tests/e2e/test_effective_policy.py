# SPDX-License-Identifier: ISC
"""The services that are offered and the trust policy in effect: absence lowers neither."""

import re
import shutil
import signal

import pytest

import harness
from setting_markers import check, private_file
from test_cli import error_id


def refusal(env):
    done = env.cli("connect", "GatewayOli", "0:ssh")
    return done.returncode, error_id(done)


@pytest.mark.parametrize("text,offered", [('services = { web = "127.0.0.1:80"; };', "web=127.0.0.1:80"), ("services = { };", "none")],
                         ids=["another", "empty"])
def test_given_services_do_not_include_ssh(env, text, offered):
    """ssh is offered only if services is not given; the start line names the services and the policy."""
    env.broker()
    folder = env.config_folder(agentd=text)
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder)
    agent.wait_for(f'started .*services="{offered}" policy=psk')
    assert refusal(env) == (77, "GTD-E41")
    (folder / "operators.pins").write_text(env.cli("fingerprint").stdout)
    (folder / "agentd.conf").write_text('services = { ssh = "127.0.0.1:2222"; };')
    agent.send(signal.SIGHUP)
    agent.wait_for(r'reloaded services="ssh=127.0.0.1:2222" policy=pin pins=1')


def test_check_config_shows_what_is_offered(tmp_path):
    done = check("agentd")
    assert "#   service ssh: 127.0.0.1:22\n" in done.stdout and "#   trust policy psk: any holder of the key" in done.stdout
    private_file(tmp_path / "agentd.conf", 'services = { web = "10.0.0.1:80"; };')
    (tmp_path / "operators.pins").write_text(f"alice {'ab' * 32}\n")
    done = check("agentd", GOTTHARD_CONFIG_DIR=tmp_path)
    assert "service web: 10.0.0.1:80" in done.stdout and "service ssh" not in done.stdout
    assert f"trust policy pin: only the 1 pinned certificates of {tmp_path}/operators.pins" in done.stdout
    private_file(tmp_path / "agentd.conf", "services = { };")
    assert "#   no service\n" in check("agentd", GOTTHARD_CONFIG_DIR=tmp_path).stdout
    with_variable = check("agentd", GOTTHARD_CONFIG_DIR=tmp_path, GOTTHARD_AGENT_DATA_PORT=2222).stdout
    assert "service ssh: 127.0.0.1:2222" in with_variable


# --- pins of operators ----------------------------------------------------------------------------


def is_admitted(env, name):
    """Whether the device accepts a request of this operator."""
    result = env.cli("disconnect", "GatewayOli", name=name)
    assert result.returncode == 0 or error_id(result) == "GTD-E40", result.stderr
    return result.returncode == 0


def reload(agent):
    n = len(re.findall("reloaded", agent.log()))
    agent.send(signal.SIGHUP)
    return agent.wait_for(r" (not )?reloaded.*", count=n + 1).group(0)


def only_alice(env):
    return is_admitted(env, "alice") and not is_admitted(env, "bob")


def pinned_agent(env, configured):
    """An agent with alice's pin, at a configured path or at the default one, and with policy auto."""
    env.broker()
    folder = env.config_folder(agentd='log = { level = "info"; };')
    pins = folder / ("elsewhere" if configured else "operators.pins")
    pins.write_text(env.cli("fingerprint", name="alice").stdout)
    (folder / "agentd.conf.d").mkdir()
    if configured:
        private_file(folder / "agentd.conf.d/pins.conf", f'trust = {{ pins = "{pins}"; }};')
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder)
    assert only_alice(env)
    return agent, folder, pins


def remove_and_undo(path):
    path.rename(path.with_name("away"))
    yield
    path.with_name("away").rename(path)


def replace_and_undo(path, damage):
    path.rename(path.with_name("away"))
    damage(path)
    yield
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    path.with_name("away").rename(path)


def change_mode_and_undo(path, mode):
    before = path.stat().st_mode
    path.chmod(mode)
    yield
    path.chmod(before)


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "default"])
def test_reload_without_pins_keeps_them(env, configured):
    """Pins that are gone, damaged, or open to others at a reload never make room for the key alone."""
    agent, folder, pins = pinned_agent(env, configured)
    faults = [remove_and_undo(pins), replace_and_undo(pins, lambda path: path.symlink_to("nowhere")),
              replace_and_undo(pins, lambda path: path.mkdir()), replace_and_undo(pins, lambda path: path.write_text("alice 12\n")),
              change_mode_and_undo(pins, 0o666), change_mode_and_undo(folder, 0o777), remove_and_undo(folder)]
    if configured:
        faults += [remove_and_undo(folder / "agentd.conf.d"), remove_and_undo(folder / "agentd.conf.d/pins.conf")]
    for number, fault in enumerate(faults):
        next(fault)
        line = reload(agent)
        assert " not reloaded, the configuration in use stays" in line, (number, line)
        if number in (0, len(faults) - 1):
            assert only_alice(env), number
        next(fault, None)
    assert only_alice(env)
    assert " reloaded services" in reload(agent)
    pins.write_text("")
    assert "policy=pin pins=0" in reload(agent)
    assert not is_admitted(env, "alice")
    pins.unlink()
    private_file(folder / "agentd.conf.d/psk.conf", 'trust = { policy = "psk"; };')
    assert "policy=psk" in reload(agent)
    assert is_admitted(env, "bob")


def test_configured_pins_must_exist_at_the_start(env):
    env.broker()
    pins = env.folder / "late.pins"
    agent = env.agent(wait=False, GOTTHARD_TRUST_PINS=pins)
    agent.wait_for(f"waiting: GOTTHARD_TRUST_PINS: trust.pins: {pins}: No such file")
    done = check("agentd", GOTTHARD_TRUST_PINS=pins)
    assert done.returncode == 78 and f"{pins}: No such file" in done.stderr
    pins.write_text(env.cli("fingerprint", name="alice").stdout)
    agent.wait_for("policy=pin pins=1")
    agent.wait_for(" online ")
    assert only_alice(env)


def test_restart_without_pins_remembers_them(env):
    """With a state directory the absence of the default file is not mistaken for a device without pins."""
    env.broker()
    folder, state = env.config_folder(agentd=""), env.folder / "state"
    state.mkdir(mode=0o700)
    variables = {"GOTTHARD_CONFIG_DIR": folder, "STATE_DIRECTORY": f"{state}:/nonexistent"}
    pins = folder / "operators.pins"
    env.agent(**variables).stop()  # never pinned
    pins.write_text(env.cli("fingerprint", name="alice").stdout)
    env.agent(**variables).stop()
    pins.rename(folder / "away")
    agent = env.agent(wait=False, **variables)
    agent.wait_for(f"waiting: .*{pins} is absent, and operators were pinned")
    (folder / "away").rename(pins)
    agent.wait_for("policy=pin pins=1")
    agent.stop()
    pins.unlink()
    private_file(folder / "agentd.conf", 'trust = { policy = "psk"; };')
    env.agent(**variables).stop()
    private_file(folder / "agentd.conf", "")
    assert "policy=psk" in env.agent(**variables).log()


# --- other protections at a reload ----------------------------------------------------------------


def test_reload_without_services_does_not_offer_ssh(env):
    env.broker()
    folder = env.config_folder(agentd='services = { web = "127.0.0.1:80"; };')
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder)
    for remove in (lambda path: path.write_text(""), lambda path: path.unlink()):
        remove(folder / "agentd.conf")
        line = reload(agent)
        assert "not reloaded" in line and "ssh would be offered at 127.0.0.1:22" in line
    private_file(folder / "agentd.conf", 'services = { ssh = "127.0.0.1:22"; };')
    assert 'reloaded services="ssh=127.0.0.1:22"' in reload(agent)
    (folder / "agentd.conf").unlink()
    assert 'reloaded services="ssh=127.0.0.1:22"' in reload(agent)


def test_reload_without_certificates_keeps_them(env):
    """With a user name neither the pair nor the folder is required at the start. A reload must not lose them."""
    env.broker()
    certs = env.certificates("GatewayOli")
    folder = env.config_folder(agentd=f'mqtt = {{ cert_path = "{certs}"; username = "GatewayOli"; }};')
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AWS_CERT_PATH=None)
    for name in ("cert.pem", "private.key"):
        (certs / name).rename(certs / f"{name}.away")
    assert "not reloaded" in (line := reload(agent)) and "cert.pem and private.key are absent" in line
    for name in ("cert.pem", "private.key"):
        (certs / f"{name}.away").rename(certs / name)
    private_file(folder / "agentd.conf", 'mqtt = { username = "GatewayOli"; };')
    assert "not reloaded" in (line := reload(agent)) and "authorities of the system" in line
    assert is_admitted(env, "alice")


@pytest.mark.parametrize("program", ["relayd", "agentd"])
def test_reload_without_its_configuration_keeps_it(env, program):
    """A --config file, or the folder of $GOTTHARD_CONFIG_DIR, that is gone."""
    env.broker()
    start = {"relayd": (env.relay, env.relay_environment), "agentd": (env.agent, lambda **more: env.agent_environment("GatewayOli", **more))}
    run, environment = start[program]
    folder = env.config_folder(**{program: ""})
    daemon = run(*(["GatewayOli"] if program == "agentd" else []), "--config", folder / f"{program}.conf", env=environment())
    (folder / f"{program}.conf").unlink()
    daemon.send(signal.SIGHUP)
    daemon.wait_for(f"not reloaded.*{program}.conf: No such file")
    daemon.stop()
    daemon = run(*(["GatewayOli"] if program == "agentd" else []), env=environment(GOTTHARD_CONFIG_DIR=folder))
    folder.rmdir()
    daemon.send(signal.SIGHUP)
    daemon.wait_for(f"not reloaded.*{folder}: No such file")


@pytest.mark.parametrize("program", ["relayd", "agentd", "cli"])
def test_named_configuration_must_exist(program, tmp_path):
    """A folder that a variable names, also beside --config, and a file below the home."""
    none = tmp_path / "none"
    conf = private_file(tmp_path / f"{program}.conf", 'log = { level = "info"; };')
    for arguments in ([], ["--config", conf]):
        done = check(program, *arguments, GOTTHARD_CONFIG_DIR=none)
        assert done.returncode == 78 and f"{none}: No such file" in done.stderr, done.stderr
    done = check(program, "--config", f"~/{program}.conf", HOME=tmp_path)
    assert done.returncode == 0 and f"{conf}:1" in done.stdout, done.stderr
    done = check(program, "--config", "~/missing", HOME=tmp_path)
    assert done.returncode == 78 and f"{tmp_path}/missing: No such file" in done.stderr
    done = check(program, "--config", "~bob/x", HOME=tmp_path)
    assert done.returncode == 78 and "not the home of another user" in done.stderr


# --- the operator's side --------------------------------------------------------------------------


def test_connect_reports_how_the_device_was_authenticated(env):
    """As a field of an event, as a log line, and as a warning unless the policy psk is set."""
    env.broker()
    env.relay()
    env.agent(GOTTHARD_LIMITS_SESSIONS_PER_OPERATOR=10, GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    pins = env.folder / "devices.pins"
    pins.write_text(f"GatewayOli {env.cli('fingerprint', name='GatewayOli').stdout.split()[1]} role=device\n")
    cases = (({}, "psk", True), ({"GOTTHARD_TRUST_POLICY": "psk"}, "psk", False), ({"GOTTHARD_TRUST_PINS": pins}, "pin", False))
    words = {"psk": "authenticated by the fleet key", "pin": "authenticated by its pinned certificate"}
    for variables, proof, is_warned in cases:
        tunnel = env.connect(**variables)
        assert tunnel.event("answered")["authenticated_by"] == proof
        tunnel.stop()
        lines = harness.Process(env, env.unique("lines"), [harness.PROGRAMS["cli"], "connect", "GatewayOli"],
                                env=env.cli_environment(**variables))
        lines.wait_for(f"GatewayOli answered within .*{words[proof]}")
        lines.wait_for("to log in")
        lines.stop()
        assert ("any holder of the fleet key can impersonate GatewayOli" in lines.log()) == is_warned
        done = env.cli("proxy", "GatewayOli", **variables)
        assert done.returncode == 0 and ("any holder of the fleet key" in done.stderr) == is_warned, done.stderr


@pytest.mark.parametrize("options", [[], ["--quiet"], ["--json"]], ids=["plain", "quiet", "json"])
def test_configured_pins_of_the_operator_must_exist(env, options):
    """No broker is needed: the command ends before it sends anything."""
    pins = env.folder / "missing.pins"
    for path in (pins, env.folder / "link.pins"):
        if path != pins:
            path.symlink_to(pins)
        done = env.cli("connect", *options, "GatewayOli", "0:ssh", GOTTHARD_TRUST_PINS=path)
        assert done.returncode == 78 and f"{path}: No such file" in done.stderr, done.stderr
    done = check("cli", GOTTHARD_TRUST_PINS=pins)
    assert f"#   trust policy unusable: {pins}: No such file or directory\n" in done.stdout


def test_config_show_shows_the_policy(tmp_path):
    assert "#   trust policy psk: any holder of the fleet key can impersonate a device\n" in check("cli", GOTTHARD_CONFIG_DIR=tmp_path).stdout
    (tmp_path / "devices.pins").write_text(f"GatewayOli {'ab' * 32} role=device\n")
    shown = check("cli", GOTTHARD_CONFIG_DIR=tmp_path).stdout
    assert f"#   trust policy pin: only the 1 pinned certificates of {tmp_path}/devices.pins\n" in shown
    assert "#   clients with a key derived from crypt.key\n" in check("relayd").stdout
    assert "crypt.key or crypt.key_previous\n" in check("relayd", GOTTHARD_CRYPT_KEY_PREVIOUS="55" * 32).stdout
