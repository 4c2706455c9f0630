# SPDX-License-Identifier: ISC
"""The results as a table for people (Markdown), for programs (JSON), and as pictures (SVG, by gnuplot).

Each figure is the median of its rounds with half of their range as its spread. Only ratios within one run count. The bars are
the project's own requirements.
"""

import json
import pathlib
import re
import statistics
import subprocess

import candidates
import machine

CLASSES = {c.name: c for c in (*candidates.RELAYS, *candidates.TUNNELS)}
LOWER_IS_BETTER = re.compile(r"CPU|us$|ms$|PSS|slab|descriptors|wake-ups|KB/day|bytes")


def median(results, group, name, figure):
    values = results.values.get(group, {}).get(name, {}).get(figure)
    return statistics.median(values) if values else None


def figures_of(results, group):
    found = []
    for figures in results.values.get(group, {}).values():
        found += [f for f in figures if f not in found]
    return found


def _number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(values):
    if not values:
        return "-"
    middle = statistics.median(values)
    if len(values) < 2 or not middle:
        return _number(middle)
    return f"{_number(middle)} ±{50 * (max(values) - min(values)) / abs(middle):.0f}%"


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["--:"] * (len(head) - 1)) + "|",
                      *("| " + " | ".join(row) + " |" for row in rows)])


# --- the bars -------------------------------------------------------------------------------------


def _others(results, group, is_wanted):
    return [name for name in results.values.get(group, {})
            if name in CLASSES and not CLASSES[name].is_ours and is_wanted(CLASSES[name])]


def _best(results, group, figure, is_wanted=lambda c: c.is_encrypted):
    """Returns the best of the others and its name."""
    found = [(median(results, group, name, figure), name) for name in _others(results, group, is_wanted)]
    found = [pair for pair in found if pair[0]]
    return (min if LOWER_IS_BETTER.search(figure) else max)(found, default=(None, None))


def _samples(results, group, name, figure):
    return results.values.get(group, {}).get(name, {}).get(figure, [])


def _bar(what, ratio, of_rounds, limit, is_less=True, unit=" x"):
    """@of_rounds: the same ratio of each round, for its range."""
    return {"what": what, "ratio": ratio, "least": min(of_rounds, default=ratio), "most": max(of_rounds, default=ratio),
            "bar": f"{'≤' if is_less else '≥'} {limit:g}{unit}", "holds": ratio <= limit if is_less else ratio >= limit}


def _relation(results, mine, theirs, what, limit, is_less=True):
    """One bar: the figure @mine in relation to @theirs, both (group, candidate, figure)."""
    a, b = median(results, *mine), median(results, *theirs)
    if not a or not b:
        return None
    rounds = zip(_samples(results, *mine), _samples(results, *theirs))
    return _bar(what, a / b, [x / y for x, y in rounds if y], limit, is_less)


def _compared(results, group, ours, figure, others=None, limit=1.0):
    """One bar: our figure in relation to that of @others (a candidate's name, or None: the best encrypted one)."""
    name = others if isinstance(others, str) else _best(results, group, figure, others or (lambda c: c.is_encrypted))[1]
    return _relation(results, (group, ours, figure), (group, name, figure), f"{group}: {figure}, against {name}", limit,
                     bool(LOWER_IS_BETTER.search(figure)))


def _absolute(results, group, name, figure, limit):
    value = median(results, group, name, figure)
    return value is not None and _bar(f"{name}: {figure}", value, _samples(results, group, name, figure), limit, unit="")


