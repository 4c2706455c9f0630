# SPDX-License-Identifier: ISC
"""Interactive shells on a pseudo-terminal, for tests of completions."""

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time

from harness import LIMIT

# Options without the user's files; each command is sent when the prompt is there.
SHELLS = {
    "bash": {"args": ["--noprofile", "--norc", "-i"], "begin": ["PS1='READY''> '"], "load": ["source <(gotthard-cli completion bash)"],
             "install": ["source {folder}/gotthard-cli"], "name": "gotthard-cli"},
    "zsh": {"args": ["-f", "-i"], "begin": ["PS1='READY''> '", "autoload -Uz compinit"],
            "load": ["compinit -u -D", "source <(gotthard-cli completion zsh)"],
            "install": ["fpath=({folder} $fpath)", "compinit -u -D"], "name": "_gotthard-cli"},
    "fish": {"args": ["--no-config", "-i"], "begin": ["function fish_prompt; echo 'READY''> '; end"],
             "load": ["gotthard-cli completion fish | source"],
             "install": ["set -p fish_complete_path {folder}"], "name": "gotthard-cli.fish"},
}


class Shell:
    """@environment: has PATH with a gotthard-cli that prints its arguments as ARGS<...>END."""

    def __init__(self, name, environment, folder, script=None):
        """@script: the completion as an installed file; otherwise it is the output of `completion`."""
        kind = SHELLS[name]
        self.name = name
        self.text = ""
        self.master, terminal = pty.openpty()
        self.child = subprocess.Popen([name, *kind["args"]], stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder,
                                      env={**environment, "TERM": "xterm", "HISTFILE": "", "INPUTRC": "/dev/null"},
                                      start_new_session=True, preexec_fn=self._control)
        os.close(terminal)
        for line in kind["begin"]:
            self.send(line + "\r")
        self.wait_for("READY> ")
        if script:
            installed = folder / "installed"
            installed.mkdir()
            (installed / kind["name"]).write_text(script)
            lines = [line.format(folder=installed) for line in kind["install"]]
        else:
            lines = kind["load"]
        for line in lines:
            self.run(line)

    @staticmethod
    def _control():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def send(self, text):
        os.write(self.master, text.encode())

    def read(self, pattern):
        """Reads until @pattern, and returns its match."""
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(pattern, self.text, re.S)):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no {pattern} in {self.text!r}"
            self.text += os.read(self.master, 65536).decode(errors="replace")
        self.text = self.text[found.end():]
        return found

    def wait_for(self, text):
        self.read(re.escape(text))

    def run(self, line):
        """Executes a line, and waits for its end."""
        self.send(line + "; echo DO''NE\r")
        self.wait_for("DONE")
        self.wait_for("READY> ")

    def complete(self, line, keys="\t"):
        """Types @line and TAB, then executes the line. Returns the arguments of gotthard-cli."""
        self.send(line + keys)
        self.send("\r")
        words = self.read(r"ARGS((?:<[^<>]*>)*)END")[1]
        self.wait_for("READY> ")
        return re.findall(r"<([^<>]*)>", words)

    def close(self):
        self.child.kill()
        self.child.wait()
        os.close(self.master)
