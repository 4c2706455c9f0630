# SPDX-License-Identifier: ISC
"""The packages' check of a configuration before a restart, with a service manager that is a script."""

import os
import re
import signal
import subprocess
import time

import pytest

import harness

UNIT = """# /lib/systemd/system/gotthard-agentd.service
[Unit]
After=network-online.target
[Service]
Type=notify
ExecStart=/usr/sbin/gotthard-agentd
Restart=always

"""
DROP_INS = r"""# /etc/systemd/system/gotthard-agentd.service.d/site.conf
[Unit]
After=a.service \
# a comment between
  b.service
OnFailure=mail@%n.service
OnSuccess=mail.service
Upholds=other.service
PropagatesStopTo=other.service
FailureAction=reboot
  SuccessAction = poweroff
StartLimitAction=reboot
JobTimeoutAction=reboot
[Service]
ExecCondition=/bin/false
ExecStartPre=/bin/touch /run/pre
ExecStartPost=/bin/touch /run/post
ExecStop=/bin/touch /run/stop
ExecStopPost=/bin/touch /run/stop-post
SuccessExitStatus=78
RestartForceExitStatus=78
RemainAfterExit=yes
StateDirectory=%p
Environment=A=%N B=%n C=100%%n
ExecPaths=/usr
LoadCredential=key:/etc/key
ExecStart=
ExecStart=/opt/agentd --log.level=debug \
  --broker.host=%p.example
"""
SYSTEMCTL = r"""#!/bin/sh
cd {folder}
copy=units/$(ls units)
case $* in
cat*) cat unit; exit $(cat cat.status) ;;
daemon-reload) echo >>reloads; [ "$(wc -l <reloads)" != "$(cat failing-reload)" ] ;;
start*)
    cp -p $copy copy
    cat said >"$(sed -n 's/^StandardError=truncate://p' copy)"
    touch started
    while [ -e hang ]; do sleep 0.05; done
    cat start.message >&2
    exit $(cat start.status) ;;
show*) cat result ;;
status*) echo "status=243/CREDENTIALS"; exit 3 ;;
esac
"""
VALID = {"unit": UNIT, "cat.status": "0", "failing-reload": "0", "said": "", "start.message": "", "start.status": "0", "result": "success"}


