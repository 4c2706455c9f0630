# SPDX-License-Identifier: ISC
"""A damaged key or salt is refused by each program and from each source, or means what it was meant to be. It never
silently is another secret."""

import subprocess

import pytest

import harness
from harness import LIMIT, PROGRAMS
from setting_markers import COMPLETE, IV, KEY, NAMES, check, items_of, private_file

BASE64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

# What happens to a secret on its way: {secret} is the right one.
DAMAGES = {
    "double quotes": '"{secret}"', "single quotes": "'{secret}'", "one quote": '"{secret}', "trailing blank": "{secret} ",
    "leading blank": " {secret}", "byte order mark": "\ufeff{secret}", "export": "export GOTTHARD_CRYPT_X={secret}",
    "name": "GOTTHARD_CRYPT_X={secret}", "blanks around the sign": "GOTTHARD_CRYPT_X = {secret}", "one digit more": "{secret}0",
    "0x": "0x{secret}", "comment": "{secret} # of 2027", "zero-width space": "{secret}\u200b", "no-break space": "{secret}\u00a0",
    "semicolon": "{secret};", "curly quotes": "\u201c{secret}\u201d", "path": "/run/secrets/{secret}", "template": "${{{secret}}}",
}
SHAPES = {
    "one digit less": lambda text: text[:-1], "half": lambda text: text[:len(text) // 2 + 2],
    "colons": lambda text: ":".join(text[i:i + 2] for i in range(0, len(text), 2)),
    "groups": lambda text: " ".join(text[i:i + 8] for i in range(0, len(text), 8)), "twice": lambda text: text + text,
    "letter O": lambda text: "O" + text[1:],
}
# In a file these have only one possible meaning.
TOLERATED_IN_A_FILE = {
    "alone": "{secret}", "CRLF": "{secret}\r\n", "byte order mark": "\ufeff{secret}\n", "line": "{name}={secret}\n",
    "export": "export {name}={secret}\n", "quotes of a shell": '{name}="{secret}"\r\n', "single quotes": "{name}='{secret}'\n",
    "line with blanks": "  {name}={secret} \n", "other lines": "# key\n\nOTHER=1\n{name}={secret}\n",
}


def relay_key(**variables):
    """The relay's key that follows from these variables, which identifies key and salt; or the exit status."""
    done = subprocess.run([PROGRAMS["cli"], "keygen", "relay"], env=harness.clean_environment(**variables), capture_output=True,
                          text=True, timeout=LIMIT, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.returncode


def use(program, variables):
    """Lets the program read the key."""
    if program != "cli":
        return check(program, env=variables)
    return subprocess.run([PROGRAMS["cli"], "keygen", "relay"], env=harness.clean_environment(**variables), capture_output=True,
                          text=True, timeout=LIMIT, check=False)


def damaged(secret):
    texts = {name: form.format(secret=secret) for name, form in DAMAGES.items()}
    return {**texts, **{name: shape(secret) for name, shape in SHAPES.items()}}


@pytest.mark.parametrize("variable, secret", [("GOTTHARD_CRYPT_KEY", KEY), ("GOTTHARD_CRYPT_KEY", BASE64), ("GOTTHARD_CRYPT_IV", IV)])
@pytest.mark.parametrize("program", NAMES)
def test_damaged_secret_in_a_variable_is_refused(program, variable, secret):
    whole = {**COMPLETE[program], "GOTTHARD_CRYPT_KEY": KEY, "GOTTHARD_CRYPT_IV": IV}
    for name, text in damaged(secret).items():
        if name == "letter O" and secret == BASE64:
            continue  # another letter of base64 is another key
        done = use(program, {**whole, variable: text})
        assert done.returncode == 78, f"{name} is accepted"
        assert variable.lower().replace("gotthard_crypt_", "crypt.") in done.stderr, done.stderr
        assert secret[:20] not in done.stdout + done.stderr, f"{name}: a part of the secret is shown"


@pytest.mark.parametrize("source", ["variable of a file", "credential", "in a file", "by a file"])
@pytest.mark.parametrize("program", NAMES)
def test_damaged_secret_from_each_source_is_refused(program, source, tmp_path):
    item = items_of(program)["crypt.key"]
    whole = {**COMPLETE[program], "GOTTHARD_CRYPT_KEY": None, "GOTTHARD_CRYPT_IV": IV}
    for name, text in damaged(KEY).items():
        if name in ("byte order mark", "double quotes") and source != "in a file":
            text = f'{text} {text}'
        secret = private_file(tmp_path / "secret", text)
        if source == "variable of a file":
            more = {"GOTTHARD_CRYPT_KEY_FILE": secret}
        elif source == "credential":
            more = {"CREDENTIALS_DIRECTORY": private_file(tmp_path / "c" / "gotthard_crypt_key", text).parent}
        elif source == "by a file":
            more = {"GOTTHARD_CONFIG_DIR": private_file(tmp_path / f"{program}.conf", item.in_file(secret, "_file")).parent}
        else:
            escaped = text.replace('"', '\\"')
            more = {"GOTTHARD_CONFIG_DIR": private_file(tmp_path / f"{program}.conf", item.in_file(escaped)).parent}
        done = use(program, {**whole, **more})
        assert done.returncode == 78, f"{name} is accepted"
        assert KEY[:20] not in done.stdout + done.stderr, f"{name}: a part of the secret is shown"


@pytest.mark.parametrize("form", TOLERATED_IN_A_FILE)
def test_file_of_a_secret_means_the_secret(form, tmp_path):
    wanted = relay_key(GOTTHARD_CRYPT_KEY=KEY, GOTTHARD_CRYPT_IV=IV)
    key = private_file(tmp_path / "key", TOLERATED_IN_A_FILE[form].format(secret=KEY, name="GOTTHARD_CRYPT_KEY"))
    iv = private_file(tmp_path / "iv", TOLERATED_IN_A_FILE[form].format(secret=IV, name="GOTTHARD_CRYPT_IV"))
    assert relay_key(GOTTHARD_CRYPT_KEY_FILE=key, GOTTHARD_CRYPT_IV_FILE=iv) == wanted


def test_utf16_file_is_named_as_such(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(KEY.encode("utf-16"))
    path.chmod(0o600)
    done = check("relayd", GOTTHARD_CRYPT_KEY=None, GOTTHARD_CRYPT_KEY_FILE=path)
    assert done.returncode == 78 and "UTF-16" in done.stderr and "key" in done.stderr, done.stderr


def test_keys_in_other_cases_and_passphrases_work():
    wanted = relay_key(GOTTHARD_CRYPT_KEY=KEY, GOTTHARD_CRYPT_IV=IV)
    for key, iv in ((KEY.upper(), IV.upper()), (BASE64, IV), (BASE64 + "=", IV)):
        assert relay_key(GOTTHARD_CRYPT_KEY=key, GOTTHARD_CRYPT_IV=iv) == wanted
    plain = relay_key(GOTTHARD_CRYPT_KEY="correct horse battery staple", GOTTHARD_CRYPT_IV="a fleet of Bern")
    assert str(plain).startswith("gk1r.")
    assert relay_key(GOTTHARD_CRYPT_KEY="passphrase:correct horse battery staple", GOTTHARD_CRYPT_IV="a fleet of Bern") == plain
    assert str(relay_key(GOTTHARD_CRYPT_KEY=f"passphrase:{KEY[:-1]}", GOTTHARD_CRYPT_IV=IV)).startswith("gk1r.")


@pytest.mark.parametrize("program", NAMES)
def test_empty_variable_counts_as_not_given(program):
    """As `-e NAME=` or a line NAME= of a compose file gives it: each alone, and all together."""
    wanted = check(program)
    assert wanted.returncode == 0
    names = {item.variable for item in items_of(program).values() if item.variable}
    names |= {f"{item.variable}_FILE" for item in items_of(program).values() if item.kind == "SECRET"}
    names |= {"CREDENTIALS_DIRECTORY", "GOTTHARD_CONFIG_DIR", "NO_COLOR", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS",
              "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "JOURNAL_STREAM", "XDG_CONFIG_HOME", "XDG_STATE_HOME"}
    names -= set(COMPLETE[program])
    assert "GOTTHARD_SERVER_PORT" in names
    for name in sorted(names):
        done = check(program, env={name: ""})
        assert (done.returncode, done.stdout) == (0, wanted.stdout), f"{name}: {done.stderr}"
    assert check(program, env={name: "" for name in names}).stdout == wanted.stdout
