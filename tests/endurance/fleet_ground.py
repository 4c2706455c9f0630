# SPDX-License-Identifier: ISC
"""The ground of tests/fleet: the shipped example of a broker with certificates of its authority, a relay and many devices.

All devices use one certificate, since thousands of them would take minutes. The broker knows the devices by their client ids.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile

import harness
from harness import Process, is_listening, wait_until

ETC = harness.ROOT / "etc"
OPERATOR = "alice"
DEVICES = "all-devices"  # the common name of their certificate
NICE = ("nice", "-n", "10")  # the programs under load do not stop the machine


class Ground:
    def __init__(self, n_relay_ports=20):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gotthard-fleet-"))
        self.env = harness.Env(self.folder)
        self.env.n_relay_ports = n_relay_ports
        self.env.relay_ports = harness.free_ports(n_relay_ports)
        self.authority = self.folder / "authority"
        self.authority.mkdir()
        for names in (["broker", "localhost", "127.0.0.1"], [DEVICES], ["--operator", OPERATOR]):
            subprocess.run([ETC / "make-certificate-example", *names], cwd=self.authority, check=True, stdout=subprocess.DEVNULL)
        self._write(self.authority / "broker" / "acl", (ETC / "mosquitto-example.acl").read_text() +
                    f"\nuser {DEVICES}\ntopic readwrite {self.env.PREFIX}/d/#\n")

    @staticmethod
    def _write(path, text):
        path.write_text(text)
        os.chmod(path, 0o600)
        return path

    # the broker

    def shipped_example(self):
        """Returns etc/mosquitto-example.conf with the folder and the port of this ground."""
        text = (ETC / "mosquitto-example.conf").read_text()
        text = text.replace("listener 8883", f"listener {self.env.broker_port} 127.0.0.1")
        return text.replace("/etc/mosquitto/gotthard/", f"{self.authority}/broker/")

    def bare_example(self):
        """Returns the same without any limit or option of the example: mosquitto's defaults."""
        wanted = ("listener", "cafile", "certfile", "keyfile", "require_certificate", "use_identity_as_username", "acl_file",
                  "allow_anonymous")
        return "\n".join(line for line in self.shipped_example().splitlines() if line.startswith(wanted)) + "\n"

    def mosquitto(self, config, confine=lambda process: None):
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        path = self._write(self.folder / "mosquitto.conf", f"user {user}\nlog_dest stderr\n{config}")
        broker = Process(self.env, self.env.unique("broker"), ["mosquitto", "-c", path])
        confine(broker)
        wait_until(lambda: is_listening(self.env.broker_port) or not broker.is_running(), "the broker listens")
        assert broker.is_running(), broker.log()
        return broker

    # the programs

    def devices_configuration(self, **more):
        """Returns the folder of the one configuration of all devices. @more: further groups of settings, as text."""
        env = self.env
        groups = {"server": f'host = "localhost"; port = {env.relay_port};', "crypt": f'key = "{env.key}"; iv = "{env.iv}";',
                  "mqtt": f'endpoint = "localhost:{env.broker_port}"; cert_path = "{self.authority / DEVICES}";'}
        for name, text in more.items():
            groups[name] = groups.get(name, "") + text
        return env.config_folder(agentd="\n".join(f"{name} = {{ {text} }};" for name, text in groups.items()))

    def agent(self, name, configuration, **variables):
        """Starts a real agent and does not wait until it is online."""
        return Process(self.env, f"agentd-{name}", [*NICE, harness.PROGRAMS["agentd"]],
                       env=harness.clean_environment(GOTTHARD_CONFIG_DIR=configuration, MACHINE_ID=name, **variables))

    def agents(self, n, configuration, batch=20, **variables):
        """Starts @n agents, a batch at a time. Returns them when all are online."""
        found = []
        for first in range(0, n, batch):
            found += [self.agent(f"device-{i:05}", configuration, **variables) for i in range(first, min(first + batch, n))]
            for agent in found[first:]:
                agent.wait_for(harness.AGENT_READY)
        return found

    def operator_environment(self, **more):
        return self.env.cli_environment(OPERATOR, GOTTHARD_AWS_CERT_PATH=self.authority / OPERATOR, **more)

    def close(self):
        """Kills the agents first: the broker need not handle thousands of ends."""
        for process in self.env.processes:
            if process.name.startswith("agentd"):
                process.kill()
        self.env.close()
        shutil.rmtree(self.folder, ignore_errors=True)
