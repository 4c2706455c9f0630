import re, subprocess, time, harness
def totals(env):
    text = subprocess.run(["ss", "-tinp", "state", "established"], capture_output=True, text=True).stdout
    lines = text.splitlines()
    out = {}
    for a, b in zip(lines[1::2], lines[2::2]):
        m = re.search(r'users:\(\("([^"]+)",pid=(\d+),fd=(\d+)', a)
        if not m: continue
        cols = a.split()
        num = lambda k: int((re.search(rf"\b{k}:(\d+)", b) or [0,0])[1])
        out[(m[1], m[2], m[3], cols[2], cols[3])] = (num("bytes_sent"), num("bytes_received"), num("segs_out"), num("segs_in"))
    return out
def test_measure(env):
    env.broker(); env.relay()
    agent = env.agent(GOTTHARD_AGENT_DATA_PORT=env.target(harness.echo).port)
    tunnel = env.connect()
    time.sleep(10)
    t0, a = time.monotonic(), totals(env)
    time.sleep(180)
    t1, b = time.monotonic(), totals(env)
    with open("/tmp/agent-measure.log", "w") as f:
        for k in b:
            if k in a and ("gotthard" in k[0]):
                d = [y - x for x, y in zip(a[k], b[k])]
                total = d[0] + d[1] + 52 * (d[2] + d[3])
                print(k, d, f"{total * 86400 / (t1 - t0) / 1e6:.2f} MB/day", file=f)
