#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""An independent implementation of docs/protocol.md, sections 1, 2 and 7, to compare the C code with.

Without arguments it prints the known-answer vectors of section 6. With --check PROGRAM it runs
PROGRAM (vectors-c) with the parameters of section 6 and with N random ones, and compares every
line: the key schedule, the bytes of REQ and ACK, what both sides agree on. Nothing but Python's
own library is used, and nothing is shared with the C code: X25519, Ed25519 and AES-256-GCM are
written out below. It is slow, not constant-time, and only for tests.
"""
import argparse
import base64
import hashlib
import hmac
import random
import struct
import subprocess
import sys

# --- primitives ---------------------------------------------------------------------------------


def sha256(data):
    return hashlib.sha256(data).digest()


def extract(salt, ikm):
    return hmac.new(salt, ikm, hashlib.sha256).digest()


def expand(prk, info, length):
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out += block
        i += 1
    return out[:length]


PRIME = 2**255 - 19


def x25519(scalar, point):
    """RFC 7748, section 5: the Montgomery ladder."""
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    k = int.from_bytes(k, "little")
    u = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, u * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")


# Ed25519 (RFC 8032, section 5.1), in affine coordinates.
ED_P = 2**255 - 19
ED_D = -121665 * pow(121666, ED_P - 2, ED_P) % ED_P
ED_Q = 2**252 + 27742317777372353535851937790883648493
ED_BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, ED_P - 2, ED_P) % ED_P)


def ed_add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = ED_D * x1 * x2 * y1 * y2 % ED_P
    return ((x1 * y2 + x2 * y1) * pow(1 + product, ED_P - 2, ED_P) % ED_P,
            (y1 * y2 + x1 * x2) * pow(1 - product, ED_P - 2, ED_P) % ED_P)


def ed_multiply(n, point):
    result = (0, 1)
    while n:
        if n & 1:
            result = ed_add(result, point)
        point, n = ed_add(point, point), n >> 1
    return result


def ed_encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed_number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def ed_keys(private):
    """Returns the scalar, the prefix and the public key."""
    digest = hashlib.sha512(private).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return scalar, digest[32:], ed_encode(ed_multiply(scalar, ED_BASE))


def ed_sign(private, message):
    scalar, prefix, public = ed_keys(private)
    r = ed_number(prefix, message) % ED_Q
    point = ed_encode(ed_multiply(r, ED_BASE))
    s = (r + ed_number(point, public, message) * scalar) % ED_Q
    return point + s.to_bytes(32, "little")


def xtime(a):
    return (a << 1 ^ (0x11B if a & 0x80 else 0)) & 0xFF


def gf256(a, b):
    out = 0
    while b:
        if b & 1:
            out ^= a
        a, b = xtime(a), b >> 1
    return out


def make_sbox():
    box = []
    for a in range(256):
        b = next((i for i in range(256) if gf256(a, i) == 1), 0)
        box.append(0x63 ^ b ^ (b << 1 | b >> 7) & 255 ^ (b << 2 | b >> 6) & 255
                   ^ (b << 3 | b >> 5) & 255 ^ (b << 4 | b >> 4) & 255)
    return box


SBOX = make_sbox()


def aes256_schedule(key):
    """FIPS 197, section 5.2: fifteen round keys of 16 bytes."""
    words, rcon = [key[i:i + 4] for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ rcon]) + word[1:]
            rcon = xtime(rcon)
        elif i % 8 == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(bytes(a ^ b for a, b in zip(words[-8], word)))
    return [b"".join(words[i:i + 4]) for i in range(0, 60, 4)]


def aes(schedule, block):
    """FIPS 197, section 5.1."""
    state = [a ^ b for a, b in zip(block, schedule[0])]
    for n, round_key in enumerate(schedule[1:], 1):
        state = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if n < 14:
            mixed = []
            for i in range(0, 16, 4):
                column = state[i:i + 4]
                whole = column[0] ^ column[1] ^ column[2] ^ column[3]
                mixed += [column[j] ^ whole ^ xtime(column[j] ^ column[(j + 1) % 4])
                          for j in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, round_key)]
    return bytes(state)


def ghash(h, data):
    """NIST SP 800-38D, algorithms 1 and 2."""
    h, y = int.from_bytes(h, "big"), 0
    for i in range(0, len(data), 16):
        x, v, y = y ^ int.from_bytes(data[i:i + 16], "big"), h, 0
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                y ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return y.to_bytes(16, "big")


def pad16(data):
    return data + bytes(-len(data) % 16)


def xor(a, b):
    return bytes(i ^ j for i, j in zip(a, b))


def gcm(keyiv, ad, text, is_seal):
    """Returns the output and the tag of the ciphertext."""
    schedule, iv = aes256_schedule(keyiv[:32]), keyiv[32:]
    stream = b"".join(aes(schedule, iv + struct.pack(">I", 2 + i))
                      for i in range((len(text) + 15) // 16))
    out = xor(text, stream)
    cipher = out if is_seal else text
    sizes = struct.pack(">QQ", 8 * len(ad), 8 * len(cipher))
    tag = ghash(aes(schedule, bytes(16)), pad16(ad) + pad16(cipher) + sizes)
    return out, xor(tag, aes(schedule, iv + struct.pack(">I", 1)))


def seal_box(keyiv, ad, plain):
    return b"".join(gcm(keyiv, ad, plain, True))


def open_box(keyiv, ad, sealed):
    plain, tag = gcm(keyiv, ad, sealed[:-16], False)
    assert tag == sealed[-16:], "the tag is wrong"
    return plain


def self_test():
    """RFC 5869 A.1, RFC 7748 5.2, RFC 8032 7.1, and McGrew and Viega's test case 16 without its last bytes."""
    private = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert ed_keys(private)[2].hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert ed_sign(private, b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    assert expand(extract(bytes(range(13)), b"\x0b" * 22), bytes(range(0xF0, 0xFA)),
                  42).hex().startswith("3cb25f25faacd57a90434f64d0362f2a")
    assert x25519(
        bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
        bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
    ).hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert seal_box(bytes(44), b"", bytes(16)).hex() == (
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")


# --- the protocol -------------------------------------------------------------------------------


def lp(data):
    return struct.pack(">H", len(data)) + data


def X(key, label, context, length):
    return expand(key, b"gotthard/1 " + label + b"\0" + context, length)


def unseal(key, ad, sealed):
    return open_box(X(key, b"seal", sealed[:32], 44), ad, sealed[32:])


def salt_of(iv_text):
    return sha256(b"gotthard/1 salt" + bytes.fromhex(iv_text))


def decode_key(text, salt):
    if len(text) == 64:
        return bytes.fromhex(text)
    return hashlib.scrypt(text.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)


PARAMETERS = ("key", "iv", "operator", "device", "x", "y", "epoch", "req", "service", "lifetime",
              "relay", "stream", "attempt")

SECTION_6 = {
    "key": bytes(range(32)).hex(),
    "iv": bytes(range(0xA0, 0xB0)).hex(),
    "operator": "alice",
    "device": "GatewayOli",
    "x": "test x",
    "y": "test y",
    "epoch": "epoch",
    "req": "req",
    "service": "ssh",
    "lifetime": "3600",
    "relay": "main",
    "stream": "1",
    "attempt": "1",
}


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def operator_key(ikm, iv, name):
    """The text of the key of one operator, for every device."""
    prk_m = extract(sha256(b"gotthard/1 salt" + iv), ikm)
    k_rc = X(X(prk_m, b"relay", b"", 32), b"relay-client", b"\x01" + lp(name.encode()), 32)
    return f"gk1o.{name}.{url64(X(prk_m, b'devices', b'', 32) + k_rc)}"


TOKEN_EXPIRY = 1800000000


def token_vectors(p, k_rel):
    """The token of an enrolment (section 8) whose random values are hashes of parameters."""
    seed = sha256(p["epoch"].encode())[:16]
    prk = extract(b"gotthard/1 token", seed)
    name = f"enroll-{TOKEN_EXPIRY:08x}-{X(prk, b'name', b'', 4).hex()}"
    k_rc = X(k_rel, b"relay-client", b"\x02" + lp(name.encode()), 32)
    x, private = sha256(p["x"].encode()), sha256(p["y"].encode())
    public = x25519(private, BASE)
    material = struct.pack(">BI", 1, TOKEN_EXPIRY) + seed + k_rc + public
    answer = X(extract(prk, x25519(x, public)), b"answer", sha256(p["req"].encode()), 32)
    return [
        ("PRK_T", prk), ("K_sess of the token", X(prk, b"session", b"", 32)),
        ("rid of the token", X(prk, b"rendezvous", b"", 16)), ("name of the token", name.encode()),
        ("gk1t", f"gk1t.relay:7000.{url64(material)}".encode()), ("k of the answer", answer),
    ]


def sign(private, context, data):
    """A signature of section 2."""
    return ed_sign(private, b" " * 64 + context + b"\0" + sha256(data))


def access_lines(p):
    """An access list that revokes both names, by an authority whose private key is x, and its second part of two."""
    private = sha256(p["x"].encode())
    body = (f"serial 42\nissued 2026-11-30T14:05:00Z\nrevoked o:{p['operator']}\nrevoked d:{p['device']}\n").encode()
    text = body + b"signature " + base64.b64encode(sign(private, b"Gotthard v1, access list", body)) + b"\n"
    part = b"GTM1\x06" + struct.pack(">QIHH", 42, len(text), 1, 2) + sha256(text) + lp(text[len(text) // 2:])
    return [("authority", ed_keys(private)[2]), ("access list", text),
            ("access part", part + sign(private, b"Gotthard v1, access part", part))]


def vectors(p):
    """Returns all lines in order, as (name, bytes), and the parameters that open the sealed ones."""
    operator, device = p["operator"].encode(), p["device"].encode()
    prk_m = extract(salt_of(p["iv"]), decode_key(p["key"], salt_of(p["iv"])))
    k_devs = X(prk_m, b"devices", b"", 32)
    k_dev = X(k_devs, b"device", lp(device), 32)
    k_rel = X(prk_m, b"relay", b"", 32)
    k_rc_o = X(k_rel, b"relay-client", b"\x01" + lp(operator), 32)
    k_rc_d = X(k_rel, b"relay-client", b"\x02" + lp(device), 32)
    k_req, k_nak, k_pres, k_mix = (X(k_dev, label, b"", 32)
                                   for label in (b"mqtt o2d", b"nak", b"presence", b"mix"))
    x, y = sha256(p["x"].encode()), sha256(p["y"].encode())
    gx, gy = x25519(x, BASE), x25519(y, BASE)
    epoch, req_id = sha256(p["epoch"].encode())[:16], sha256(p["req"].encode())[:16]
    body = (struct.pack(">HB", 1, 1) + lp(operator) + lp(device) + epoch + req_id + gx +
            lp(p["service"].encode()) + struct.pack(">HI", 0, int(p["lifetime"])) +
            lp(p["relay"].encode()))
    no_proof = lp(b"") + struct.pack(">H", 0) + lp(b"")
    inner1 = body + no_proof
    th1 = sha256(inner1)
    shared = x25519(x, gy)
    assert shared == x25519(y, gx)
    prk = extract(k_mix, shared)
    k_ack = X(prk, b"ack", th1 + gy, 44)

    rsp = b"gotthard/v1/d/" + device + b"/rsp/" + operator
    inner2 = (struct.pack(">BIHI", 0, int(p["lifetime"]), 64, 1 << 20) + lp(device) +
              lp(operator) + b"\x01\x04" + lp(struct.pack(">H", 7)) + no_proof)
    ack_ad = b"GTM1\x02" + lp(rsp) + req_id + gy
    ack = b"GTM1\x02" + req_id + gy + seal_box(k_ack, ack_ad, inner2)

    stand_in = b"GTM1\x02" + req_id + gy + bytes(48)
    th2 = sha256(th1 + stand_in)
    k_sess, rid = X(prk, b"session", th2, 32), X(prk, b"rendezvous", th2, 16)
    which = struct.pack(">II", int(p["stream"]), int(p["attempt"]))
    real_th2 = sha256(th1 + ack)
    lines = [
        ("PRK_M", prk_m), ("K_devs", k_devs), (f"K_dev[{p['device']}]", k_dev), ("K_rel", k_rel),
        (f"K_rc[o:{p['operator']}]", k_rc_o), (f"K_rc[d:{p['device']}]", k_rc_d),
        ("K_req", k_req), ("K_nak", k_nak), ("K_mix", k_mix), ("K_pres", k_pres),
        ("gx", gx), ("gy", gy), ("ss", shared), ("th1", th1), ("prk", prk), ("kack||iv", k_ack),
        ("th2", th2), ("K_sess", k_sess), ("rid", rid), ("K_rep", X(prk, b"report", th2, 32)),
        (f"psk({p['stream']},{p['attempt']})", X(k_sess, b"stream", which, 32)),
        (f"psk_id({p['stream']},{p['attempt']})", X(k_sess, b"stream-id", which, 16)),
        ("inner1", inner1), ("ACK", ack),
        ("K_sess of that ACK", X(prk, b"session", real_th2, 32)),
        ("rid of that ACK", X(prk, b"rendezvous", real_th2, 16)),
        ("gk1r", f"gk1r.{url64(k_rel)}".encode()),
        ("gk1d", f"gk1d.{p['device']}.{url64(k_dev + k_rc_d)}".encode()),
        ("gk1o", f"gk1o.{p['operator']}.{url64(k_devs + k_rc_o)}".encode()),
        ("gk1o of some", f"gk1o.{p['operator']}.{url64(k_rc_o)}".encode()),
        ("line of a device", f"{p['device']} {url64(k_dev)}".encode()),
        *access_lines(p),
        *token_vectors(p, k_rel),
    ]
    return lines, (k_req, b"GTM1\x01" + lp(b"gotthard/v1/d/" + device + b"/req"), inner1)


# --- comparing ----------------------------------------------------------------------------------


def check(program, p):
    run = subprocess.run([program] + [p[name] for name in PARAMETERS], capture_output=True,
                         text=True, check=False)
    if run.returncode:
        sys.exit(f"{program} ended with {run.returncode}: {run.stderr}\n{p}")
    got = [line.rsplit(" ", 1) for line in run.stdout.splitlines()]
    want, (k_req, ad, inner1) = vectors(p)
    for (name, value), line in zip(want, got):
        if line != [name, value.hex()]:
            sys.exit(f"{name}:\n  C      {' '.join(line)}\n  Python {value.hex()}\n{p}")
    # REQ is sealed with fresh randomness, so it is opened rather than compared.
    name, req = got[len(want)]
    req = bytes.fromhex(req)
    if name != "REQ" or req[:5] != b"GTM1\x01" or unseal(k_req, ad, req[5:]) != inner1:
        sys.exit(f"REQ does not open to inner1\n{p}")
    if len(got) != len(want) + 1:
        sys.exit(f"{program} printed more or fewer lines than expected\n{p}")


NAME_FIRST = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def random_name(dice):
    n = dice.choice([1, 2, 17, 64, 110])
    return dice.choice(NAME_FIRST) + "".join(dice.choices(NAME_FIRST + "._:@-", k=n - 1))


def random_parameters(dice):
    key = dice.randbytes(32).hex()
    if dice.random() < 0.3:
        key = "not hex, not base64! " + "!".join(key[:dice.randrange(3, 20)])
    return {
        "key": key,
        "iv": dice.randbytes(16).hex(),
        "operator": random_name(dice),
        "device": "d" + random_name(dice),
        "x": dice.randbytes(8).hex(),
        "y": dice.randbytes(8).hex(),
        "epoch": dice.randbytes(8).hex(),
        "req": dice.randbytes(8).hex(),
        "service": dice.choice(["", "ssh", "127.0.0.1:22", "s" * 128]),
        "lifetime": str(dice.choice([0, 1, 3600, 2**32 - 1])),
        "relay": dice.choice(["", "main", "r" * 64]),
        "stream": str(dice.choice((0, dice.randrange(2**32)))),  # 0: the shared connection
        "attempt": str(dice.randrange(2**32)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", metavar="PROGRAM")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("-n", type=int, default=10)
    options = parser.parse_args()
    self_test()
    if not options.check:
        for name, value in vectors(SECTION_6)[0]:
            print(f"{name:20} {value.hex()}")
        return
    print(f"--seed {options.seed}")
    dice = random.Random(options.seed)
    check(options.check, SECTION_6)
    for _ in range(options.n):
        p = random_parameters(dice)
        check(options.check, p)
    print(f"{options.n + 1} sets of parameters agree")


if __name__ == "__main__":
    main()
