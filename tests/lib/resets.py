# SPDX-License-Identifier: ISC
"""Conversations that end by a reset. Each runs over a direct connection, `ssh -L` or Gotthard, and reports what each side received.

The last bytes of a side that resets its connection are in the kernels when the reset follows. TCP delivers them (RFC 9293, section
3.10.7.4), and so must a tunnel (docs/protocol.md, section 4)."""

import collections
import fcntl
import os
import queue
import socket
import struct
import termios
import threading
import time

import harness
from harness import LIMIT

KIB, MIB = 1 << 10, 1 << 20

Received = collections.namedtuple("Received", "data end")  # end: "eof" or "reset"; data: bytes


def words(seed, n):
    return b"".join(harness.pattern(seed, n))


def reset(sock):
    """Closes with a reset. What the peer's kernel has not acknowledged is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def flush(sock):
    """Waits until the peer's kernel has everything. ConnectionError if the peer resets the connection before."""

    def n_unacknowledged():
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]

    harness.wait_until(lambda: n_unacknowledged() == 0, "the last bytes are acknowledged", step=0.001)


def send_flushed(sock, data):
    sock.sendall(data)
    flush(sock)


def wait_unread(sock):
    """Waits until something is unread, so that a close is a reset."""
    assert sock.recv(1, socket.MSG_PEEK), "nothing to leave unread"


def receive_to_end(sock, end="eof", pause=0, size=1 << 18):
    """@end: "reset" if a write has reported the reset already: the kernel reports it once."""
    data = bytearray()
    try:
        while piece := sock.recv(size):
            data += piece
            if pause:
                time.sleep(pause)
    except (ConnectionResetError, BrokenPipeError):
        end = "reset"
    return Received(bytes(data), end)


def write_until_failure(sock):
    """Returns "reset"."""
    block = bytes(64 * KIB)
    try:
        while True:
            sock.sendall(block)
    except (ConnectionResetError, BrokenPipeError):
        return "reset"


class Conversation:
    """@client and @server: functions of a socket that return a Received, or None for a side that reads nothing to the end. @up, @down: of
    the server and of the client, the bytes and the end to receive, as (bytes, end); None: not checked."""

    def __init__(self, client, server, up=None, down=None):
        self.client, self.server, self.up, self.down = client, server, up, down


PAGE = words("page", 50_000)
COMMAND = b"QUIT and store this\r\n"


def _client_posts_and_reads(sock):
    """Most HTTP clients: read and write at once."""
    ends = []
    writer = threading.Thread(target=lambda: ends.append(write_until_failure(sock)), daemon=True)
    writer.start()
    received = receive_to_end(sock)
    writer.join(LIMIT)
    return Received(received.data, "reset" if ends else received.end)


def _server_rejects_upload(sock):
    sock.recv(1000)
    wait_unread(sock)
    sock.sendall(PAGE)
    sock.close()


def _server_page_then_reset(sock, page=PAGE):
    sock.recv(100)
    send_flushed(sock, page)
    reset(sock)


def _client_asks(sock):
    sock.sendall(b"GET")
    return receive_to_end(sock)


def _client_leaves_greeting_unread(sock):
    wait_unread(sock)
    sock.sendall(COMMAND)
    sock.close()


def _server_greets(sock):
    sock.sendall(b"220 ready\r\n")
    return receive_to_end(sock)


def _client_command_then_reset(sock):
    send_flushed(sock, COMMAND)
    reset(sock)


def _client_half_closes_then_reads(sock):
    sock.sendall(COMMAND)
    sock.shutdown(socket.SHUT_WR)
    return receive_to_end(sock)


def _server_reads_all_then_resets(sock):
    received = receive_to_end(sock)
    send_flushed(sock, PAGE)
    reset(sock)
    return received


def _client_half_closes_then_resets(sock):
    sock.sendall(COMMAND)
    sock.shutdown(socket.SHUT_WR)
    wait_unread(sock)
    sock.close()


def _server_reads_then_writes_until_failure(sock):
    received = receive_to_end(sock)
    return Received(received.data, f"{received.end}, {write_until_failure(sock)}")


def _server_half_closes_then_resets(sock):
    """The page is complete; the reset concerns what the client sends after it."""
    sock.recv(100)
    sock.sendall(PAGE)
    sock.shutdown(socket.SHUT_WR)
    flush(sock)
    wait_unread(sock)
    sock.close()


def _client_reads_page_then_writes(sock):
    sock.sendall(b"GET")
    received = receive_to_end(sock)
    return Received(received.data, f"{received.end}, {write_until_failure(sock)}")


def _server_reads_then_page_and_reset(sock):
    data = harness.receive_exactly(sock, len(PAGE))
    send_flushed(sock, PAGE)
    reset(sock)
    return Received(data, None)


def _client_sends_and_reads(sock):
    sock.sendall(PAGE)  # to wait for the last acknowledgement could meet the server's reset
    return receive_to_end(sock)


BIG = words("big", 8 * MIB + 12345)

CONVERSATIONS = {
    "upload rejected, client reads": Conversation(_client_posts_and_reads, _server_rejects_upload, down=(PAGE, "reset")),
    "upload rejected, client writes until failure": Conversation(
        lambda sock: receive_to_end(sock, write_until_failure(sock)), _server_rejects_upload, down=(PAGE, "reset")),
    "page, then reset": Conversation(_client_asks, _server_page_then_reset, down=(PAGE, "reset")),
    "8 MiB, then reset": Conversation(
        _client_asks, lambda sock: _server_page_then_reset(sock, BIG), down=(BIG, "reset")),
    "command, greeting unread": Conversation(_client_leaves_greeting_unread, _server_greets, up=(COMMAND, "reset")),
    "command, then reset": Conversation(_client_command_then_reset, receive_to_end, up=(COMMAND, "reset")),
    "reset by the client at once": Conversation(reset, receive_to_end, up=(b"", "reset")),
    "reset by the server at once": Conversation(receive_to_end, reset, down=(b"", "reset")),
    "half-close, then reset by the other": Conversation(
        _client_half_closes_then_reads, _server_reads_all_then_resets, up=(COMMAND, "eof"), down=(PAGE, "reset")),
    "half-close, then reset by the same": Conversation(
        _client_half_closes_then_resets, _server_reads_then_writes_until_failure, up=(COMMAND, "eof, reset")),
    "half-close by the server, then reset": Conversation(
        _client_reads_page_then_writes, _server_half_closes_then_resets, down=(PAGE, "eof, reset")),
    "both ways, then reset": Conversation(
        _client_sends_and_reads, _server_reads_then_page_and_reset, up=(PAGE, None), down=(PAGE, "reset")),
}


class Host:
    """The server's side of one conversation after another."""

    def __init__(self, env):
        self.conversation = None
        self.results = queue.Queue()
        self.target = env.target(self._serve)

    def _serve(self, sock):
        sock.settimeout(LIMIT)
        self.results.put(self.conversation.server(sock))

    def hold(self, conversation, dial):
        """Runs @conversation over the connection of @dial(). Returns what the server and the client received."""
        self.conversation = conversation
        try:
            sock = dial()
        except ConnectionResetError:  # at once: the reset precedes the return of connect()
            return self.results.get(timeout=LIMIT), Received(b"", "reset")
        with sock:
            sock.settimeout(LIMIT)
            down = conversation.client(sock)
            up = self.results.get(timeout=LIMIT)
        return up, down


def is_whole(conversation, up, down):
    """Returns true if both sides received every byte, and the right end after it."""
    return (conversation.up is None or up == conversation.up) and (conversation.down is None or down == conversation.down)
