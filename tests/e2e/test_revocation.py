# SPDX-License-Identifier: ISC
"""Live sessions that are no longer granted end within a second, and those that are granted survive.

The rows of LOST are the changes that take a grant away, those of KEPT the ones that do not: each at a reload, and at a
restart with a state directory.
"""

import contextlib
import datetime
import os
import secrets
import shutil
import signal
import socket
import struct
import time

import pytest

import harness
from harness import echo, wait_until
from test_agent import is_process_alive, reload
from test_faults import open_stream
from test_restart import can_echo, session_files
from test_shared_sessions import Connection
from test_tunnel import assert_broken

LIMIT_S = 1 if harness.SANITIZER == "none" else harness.LIMIT
SHIM_CLOCK = harness.BUILD / "tests" / "preload" / "shim-clock.so"


class Device:
    """An agent with a configuration file that a test changes, and a session of alice to it."""

    def __init__(self, env, **before):
        self.env = env
        self.fingerprints = {name: env.cli("fingerprint", name=name).stdout.split()[1] for name in ("alice", "bob")}
        self.target, self.other = env.target(echo), env.target(echo)
        self.pins = env.folder / "operators.pins"
        self.folder = env.config_folder(agentd="")
        self.state = session_files(env)
        self.configure(**before)
        self.agent = self.start()

    def configure(self, pins=("alice",), rights="", policy="pin", services=("ssh", "web"), moved=(), key=None, previous=None, more=""):
        lines = [f"{pin} {self.fingerprints[pin]} {rights}" if isinstance(pin, str) else f"{pin[0]} {self.fingerprints[pin[1]]}"
                 for pin in pins]
        self.pins.write_text("\n".join(lines) + "\n")
        targets = " ".join(f'{name} = "127.0.0.1:{(self.other if name in moved else self.target).port}";' for name in services)
        keys = f'crypt = {{ key = "{key or self.env.key}"; iv = "{self.env.iv}";' + (f' key_previous = "{previous}"; }};' if previous else " };")
        path = self.folder / "agentd.conf"
        path.write_text(f'trust = {{ policy = "{policy}"; pins = "{self.pins}"; }}; services = {{ {targets} }}; {keys} {more}')
        path.chmod(0o600)

    def start(self, **more):
        variables = {"GOTTHARD_CONFIG_DIR": self.folder, "STATE_DIRECTORY": self.state, **more}
        return self.env.agent(GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_IV=None, **variables)

    def apply(self, how):
        """Returns the moment from which the agent knows of the change."""
        if how == "reload":
            started = time.monotonic()
            reload(self.agent)
            return started
        assert self.agent.stop() == 0
        self.agent = self.env.agent(wait=False, GOTTHARD_CONFIG_DIR=self.folder, STATE_DIRECTORY=self.state,
                                    GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_IV=None)
        self.agent.wait_for("restored pid=")
        return time.monotonic()


def assert_withdrawn(tunnel, sock, started):
    assert_broken(sock)
    assert time.monotonic() - started < LIMIT_S
    assert tunnel.wait(5) == 77, tunnel.log()
    assert "GTD-E45" in tunnel.log() and "has withdrawn the access" in tunnel.log()


NEW_KEY = secrets.token_hex(32)
LOST = {  # the change of the configuration, the reason in the log
    "pin removed": ({"pins": ["bob"]}, "no longer pinned"),
    "pins empty": ({"pins": []}, "no longer pinned"),
    "certificate changed": ({"pins": [("alice", "bob")]}, "no longer pinned"),
    "pin of another name": ({"pins": [("bob", "alice")]}, "no longer pinned"),
    "pin of a device": ({"rights": "role=device"}, "no longer pinned"),
    "pin expired": ({"rights": "until=2020-01-01"}, "has expired"),
    "services of the pin": ({"rights": "services=other"}, "no service or target is granted"),
    "services removed": ({"services": []}, "no service or target is granted"),
    "key changed": ({"key": NEW_KEY}, "key of the session is no longer in use"),
    "key changed under psk": ({"key": NEW_KEY, "policy": "psk"}, "key of the session is no longer in use"),
    "other previous key": ({"key": NEW_KEY, "previous": secrets.token_hex(32)}, "key of the session is no longer in use"),
}
NARROWED = {  # of web
    "services of the pin": {"rights": "services=ssh"},
    "service removed": {"services": ["ssh"]},
    "service moved": {"moved": ["web"]},
}
KEPT = {
    "nothing": {},
    "key in rotation": {"key": NEW_KEY, "previous": "old"},
    "service added": {"services": ["ssh", "web", "more"]},
    "pin of an admin": {"rights": "role=admin"},
    "pin valid": {"rights": "until=2099-01-01"},
    "policy psk": {"policy": "psk", "pins": []},
    "limits lowered": {"more": 'limits = { sessions = 1; streams = 1; }; timeouts = { lifetime = "1s"; };'},
}


