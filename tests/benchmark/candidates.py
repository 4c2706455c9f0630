# SPDX-License-Identifier: ISC
"""The candidates: a class for each configuration of a tool, including ours.

A candidate starts its processes in its own harness.Env (a folder, ports, logs) and then has a local port that is
connected to the target. Each peer gets its best settings: TCP_NODELAY, large buffers, AES-128-GCM, TLS session
resumption, and the mutual authentication that a tunnel needs. Hops are the processes that a byte passes between the
operator's program and the target.
"""

import contextlib
import os
import resource
import subprocess

import harness
import machine
from faultproxy import Proxy, loopback
from harness import Process, free_ports, is_listening, wait_until

SUITE = "TLS_AES_128_GCM_SHA256"


def raise_limit(wanted=1 << 17):
    """Raises the limit of descriptors for this process and its children. Returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for n in (wanted, min(wanted, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, max(n, hard)))
            return n
    return soft


N_DESCRIPTORS = raise_limit()


class Candidate:
    name = None
    peer = None  # of machine.PEERS
    hops = 1
    is_encrypted = False
    is_ours = False
    most_streams = 1 << 20  # the number of streams that it opens in a reasonable time
    idle_cycle = 0  # seconds: the period of its activity when idle

    def __init__(self, folder, target):
        self.env = harness.Env(folder)
        self.target = target
        self.port = free_ports(1)
        self.is_up = False
        self.at_rest = None  # the first result of measures.idle
        self.roots = []  # the processes that transfer payload; their children count as well

    def spawn(self, *argv, env=None):
        argv = [str(a) for a in argv]
        process = Process(self.env, self.env.unique(os.path.basename(argv[0])), argv,
                          env=env or {**machine.environment(), "HOME": str(self.env.folder)})
        self.roots.append(process)
        return process

    def wait_port(self, port):
        wait_until(lambda: is_listening(port) or not all(p.is_running() for p in self.roots), f"{self.name} listens", 20)
        if not is_listening(port):
            raise AssertionError(f"{self.name} does not listen: {self.logs()}")

    def logs(self):
        return " | ".join(line for p in self.env.processes for line in (p.log() + p.out()).splitlines()[-3:])[-300:]

    def write(self, name, text):
        path = self.env.folder / name
        path.write_text(text)
        os.chmod(path, 0o600)
        return path

    # Addresses that the operator's and the device's side dial instead when the network is impaired (measures.wan).
    def operator_leg(self, port):
        return port

    def device_leg(self, port):
        return port

    def start(self):
        raise NotImplementedError

    def load(self):
        """Arguments of `load`: the address of the path to the target."""
        return ["-p", self.port]

    def close(self):
        self.env.close()


class Loopback(Candidate):
    name, hops = "no relay at all", 0

    def start(self):
        self.port = self.target.port


# --- haproxy, nginx, stunnel, socat ---------------------------------------------------------------


def haproxy_text(lines, splice):
    return f"""\
