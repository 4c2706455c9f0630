# SPDX-License-Identifier: ISC
"""One end of a data connection, played by a test: it knows the session's key and sends whatever bytes the test wants.

TLS is OpenSSL's, by ctypes: one send() is one record. The frames and segments are those of docs/protocol.md, section 4.
"""

import ctypes
import select
import struct
import sys
import time

import harness
from harness import LIMIT

sys.path.append(str(harness.ROOT / "common" / "tests"))
import vectors  # noqa: E402 - an independent implementation of docs/protocol.md

HELLO, DATA, ACK, END, RST, PING, PONG, DONE, CONNECTED = 1, 2, 3, 4, 5, 6, 7, 8, 0x89
LOCAL_RESET, DENIED, PROTOCOL, LOST, TOO_MANY = 1, 5, 7, 11, 16  # codes of RST
BEGIN, RESERVED = 0x8000, 0x4000

# --- bytes ----------------------------------------------------------------------------------------


def frame(kind, body=b"", flags=0, length=None):
    return struct.pack(">BBH", kind, flags, len(body) if length is None else length) + body


def hello(stream, attempt=1, rx_off=0, window=1 << 17, service=b"echo", version=1):
    return frame(HELLO, struct.pack(">HIIQIH", version, stream, attempt, rx_off, window, 0) + vectors.lp(service))


def data(payload):
    return frame(DATA, payload)


def ack(rx_off, window=1 << 17):
    return frame(ACK, struct.pack(">QIH", rx_off, window, 0))


def end(offset, code=0):
    return frame(END, struct.pack(">QH", offset, code))


def rst(code):
    return frame(RST, struct.pack(">H", code))


def segment(stream, content, bits=0):
    return struct.pack(">IH", stream, len(content) | bits) + content


def begin(stream, *frames, **of_hello):
    """The first segment of a stream's attachment."""
    return segment(stream, hello(stream, **of_hello) + b"".join(frames), BEGIN)


def frames_of(content):
    """Returns [(type, body)] of whole frames."""
    found = []
    while len(content) >= 4:
        kind, _, n = struct.unpack(">BBH", content[:4])
        if len(content) < 4 + n:
            break
        found.append((kind, content[4:4 + n]))
        content = content[4 + n:]
    return found


def segments_of(record):
    """Yields (stream, has begin, content) of each segment of a record; ValueError if it is malformed."""
    while record:
        if len(record) < 7:
            raise ValueError("a truncated segment")
        stream, length = struct.unpack(">IH", record[:6])
        n = length & 0x3fff
        if length & RESERVED or not n or len(record) < 6 + n:
            raise ValueError("a malformed segment")
        yield stream, bool(length & BEGIN), record[6:6 + n]
        record = record[6 + n:]


# --- OpenSSL --------------------------------------------------------------------------------------

_ssl = ctypes.CDLL("libssl.so.3")
_pointer, _size, _bytes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
for _name, _result, _arguments in (
        ("TLS_method", _pointer, []), ("SSL_CTX_new", _pointer, [_pointer]), ("SSL_CTX_free", None, [_pointer]),
        ("SSL_CTX_ctrl", ctypes.c_long, [_pointer, ctypes.c_int, ctypes.c_long, _pointer]),
        ("SSL_CTX_set_ciphersuites", ctypes.c_int, [_pointer, _bytes]), ("SSL_CTX_set_num_tickets", ctypes.c_int, [_pointer, _size]),
        ("SSL_CTX_set_alpn_protos", ctypes.c_int, [_pointer, _bytes, ctypes.c_uint]),
        ("SSL_CTX_set_alpn_select_cb", None, [_pointer, _pointer, _pointer]),
        ("SSL_CTX_set_psk_use_session_callback", None, [_pointer, _pointer]),
        ("SSL_CTX_set_psk_find_session_callback", None, [_pointer, _pointer]),
        ("SSL_new", _pointer, [_pointer]), ("SSL_free", None, [_pointer]), ("SSL_set_fd", ctypes.c_int, [_pointer, ctypes.c_int]),
        ("SSL_connect", ctypes.c_int, [_pointer]), ("SSL_accept", ctypes.c_int, [_pointer]), ("SSL_shutdown", ctypes.c_int, [_pointer]),
        ("SSL_write", ctypes.c_int, [_pointer, _bytes, ctypes.c_int]), ("SSL_read", ctypes.c_int, [_pointer, _pointer, ctypes.c_int]),
        ("SSL_get_error", ctypes.c_int, [_pointer, ctypes.c_int]), ("SSL_SESSION_new", _pointer, []),
        ("SSL_CIPHER_find", _pointer, [_pointer, _bytes]), ("SSL_SESSION_set_cipher", ctypes.c_int, [_pointer, _pointer]),
        ("SSL_SESSION_set1_master_key", ctypes.c_int, [_pointer, _bytes, _size]),
        ("SSL_SESSION_set_protocol_version", ctypes.c_int, [_pointer, ctypes.c_int])):
    _function = getattr(_ssl, _name)
    _function.restype, _function.argtypes = _result, _arguments