class Check:
    """check-service in a folder of its own. @state: files that the stub manager reads."""

    def __init__(self, folder, **state):
        self.folder = folder
        self.script = (harness.ROOT / "debian" / "check-service").read_text()
        self.script = self.script.replace("=/run/systemd/system", f"={folder}/units").replace("-p /run)", f"-p {folder}/run)")
        for name in "units", "run", "bin":
            (folder / name).mkdir()
        for name, text in (VALID | state).items():
            (folder / name.replace("_", "-")).write_text(text)
        (folder / "bin" / "systemctl").write_text(SYSTEMCTL.format(folder=folder))
        (folder / "bin" / "systemctl").chmod(0o755)

    def start(self):
        return subprocess.Popen(["sh", "-c", self.script, "check-service", "gotthard-agentd"], text=True, stderr=subprocess.PIPE,
                                env={"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "TMPDIR": "/nowhere %n"})

    def run(self):
        """Returns exit status and messages. Nothing may remain."""
        child = self.start()
        said = child.communicate(timeout=20)[1]
        assert not [*(self.folder / "units").iterdir(), *(self.folder / "run").iterdir()]
        return child.returncode, said

    def copy(self):
        """The settings of the unit that was started."""
        return (self.folder / "copy").read_text().splitlines()


def test_valid_configuration(tmp_path):
    check = Check(tmp_path)
    assert check.run() == (0, "")
    assert "ExecStart=/usr/sbin/gotthard-agentd --check-config" in check.copy()


@pytest.mark.parametrize("start_status, result", [("0", 0), ("1", 1)])
def test_result_does_not_depend_on_cleaning_up(tmp_path, start_status, result):
    check = Check(tmp_path, failing_reload="2", **{"start.status": start_status, "result": "exit-code"})
    assert check.run()[0] == result


@pytest.mark.parametrize("said, expected", [("agentd.conf:3: wrong\n", "agentd.conf:3: wrong\n"), ("", "status=243/CREDENTIALS")])
def test_reason_of_an_invalid_configuration(tmp_path, said, expected):
    """A program that did not start has no message: the manager's are shown."""
    status, printed = Check(tmp_path, said=said, result="exit-code", **{"start.status": "1"}).run()
    assert status == 1 and expected in printed


@pytest.mark.parametrize("state", [
    {"failing-reload": "1"}, {"cat.status": "1"}, {"unit": "# Unit gotthard-agentd.service is masked.\n"},
    {"unit": UNIT + "[Service]\nExecStart=\n"}, {"start.status": "1", "result": ""}, {"start.status": "1", "result": "success"},
    {"start.status": "1", "result": "timeout"}])
def test_check_that_is_not_possible(tmp_path, state):
    """It is not reported as an invalid configuration."""
    status, said = Check(tmp_path, **{"start.message": "Failed to connect to bus\n"} | state).run()
    assert status == 2
    assert said or "failing-reload" in state or "cat.status" in state, "systemctl prints the reason of these itself"


def test_check_without_room_for_files(tmp_path):
    check = Check(tmp_path)
    (tmp_path / "run").rmdir()
    child = check.start()
    assert "mktemp" in child.communicate(timeout=20)[1] and child.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_ended_check_leaves_nothing(tmp_path, number):
    check = Check(tmp_path, hang="")
    child = check.start()
    end = time.monotonic() + 20
    while not (tmp_path / "started").exists():
        assert time.monotonic() < end and child.poll() is None
        time.sleep(0.02)
    child.send_signal(number)
    (tmp_path / "hang").unlink()
    child.communicate(timeout=20)
    assert child.returncode == 2
    assert not [*(tmp_path / "units").iterdir(), *(tmp_path / "run").iterdir()]


def test_copy_has_no_effects_on_the_machine(tmp_path):
    """A drop-in's FailureAction=reboot must not reboot a device because the check fails."""
    check = Check(tmp_path, unit=UNIT + DROP_INS)
    assert check.run() == (0, "")
    text = "\n".join(check.copy())
    for word in "reboot", "poweroff", "mail", "other.service", "touch", "/bin/false", "b.service", "=78", "always", "RemainAfterExit=yes":
        assert word not in text, text
    assert "LoadCredential=key:/etc/key" in text and "ExecPaths=/usr" in text


def test_copy_reads_the_settings_as_the_manager_does(tmp_path):
    """Names as in the unit that is copied, and settings on several lines."""
    check = Check(tmp_path, unit=UNIT + DROP_INS)
    assert check.run() == (0, "")
    assert "StateDirectory=gotthard-agentd" in check.copy()
    assert "Environment=A=gotthard-agentd B=gotthard-agentd.service C=100%%n" in check.copy()
    starts = [re.sub(" +", " ", line) for line in check.copy() if line.startswith("ExecStart=")]
    assert starts == ["ExecStart=/opt/agentd --log.level=debug --broker.host=gotthard-agentd.example --check-config"]


def test_copy_is_private(tmp_path):
    """Drop-ins with mode 0600 may have secrets."""
    check = Check(tmp_path)
    assert check.run() == (0, "")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


# --- the packages ---------------------------------------------------------------------------------------


def configure(folder, program, **stubs):
    """Runs the postinst of @program with @stubs (name: shell script) in place of the programs that it uses."""
    script = (harness.ROOT / "debian" / f"gotthard-{program}.postinst").read_text()
    script = script.replace(f"/usr/lib/gotthard-{program}/check-service", "./check")
    script = script.replace("[ -d /run/systemd/system ]", "true").replace("#DEBHELPER#", "")
    for name, text in stubs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(["sh", "-c", script, "postinst", "configure", "0.1.0"], capture_output=True, text=True, timeout=20,
                          check=False, cwd=folder, env={"PATH": f"{folder}:{os.environ['PATH']}"})


@pytest.fixture
def running():
    """A process that catches SIGUSR2, as a relay that can be upgraded."""
    with subprocess.Popen(["sh", "-c", "trap : USR2; echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        yield child.pid
        child.kill()


@pytest.mark.parametrize("program", ["agentd", "relayd"])
@pytest.mark.parametrize("check, enabled, status, message", [
    ("true", "enabled", 0, ""), ("false", "enabled", 1, "does not accept"), ("sh -c 'exit 2'", "enabled", 0, "could not be checked"),
    ("false", "masked", 0, "is masked"), ("false", "masked-runtime", 0, "is masked")])
def test_package_restarts_after_a_check_only(tmp_path, running, program, check, enabled, status, message):
    """A running service continues if the check fails or is not possible. dpkg fails only for a faulty configuration."""
    done = configure(tmp_path, program, **{
        "systemctl": f"case $* in *MainPID*) echo {running} ;; *ExecReload*) echo ' status=78' ;; is-enabled*) echo {enabled} ;; esac",
        "deb-systemd-invoke": 'echo "$1" >>requests; [ "$1" = restart ]', "check": check})
    assert done.returncode == status, done
    assert message in done.stderr and ("NOT UPGRADED" in done.stderr) == bool(message), done
    requests = (tmp_path / "requests").read_text() if (tmp_path / "requests").exists() else ""
    assert ("restart" in requests) == (not message)
    assert enabled == "enabled" or not requests, "the manager rejects every request for a masked unit"


def test_package_does_not_wait_for_a_program_that_it_cannot_see(tmp_path, running):
    """Root in a container without CAP_SYS_PTRACE cannot read the program of a relay."""
    done = configure(tmp_path, "relayd", **{
        "systemctl": f"case $* in *MainPID*) echo {running} ;; esac", "deb-systemd-invoke": 'echo "$1" >>requests; [ "$1" = restart ]',
        "check": "true", "readlink": "exit 1", "sleep": "touch slept"})
    assert done.returncode == 0 and not (tmp_path / "slept").exists(), done
    assert (tmp_path / "requests").read_text().split() == ["reload", "restart"]