global
    maxconn {(N_DESCRIPTORS - 500) // 3}
    {"tune.pipesize 262144" if splice else ""}
    ssl-default-bind-ciphersuites {SUITE}
    ssl-default-server-ciphersuites {SUITE}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    {"option splice-request" if splice else ""}
    {"option splice-response" if splice else ""}
listen way
{lines}
"""


def nginx_text(lines):
    user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    if not os.path.exists(module):
        module = f"{machine.DEBIAN}{module}"
    return f"""\
load_module {module};
{f"user {user};" if os.getuid() == 0 else ""}
daemon off;
pid nginx-PORT.pid;
error_log stderr;
worker_processes auto;
events {{ worker_connections {N_DESCRIPTORS - 500}; }}
stream {{
    proxy_buffer_size 64k;
    proxy_timeout 1h;
    tcp_nodelay on;
    server {{
{lines}
    }}
}}
"""


class Haproxy(Candidate):
    name, peer, is_splice = "haproxy", "haproxy", False

    def haproxy(self, name, lines, splice=False):
        path = self.write(name, haproxy_text(lines, splice))
        self.spawn(machine.program("haproxy"), "-db", "-f", path)

    def start(self):
        self.haproxy("haproxy.cfg", f"    bind 127.0.0.1:{self.port}\n    server target 127.0.0.1:{self.target.port}",
                     self.is_splice)
        self.wait_port(self.port)


class HaproxySplice(Haproxy):
    name, is_splice = "haproxy, splice forced", True


class Nginx(Candidate):
    name, peer = "nginx", "nginx"

    def nginx(self, name, lines):
        path = self.write(name, nginx_text(lines).replace("PORT", name))
        self.spawn(machine.program("nginx"), "-e", "stderr", "-p", f"{self.env.folder}/", "-c", path)

    def start(self):
        self.nginx("nginx.conf", f"listen 127.0.0.1:{self.port} backlog=4096; proxy_pass 127.0.0.1:{self.target.port};")
        self.wait_port(self.port)


class Socat(Candidate):
    name, peer, most_streams = "socat", "socat", 1000

    def start(self):
        self.spawn(machine.program("socat"), "-b65536",
                   f"TCP-LISTEN:{self.port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024",
                   f"TCP:127.0.0.1:{self.target.port},nodelay")
        self.wait_port(self.port)


# --- TLS between an entry and an exit -------------------------------------------------------------


class BothEnds(Candidate):
    """An entry that encrypts, an exit that decrypts, and optionally a relay between them."""

    is_encrypted, hops, is_relayed = True, 2, False

    def start(self):
        for name in ("entry", "exit"):
            folder = self.env.certificates(name)
            (folder / "both.pem").write_bytes((folder / "cert.pem").read_bytes() +
                                              (folder / "private.key").read_bytes())
        exit_port = between = free_ports(1)
        self.exit(exit_port)
        self.wait_port(exit_port)
        if self.is_relayed:
            between = free_ports(1)
            path = self.write("relay.cfg", haproxy_text(
                f"    bind 127.0.0.1:{between}\n    server exit 127.0.0.1:{exit_port}", True))
            self.spawn(machine.program("haproxy"), "-db", "-f", path)
            self.wait_port(between)
        self.entry(between)
        self.wait_port(self.port)


class HaproxyTls(BothEnds, Haproxy):
    name, peer = "haproxy TLS", "haproxy"

    def exit(self, port):
        certs = self.env.certificates("exit")
        self.haproxy("exit.cfg", f"    bind 127.0.0.1:{port} ssl crt {certs}/both.pem ca-file {certs}/ca.crt"
                     f" verify required\n    server target 127.0.0.1:{self.target.port}")

    def entry(self, port):
        certs = self.env.certificates("entry")
        self.haproxy("entry.cfg", f"    bind 127.0.0.1:{self.port}\n    server exit 127.0.0.1:{port} ssl"
                     f" crt {certs}/both.pem ca-file {certs}/ca.crt verify required")


class HaproxyTlsRelayed(HaproxyTls):
    name, hops, is_relayed = "haproxy TLS, relayed", 3, True


class NginxTls(BothEnds, Nginx):
    name, peer = "nginx TLS", "nginx"

    def exit(self, port):
        certs = self.env.certificates("exit")
        self.nginx("exit.conf", f"""\
listen 127.0.0.1:{port} ssl backlog=4096; proxy_pass 127.0.0.1:{self.target.port};
ssl_certificate {certs}/cert.pem; ssl_certificate_key {certs}/private.key;
ssl_client_certificate {certs}/ca.crt; ssl_verify_client on; ssl_session_cache shared:tls:4m;
ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE};""")

    def entry(self, port):
        certs = self.env.certificates("entry")
        self.nginx("entry.conf", f"""\
