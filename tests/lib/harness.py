# SPDX-License-Identifier: ISC
"""One private system for a test: certificates, a broker, an sshd, the relay, agents, operators.

Every process gets a folder, free loopback ports and log files of its own, so that any number of
systems run concurrently. Nothing here sleeps for a fixed time: it waits for a condition, with a
limit, and a failed test shows every log. Processes are ended by pid.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import holders

os.umask(0o022)  # files of trust must not be writable by a group
os.environ["PATH"] += os.pathsep + "/usr/sbin:/sbin"  # mosquitto and sshd are there

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "common" / "tests"))
import vectors  # noqa: E402 - an independent implementation of docs/protocol.md

BUILD = pathlib.Path(os.environ.get("GOTTHARD_BUILD", ROOT / "build"))
PROGRAMS = {name: BUILD / "subprojects" / f"gotthard-{name}" / "src" / f"gotthard-{name}"
            for name in ("relayd", "agentd", "cli")}
# Sanitizers and loaded machines are slow: limits are generous, since no successful test waits for one.
LIMIT = float(os.environ.get("GOTTHARD_TEST_LIMIT", "60"))
# "aws" or "aws-3.1.1": the broker with the manners of AWS IoT Core in place of mosquitto (tests/aws-suite). Switches of its
# manners may follow, "aws,subscribe_delay_ms=500".
BROKER = os.environ.get("GOTTHARD_BROKER", "mosquitto")


def _sanitizer():
    """Returns the sanitizer of the build: "address,undefined", "thread", or "none"."""
    with contextlib.suppress(OSError):
        options = json.loads((BUILD / "meson-info" / "intro-buildoptions.json").read_text())
        return next((o["value"] for o in options if o["name"] == "b_sanitize"), "none")
    return "none"


SANITIZER = _sanitizer()  # memory and time of a sanitized program are not representative


RELAY_TIMEOUTS = {"handshake", "hello", "join", "join_peer", "heartbeat_interval", "heartbeat", "pairing", "session_grace", "idle",
                  "lifetime", "half_closed", "ticket"}


def relay_groups(text):
    """Sorts settings of a relay, 'name = value; ...', into the groups limits and timeouts. Returns the text of both groups."""
    groups = {"limits": "", "timeouts": ""}
    for setting in filter(None, (part.strip() for part in text.split(";"))):
        groups["timeouts" if setting.split()[0] in RELAY_TIMEOUTS else "limits"] += setting + "; "
    return " ".join(f"{name} = {{ {settings}}};" for name, settings in groups.items() if settings)


def wait_until(condition, what, limit=LIMIT, step=0.02):
    """Polls @condition until it is true. Returns its value."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:.0f} s: {what}")
        time.sleep(step)


# --- ports ----------------------------------------------------------------------------------------

_PORT_LOCKS = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"gotthard-ports.{os.getuid()}"
_held_locks = []


def release_ports():
    while _held_locks:
        _held_locks.pop().close()


