# SPDX-License-Identifier: ISC
"""`connect` on a pseudo-terminal, and what a person sees there."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from harness import PROGRAMS, wait_until

COLOR = re.compile(r"\x1b\[[0-9;]*m")


def render(text, width):
    """Returns the lines of the screen. Fails for an escape sequence that is neither a color nor "erase the line"."""
    lines, column = [""], 0
    for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", text, re.DOTALL):
        if COLOR.fullmatch(token):
            continue
        if token == "\n":
            lines.append("")
            column = 0
        elif token == "\r":
            column = 0
        elif token == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            assert token >= " ", repr(token)
            if column == width:
                lines.append("")
                column = 0
            lines[-1] = lines[-1][:column] + token + lines[-1][column + 1:]
            column += 1
    return lines


class Terminal:
    """A command, `connect` by default, with a pseudo-terminal as standard input, output and error."""

    def __init__(self, env, *args, width=80, command="connect", **variables):
        self.width = width
        self.reader, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        environment = env.cli_environment(**{"TERM": "xterm", "LANG": "C.UTF-8", **variables})
        self.child = subprocess.Popen([str(PROGRAMS["cli"]), command, *map(str, args)], stdin=terminal, stdout=terminal,
                                      stderr=terminal, env=environment, start_new_session=True)
        os.close(terminal)
        os.set_blocking(self.reader, False)
        self.text = ""
        self.bytes = b""

    def read(self):
        try:
            while data := os.read(self.reader, 65536):
                self.bytes += data
        except (BlockingIOError, OSError):
            pass
        self.text = self.bytes.decode(errors="ignore")
        return self.text

    def screen(self):
        """The lines that are shown now, without empty ones at the end."""
        lines = render(self.read(), self.width)
        while lines and not lines[-1].strip():
            lines.pop()
        return lines

    def wait_for(self, text):
        wait_until(lambda: text in self.read(), f"{text!r} on the terminal, which shows {self.text!r}")

    def wait_for_line(self, pattern):
        """Waits until a line that is shown matches. Returns the match."""
        found = []

        def find():
            found[:] = [match for line in self.screen() if (match := re.search(pattern, line))]
            return found

        wait_until(find, f"{pattern!r} on the terminal, which shows {self.screen()!r}")
        return found[0]

    def end(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self.reader)
