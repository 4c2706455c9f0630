# SPDX-License-Identifier: ISC
"""The operator's end of an enrolment, honest or not (tests/enroller), and the newcomer that it meets."""

import datetime
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from harness import BUILD, PROGRAMS, Authority, Process, clean_environment

ENROLLER = BUILD / "tests" / "enroller" / "enroller"
DEVICE, OPERATOR, RELAY = 1, 2, 3
# The entries of a bundle (docs/protocol.md, section 8).
(NAME, KEY, CERTIFICATE, AUTHORITIES, PRIVATE_KEY, RELAY_ADDRESS, BROKER, AUTHORITY, ACCESS_LIST, CONFIGURATION,
 DEVICE_KEYS) = range(1, 12)


def sign(request, name):
    """Returns the certificate in PEM that the tests' authority gives to a request in DER."""
    folder = Authority.shared().folder
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    certificate = (x509.CertificateBuilder()
                   .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
                   .issuer_name(authority.subject).public_key(x509.load_der_x509_csr(request).public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
                   .sign(key, hashes.SHA256()))
    return certificate.public_bytes(serialization.Encoding.PEM)


class Enroller(Process):
    """Makes a token, or has a stolen one, and waits at the relay."""

    def __init__(self, env, kind=DEVICE, seconds=60, stolen=None):
        self.env = env
        self.bundle = env.folder / env.unique("bundle")
        self.bundle.mkdir()
        words = ["stolen", stolen] if stolen else ["new", kind, seconds, "localhost", env.relay_port]
        super().__init__(env, env.unique("enroller"), [ENROLLER, self.bundle, *words], stdin=subprocess.PIPE,
                         env=clean_environment(GOTTHARD_CRYPT_KEY=env.key, GOTTHARD_CRYPT_IV=env.iv))
        self.token = stolen or self.event("token (gk1t.*)")[1]

    def event(self, pattern):
        return self.wait_for(f"^{pattern}$", where=self.out)

    def command(self, *words):
        self.child.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.child.stdin.flush()

    def request(self):
        """Waits for a request; returns its fingerprint."""
        return self.event("request ([0-9a-f]{64})")[1]

    def write_bundle(self, name="Pump7", **more):
        """Writes a bundle of a device for the request. @more: other texts by the names of entries, None for no entry."""
        entries = {
            NAME: name,
            KEY: self.env.cli("keygen", "device", name).stdout.strip(),
            CERTIFICATE: sign((self.bundle / "request.der").read_bytes(), name).decode(),
            AUTHORITIES: (Authority.shared().folder / "ca.crt").read_text(),
            RELAY_ADDRESS: f"localhost:{self.env.relay_port}",
            BROKER: f"localhost:{self.env.broker_port}",
            **{globals()[entry]: text for entry, text in more.items()},
        }
        for entry, text in entries.items():
            if text is not None:
                (self.bundle / str(entry)).write_text(text)

    def answer_relay(self, **more):
        """The answer to a new relay: its key."""
        self.request()
        key = self.env.cli("keygen", "relay").stdout.strip()
        for entry, text in {KEY: key, **{globals()[entry]: text for entry, text in more.items()}}.items():
            (self.bundle / str(entry)).write_text(text)
        self.command("answer", RELAY)

    def answer(self, name="Pump7", kind=DEVICE, **more):
        self.request()
        self.write_bundle(name, **more)
        self.command("answer", kind)

    def result(self):
        """Waits for the newcomer's result; returns whether it is installed, and its text."""
        found = self.event("result ([01]) (.*)")
        return found[1] == "1", found[2]


class Newcomer(Process):
    """The command enroll, with a configuration folder of its own, and the token in a file."""

    def __init__(self, env, token, *options, folder=None, program="agentd", **more):
        self.config = folder or env.folder / env.unique("newcomer")
        self.config.mkdir(mode=0o755, exist_ok=True)
        self.state = self.config / "state"
        self.state.mkdir(mode=0o700, exist_ok=True)
        path = env.folder / env.unique("token")
        path.write_text(f"{token}\n")
        super().__init__(env, env.unique("newcomer"), [PROGRAMS[program], "enroll", path, *options],
                         env=clean_environment(GOTTHARD_CONFIG_DIR=self.config, STATE_DIRECTORY=self.state, **more))

    def files(self):
        """The files and folders in the configuration folder."""
        return sorted(str(path.relative_to(self.config)) for path in self.config.rglob("*") if path != self.state)