@pytest.fixture
def system(env):
    env.broker()
    env.relay()
    return env


def named(case):
    return case.replace(" ", "-")


@pytest.mark.parametrize("how", ["reload", "restart"])
@pytest.mark.parametrize("case", LOST, ids=named)
def test_session_ends_when_its_grant_is_lost(system, case, how):
    device = Device(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    change, reason = LOST[case]
    device.configure(**change)
    started = device.apply(how)
    assert_withdrawn(tunnel, sock, started)
    device.agent.wait_for(f"withdrawing reason=.*{reason}")
    wait_until(lambda: not list(device.state.glob("*.session")), "its session file is removed")


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_sessions_survive_changes_that_keep_their_grant(system, how):
    device = Device(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    for case, change in KEPT.items():
        device.configure(**{**change, "previous": system.key} if change.get("previous") else change)
        device.apply(how)
        assert can_echo(sock, case.encode()), case
    assert "withdrawing" not in device.agent.log()


def open_service(tunnel, service):
    sock = tunnel.dial(service)
    assert can_echo(sock, b"hello")
    return sock


def assert_service_withdrawn(tunnel, sock, service):
    assert_broken(sock)
    tunnel.wait_for(f"GatewayOli has withdrawn the access to {service}.*GTD-E45")
    assert tunnel.is_running()


@pytest.mark.parametrize("has_state", [True, False], ids=["", "without-state"])
@pytest.mark.parametrize("case", NARROWED, ids=named)
def test_only_connections_of_the_changed_service_end(system, case, has_state):
    device = Device(system)
    if not has_state:
        device.agent.stop()
        device.agent = device.start(STATE_DIRECTORY=None)
    tunnel = system.connect("GatewayOli", "0:ssh", "0:web")
    ssh, web = (open_service(tunnel, service) for service in ("ssh", "web"))
    device.configure(**NARROWED[case])
    started = device.apply("reload")
    assert_service_withdrawn(tunnel, web, "web")
    assert time.monotonic() - started < LIMIT_S
    assert can_echo(ssh, b"still there")
    device.agent.wait_for("changing reason=.*services have changed")
    device.agent.wait_for("service=web ended .*reason=\"the device has withdrawn the access\"")
    if case == "service moved":
        assert open_service(tunnel, "web") and device.other.n_accepted == 1
    else:
        with pytest.raises(OSError):
            open_service(tunnel, "web")
    assert tunnel.disconnect() == 0


@pytest.mark.parametrize("case", NARROWED, ids=named)
def test_changed_service_ends_its_connections_at_a_restart(system, case):
    """Two restarts: the second one reads what the first one wrote."""
    device = Device(system)
    tunnel = system.connect("GatewayOli", "0:ssh", "0:web")
    ssh, web = (open_service(tunnel, service) for service in ("ssh", "web"))
    device.configure(**NARROWED[case])
    device.apply("restart")
    assert_service_withdrawn(tunnel, web, "web")
    assert can_echo(ssh, b"still there")
    device.apply("restart")
    assert can_echo(ssh, b"and here")
    device.configure(services=[])
    assert_withdrawn(tunnel, ssh, device.apply("reload"))


def test_proxy_of_a_withdrawn_service_exits_with_its_reason(system):
    device = Device(system)
    ssh, web = (Connection(system, service).echo(b"hello") for service in ("ssh", "web"))
    device.configure(services=["ssh"])
    device.apply("reload")
    status, _, errors = web.finish()
    assert status == 77 and "has withdrawn the access to web" in errors
    assert ssh.echo(b"still there").finish() == (0, b"", "")


def test_worker_that_does_not_apply_a_change_is_ended(system):
    device = Device(system)
    tunnel = system.connect("GatewayOli", "0:ssh", "0:web")
    ssh = open_service(tunnel, "ssh")
    worker, = harness.children_of(device.agent.pid)
    os.kill(worker, signal.SIGSTOP)
    device.configure(services=["ssh"])
    device.apply("reload")
    wait_until(lambda: not is_process_alive(worker), "the worker is killed", limit=4 + LIMIT_S)
    assert_broken(ssh)
    assert tunnel.wait(5) == 77
    device.agent.wait_for("withdrawing reason=.*has not applied")


def test_only_the_session_that_lost_its_grant_ends(system):
    device = Device(system, pins=["alice", "bob"])
    alice, bob = system.connect(name="alice"), system.connect(name="bob")
    sock, other = open_stream(alice), open_stream(bob)
    device.configure(pins=["bob"])
    assert_withdrawn(alice, sock, device.apply("reload"))
    assert can_echo(other, b"still there")
    assert bob.disconnect() == 0


def test_session_of_a_rotation_ends_with_the_previous_key(env):
    """The session was agreed under the old key while that was the previous one."""
    env.broker()
    env.relay(env=env.relay_environment(GOTTHARD_CRYPT_KEY=NEW_KEY, GOTTHARD_CRYPT_KEY_PREVIOUS=env.key))
    device = Device(env, key=NEW_KEY, previous=env.key)
    tunnel = env.connect()
    sock = open_stream(tunnel)
    device.configure(key=NEW_KEY)
    assert_withdrawn(tunnel, sock, device.apply("reload"))


@pytest.mark.parametrize("pins", [["bob"], ["alice"]], ids=["not-pinned", "pinned"])
def test_policy_pin_judges_sessions_of_policy_psk(system, pins):
    """The certificate was checked under psk as well: a session of a pinned operator stays."""
    device = Device(system, policy="psk", pins=[])
    tunnel = system.connect()
    sock = open_stream(tunnel)
    device.configure(pins=pins)
    started = device.apply("reload")
    if pins == ["bob"]:
        assert_withdrawn(tunnel, sock, started)
    else:
        assert can_echo(sock, b"still there")


def test_policy_pin_ends_sessions_without_a_certificate(env):
    env.broker(tls=False)
    env.relay()
    plain = {"GOTTHARD_MQTT_ENDPOINT": f"mqtt://localhost:{env.broker_port}", "GOTTHARD_AWS_CERT_PATH": None}
    pins = env.folder / "operators.pins"
    folder = env.config_folder(agentd=f'trust = {{ policy = "psk"; pins = "{pins}"; }};')
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder, GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, **plain)
    tunnel = env.connect(**plain)
    sock = open_stream(tunnel)
    pins.write_text(env.cli("fingerprint").stdout)
    (folder / "agentd.conf").write_text(f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    started = time.monotonic()
    reload(agent)
    assert_withdrawn(tunnel, sock, started)
    agent.wait_for("the operator gave no certificate")


def test_session_ends_in_the_second_in_which_its_pin_expires(system):
    """The check is due at that moment, not at the next of the regular ones."""
    shift = system.folder / "shift"
    tomorrow = datetime.datetime.now(datetime.timezone.utc).date() + datetime.timedelta(days=1)
    midnight = datetime.datetime.combine(tomorrow, datetime.time(), datetime.timezone.utc).timestamp()

    shift.write_bytes(struct.pack("q", int(midnight - time.time()) - 4))
    device = Device(system)
    assert device.agent.stop() == 0
    device.configure(rights=f"until={tomorrow - datetime.timedelta(days=1)}")
    device.agent = device.start(LD_PRELOAD=SHIM_CLOCK, CLOCK_SHIFT=shift)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    assert_broken(sock)
    assert tunnel.wait(5) == 77
    device.agent.wait_for("the operator's pin has expired", limit=5)


def test_expired_pin_stays_expired_after_the_clock_was_set_back(env):
    """A device that boots in the past judges pins by the latest time that it has trusted, which its state folder has, and
    by the time of the pin file. The broker is without TLS: its certificate is not valid yet in 1970."""
    env.broker(tls=False)
    env.relay()
    broker = {"GOTTHARD_MQTT_ENDPOINT": f"mqtt://127.0.0.1:{env.broker_port}"}
    pins, state, shift = env.folder / "operators.pins", env.folder / "state", env.folder / "shift"
    state.mkdir(mode=0o700)
    now = int(time.time())
    shift.write_bytes(struct.pack("q", -now))  # 1970
    yesterday = datetime.datetime.fromtimestamp(now - 86400, datetime.timezone.utc).date()
    fingerprint = env.cli("fingerprint", name="alice").stdout.split()[1]
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')

    def is_granted(rights, kept, written):
        pins.write_text(f"alice {fingerprint} {rights}\n")
        os.utime(pins, (written, written))
        (state / "clock").unlink(missing_ok=True)
        if kept:
            (state / "clock").write_text(f"{kept}\n")
        agent = env.agent(LD_PRELOAD=SHIM_CLOCK, CLOCK_SHIFT=shift, STATE_DIRECTORY=state, GOTTHARD_CONFIG_DIR=folder, **broker)
        tunnel = env.connect(wait=False, **broker)
        wait_until(lambda: not tunnel.is_running() or any(e["event"] == "up" for e in tunnel.events()), "an answer")
        is_up = tunnel.is_running()
        assert is_up or tunnel.event("error")["id"] == "GTD-E40", tunnel.log()
        tunnel.disconnect()
        assert agent.stop() == 0
        return is_up

    assert is_granted(f"until={yesterday}", 0, 1000), "without a floor the clock decides"
    assert not is_granted(f"until={yesterday}", now, 1000)
    assert not is_granted(f"until={yesterday}", 0, now)
    assert is_granted("", now, now)


def test_pins_written_in_the_future_are_reported(env):
    """Their expiry is judged by that time."""
    pins = env.folder / "operators.pins"
    pins.write_text(env.cli("fingerprint").stdout)
    os.utime(pins, (time.time() + 86400, time.time() + 86400))
    folder = env.config_folder(agentd=f'trust = {{ policy = "pin"; pins = "{pins}"; }};')
    agent = env.agent(GOTTHARD_CONFIG_DIR=folder, wait=False)
    agent.wait_for(f"warn .*{pins} was written in the future, and the expiry of pins is judged by that time")


def test_refused_reload_withdraws_nothing(system):
    device = Device(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    device.configure(pins=["bob"], more="unknown = 1;")
    reload(device.agent)
    assert can_echo(sock, b"still there")
    assert tunnel.disconnect() == 0


def test_withdrawn_session_of_a_hanging_worker_is_killed(system):
    device = Device(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(device.agent.pid)
    os.kill(worker, signal.SIGSTOP)
    device.configure(pins=["bob"])
    started = device.apply("reload")
    wait_until(lambda: not is_process_alive(worker), "the worker is killed", limit=2 * LIMIT_S)
    assert_broken(sock)
    assert tunnel.wait(5) == 77 and time.monotonic() - started < 3 * LIMIT_S


def test_operator_who_was_away_reads_that_access_was_withdrawn(system):
    """The BYE is kept by the relay for the side that is away."""
    device = Device(system)
    tunnel = system.connect()
    open_stream(tunnel)
    os.kill(tunnel.pid, signal.SIGSTOP)
    device.configure(pins=["bob"])
    device.apply("reload")
    wait_until(lambda: not harness.children_of(device.agent.pid), "the worker has exited")
    os.kill(tunnel.pid, signal.SIGCONT)
    assert tunnel.wait(10) == 77 and "has withdrawn the access" in tunnel.log()


# --- without a state directory --------------------------------------------------------------------


def assert_closed(tunnel, sock, started):
    assert_broken(sock)
    assert time.monotonic() - started < LIMIT_S
    assert tunnel.wait(5) == 69 and tunnel.event("closed")["reason"] == "device"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_session_without_state_directory_ends_with_its_listener(system, number):
    """The next listener could neither see nor close it. agent.keep_sessions makes no difference."""
    agent = system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(echo).port, STATE_DIRECTORY=None)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    worker, = harness.children_of(agent.pid)
    started = time.monotonic()
    os.kill(agent.pid, number)
    assert_closed(tunnel, sock, started)
    wait_until(lambda: not is_process_alive(worker), "the worker has exited", limit=5)


@pytest.mark.parametrize("fault", ["writable", "missing", "file"])
def test_state_directory_that_cannot_be_trusted_is_not_used(system, fault):
    state = session_files(system)
    if fault == "writable":
        state.chmod(0o777)
    elif fault == "missing":
        state.rmdir()
    else:
        state.rmdir()
        state.write_text("")
    agent = system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(echo).port, STATE_DIRECTORY=state)
    agent.wait_for(r"error .*\(STATE_DIRECTORY\) is not used: ")
    tunnel = system.connect()
    sock = open_stream(tunnel)
    assert fault != "writable" or not list(state.glob("*.session"))
    started = time.monotonic()
    os.kill(agent.pid, signal.SIGKILL)
    assert_closed(tunnel, sock, started)


def test_sessions_of_a_folder_that_became_writable_are_withdrawn(system):
    """Its contents can be changed by others. The session itself is proven by its locks."""
    device = Device(system)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    device.state.chmod(0o777)
    assert_withdrawn(tunnel, sock, device.apply("restart"))
    device.agent.wait_for("other users can write the folder")


# --- the descriptor store of a service manager ----------------------------------------------------


class Store:
    """The part of a service manager that keeps descriptors while the service restarts. @is_keeping False: it closes them at once."""

    def __init__(self, env, is_keeping=True):
        self.path = env.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(harness.LIMIT)
        self.is_keeping = is_keeping
        self.fds = []

    def receive(self):
        while True:
            message, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
            self.fds += fds
            if b"FDSTORE=1" in message:
                assert b"FDNAME=sessions" in message and len(fds) == 2
            if b"READY=1" in message:
                break
        if not self.is_keeping:
            self.drop()

    def start(self, env, **more):
        """Starts the agent as the manager does: with the stored descriptors from 3 on."""
        variables = env.agent_environment("GatewayOli", NOTIFY_SOCKET=self.path, LISTEN_FDS=len(self.fds), **more)
        passed = " ".join(f"exec {3 + i}{'<>'[i % 2]}/proc/{os.getpid()}/fd/{fd};" for i, fd in enumerate(self.fds))
        agent = harness.Process(env, env.unique("agentd"), ["bash", "-c", f'{passed} export LISTEN_PID=$$; exec "$0"',
                                                            harness.PROGRAMS["agentd"]], env=variables)
        self.receive()
        agent.wait_for(harness.AGENT_READY)
        return agent

    def drop(self):
        while self.fds:
            os.close(self.fds.pop())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "crash"])