SET_GROUPS_LIST, WANT_READ, WANT_WRITE = 92, 2, 3
TLS13, AES128 = 0x0304, b"\x13\x01"
ALPN = b"\x0cgotthard-s/1"
_USE = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, _pointer, ctypes.POINTER(_pointer), ctypes.POINTER(_size), ctypes.POINTER(_pointer))
_FIND = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, _pointer, _size, ctypes.POINTER(_pointer))
_SELECT = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, ctypes.POINTER(_pointer), ctypes.POINTER(ctypes.c_ubyte), _pointer, ctypes.c_uint, _pointer)


class Closed(ConnectionError):
    """The other end has closed the connection, or refused the handshake."""


class PlayedEnd:
    """@sock: joined at the relay. @key: of the session. The operator's end is the TLS client."""

    def __init__(self, sock, key, stream, attempt, is_operator):
        which = struct.pack(">II", stream, attempt)
        self.psk, self.identity = vectors.X(key, b"stream", which, 32), vectors.X(key, b"stream-id", which, 16)
        self.sock, self.is_closed = sock, False
        self.is_deaf = False  # does not read while it sends
        self.records, self.received, self.n_begins = [], {}, {}  # received: bytes by stream
        self._identity_buffer = ctypes.create_string_buffer(self.identity, 16)
        self._alpn_buffer = ctypes.create_string_buffer(ALPN[1:], len(ALPN) - 1)
        self._use, self._find, self._select = _USE(self._on_use), _FIND(self._on_find), _SELECT(self._on_select)
        self._context = _ssl.SSL_CTX_new(_ssl.TLS_method())
        _ssl.SSL_CTX_set_ciphersuites(self._context, b"TLS_AES_128_GCM_SHA256")
        _ssl.SSL_CTX_ctrl(self._context, SET_GROUPS_LIST, 0, ctypes.cast(_bytes(b"X25519"), _pointer))
        _ssl.SSL_CTX_set_num_tickets(self._context, 0)
        if is_operator:
            _ssl.SSL_CTX_set_alpn_protos(self._context, ALPN, len(ALPN))
            _ssl.SSL_CTX_set_psk_use_session_callback(self._context, ctypes.cast(self._use, _pointer))
        else:
            _ssl.SSL_CTX_set_alpn_select_cb(self._context, ctypes.cast(self._select, _pointer), None)
            _ssl.SSL_CTX_set_psk_find_session_callback(self._context, ctypes.cast(self._find, _pointer))
        self._tls = _ssl.SSL_new(self._context)
        sock.setblocking(False)
        _ssl.SSL_set_fd(self._tls, sock.fileno())
        self._until_done(_ssl.SSL_connect if is_operator else _ssl.SSL_accept)

    # the callbacks of OpenSSL

    def _session(self, tls):
        session = _ssl.SSL_SESSION_new()
        _ssl.SSL_SESSION_set1_master_key(session, self.psk, len(self.psk))
        _ssl.SSL_SESSION_set_cipher(session, _ssl.SSL_CIPHER_find(tls, AES128))
        _ssl.SSL_SESSION_set_protocol_version(session, TLS13)
        return session

    def _on_use(self, tls, _, identity, n, session):
        identity[0], n[0], session[0] = ctypes.addressof(self._identity_buffer), 16, self._session(tls)
        return 1

    def _on_find(self, tls, identity, n, session):
        session[0] = self._session(tls) if ctypes.string_at(identity, n) == self.identity else None
        return 1

    def _on_select(self, _, chosen, n, *__):
        chosen[0], n[0] = ctypes.addressof(self._alpn_buffer), len(ALPN) - 1
        return 0

    # records

    def _until_done(self, function, *arguments, limit=LIMIT):
        """Calls until the function has done its work; what arrives meanwhile is read."""
        limit += time.monotonic()
        while (r := function(self._tls, *arguments)) <= 0:
            error = _ssl.SSL_get_error(self._tls, r)
            if error not in (WANT_READ, WANT_WRITE):
                self.is_closed = True
                raise Closed(f"{function.__name__}: error {error} of TLS")
            if function is _ssl.SSL_write and not self.is_deaf:
                self._read_all()
            left = limit - time.monotonic()
            if left <= 0:
                raise AssertionError("the other end does not read")
            wants = [self.sock]
            select.select(wants, wants if error == WANT_WRITE else [], [], min(left, 0.05))
        return r

    def send(self, *segments, limit=LIMIT):
        """One record. Closed if the other end has closed the connection."""
        record = b"".join(segments)
        self._until_done(_ssl.SSL_write, record, len(record), limit=limit)

    def _read_all(self):
        buffer = ctypes.create_string_buffer(1 << 14)
        while not self.is_closed:
            r = _ssl.SSL_read(self._tls, buffer, len(buffer))
            if r <= 0:
                self.is_closed = _ssl.SSL_get_error(self._tls, r) not in (WANT_READ, WANT_WRITE)
                return
            self._keep(buffer.raw[:r])

    def _keep(self, record):
        self.records.append(record)
        for stream, has_begin, content in segments_of(record):
            self.n_begins[stream] = self.n_begins.get(stream, 0) + has_begin
            self.received[stream] = self.received.get(stream, b"") + content

    def wait_until(self, condition, what, limit=LIMIT):
        """Reads until @condition() is true. Returns its value."""
        end = time.monotonic() + limit
        while True:
            self._read_all()
            if value := condition():
                return value
            assert not self.is_closed, f"the other end has closed the connection: no {what}"
            assert time.monotonic() < end, f"not within {limit:.0f} s: {what}"
            select.select([self.sock], [], [], 0.05)

    def wait_closed(self, limit=LIMIT):
        self.wait_until(lambda: self.is_closed, "the other end closes the connection", limit)

    # streams

    def frames(self, stream):
        return frames_of(self.received.get(stream, b""))

    def has(self, stream, kind, body=None):
        return any(k == kind and (body is None or b == body) for k, b in self.frames(stream))

    def is_rejected(self, stream, code):
        """True when the stream was answered by RST with that code and DONE."""
        return self.has(stream, RST, struct.pack(">H", code)) and self.has(stream, DONE)

    def payload(self, stream):
        return b"".join(body for kind, body in self.frames(stream) if kind == DATA)

    def ping(self):
        """The connection is alive: its PING is answered."""
        body = struct.pack(">Q", time.monotonic_ns())
        self.send(segment(0, frame(PING, body)))
        self.wait_until(lambda: self.has(0, PONG, body), "the answer to a ping")

    def close(self):
        """Ends without close_notify, like a killed process."""
        if self._tls:
            _ssl.SSL_free(self._tls)
            _ssl.SSL_CTX_free(self._context)
            self._tls = None
            self.sock.close()
