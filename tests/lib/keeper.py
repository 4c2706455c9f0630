# SPDX-License-Identifier: ISC
"""An agent under a service manager that starts it again whenever it ends, with the files that the README has: a
configuration, a key, certificates."""

import os
import shutil
import signal
import subprocess
import threading

import harness
from harness import wait_until
from setting_markers import private_file

DEVICE = "GatewayOli"
RESTART_S = 0.3  # the unit has 5 s


class Keeper:
    """Restart=always of the unit. `restart()` is systemctl restart."""

    def __init__(self, env, first_text=None, **variables):
        """@first_text: the configuration of the first start; None: a good one, as in `text`."""
        self.env = env
        self.etc = env.config_folder()
        self.certificates = self.etc / "certificates"
        shutil.copytree(env.certificates(DEVICE), self.certificates)
        self.key = private_file(self.etc / "key", env.key)
        self.conf = self.etc / "agentd.conf"
        self.state = env.folder / f"state-{DEVICE}"
        environment = env.agent_environment(DEVICE)
        settings = {name: environment.pop(name) for name in list(environment) if name.startswith("GOTTHARD_") or name == "MACHINE_ID"}
        self.text = f'''
            device = {{ name = "{DEVICE}"; }};
            server = {{ host = "localhost"; port = {env.relay_port}; }};
            crypt = {{ key_file = "{self.key}"; iv = "{env.iv}"; }};
            mqtt = {{ endpoint = "{settings["GOTTHARD_MQTT_ENDPOINT"]}"; cert_path = "{self.certificates}"; reconnect_spread = "1s"; }};
            agent = {{ keep_sessions = true; data_port = {variables.pop("data_port")}; }};
            timeouts = {{ dial = "5s"; }};
            '''
        self.write(self.text if first_text is None else first_text)
        self.variables = {**environment, "GOTTHARD_CONFIG_DIR": str(self.etc), **variables}
        self.log_path = env.folder / "keeper.log"
        self.statuses = []
        self.stopped = threading.Event()
        self.child = None
        self._start()
        threading.Thread(target=self._keep, daemon=True).start()

    def write(self, text):
        private_file(self.conf, text)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_for(self, text, limit=harness.LIMIT):
        wait_until(lambda: text in self.log(), f"{text!r} in the log", limit)

    def forget_log(self):
        os.truncate(self.log_path, 0)

    def _start(self):
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen([str(harness.PROGRAMS["agentd"])], env={k: str(v) for k, v in self.variables.items()},
                                          stderr=log, stdin=subprocess.DEVNULL, cwd=self.env.folder, start_new_session=True)

    def _keep(self):
        while True:
            self.statuses.append(self.child.wait())
            if self.stopped.wait(RESTART_S):
                return
            self._start()

    def restart(self, number=signal.SIGTERM):
        wait_until(lambda: self.child.poll() is None, "the agent runs")
        child = self.child
        child.send_signal(number)
        wait_until(lambda: self.child is not child, "the agent was started again")

    def stop(self):
        self.stopped.set()
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