def bars(results):
    relay, ours, splice = "gotthard-relayd", "Gotthard", "haproxy, splice forced"
    ways = [f"{way} {n}" for way in ("down", "up") for n in (1, 8, 64)]
    few = [way for way in ways if not way.endswith("64")]
    rows = []

    def tunnels(candidate):
        """Encrypted tools for tunnels with many short connections; ssh -R opens 37 a second."""
        return candidate.is_encrypted and candidate.peer in ("chisel", "frp", "rathole")

    rows += [_compared(results, "relay", relay, f"Gbit/s down {n}", splice, 1.3) for n in (1, 8)]
    rows += [_compared(results, "relay", relay, f"CPU s/GB down {n}", splice, 0.6) for n in (1, 8)]
    rows += [_absolute(results, "relay", relay, "PSS KiB/stream 1000", 1),
             _absolute(results, "relay", relay, "descriptors/stream 1000", 2.02)]
    rows += [_compared(results, "tunnel", ours, f"Gbit/s {way}", None, 1.5) for way in few]
    rows += [_compared(results, "tunnel", ours, f"Gbit/s {way}", "ssh -R, default cipher", 2) for way in few]
    rows += [_compared(results, "tunnel", ours, f"CPU s/GB {way}", None, 0.75) for way in ways]
    rows += [_compared(results, "tunnel", ours, f"Gbit/s {way}", "rathole, plain", 0.75) for way in ways]
    rows += [_compared(results, "tunnel", ours, f"Gbit/s {way}", lambda c: c.peer in ("frp", "chisel"), 1) for way in ways]
    rows += [_compared(results, "latency", ours, "echo p50 us", lambda c: c.is_encrypted and c.hops == 3, 1.15)]
    rows += [_relation(results, ("latency", ours, "echo beside bulk p99 us"), ("latency", ours, "echo p99 us"),
                       "latency: our echo p99 beside bulk that has moved, against our own idle", 2),
             _relation(results, ("latency", ours, "echo beside another tunnel's bulk p99 us"), ("latency", ours, "echo p99 us"),
                       "latency: our echo p99 beside another tunnel's bulk, against our own idle", 2)]
    rows += [_compared(results, "connections", ours, f"connections/s {n}", tunnels, limit) for n, limit in ((1, 1.75), (8, 2.5), (64, 2.5))]
    rows += [_compared(results, "connections", ours, f"connections/s {n}", "nginx TLS, relayed", 6) for n in (1, 8, 64)]
    rows += [_compared(results, "connections", ours, f"CPU us/connection {n}", tunnels, limit) for n, limit in ((1, 0.5), (8, 0.3))]
    rows += [_compared(results, "connections", ours, "first byte p50 us", tunnels, 0.85),
             _absolute(results, "connections", ours, "200 at once, last ms", 500)]
    for group in results.values:
        echo = (group, ours, "echo p50 ms")
        rows += [_relation(results, (group, ours, "new connection p50 ms"), echo,
                           f"{group}: our new connection with 64 bytes echoed, against the bytes alone", 1.1),
                 _relation(results, (group, ours, "64 at once, last ms"), echo,
                           f"{group}: the last of our 64 connections at once, against the bytes of one alone", 1.2),
                 _compared(results, group, ours, "100 KiB answer p50 ms") if group.startswith("wan") else None]
    rows += [_absolute(results, "idle", ours, figure, limit) for figure, limit in (
        ("descriptors/stream 1000", 2.05), ("PSS KiB/stream 1000", 7), ("relay's descriptors/stream 1000", 0.01))]
    rows += [_relation(results, ("recovery", ours, "recovery ms 100"), ("recovery", ours, "recovery ms 8"),
                       "recovery of 100 streams, against that of 8", 1.25)]
    rows += [_absolute(results, "idle agent", "gotthard-agentd, idle", figure, limit)
             for figure, limit in (("PSS KiB", 4096), ("wake-ups/s", 1))]
    sessions = results.values.get("scale", {}).get("sessions")
    if sessions:
        # The relay's share of the kernel's memory is about half: both ends are on the same machine.
        value = sessions["PSS KiB each"][0] + sessions["slab KiB each, all ends"][0] / 2
        rows.append(_bar("scale: KiB a session, of the process and half of the kernel's memory for all ends", value, [], 20, unit=""))
    return [row for row in rows if row]


# --- Markdown and JSON ----------------------------------------------------------------------------

NOTES = {
    "relay": "The relay alone, without anything at its ends. CPU is the relay's.",
    "tunnel": "From the operator's program to the target and back, through all processes. CPU is the sum of all processes; hops are "
              "their number.",
    "latency": "64 bytes echoed; beside bulk: while another connection of the same tunnel has been full for 0.3 s; beside new bulk: "
               "during the first 50 ms of such connections. Bulk has moved when the relay has joined a connection of its own for it.",
    "connections": "Connect, 64 bytes echoed, close: one after another, 8 and 64 at once. CPU is the sum of all processes. The first "
                   "byte is that of a connection every 20 ms. 200 at once: from the first connect to the last echo.",
    "idle": "The cost of each idle stream, of all processes together. Slab is the kernel's memory for the whole machine, including "
            "load and target.",
    "idle agent": "An agent without requests. The traffic of a day is computed from the cost of one ping, measured by a proxy before "
                  "the broker at the shortest keep-alive, and 40 bytes of headers and 12 of timestamps for each of three packets.",
    "recovery": "The relay is killed and starts again: the time until all connections have transferred data again.",
    "scale": "One relay; each session has two control connections over TLS; the streams are joined and idle. The numbers are limited "
             "by the descriptors of one process. Slab is the kernel's memory for the whole machine, including the load's ends.",
    "agents": "One process tree, one mosquitto, keep-alive 15 min.",
}


