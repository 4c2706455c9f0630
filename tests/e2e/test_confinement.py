# SPDX-License-Identifier: ISC
"""What the processes of a session may do: an intruder in them finds no key and no way to one, and names are resolved all the same."""

import errno
import hashlib
import hmac
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

import harness
from harness import echo, wait_until
from test_keys import memory_of
from test_sessions import read_tag, tagged

REFUSED = {errno.EPERM, errno.EACCES}
needs_confinement = pytest.mark.skipif(harness.SANITIZER != "none", reason="a sanitizer opens files and starts processes itself")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root looks into a process that is not dumpable, and mounts")


def session(env, **variables):
    """A live session. Returns the agent, the tunnel, the worker's pid and the resolver's."""
    env.broker()
    env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, **variables)
    tunnel = env.connect()
    worker, = harness.children_of(agent.pid)
    resolver, = harness.children_of(worker)
    return agent, tunnel, worker, resolver


def can_echo(tunnel):
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        return harness.receive_exactly(sock, 5) == b"hello"


def intrusion(agent, pid, name):
    """Returns the errno of each attempt in the process."""
    os.kill(pid, signal.SIGRTMIN)
    line = agent.wait_for(rf"intruder process={name} (.*)\.$").group(1)
    return {attempt: int(result) for attempt, result in (word.split("=") for word in line.split())}


@needs_confinement
def test_intruder_in_a_session_reaches_nothing(env):
    victim = env.certificates("GatewayOli") / "private.key"
    state = env.folder / "state"
    state.mkdir(mode=0o700)
    content = victim.read_bytes()
    agent, tunnel, worker, resolver = session(
        env, LD_PRELOAD=harness.BUILD / "tests" / "preload" / "shim-intruder.so", INTRUDER=victim, STATE_DIRECTORY=state)
    of_worker = intrusion(agent, worker, "gotthard-worker")
    assert set(of_worker.values()) <= REFUSED, of_worker
    of_resolver = intrusion(agent, resolver, "gotthard-names")
    needed = {name: of_resolver.pop(name) for name in ("read", "fork", "local")}  # getaddrinfo(3) reads files and has threads
    assert set(needed.values()) == {0} and set(of_resolver.values()) <= REFUSED, (needed, of_resolver)
    assert victim.read_bytes() == content and not victim.with_name("private.key.new").exists()

    # The session is not affected: new streams, the end, and its file.
    assert can_echo(tunnel) and len(list(state.glob("*.session"))) == 1
    assert tunnel.disconnect() == 0
    wait_until(lambda: not list(state.glob("*.session")), "the session's file is removed")
    agent.wait_for(r"operator=alice ended cause=closed streams=1 ")


def test_level_of_confinement_is_logged(env):
    env.broker()
    agent = env.agent()
    landlock, seccomp = map(int, agent.wait_for(r"device=GatewayOli sessions are confined landlock=(\d+) seccomp=([01])$").groups())
    assert (landlock, seccomp) == (0, 0) if harness.SANITIZER != "none" else seccomp == 1


def test_resolver_ends_with_its_worker(env):
    agent, tunnel, worker, resolver = session(env)
    assert can_echo(tunnel)
    os.kill(resolver, signal.SIGTERM)  # as a service manager that signals all processes
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{resolver}"), "the resolver has exited", 10)
    agent.wait_for("worker killed signal=9")


def test_killed_resolver_is_reported(env):
    """The session continues, also over a restart of the relay, which has a name."""
    env.broker()
    relay = env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(echo).port, GOTTHARD_SERVER_HOST="localhost")
    tunnel = env.connect()
    worker, = harness.children_of(agent.pid)
    resolver, = harness.children_of(worker)
    with tunnel.dial() as sock:
        sock.sendall(b"hello")
        assert harness.receive_exactly(sock, 5) == b"hello"
        os.kill(resolver, signal.SIGKILL)
        agent.wait_for(r"warn .* operator=alice resolver exited status=9, names of targets can no longer be resolved$")
        assert can_echo(tunnel)  # its target is numeric
        relay.kill()
        env.relay()
        sock.sendall(b"again")
        assert harness.receive_exactly(sock, 5) == b"again"


