# SPDX-License-Identifier: ISC
"""Socket calls of another user of this machine: a forked child, because it needs no readable Python of its own."""

import encodings.idna  # noqa: F401 - the child could not load it
import os
import socket

import pytest

from harness import LIMIT

OTHER = 65533  # in no user database


def as_user(uid, function):
    """Runs @function in a child of this uid. Returns the bytes that it returns; an OSError becomes its name in capitals."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            result = function()
        except OSError as error:
            result = type(error).__name__.upper().encode()
        except BaseException as error:  # noqa: B902 - the child must end here
            result = repr(error).encode()
        os.write(writer, result)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result


def needs_root():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")


def exchange(family, address, sent=b"hello"):
    """Connects, sends @sent and an end of file, and returns all that it receives."""
    with socket.socket(family) as sock:
        sock.settimeout(LIMIT)
        sock.connect(address)
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(1 << 16):
            received += data
        return received