def noise(where):
    """Returns what disturbed the figures, a sentence without its full stop each."""
    found = []
    if where["load_before"] > where["cores"] / 4:
        found.append(f"The machine was busy before the run (load average {where['load_before']:.1f})")
    if where["steal_percent"] > 2:
        found.append(f"Other machines had {where['steal_percent']:.0f} % of the processors during the run")
    return found


def _group(results, group):
    head = figures_of(results, group)
    of_group, failures = results.values.get(group, {}), results.failures.get(group, {})
    rows = []
    for name in [*of_group, *(n for n in failures if n not in of_group)]:
        cls = CLASSES.get(name)
        hops = f" ({cls.hops})" if cls and group in ("tunnel", "latency", "connections") else ""
        label = f"**{name}**{hops}" if cls and cls.is_ours else f"{name}{hops}"
        rows.append([label, *(_cell(of_group.get(name, {}).get(figure)) for figure in head)])
    lines = [f"## {group}", ""]
    lines += [NOTES.get(group, "Operator and device each have half of this round trip, and 10 Mbit/s, to the relay."), ""]
    lines += [table(["candidate", *head], rows)] if rows else []
    lines += ["", *(f"* {name}: {why}" for name, all_ in failures.items() for why in all_)] if failures else []
    return "\n".join(lines)


def _scale_table(steps):
    head = list(steps[-1])
    return table(head, [[_number(float(step[key])) if key in step else "-" for key in head] for step in steps])


def markdown(results, about, pictures):
    where = about["machine"]
    lines = ["# Gotthard and its peers, measured", "",
             f"{where['cpu']}, {where['cores']} cores, {where['memory_GiB']} GiB, {where['system']}, Linux {where['kernel']}, "
             f"{where['openssl']}, TCP {where['congestion']}. Gotthard {where['gotthard']}. {about['when']}, {about['rounds']} rounds; load average before: "
             f"{where['load_before']:.1f}. Everything on this one machine, so that only ratios count. Each figure: median ± half of "
             "the range. Repeat it with `tests/bench`.", "",
             table(["peer", "version"], [[p.name, p.version if not p.why else f"not had: {p.why}"]
                                          for p in machine.PEERS.values() if p.is_wanted]), ""]
    lines += [f"**{reason}: repeat the run on an idle machine before a ratio near its bar counts.**\n" for reason in noise(where)]
    rows = bars(results)
    if rows:
        lines += ["## Bars", "", f"{sum(r['holds'] for r in rows)} of {len(rows)} hold.", "",
                  table(["ours to theirs", "is", "rounds", "bar", ""],
                        [[r["what"], _number(r["ratio"]), f"{_number(r['least'])} to {_number(r['most'])}", r["bar"],
                          "holds" if r["holds"] else "**missed**"] for r in rows]), ""]
    for group in [*results.values, *(g for g in results.failures if g not in results.values)]:
        lines += [_group(results, group), ""]
        for name, steps in about.get("scale", {}).items() if group == "scale" else ():
            lines += [f"### {name}", "", _scale_table(steps), ""]
        lines += [f"![{group}]({picture.name})" for picture in pictures if picture.stem.split("-")[0] == group.replace(" ", "_")]
        lines += [""]
    return "\n".join(lines)


def document(results, about):
    medians = {group: {name: {figure: statistics.median(values) for figure, values in figures.items()}
                       for name, figures in of_group.items()} for group, of_group in results.values.items()}
    return {**about, "peers": {p.name: {"version": p.version, "why_not": p.why} for p in machine.PEERS.values()
                                if p.is_wanted},
            "medians": medians, "samples": results.values, "failures": results.failures, "bars": bars(results)}


# --- pictures -------------------------------------------------------------------------------------