listen 127.0.0.1:{self.port} backlog=4096; proxy_pass 127.0.0.1:{port};
proxy_ssl on; proxy_ssl_certificate {certs}/cert.pem; proxy_ssl_certificate_key {certs}/private.key;
proxy_ssl_trusted_certificate {certs}/ca.crt; proxy_ssl_verify on; proxy_ssl_name localhost;
proxy_ssl_protocols TLSv1.3; proxy_ssl_conf_command Ciphersuites {SUITE};""")


class NginxTlsRelayed(NginxTls):
    name, hops, is_relayed = "nginx TLS, relayed", 3, True


class Stunnel(BothEnds):
    name, peer, most_streams = "stunnel", "stunnel", 1000

    def stunnel(self, name, lines):
        certs = self.env.certificates(name)
        path = self.write(f"{name}.conf", f"""\
foreground = yes
syslog = no
debug = err
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[way]
cert = {certs}/cert.pem
key = {certs}/private.key
CAfile = {certs}/ca.crt
verifyChain = yes
sslVersion = TLSv1.3
ciphersuites = {SUITE}
TIMEOUTidle = 43200
{lines}
""")
        self.spawn(machine.program("stunnel4"), path)

    def exit(self, port):
        self.stunnel("exit", f"accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{self.target.port}")

    def entry(self, port):
        self.stunnel("entry", f"client = yes\naccept = 127.0.0.1:{self.port}\nconnect = 127.0.0.1:{port}")


# --- tools for devices behind NAT ----------------------------------------------------------


class Ssh(Candidate):
    """sshd is the relay; the device forwards a port of it to the target."""

    name, peer, is_encrypted, hops, most_streams = "ssh -R, default cipher", "openssh", True, 2, 1000
    cipher = ()

    def start(self):
        sshd = harness.Sshd(self.env)
        self.roots.append(sshd.process)
        command = sshd.ssh(self.device_leg(sshd.port))
        destination = command.pop()
        self.spawn(*command, "-N", *self.cipher, "-o", "ExitOnForwardFailure=yes",
                   "-R", f"127.0.0.1:{self.port}:127.0.0.1:{self.target.port}", destination)
        self.wait_port(self.port)


class SshAes(Ssh):
    name, cipher = "ssh -R, aes128-gcm", ("-c", "aes128-gcm@openssh.com")


class Rathole(Candidate):
    name, peer, hops, transport, most_streams = "rathole, plain", "rathole", 2, "tcp", 1000

    def keys(self):
        return "", ""

    def start(self):
        binary = machine.PEERS["rathole"].folder / "rathole"
        control = free_ports(1)
        server, client = self.keys()
        path = self.write("server.toml", f"""\
[server]
bind_addr = "127.0.0.1:{control}"
default_token = "{self.env.key}"
[server.transport]
type = "{self.transport}"
{server}
[server.services.way]
bind_addr = "127.0.0.1:{self.port}"
""")
        self.spawn(binary, "--server", path)
        self.wait_port(control)
        path = self.write("client.toml", f"""\
[client]
remote_addr = "localhost:{self.device_leg(control)}"
default_token = "{self.env.key}"
[client.transport]
type = "{self.transport}"
{client}
[client.services.way]
local_addr = "127.0.0.1:{self.target.port}"
""")
        self.spawn(binary, "--client", path)
        self.wait_port(self.port)


class RatholeNoise(Rathole):
    name, is_encrypted, transport = "rathole, noise", True, "noise"

    def keys(self):
        words = machine.run(machine.PEERS["rathole"].folder / "rathole", "--genkey").split()
        private, public = (word for word in words if word.endswith("="))
        return (f'[server.transport.noise]\nlocal_private_key = "{private}"',
                f'[client.transport.noise]\nremote_public_key = "{public}"')


class RatholeTls(Rathole):
    name, is_encrypted, transport = "rathole, TLS", True, "tls"

    def keys(self):
        certs = self.env.certificates("localhost")
        identity = certs / "identity.pfx"
        subprocess.run(["openssl", "pkcs12", "-export", "-inkey", certs / "private.key", "-in", certs / "cert.pem",
                        "-certfile", certs / "ca.crt", "-passout", "pass:bench", "-out", identity], check=True)
        return (f'[server.transport.tls]\npkcs12 = "{identity}"\npkcs12_password = "bench"',
                f'[client.transport.tls]\ntrusted_root = "{certs}/ca.crt"\nhostname = "localhost"')


class Frp(Candidate):
    name, peer, hops, tls = "frp, plain", "frp", 2, "false"

    def start(self):
        folder = machine.PEERS["frp"].folder
        control = free_ports(1)
        path = self.write("frps.toml", f"""\
