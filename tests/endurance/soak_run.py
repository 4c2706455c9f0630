# SPDX-License-Identifier: ISC
"""The course of a soak: warm up, cause faults and measure, end the load, and check the remains."""

import collections
import statistics
import time

from harness import wait_until
from invariants import IS_SANITIZED, lines_per_cause
from process_stats import DOCUMENTED_STATUSES, program_of
from soak_faults import FAULTS, SIDES, can_upgrade
from soak_system import Loaded

MOVED = 64 << 10
SETTLE = 5 if not IS_SANITIZED else 20
BACK = 40  # seconds: a stream releases its memory at the next heartbeat without traffic
SLOWER = 4 if IS_SANITIZED else 1
CONNECT_BOUND = 65  # seconds: a device's longest pause before it connects to the broker again, and the connect


class Soak:
    def __init__(self, args, system, generator):
        self.args, self.system, self.generator = args, system, generator
        self.started = time.monotonic()
        self.recoveries = collections.defaultdict(list)
        self.connects = []
        self.complaints = []
        self.kinds = [FAULTS[name] for name in args.kinds]
        if not can_upgrade():
            self.kinds = [kind for kind in self.kinds if kind.name != "relay-upgrade"]

    def report(self, text):
        seconds = int(time.monotonic() - self.started)
        print(f"{seconds // 60:3}:{seconds % 60:02}  {text}", flush=True)

    def complain(self, text):
        self.complaints.append(text)
        self.report(f"BAD: {text}")

    # before

    def warm_up(self):
        """Takes the baseline after the first streams: a process keeps the memory of its first stream."""
        self.system.load()
        self.system.wait_for_progress(16 * MOVED)
        self.system.end_load()
        time.sleep(SETTLE)
        self.settled = self.system.resources()

    # faults

    def until_next(self):
        """A pause of random length, in which all streams continue."""
        end = time.monotonic() + self.generator.uniform(0, 2 * self.args.every)
        self.system.wait_for_progress(1)
        while time.monotonic() < end:
            self.system.check()
            time.sleep(min(0.1, max(0, end - time.monotonic())))

    def break_something(self, number):
        kind, = self.generator.choices(self.kinds, [k.weight for k in self.kinds])
        side = (self.args.side or self.generator.choice(SIDES)) if kind.is_sided else ""
        started = time.monotonic()
        did = kind.function(self.system, self.generator, side)
        lasted = time.monotonic() - started
        took = self.system.wait_for_progress(MOVED)
        self.recoveries[kind.name].append(took)
        connected = self.connect_again() if kind.needs_connect else None
        words = " ".join(filter(None, (kind.name, side, did)))
        self.report(f"{number:4} {words}: {lasted:.1f} s, recovered after {took:.2f} s"
                 + (f", a new tunnel after {connected:.1f} s" if connected is not None else ""))
        if took > kind.bound * SLOWER:
            self.complain(f"{kind.name} {side}: {took:.1f} s to recover, not {kind.bound}")

    def connect_again(self):
        started = time.monotonic()
        while not self.system.try_connect():
            self.system.check()
            if time.monotonic() - started > CONNECT_BOUND * SLOWER:
                self.complain(f"no new tunnel within {CONNECT_BOUND} s")
                break
        took = time.monotonic() - started
        self.connects.append(took)
        return took

    def faults(self):
        number, end = 0, time.monotonic() + self.args.duration
        while time.monotonic() < end and number != self.args.count:
            self.until_next()
            number += 1
            self.break_something(number)
        self.system.wait_for_progress(MOVED)
        self.n_faults = number

    # after

    def compare(self):
        """Descriptors and memory are as before the faults."""
        left = []

        def is_back():
            left.clear()
            now = self.system.resources()
            for name, (n_fds, rss, pss) in now.items():
                was_fds, was_rss, was_pss = self.settled.get(name, (0, 0, 0))
                if n_fds > was_fds + (len(self.system.restored) if name == "agent" else 0):  # a pidfd of each restored worker
                    left.append(f"{name} has {n_fds} descriptors, before {was_fds}")
                if pss > was_pss * 1.25 + 2048 and not IS_SANITIZED:
                    left.append(f"{name} has {pss} KiB (PSS), before {was_pss}")
            left.extend(f"{name} is new" for name in now.keys() - self.settled.keys())
            return not left

        try:
            wait_until(is_back, "baseline", limit=BACK, step=0.2)
        except AssertionError:
            for line in left:
                self.complain(f"not released: {line}")
        self.remaining = self.system.resources()

    def idle(self):
        """Idle processes use no CPU."""
        before, started = self.system.cpu_and_wakeups(), time.monotonic()
        while time.monotonic() - started < self.args.idle:
            time.sleep(1)
        seconds = time.monotonic() - started
        self.idled = {name: ((cpu - before[name][0]) / seconds * 100, (n - before[name][1]) / seconds)
                      for name, (cpu, n) in self.system.cpu_and_wakeups().items() if name in before}
        for name, (percent, wakes) in self.idled.items():
            if (percent >= 0.5 or wakes >= 5) and not IS_SANITIZED:
                self.complain(f"{name} is not idle: {percent:.2f} % CPU, {wakes:.1f} wake-ups a second")

    def logs(self):
        for process in self.system.env.processes:
            program, code = program_of(process), process.child.poll()
            if not program:
                continue
            raw = process.log_path.read_bytes()
            if set(raw) & (set(range(0x20)) - {0x0a}):
                self.complain(f"{process.name} logs control characters")
            for (second, cause), n in lines_per_cause(raw.decode(errors="replace")).items():
                if n > 20:  # two bursts of 10 may fall into one second
                    self.complain(f"{process.name}: {n} lines at {second}: {cause}")
            if code not in (None, -9, *DOCUMENTED_STATUSES[program]):
                self.complain(f"{process.name} ended with {code}")
        for report in self.system.env.sanitizer_reports():
            self.complain(report)

    # sums

    def summary(self):
        seconds = time.monotonic() - self.started
        system = self.system
        print(f"\n{'fault':20} {'n':>5} {'median':>9} {'worst':>9}")
        for name, all_ in sorted(self.recoveries.items()):
            print(f"{name:20} {len(all_):5} {statistics.median(all_):7.2f} s {max(all_):7.2f} s")
        if self.connects:
            print(f"{'a new tunnel':20} {len(self.connects):5} {statistics.median(self.connects):7.2f} s "
                  f"{max(self.connects):7.2f} s")
        shorts = system.shorts
        print(f"\n{sum(map(len, self.recoveries.values()))} faults in {seconds / 60:.1f} min; "
              f"{system.bytes_carried() / 1e9:.2f} GB carried and compared, lost or mixed: {len(self.lost)}")
        print(f"short connections: {shorts.n_exact} exact, {shorts.n_reset} reset; echoes: {system.echo.n_echoes}, "
              f"the longest {system.echo.worst:.1f} s")
        if hasattr(self, "remaining"):
            print(f"\n{'process':12} {'fds':>11} {'RSS KiB':>15} {'PSS KiB':>15} {'idle CPU':>10} {'wake-ups':>10}")
            for name, now in self.remaining.items():
                was, (cpu, wakes) = self.settled.get(name, (0, 0, 0)), self.idled.get(name, (0, 0))
                print(f"{name:12} " + " ".join(f"{a:{w}} → {b:{w}}" for a, b, w in zip(was, now, (4, 6, 6)))
                      + f" {cpu:8.2f} % {wakes:8.1f}/s")
        for complaint in self.complaints:
            print(f"BAD: {complaint}")
        print("good" if not self.complaints else f"bad: {len(self.complaints)} complaints", flush=True)

    def course(self):
        self.lost = []
        self.warm_up()
        self.system.load()
        self.report(f"8 streams both ways, {self.args.rate:.0f} MB/s; faults: {', '.join(k.name for k in self.kinds)}")
        try:
            self.faults()
        except KeyboardInterrupt:
            self.report("interrupted")
        except AssertionError as error:
            self.lost.append(error)
            self.complain(str(error))
            return
        try:
            self.system.end_load()
        except AssertionError as error:
            self.lost.append(error)
            self.complain(str(error))
            return
        self.compare()
        self.idle()
        try:
            self.system.end()
        except AssertionError as error:
            self.complain(str(error))


def run(args, folder, generator):
    """Returns true if no violation was found."""
    system = Loaded(folder, args.seed, args.rate * 1e6)
    soak = Soak(args, system, generator)
    try:
        system.start()
        soak.course()
        soak.logs()
        soak.summary()
    finally:
        system.close()
    return not soak.complaints