def free_ports(n):
    """Returns the first of @n consecutive ports below the ephemeral range. No other test uses them until release_ports()."""
    _PORT_LOCKS.mkdir(mode=0o700, exist_ok=True)
    for _ in range(1000):
        first = 10000 + secrets.randbelow((32000 - 10000) // n) * n
        locks, sockets = [], []
        try:
            for port in range(first, first + n):
                lock = open(_PORT_LOCKS / str(port), "w", encoding="ascii")
                locks.append(lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for family, host in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
                    probe = socket.socket(family)
                    sockets.append(probe)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((host, port))
        except OSError:
            for lock in locks:
                lock.close()
            continue
        finally:
            for probe in sockets:
                probe.close()
        _held_locks.extend(locks)
        return first
    raise AssertionError("no free ports")


# --- processes ------------------------------------------------------------------------------------


def _ignore_no_signal():
    """A test started with `nohup ... &` ignores signals, and its children would inherit that. Caught signals are not inherited."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


_ignore_no_signal()


class Process:
    """A child with its output in files, ended by pid. @preexec runs Python between fork and exec: use it without threads only."""

    def __init__(self, owner, name, argv, env=None, stdin=subprocess.DEVNULL, preexec=None):
        self.name = name
        self.folder = owner.folder
        self.out_path = owner.folder / f"{name}.out"
        self.log_path = owner.folder / f"{name}.log"
        with open(self.out_path, "ab") as out, open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.child = subprocess.Popen(
                [str(a) for a in argv], stdin=stdin, stdout=out, stderr=log,
                env=env if env is not None else clean_environment(), start_new_session=True,
                cwd=owner.folder, preexec_fn=preexec)
        self.pid = self.child.pid
        owner.processes.append(self)

    def log(self):
        return self.log_path.read_text(errors="replace")[self.log_start:]

    def out(self):
        return self.out_path.read_text(errors="replace")

    def is_running(self):
        return self.child.poll() is None

    def wait_for(self, pattern, limit=LIMIT, where=None, count=1):
        """Waits for the match number @count of @pattern in the log (or where())."""
        read = where or self.log
        regex = re.compile(pattern, re.MULTILINE)

        def find():
            found = list(regex.finditer(read()))
            if len(found) >= count:
                return found[count - 1]
            if not self.is_running() and len(list(regex.finditer(read()))) < count:
                raise AssertionError(f"{self.name} ended ({self.child.returncode}) without {pattern!r}")
            return None

        return wait_until(find, f"{pattern!r} from {self.name}", limit)

    def send(self, number):
        if self.is_running():
            os.kill(self.pid, number)

    def wait(self, limit=LIMIT):
        try:
            return self.child.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {limit} s") from None

    def stop(self, number=signal.SIGTERM, limit=LIMIT):
        self.send(number)
        return self.wait(limit)

    def kill(self):
        """Kills the whole process group, including an agent's workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(10)


@functools.lru_cache(maxsize=None)
def _no_configuration():
    """An empty folder in place of /etc/gotthard: the programs refuse one that does not exist."""
    folder = tempfile.mkdtemp(prefix="gotthard-none-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.lru_cache(maxsize=None)
def _state_home():
    """In place of ~/.local/state. Its files have the names of fleets, and each test has a fleet of its own."""
    folder = tempfile.mkdtemp(prefix="gotthard-state-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.lru_cache(maxsize=None)
def runtime_folder():
    """In place of /run/user/UID, with a short path: the control sockets of sessions are there."""
    folder = tempfile.mkdtemp(prefix="gt-run-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(holders.end_all, folder)
    return folder


def clean_environment(**more):
    """The environment of a service, without the caller's GOTTHARD_*."""
    env = {k: v for k, v in os.environ.items()
           if k in ("PATH", "HOME", "TMPDIR", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
                    "LSAN_OPTIONS", "LD_LIBRARY_PATH", "USER", "LOGNAME")}
    env["GOTTHARD_CONFIG_DIR"] = _no_configuration()
    env["XDG_STATE_HOME"] = _state_home()
    env["XDG_RUNTIME_DIR"] = runtime_folder()
    if "address" in SANITIZER:  # a test may preload a library of its own, which then comes before the sanitizer's
        env["ASAN_OPTIONS"] = ":".join(filter(None, [env.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
    if SANITIZER == "thread":
        env["LD_PRELOAD"] = str(BUILD / "tests" / "preload" / "shim-wait.so")  # its source has the reason
        env.setdefault("TSAN_OPTIONS", f"suppressions={ROOT}/tests/preload/thread-sanitizer.txt")
    env.update({k: str(v) for k, v in more.items() if v is not None})
    return env


def limit_files(n):
    """For @preexec: limits the process to @n descriptors."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))


def descriptors(pid):
    """The number of a daemon's descriptors. A daemon is not dumpable, so this needs root."""
    if os.getuid() != 0:
        import pytest

        pytest.skip("only root counts the descriptors of a process that is not dumpable")
    return len(os.listdir(f"/proc/{pid}/fd"))


def n_connections_at(port):
    """The number of established local connections whose own end has this port."""
    n = 0
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/net/{table}", encoding="ascii") as rows:
            n += sum(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01" for row in list(rows)[1:])
    return n


def children_of(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [int(x) for x in (task / "children").read_text().split()]
    return found


def rss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the system ------------------------------------------------------------------------------------


def _openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


class Authority:
    """A throw-away authority: a folder of private.key, cert.pem and ca.crt for each name, made once."""

    _shared = None
    _lock = threading.RLock()

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-authority-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                 "-keyout", self.folder / "ca.key", "-out", self.folder / "ca.crt")
        (self.folder / "ext").write_text("subjectAltName=DNS:localhost,DNS:broker.test,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")

    @classmethod
    def shared(cls):
        """The CA of all tests in this process: certificates take a third of a short test's time."""
        with cls._lock:
            cls._shared = cls._shared or cls()
            return cls._shared

    def certificates(self, name):
        folder = self.folder / "names" / name
        with self._lock:
            if not folder.exists():
                self._make(name, folder)
        return folder

    def _make(self, name, folder):
        folder.mkdir(parents=True)
        request = self.folder / "request"
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                 "-keyout", folder / "private.key", "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.folder / "ca.crt", "-CAkey", self.folder / "ca.key",
                 "-days", "2", "-CAcreateserial", "-extfile", self.folder / "ext", "-out", folder / "cert.pem")
        shutil.copy(self.folder / "ca.crt", folder)
        os.chmod(folder / "private.key", 0o600)


class Env:
    """One system of broker, relay, agents and commands, made by the `env` fixture. Its parts start on request."""

    PREFIX = "gotthard/v1"

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.processes = []
        self.targets = []
        self.key = secrets.token_hex(32)
        self.iv = secrets.token_hex(16)
        self.broker_port = free_ports(1)
        self.relay_port = free_ports(1)
        self.n_relay_ports = 20
        self.relay_ports = free_ports(self.n_relay_ports)
        self._n = 0

    def certificates(self, name):
        """Returns a folder with a private copy, which the test may change."""
        folder = self.folder / "certs" / name
        if not folder.exists():
            shutil.copytree(Authority.shared().certificates(name), folder)
        return folder

    # the parts

    def unique(self, name):
        self._n += 1
        return f"{name}-{self._n}"

    def broker(self, tls=True, extra=""):
        if BROKER != "mosquitto":
            return self._broker_as_configured(tls, extra)
        certs = self.certificates("broker")
        config = self.folder / "mosquitto.conf"
        acl = self.folder / "mosquitto.acl"
        acl.write_text(f"""\
pattern read {self.PREFIX}/d/%u/req
pattern write {self.PREFIX}/d/%u/rsp/+
pattern write {self.PREFIX}/d/%u/state
pattern read {self.PREFIX}/fleet/access/+
""" + "".join(f"""
user {user}
topic write {self.PREFIX}/d/+/req
topic read {self.PREFIX}/d/+/rsp/{name}
topic read {self.PREFIX}/d/+/state
topic read {self.PREFIX}/fleet/access/+
""" for name in ("alice", "bob", "operator", "admin") for user in (f"operator {name}", name)) + f"""\
topic write {self.PREFIX}/fleet/access/+

user god
topic readwrite #
""")
        os.chmod(acl, 0o600)
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        secured = f"""\
cafile {certs}/ca.crt
certfile {certs}/cert.pem
keyfile {certs}/private.key
require_certificate true
use_identity_as_username true
""" if tls else ""
        listeners = "".join(f"listener {self.broker_port} {address}\n{secured}" for address in addresses_of("localhost"))
        config.write_text(f"""\
user {user}
{f'acl_file {acl}' if tls else 'allow_anonymous true'}
persistence false
log_dest stderr
connection_messages true
set_tcp_nodelay true
{listeners}{extra}""")
        broker = Process(self, self.unique("broker"), ["mosquitto", "-c", config])
        wait_until(lambda: is_listening(self.broker_port) or not broker.is_running(), "the broker listens")
        assert broker.is_running(), broker.log()
        return broker

    def _broker_as_configured(self, tls, extra):
        import pytest

        if not tls:
            pytest.skip("AWS IoT Core accepts TLS only")
        if extra:
            pytest.skip("the test needs settings of mosquitto")
        name, *manners = BROKER.split(",")
        return self.aws_broker(*{"aws": [], "aws-3.1.1": ["v5=False"]}[name], *manners)

    def aws_broker(self, *manners, policies=ROOT / "etc" / "aws-iot-policy-example.json"):
        """Starts tests/lib/aws_broker.py. @manners: "name=value" of aws_manners.py."""
        broker = Process(self, self.unique("broker"), [
            sys.executable, ROOT / "tests" / "lib" / "aws_broker.py", "--port", self.broker_port, "--policies", policies,
            "--certificates", self.certificates("broker"), "--operators", "alice,bob,operator,admin",
            *(f"--manner={manner}" for manner in manners)])
        broker.wait_for("aws_broker running")
        return broker

    def relay_environment(self, **more):
        return clean_environment(**{
            "GOTTHARD_SERVER_PORT": self.relay_port, "GOTTHARD_SERVER_PORTS_FROM": self.relay_ports,
            "GOTTHARD_SERVER_PORTS_TO": self.relay_ports + self.n_relay_ports - 1,
            "GOTTHARD_CRYPT_KEY": self.key, "GOTTHARD_CRYPT_IV": self.iv, **more})

    def relay(self, *args, env=None, preexec=None):
        relay = Process(self, self.unique("relayd"), [PROGRAMS["relayd"], *args],
                        env=env or self.relay_environment(), preexec=preexec)
        wait_until(lambda: is_listening(self.relay_port) or not relay.is_running(), "the relay listens")
        assert relay.is_running(), relay.log()
        return relay

    def agent_environment(self, name, **more):
        """As the shipped unit: the sessions outlive the agent, which finds them again in its state directory."""
        state = self.folder / f"state-{name}"
        state.mkdir(mode=0o700, exist_ok=True)
        return clean_environment(**{
            "GOTTHARD_AGENT_KEEP_SESSIONS": "true", "STATE_DIRECTORY": state,
            "MACHINE_ID": name, "GOTTHARD_SERVER_HOST": "localhost", "GOTTHARD_SERVER_PORT": self.relay_port,
            "GOTTHARD_CRYPT_KEY": self.key, "GOTTHARD_CRYPT_IV": self.iv,
            "GOTTHARD_AWS_CERT_PATH": self.certificates(name),
            "GOTTHARD_MQTT_RECONNECT_SPREAD": "1s",  # tests restart the broker and wait
            "GOTTHARD_MQTT_ENDPOINT": f"localhost:{self.broker_port}", **more})

    def agent(self, name="GatewayOli", *args, env=None, wait=True, preexec=None, **more):
        """@more: variables, e.g. GOTTHARD_AGENT_DATA_PORT."""
        agent = Process(self, self.unique(f"agentd-{name}"), [PROGRAMS["agentd"], *args],
                        env=env or self.agent_environment(name, **more), preexec=preexec)
        if wait:
            agent.wait_for(AGENT_READY)
        return agent

    def operator_key(self, name):
        """What `keygen operator NAME` prints. @self.key: only a fleet key derives others."""
        if not re.fullmatch("[0-9a-f]{64} [0-9a-f]{32}", f"{self.key} {self.iv}"):
            return self.key
        return vectors.operator_key(bytes.fromhex(self.key), bytes.fromhex(self.iv), name)

    def cli_environment(self, name="alice", **more):
        """An operator with its own key; with another salt, one with the fleet key."""
        owner = str(more.get("GOTTHARD_CLIENT_NAME") or name)
        return clean_environment(**{
            "GOTTHARD_SERVER_HOST": "localhost", "GOTTHARD_SERVER_PORT": self.relay_port,
            "GOTTHARD_CLIENT_PORT": 0, "GOTTHARD_CLIENT_NAME": name,
            "GOTTHARD_CRYPT_KEY": self.key if "GOTTHARD_CRYPT_IV" in more else self.operator_key(owner), "GOTTHARD_CRYPT_IV": self.iv,
            "GOTTHARD_AWS_CERT_PATH": self.certificates(name),
            "GOTTHARD_MQTT_ENDPOINT": f"localhost:{self.broker_port}", **more})

    def cli(self, *args, name="alice", env=None, **more):
        """Runs a command to its end. Only the fleet key derives keys."""
        if args and args[0] == "keygen":
            more.setdefault("GOTTHARD_CRYPT_KEY", self.key)
        return subprocess.run([str(PROGRAMS["cli"]), *map(str, args)], capture_output=True, text=True,
                              env=env or self.cli_environment(name, **more), timeout=LIMIT * 2, cwd=self.folder,
                              stdin=subprocess.DEVNULL)

    def connect(self, device="GatewayOli", *targets, name="alice", options=(), env=None, wait=True, **more):
        """A `connect` that holds its tunnel; targets as on the command line (":ssh" when none)."""
        targets = targets or ("0:ssh",)
        tunnel = Tunnel(self, self.unique(f"cli-{name}"),
                        [PROGRAMS["cli"], "connect", "--json", *options, device, *targets],
                        env=env or self.cli_environment(name, **more))
        if wait:
            tunnel.wait_up()
        return tunnel

    def target(self, behavior):
        target = Target(behavior)
        self.targets.append(target)
        return target

    def config_folder(self, **files):
        """A folder for $GOTTHARD_CONFIG_DIR: relayd="server = {...};" and so on."""
        folder = self.folder / self.unique("config")
        folder.mkdir()
        for name, text in files.items():
            path = folder / (name.replace("__", "/") + ".conf")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            os.chmod(path, 0o600)
        return folder

    # the end

    def close(self):
        holders.end_all(runtime_folder())
        for process in reversed(self.processes):
            if process.is_running():
                process.send(signal.SIGTERM)
        end = time.monotonic() + 5
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.child.wait(max(0.1, end - time.monotonic()))
        for process in self.processes:
            process.kill()
        for target in self.targets:
            target.close()
        release_ports()

    def sanitizer_reports(self):
        pattern = re.compile(r"(ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer|ERROR: LeakSanitizer)")
        return [f"{p.name}: {m.group(0)}" for p in self.processes for m in [pattern.search(p.log())] if m]

    def show_logs(self):
        for process in self.processes:
            sys.stderr.write(f"\n===== {process.name} (exit {process.child.poll()})\n")
            text = process.log_path.read_text(errors="replace")
            sys.stderr.write(text[-6000:])


AGENT_READY = r"online"


class Tunnel(Process):
    """A running `connect --json`."""

    def events(self):
        found = []
        for line in self.out().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def event(self, name, limit=LIMIT, count=1, **fields):
        """Waits for event number @count of this name (and with these fields)."""

        def find():
            all_ = [e for e in self.events()
                    if e.get("event") == name and all(e.get(k) == v for k, v in fields.items())]
            if len(all_) >= count:
                return all_[count - 1]
            if not self.is_running():
                all_ = [e for e in self.events() if e.get("event") == name]
                if len(all_) < count:
                    raise AssertionError(f"{self.name} ended ({self.child.returncode}) without {name}: {self.log()}")
            return None

        return wait_until(find, f"event {name} {fields} from {self.name}", limit)

    def wait_up(self, limit=LIMIT):
        self.event("up", limit)
        return self

    def port(self, service=None):
        for event in self.events():
            if event.get("event") == "listening" and service in (None, event.get("service")):
                return event["port"]
        raise AssertionError(f"{self.name} listens on no port for {service}")

    def dial(self, service=None):
        sock = socket.create_connection(("127.0.0.1", self.port(service)), timeout=LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def disconnect(self):
        return self.stop(signal.SIGINT)


def addresses_of(host):
    """Returns the addresses of @host in the order in which programs try them: most systems have ::1 for localhost, some have not."""
    return list(dict.fromkeys(found[4][0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))


def first_address_of(host, port):
    """Returns the first of them as the programs show it."""
    address = addresses_of(host)[0]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_listening(port):
    """True if a local socket listens on @port. Reads the kernel's table: a test connection would be counted by the listener."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as lines:
            if any(re.match(rf"\s*\d+: \w+:{port:04X} \w+:0000 0A ", line) for line in lines):
                return True
    return False


def can_connect(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=1).close()
    except ConnectionResetError:  # accepted, and then reset before connect(2) returned
        return True
    except OSError:
        return False
    return True


# --- targets on the device's side -----------------------------------------------------------------


class Target:
    """A listening socket; each connection runs @behavior(socket) in a thread."""

    def __init__(self, behavior):
        self.behavior = behavior
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.n_accepted = 0
        self.is_closed = False  # what a behavior reads from then on is the end that close() causes, and no end of the stream
        self.errors = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.n_accepted += 1
            self.connections.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            self.behavior(sock)
        except OSError as error:
            self.errors.append(error)
        except Exception as error:  # shown by the tests that check errors
            if not self.is_closed:
                self.errors.append(error)
                raise
        finally:
            self.connections.remove(sock)
            with contextlib.suppress(OSError):
                sock.close()

    def close(self):
        self.is_closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in list(self.connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def echo(sock):
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def pattern(seed, n, chunk=1 << 16):
    """@n bytes that are unique to @seed, in chunks: SHAKE-128 blocks tiled with a counter."""
    block = hashlib.shake_128(f"gotthard {seed}".encode()).digest(chunk - 8)
    at = 0
    while at < n:
        piece = (at.to_bytes(8, "big") + block)[: n - at]
        yield piece
        at += len(piece)


def send_pattern(sock, seed, n):
    for piece in pattern(seed, n):
        sock.sendall(piece)


def receive_pattern(sock, seed, n):
    """Reads exactly @n bytes and compares each: another stream's byte fails here."""
    for wanted in pattern(seed, n):
        got = receive_exactly(sock, len(wanted))
        if got != wanted:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
            raise AssertionError(f"stream {seed}: byte {at} of a chunk is wrong, or the stream is short")


def receive_exactly(sock, n):
    parts = bytearray()
    while len(parts) < n:
        data = sock.recv(min(n - len(parts), 1 << 20))
        if not data:
            break
        parts += data
    return bytes(parts)


def digest_to_eof(sock):
    total, state = 0, hashlib.sha256()
    while data := sock.recv(1 << 18):
        total += len(data)
        state.update(data)
    return total, state.hexdigest()


def digest_of_pattern(seed, n):
    state = hashlib.sha256()
    for piece in pattern(seed, n):
        state.update(piece)
    return state.hexdigest()


def in_threads(*functions):
    """Runs all functions concurrently and raises the first failure."""
    errors = []

    def guard(function):
        try:
            function()
        except BaseException as error:  # noqa: B902 - raised below
            errors.append(error)

    threads = [threading.Thread(target=guard, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- a real sshd ----------------------------------------------------------------------------------


class Sshd:
    """An sshd without root rights on a high port, and a client key for it."""

    def __init__(self, env):
        folder = env.folder / "sshd"
        folder.mkdir(mode=0o700)
        for name in ("host_key", "client_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized_keys").write_bytes((folder / "client_key.pub").read_bytes())
        self.port = free_ports(1)
        self.client_key = folder / "client_key"
        self.folder = folder
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        (folder / "sshd_config").write_text(f"""\
ListenAddress 127.0.0.1
Port {self.port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 200
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
""")
        self.process = Process(env, env.unique("sshd"),
                               ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"])
        wait_until(lambda: is_listening(self.port), "sshd listens")
        self.user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()

    def ssh(self, port, *command, tty=False):
        return ["ssh", "-F", "none", "-i", str(self.client_key), "-p", str(port), "-o", "BatchMode=yes",
                "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/known_hosts",
                "-o", "HostKeyAlias=device", "-o", "LogLevel=ERROR", *(["-tt"] if tty else []),
                f"{self.user}@127.0.0.1", *command]