bindAddr = "127.0.0.1"
proxyBindAddr = "127.0.0.1"
bindPort = {control}
auth.token = "{self.env.key}"
log.level = "error"
""")
        self.spawn(folder / "frps", "-c", path)
        self.wait_port(control)
        path = self.write("frpc.toml", f"""\
serverAddr = "127.0.0.1"
serverPort = {self.device_leg(control)}
auth.token = "{self.env.key}"
log.level = "error"
transport.tls.enable = {self.tls}
[[proxies]]
name = "way"
type = "tcp"
localIP = "127.0.0.1"
localPort = {self.target.port}
remotePort = {self.port}
""")
        self.spawn(folder / "frpc", "-c", path)
        self.wait_port(self.port)


class FrpTls(Frp):
    name, is_encrypted, tls = "frp, TLS", True, "true"


class Chisel(Candidate):
    name, peer, hops, is_encrypted, most_streams = "chisel", "chisel", 2, True, 1000

    def start(self):
        binary = machine.PEERS["chisel"].folder / "chisel"
        control = free_ports(1)
        auth = f"bench:{self.env.key}"
        self.spawn(binary, "server", "--reverse", "--host", "127.0.0.1", "--port", control, "--auth", auth)
        self.wait_port(control)
        self.spawn(binary, "client", "--auth", auth, f"http://127.0.0.1:{self.device_leg(control)}",
                   f"R:127.0.0.1:{self.port}:127.0.0.1:{self.target.port}")
        self.wait_port(self.port)


class Bore(Candidate):
    """Its control port is fixed, so it gets its own address."""

    name, peer, hops = "bore, plain", "bore", 2

    def start(self):
        binary = machine.PEERS["bore"].folder / "bore"
        host = loopback()
        self.spawn(binary, "server", "--secret", self.env.key, "--bind-addr", host, "--bind-tunnels", "127.0.0.1",
                   "--min-port", 1024)
        wait_until(lambda: harness.can_connect(7835, host), "bore listens", 20)
        self.spawn(binary, "local", self.target.port, "--to", host, "--port", self.port, "--secret", self.env.key)
        self.wait_port(self.port)


# --- Gotthard -------------------------------------------------------------------------------------


def relay_settings(env):
    """Raises the limits for unauthenticated peers: the benchmark opens many connections from one address."""
    return env.config_folder(relayd="""\
limits = { streams = 1024; sessions_per_identity = 64; preauth = 4096; per_source = 4096;
           sessions = 10000; };
""")


class GotthardRelay(Candidate):
    """The relay alone: `load` makes both sides' connections by the protocol."""

    name, is_ours = "gotthard-relayd", True

    def start(self):
        self.relay = self.env.relay(env=self.environment())
        self.roots.append(self.relay)

    def environment(self):
        os.environ.update(GOTTHARD_CRYPT_KEY=self.env.key, GOTTHARD_CRYPT_IV=self.env.iv)
        return self.env.relay_environment(GOTTHARD_CONFIG_DIR=relay_settings(self.env))

    def load(self):
        return ["-p", self.env.relay_port, "-u", self.target.socket, "-s", 1000]

    def load_environment(self):
        return {**os.environ, "GOTTHARD_CRYPT_KEY": self.env.key, "GOTTHARD_CRYPT_IV": self.env.iv}