def _gnuplot(script):
    subprocess.run([machine.program("gnuplot-nox"), "-"], input=script, text=True, check=True, env={
        **machine.environment(), "GNUPLOT_LIB": "/nonexistent"}, capture_output=True)


def _three(values):
    """Median, least and most, for a bar with its spread."""
    return f"{statistics.median(values):g} {min(values):g} {max(values):g}" if values else "NaN NaN NaN"


def _bars_picture(path, title, results, group, figures, labels, is_log):
    """Clusters of bars with their spreads, one cluster for each candidate, ours first."""
    data = "\n".join(f'"{name}" ' + " ".join(_three(of_name.get(figure)) for figure in figures)
                     for name, of_name in results.values[group].items() if any(f in of_name for f in figures))
    plots = ", ".join(f'$data using {3 * i + 2}:{3 * i + 3}:{3 * i + 4}:xtic(1) title "{label}"' for i, label in enumerate(labels))
    _gnuplot(f"""\
$data << EOD
{data}
EOD
set terminal svg size 1000,480 font "sans,12" background "white"
set output "{path}"
set title "{title}"
set style data histograms
set style histogram errorbars gap 1 lw 1
set style fill solid 0.85 border -1
set xtics rotate by -35 nomirror
set ytics nomirror
{"set logscale y" if is_log else "set yrange [0:*]"}
set grid ytics
set key outside top center horizontal
plot {plots}
""")
    return path


def _lines_picture(path, title, steps, lines, x="streams"):
    data = "\n".join(" ".join(f"{step.get(key, 'NaN')}" for key in (x, *lines)) for step in steps)
    plots = ", ".join(f'$data using 1:{i + 2} with linespoints lw 2 title "{key}"' for i, key in enumerate(lines))
    _gnuplot(f"""\
$data << EOD
{data}
EOD
set terminal svg size 800,400 font "sans,12" background "white"
set output "{path}"
set title "{title}"
set xlabel "{x}"
set xrange [0:*]
set yrange [0:*]
set grid
set key outside top center horizontal
plot {plots}
""")
    return path


def pictures(results, about, folder):
    made = []
    if machine.PEERS["gnuplot"].why or not machine.PEERS["gnuplot"].is_wanted:
        return made
    for group, what, title in (
            ("relay", "Gbit/s down", "Throughput of the relay alone, Gbit/s"), ("relay", "CPU s/GB down", "The relay's CPU s/GB"),
            ("tunnel", "Gbit/s down", "Throughput down, Gbit/s"), ("tunnel", "Gbit/s up", "Throughput up, Gbit/s"),
            ("tunnel", "CPU s/GB down", "CPU s/GB of all processes, down"), ("tunnel", "CPU s/GB up", "CPU s/GB of all processes, up"),
            ("latency", "echo", "64 bytes echoed, us"), ("connections", "connections/s", "New connections a second"),
            ("connections", "CPU us", "CPU us of a new connection, all processes"),
            ("idle", "PSS", "KiB of each idle stream, all processes")):
        figures = [f for f in figures_of(results, group) if f.startswith(what)]
        if figures:
            unit = "at once" if group == "connections" else "streams"
            labels = [f"{f.rsplit(' ', 1)[1]} {unit}" if f[-1].isdigit() else f.replace(" us", "") for f in figures]
            name = f"{group}-{re.sub(r'[^a-z]+', '-', what.lower()).strip('-')}.svg"
            made.append(_bars_picture(folder / name, title, results, group, figures, labels, group == "latency"))
    for series, steps in about.get("scale", {}).items():
        x = "sessions" if series == "sessions" else "streams"
        latencies = ("session p50 us", "session p99 us") if x == "sessions" else ("pair p50 us", "pair p99 us")
        for name, title, lines in (("memory", "Memory of one relay, KiB", ("PSS KiB",)),
                                   ("cpu", "CPU of the idle relay, %", ("idle CPU %",)),
                                   ("connect", "What one takes to connect, us", latencies)):
            made.append(_lines_picture(folder / f"scale-{series}-{name}.svg", title, steps, lines, x))
    return made


def write(results, about, folder):
    """bench.md, bench.json and the pictures, in @folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(results, about, pictures(results, about, folder))
    (folder / "bench.md").write_text(text + "\n", encoding="utf-8")
    (folder / "bench.json").write_text(json.dumps(document(results, about), indent=1) + "\n", encoding="utf-8")
    return text