def test_service_that_is_stopped_ends_its_sessions_and_a_restart_does_not(system, number):
    store = Store(system)
    directories = {"STATE_DIRECTORY": session_files(system), "GOTTHARD_AGENT_DATA_PORT": system.target(echo).port}
    agent = store.start(system, **directories)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    for _ in range(2):
        agent.send(number)
        agent.wait()
        assert can_echo(sock, b"between two processes")
        agent = store.start(system, **directories)
        agent.wait_for("restored pid=")
        assert len(store.fds) == 2
    other = system.connect()
    sock_of_other = open_stream(other)
    agent.send(number)
    agent.wait()
    assert can_echo(sock, b"still there")
    started = time.monotonic()
    store.drop()
    assert_closed(tunnel, sock, started)
    assert_closed(other, sock_of_other, started)
    wait_until(lambda: not any(path.stat().st_size for path in session_files(system).glob("*.session")), "both workers have sent BYE")


def test_manager_without_a_store_leaves_the_sessions_alone(system):
    store = Store(system, is_keeping=False)
    directories = {"STATE_DIRECTORY": session_files(system), "GOTTHARD_AGENT_DATA_PORT": system.target(echo).port}
    agent = store.start(system, **directories)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    assert agent.stop() == 0
    assert can_echo(sock, b"still there")
    store.start(system, **directories).wait_for("restored pid=")
    assert can_echo(sock, b"and here") and tunnel.disconnect() == 0