class Gotthard(Candidate):
    """The complete system: mosquitto, the relay, the agent, and an operator's command for the tunnel."""

    name, is_ours, is_encrypted, hops = "Gotthard", True, True, 3
    idle_cycle = 25

    def start(self):
        env = self.env
        env.broker()
        self.relay_env = env.relay_environment(GOTTHARD_CONFIG_DIR=relay_settings(env))
        self.relay = env.relay("--bind", "127.0.0.1", env=self.relay_env)
        self.agent = env.agent(**self.device_environment())
        self.roots = [self.relay, self.agent]
        self.connect, self.other = self.tunnel(), None
        self.port = self.connect.port()

    def other_tunnel(self):
        self.other = self.other or self.tunnel()
        return self.other

    def kill_and_start_relay(self):
        self.relay.kill()
        self.roots.remove(self.relay)
        self.relay = self.env.relay("--bind", "127.0.0.1", env=self.relay_env)
        self.roots.append(self.relay)

    def n_data_connections(self):
        """Of the tunnel; the relay has two sockets for each."""
        return harness.n_connections_at(self.connect.event("relay")["port"]) // 2

    def device_environment(self):
        return {"GOTTHARD_AGENT_DATA_PORT": self.target.port, "GOTTHARD_LIMITS_STREAMS": 8192,
                "GOTTHARD_LIMITS_SESSIONS": 64, "GOTTHARD_LIMITS_SESSIONS_PER_OPERATOR": 64,
                "GOTTHARD_AGENT_HOST_KEYS": ""}

    def operator_environment(self):
        return {}

    def tunnel(self, wait=True):
        tunnel = self.env.connect("GatewayOli", "0:ssh", wait=wait, **self.operator_environment())
        self.roots.append(tunnel)
        return tunnel


RELAYS = (GotthardRelay, HaproxySplice, Haproxy, Nginx, Socat, Loopback)
TUNNELS = (Gotthard, SshAes, Ssh, Stunnel, HaproxyTls, NginxTls, HaproxyTlsRelayed, NginxTlsRelayed, RatholeNoise, RatholeTls,
           FrpTls, Chisel, Rathole, Frp, Bore)


# --- the same behind a slow network ---------------------------------------------------------------


class Slow:
    """A mixin for candidates: operator and device each reach the relay through a proxy with half of the delay."""

    one_way_ms, bits = 0, 0

    def slow(self, proxy):
        self.proxies = [*getattr(self, "proxies", []), proxy]
        for order in ("handshake on", f"delay {self.one_way_ms}", f"rate {self.bits}"):
            proxy.command(order)
        return proxy

    def device_leg(self, port):
        return self.slow(Proxy.before_port(port)).port

    def load(self):
        if not hasattr(self, "operators_port"):
            self.operators_port = self.slow(Proxy.before_port(self.port)).port
        return ["-p", self.operators_port]

    def close(self):
        super().close()
        for proxy in getattr(self, "proxies", []):
            proxy.close()


class SlowGotthard(Slow, Gotthard):
    """The operator's port is local to the operator. The broker has the same delay as the relay."""

    def leg(self):
        relay = self.slow(Proxy.before_relay(self.env))
        broker = self.slow(Proxy.before_port(self.env.broker_port))
        return {"GOTTHARD_SERVER_HOST": relay.host, "GOTTHARD_MQTT_ENDPOINT": f"localhost:{broker.port}"}

    def device_environment(self):
        return {**super().device_environment(), **self.leg()}

    def operator_environment(self):
        if not hasattr(self, "operators_leg"):
            self.operators_leg = self.leg()
        return {**super().operator_environment(), **self.operators_leg}

    def load(self):
        return Gotthard.load(self)


SLOW = tuple([SlowGotthard] + [type(f"Slow{base.__name__}", (Slow, base), {}) for base in (
    Ssh, RatholeNoise, RatholeTls, FrpTls, Chisel)])
