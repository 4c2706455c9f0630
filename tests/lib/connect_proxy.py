# SPDX-License-Identifier: ISC
"""Proxies for tests: CONNECT of HTTP (RFC 9110, section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).

A proxy listens where its creator is (netns.inside), and connects out from there. It resolves names itself, by its table @hosts
only. Each request is recorded in ->requests as (host, port). Behaviors are attributes and may change while it runs.
"""

import base64
import contextlib
import select
import socket
import struct
import threading
import time


class Proxy:
    """A proxy at @address. start() and stop() may be called in turn; stop() resets all tunnels."""

    def __init__(self, address, port=0, hosts=None, user=None, password=None):
        self.hosts = hosts or {}
        self.user, self.password = user, password
        self.allowed_ports = None  # None: any port
        self.hangs = False         # does not answer
        self.answer = None         # bytes in place of its own answer; the connection is closed afterwards
        self.piecewise = False     # sends both ends of its answers byte by byte
        self.requests, self.sockets = [], []
        self.lock = threading.Lock()
        self.address, self.port = address, port
        self.start()

    def start(self):
        self.listener = socket.create_server((self.address, self.port), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Resets all tunnels."""
        with self.lock:
            sockets, self.sockets = self.sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)

    def ports(self):
        """The ports for which a connection was requested, each once."""
        return sorted({port for _, port in self.requests})

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with self.lock:
                    self.sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError, EOFError), client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = self.connect(client)
            if server:
                with server:
                    self._carry(client, server)

    def _carry(self, client, server):
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.sockets.append(server)
        open_ends = {client: server, server: client}
        while open_ends:
            for sock in select.select(list(open_ends), [], [])[0]:
                data = sock.recv(1 << 16)
                if data:
                    open_ends[sock].sendall(data)
                else:
                    open_ends.pop(sock).shutdown(socket.SHUT_WR)

    def _send(self, client, data):
        if not self.piecewise:
            client.sendall(data)
            return
        # Byte by byte, a long answer would take a busy machine longer than the deadline of the programs.
        head, middle, tail = data[:100], data[100:-100], data[100:][-100:]
        for piece in (*([byte] for byte in head), middle, *([byte] for byte in tail)):
            client.sendall(bytes(piece))
            time.sleep(0.001)

    def _wait_if_hanging(self, client):
        while self.hangs:
            if select.select([client], [], [], 0.1)[0] and not client.recv(1, socket.MSG_PEEK):
                raise EOFError

    def _dial(self, host, port):
        """Returns a socket, or the errno."""
        address = self.hosts.get(host, host)
        try:
            return socket.create_connection((address, port), timeout=10)
        except socket.gaierror:
            return OSError(113, "no such host")
        except OSError as error:
            return error


class HttpProxy(Proxy):
    """@headers: more lines of each answer, bytes."""

    headers = b""
    version = b"HTTP/1.1"
    end = b"\r\n"

    def connect(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(4096)
            if not more:
                raise EOFError
            head += more
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        host, _, port = target.rpartition(":")
        host, port = host.strip("[]"), int(port)
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.requests.append((host, port))
        self._wait_if_hanging(client)
        if self.answer is not None:
            self._send(client, self.answer)
            return None
        status, server = self._decide(method, host, port, fields)
        self._send(client, self.version + b" " + status + self.end + self.headers + self.end)
        return server

    def _decide(self, method, host, port, fields):
        wanted = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if method != "CONNECT":
            return b"405 Method Not Allowed", None
        if self.user is not None and fields.get("proxy-authorization") != wanted:
            return b"407 Proxy Authentication Required" + self.end + b"Proxy-Authenticate: Basic realm=\"test\"", None
        if self.allowed_ports is not None and port not in self.allowed_ports:
            return b"403 Forbidden", None
        server = self._dial(host, port)
        if isinstance(server, OSError):
            return b"502 Bad Gateway", None
        return b"200 Connection established", server


class SocksProxy(Proxy):
    def connect(self, client):
        greeting = self._read(client, 2)
        methods = self._read(client, greeting[1])
        self._wait_if_hanging(client)
        if self.answer is not None:
            self._send(client, self.answer)
            return None
        method = 2 if self.user is not None else 0
        if greeting[0] != 5 or method not in methods:
            self._send(client, b"\x05\xff")
            return None
        self._send(client, bytes([5, method]))
        if method == 2 and not self._authenticate(client):
            return None
        return self._request(client)

    @staticmethod
    def _read(client, n):
        data = client.recv(n, socket.MSG_WAITALL)
        if len(data) < n:
            raise EOFError
        return data

    def _authenticate(self, client):
        assert self._read(client, 1) == b"\x01"
        user = self._read(client, self._read(client, 1)[0]).decode()
        password = self._read(client, self._read(client, 1)[0]).decode()
        is_right = (user, password) == (self.user, self.password)
        self._send(client, b"\x01\x00" if is_right else b"\x01\x01")
        return is_right

    def _request(self, client):
        _, command, _, kind = self._read(client, 4)
        if kind == 3:
            host = self._read(client, self._read(client, 1)[0]).decode()
        else:
            family, n = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, self._read(client, n))
        port = int.from_bytes(self._read(client, 2), "big")
        self.requests.append((host, port))
        code, server = 0, None
        if command != 1:
            code = 7
        elif self.allowed_ports is not None and port not in self.allowed_ports:
            code = 2
        else:
            server = self._dial(host, port)
        if isinstance(server, OSError):
            code, server = 5 if isinstance(server, ConnectionRefusedError) else 4, None
        self._send(client, bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
        return server