# --- planted session files ------------------------------------------------------------------------


def lp(text):
    return struct.pack(">H", len(text)) + text


def session_file(pid, relay_port, relay=b"main"):
    """The bytes of a session file of alice."""
    return (b"GTW3" + struct.pack(">i", pid) + lp(b"GatewayOli") + lp(b"alice") + b"\xab" * 16 + b"\xbc" * 16 + b"\0" + b"\0" * 32 +
            struct.pack(">Q", 1 << 62) + struct.pack(">H", 0) + lp(relay) + lp(b"localhost") + struct.pack(">H", relay_port))


def plant_plain(path):
    pass


def plant_writable(path):
    path.chmod(0o666)


def plant_hard_link(path):
    os.link(path, path.parent.parent / "elsewhere")


def plant_symbolic_link(path):
    target = path.parent.parent / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def plant_other_owner(path):
    if os.getuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(path, 65534, 65534)


PLANTS = {f.__name__[6:]: f for f in (plant_plain, plant_writable, plant_hard_link, plant_symbolic_link, plant_other_owner)}


@pytest.mark.parametrize("is_locked", [False, True], ids=["unlocked", "locked"])
@pytest.mark.parametrize("plant", PLANTS)
def test_planted_session_file_neither_signals_nor_connects(system, plant, is_locked):
    """The file names a process that is no worker, and a relay that is not configured."""
    relay = system.target(echo)
    state = session_files(system)
    path = state / "0011223344556677.session"
    lock = ["flock", path] if is_locked else []
    victim = harness.Process(system, "victim", [*lock, "sleep", "1000"])
    if is_locked:
        wait_until(lambda: harness.children_of(victim.pid), "the victim runs")
    path.write_bytes(session_file(victim.pid, relay.port))
    path.chmod(0o600)
    PLANTS[plant](path)
    agent = system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(echo).port, STATE_DIRECTORY=state)
    assert system.cli("disconnect", "--all", "GatewayOli").returncode in (0, 64, 69)
    assert open_stream(system.connect())
    assert victim.is_running() and relay.n_accepted == 0
    assert "restored" not in agent.log()
    if is_locked or plant != "plain":
        assert f"{path} is ignored: " in agent.log()


def test_planted_session_file_for_a_configured_relay_signals_nobody(system):
    """A file of the agent's own of a worker that was killed: the relay gets a BYE for a session that it does not know."""
    state = session_files(system)
    victim = harness.Process(system, "victim", ["sleep", "1000"])
    path = state / "0011223344556677.session"
    path.write_bytes(session_file(victim.pid, system.relay_port))
    path.chmod(0o600)
    system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(echo).port, STATE_DIRECTORY=state).wait_for("notifying the operator")
    wait_until(lambda: not path.exists(), "the file is removed")
    assert victim.is_running()


def test_removed_session_file_is_no_reason_to_fail(system):
    """A folder that vanishes: later sessions end with the agent."""
    state = session_files(system)
    agent = system.agent(GOTTHARD_AGENT_DATA_PORT=system.target(echo).port, STATE_DIRECTORY=state)
    shutil.rmtree(state)
    tunnel = system.connect()
    sock = open_stream(tunnel)
    agent.wait_for("cannot write the session file: this session ends with the agent")
    started = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(agent.pid, signal.SIGKILL)
    assert_closed(tunnel, sock, started)