@needs_root
def test_descriptors_of_a_session(env):
    """Standard ones, the log, the session file with its FIFO, pipes and sockets of their own: nothing of the listener's."""
    state = env.folder / "state"
    state.mkdir(mode=0o700)
    agent, tunnel, worker, resolver = session(env, STATE_DIRECTORY=state)
    assert can_echo(tunnel)

    def files_of(pid):
        links = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                links[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                continue
        return links

    assert set(files_of(resolver)) == {0, 1, 2, 3} and files_of(resolver)[3].startswith("socket:")
    of_worker = files_of(worker)
    of_listener = {link for link in files_of(agent.pid).values() if link.startswith(("socket:", "/"))}
    for fd in {0, 1, 2} & set(of_worker):
        of_listener.discard(of_worker.pop(fd))
    session_file = of_worker.pop(4)
    assert session_file.startswith(f"{state}/")
    assert of_worker.pop(7) == f"{session_file}.events"  # a FIFO of its own, for the audit
    assert not [link for link in of_worker.values() if link.startswith("/")]
    assert not of_listener & set(of_worker.values())


@needs_root
@needs_confinement
def test_memory_of_a_session_has_no_other_secret(env):
    """The worker is not a copy of the listener: what the listener has read is not in its memory."""
    password = secrets.token_hex(12)
    agent, tunnel, worker, resolver = session(env, GOTTHARD_MQTT_USERNAME="oli", GOTTHARD_MQTT_PASSWORD=password)
    assert can_echo(tunnel)
    raw = bytes.fromhex(env.key)
    master = hmac.digest(hashlib.sha256(b"gotthard/1 salt" + bytes.fromhex(env.iv)).digest(), raw, "sha256")
    pem = (env.certificates("GatewayOli") / "private.key").read_bytes().splitlines()
    own = subprocess.run(["openssl", "pkey", "-in", env.certificates("GatewayOli") / "private.key", "-text", "-noout"],
                         check=True, capture_output=True, text=True).stdout
    number = bytes.fromhex(re.sub(r"[\s:]", "", re.search(r"priv:(.*)pub:", own, re.DOTALL).group(1)))
    secret = {"fleet key": raw, "fleet key in hex": env.key.encode(), "master key": master, "password": password.encode(),
              "private key": number, "private key backwards": number[::-1], "private key in PEM": pem[2]}

    def found_in(pid):
        memory = b"".join(memory_of(pid))
        assert len(memory) > 100000
        return {name for name, value in secret.items() if value in memory}

    assert "password" in found_in(agent.pid)
    assert not found_in(worker) and not found_in(resolver)


# --- names


class Names:
    """A DNS server on a loopback address of its own. Answers over UDP are truncated if @is_tcp_only."""

    def __init__(self, names, is_tcp_only=False):
        self.names, self.is_tcp_only = names, is_tcp_only
        self.n_tcp = 0
        self.address = "127." + ".".join(str(secrets.randbelow(253) + 1) for _ in range(3))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((self.address, 53))
        self.tcp = socket.create_server((self.address, 53))
        for serve in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def answer(self, query, is_truncated):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind, = struct.unpack("!H", query[at + 1:at + 3])
        address = self.names.get(".".join(labels))
        has_answer = address is not None and kind == 1 and not is_truncated
        flags = 0x8180 | (0x0200 if is_truncated else 0) | (3 if address is None else 0)
        record = struct.pack("!HHHIH", 0xc00c, 1, 1, 0, 4) + socket.inet_aton(address) if has_answer else b""
        return query[:2] + struct.pack("!HHHHH", flags, 1, int(has_answer), 0, 0) + query[12:at + 5] + record

    def serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            self.udp.sendto(self.answer(query, self.is_tcp_only), peer)

    def serve_tcp(self):
        while True:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            self.n_tcp += 1
            with sock:
                while n := harness.receive_exactly(sock, 2):
                    answer = self.answer(harness.receive_exactly(sock, struct.unpack("!H", n)[0]), False)
                    sock.sendall(struct.pack("!H", len(answer)) + answer)

    def close(self):
        self.udp.close()
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()


@pytest.fixture
def names():
    made = []

    def start(*args, **kwargs):
        made.append(Names(*args, **kwargs))
        return made[-1]

    yield start
    for server in made:
        server.close()


def replace(path, text):
    """As DHCP clients and editors do: another file in its place."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.rename(path)


@needs_root
def test_names_follow_replaced_files_in_a_live_session(env, names):
    """Targets are looked up with the resolv.conf and the hosts of the moment, also over TCP."""
    first = names({"first.test": "127.0.0.1"})
    second = names({"second.test": "127.0.0.1"}, is_tcp_only=True)
    etc = env.folder / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore=lambda _, entries: set(entries) - {"hosts", "nsswitch.conf", "ld.so.cache", "gai.conf"})
    (etc / "nsswitch.conf").write_text("hosts: files dns\n")
    (etc / "resolv.conf").write_text(f"nameserver {first.address}\n")
    env.broker()
    env.relay()
    port = env.target(tagged("<name>")).port
    services = "; ".join(f'{name} = "{name}.test:{port}"' for name in ("first", "second", "third"))
    folder = env.config_folder(agentd=f"services = {{ {services}; }};")
    agent = harness.Process(env, env.unique("agentd"),
                            ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /etc && exec "$2"', "sh", etc, harness.PROGRAMS["agentd"]],
                            env=env.agent_environment("GatewayOli", GOTTHARD_CONFIG_DIR=folder))
    agent.wait_for(harness.AGENT_READY)
    tunnel = env.connect("GatewayOli", "0:first", "0:second", "0:third")
    assert read_tag(tunnel, "first") == "<name>"
    replace(etc / "resolv.conf", f"nameserver {second.address}\noptions timeout:1\n")
    assert read_tag(tunnel, "second") == "<name>" and second.n_tcp > 0
    replace(etc / "hosts", "127.0.0.1 localhost third.test\n")
    assert read_tag(tunnel, "third") == "<name>"


@needs_root
def test_busy_resolver_ends_with_its_worker(env):
    """All of its lookups wait for a server that is silent: such processes must not accumulate."""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    address = "127." + ".".join(str(secrets.randbelow(253) + 1) for _ in range(3))
    silent.bind((address, 53))
    resolv = env.folder / "resolv.conf"
    resolv.write_text(f"nameserver {address}\n")
    env.broker()
    env.relay()
    variables = env.agent_environment("GatewayOli", GOTTHARD_SERVER_HOST="127.0.0.1", GOTTHARD_AGENT_DATA_HOST="silent.test",
                                      GOTTHARD_MQTT_ENDPOINT=f"127.0.0.1:{env.broker_port}")
    agent = harness.Process(env, env.unique("agentd"), ["unshare", "--mount", "sh", "-c",
                            'mount --bind "$1" /etc/resolv.conf && exec "$2"', "sh", resolv, harness.PROGRAMS["agentd"]], env=variables)
    agent.wait_for(harness.AGENT_READY)
    tunnel = env.connect()
    worker, = harness.children_of(agent.pid)
    resolver, = harness.children_of(worker)
    streams = [tunnel.dial() for _ in range(64)]
    wait_until(lambda: len(os.listdir(f"/proc/{resolver}/task")) > 64, "64 lookups wait")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{resolver}"), "the resolver has exited", 3)
    for sock in streams:
        sock.close()
    silent.close()
