"""Charts of load/overload: what is served and how fast, by load, and over time. And how charts look."""

import os

COLORS = {"weir": "#0969da", "weir auto": "#54aeff", "nginx": "#57606a", "haproxy": "#8c959f",
          "nghttpx": "#c9d1d9"}
INK, QUIET, RULE = "#24292f", "#57606a", "#eaeef2"
STEP_S = 0.5  # of what is counted per second: shorter ones show the beat of an engine's answers
MS_TICKS = [20, 50, 100, 200, 500, 1000]


def draw(result, folder):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    style(pyplot)
    os.makedirs(folder, exist_ok=True)
    for kind in ("http1", "grpc"):
        entries = [e for e in result["entries"] if e["part"] == f"steady {kind}"]
        if entries:
            by_load(pyplot, entries, result["capacity"], kind, f"{folder}/overload-{kind}.png")
            over_time(pyplot, entries, kind, f"{folder}/overload-{kind}-over-time.png")
    for entry in result["entries"]:
        if entry["part"] == "varying":
            varying(pyplot, entry, f"{folder}/overload-varying.png")


def by_load(pyplot, entries, capacity, kind, path):
    """Bars of goodput and marks of latency, a group for each load."""
    chart, axes = pyplot.subplots(1, 2, figsize=(8.6, 3.6))
    loads = list(dict.fromkeys(e["load"] for e in entries))
    names = list(dict.fromkeys(e["proxy"] for e in entries))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        mine = {e["load"]: e for e in entries if e["proxy"] == name}
        at = [loads.index(load) + (i - (len(names) - 1) / 2) * width for load in mine]
        axes[0].bar(at, [100 * e["per_second"] / capacity for e in mine.values()], 0.9 * width, label=name,
                    color=COLORS[name])
        for x, e in zip(at, mine.values()):
            if not e["ok"]["count"]:
                continue
            p50, p99 = e["ok"]["p50_us"] / 1000, e["ok"]["p99_us"] / 1000
            axes[1].bar(x, p99 - p50, 0.9 * width, bottom=p50, color=COLORS[name])
            axes[1].plot([x - 0.45 * width, x + 0.45 * width], [p50, p50], color=INK, linewidth=1.5)
    axes[0].set_title("Goodput, % of what the engine can do", loc="left", fontsize=9, color=INK)
    axes[1].set_title("Answers: p50 (line) to p99, ms", loc="left", fontsize=9, color=INK)
    in_ms(axes[1])
    for each in axes:
        dress(each)
        each.set_xticks(range(len(loads)), [f"{load} load" for load in loads])
    protocol = "HTTP/1.1" if kind == "http1" else "gRPC"
    chart.suptitle(f"More load than can be done ({protocol})", x=0.01, ha="left", fontweight="bold", fontsize=12,
                   color=INK)
    chart.legend(*axes[0].get_legend_handles_labels(), loc="upper right", frameon=False, ncols=len(names),
                 handlelength=1, handleheight=1, columnspacing=1.2)
    save(pyplot, chart, path)


def over_time(pyplot, entries, kind, path):
    """Goodput and p99 of every proxy at the highest load, and weir's queue and limit."""
    load = entries[-1]["load"]
    chart, axes = pyplot.subplots(4, 1, figsize=(8.6, 7.2), sharex=True)
    for entry in reversed([e for e in entries if e["load"] == load]):
        color, width = COLORS[entry["proxy"]], 1.6 if entry["proxy"].startswith("weir") else 1
        axes[0].plot(*per_second(entry["series"], 1), color=color, linewidth=width, label=entry["proxy"])
        axes[1].plot(*in_time(entry["series"], 5), color=color, linewidth=width)
        if entry["over_time"]:
            seen, queued, limit, _ = zip(*entry["over_time"])
            axes[2].plot(seen, queued, color=color, linewidth=width)
            axes[3].plot(seen, limit, color=color, linewidth=width)
    in_ms(axes[1])
    titles(axes, ["Served per second", "p99 of answers, ms", "weir's queue", "weir's limit"])
    for at in (0, 2, 3):
        axes[at].set_ylim(bottom=0)
    protocol = "HTTP/1.1" if kind == "http1" else "gRPC"
    chart.suptitle(f"{load} load over time ({protocol})", x=0.01, ha="left", fontweight="bold", fontsize=12, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    chart.legend(handles[::-1], labels[::-1], loc="upper right", frameon=False, ncols=5, handlelength=1)
    save(pyplot, chart, path)


def varying(pyplot, entry, path):
    chart, axes = pyplot.subplots(4, 1, figsize=(8.6, 7.2), sharex=True)
    phase_s, services = entry["phase_s"], entry["services"]
    ends = [i * phase_s for i in range(len(services) + 1)]
    can = [entry["places"] * 1000 / service for service in services]
    axes[0].stairs(can, ends, baseline=None, color=INK, linewidth=0.9, linestyle="--", label="what the engine can do")
    axes[0].plot(*per_second(entry["series"], 1), color=COLORS["weir"], label="served")
    axes[0].plot(*per_second(entry["series"], 2), color=COLORS["haproxy"], linewidth=0.9, label="refused at once")
    axes[1].plot(*in_time(entry["series"], 5), color=COLORS["weir auto"], linewidth=1, label="p99")
    axes[1].plot(*in_time(entry["series"], 4), color=COLORS["weir"], label="p50")
    in_ms(axes[1])
    seen, queued, limit, _ = zip(*entry["over_time"])
    axes[2].plot(seen, queued, color=COLORS["weir"], linewidth=1)
    axes[3].plot(seen, limit, color=COLORS["weir"], linewidth=1.2)
    axes[3].axhline(entry["places"], color=INK, linewidth=0.9, linestyle="--")
    for at in (0, 2, 3):
        axes[at].set_ylim(bottom=0)
    titles(axes, ["Requests per second", "Answers, ms", "weir's queue", 'weir\'s limit, "auto"; the engine does '
                  f'{entry["places"]} at once'])
    for at in (0, 1):
        axes[at].legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.98), handlelength=1.4,
                        borderaxespad=0)
    for begun, service in zip(ends, services):
        for each in axes:
            each.axvline(begun, color=QUIET, linewidth=0.8, linestyle=":")
        axes[1].text(begun + 0.2, 0.88, f"an answer takes {service} ms", color=QUIET,
                     transform=axes[1].get_xaxis_transform())
    axes[1].set_ylim(top=900)
    chart.suptitle(f"An engine whose capacity varies, {entry['load']} load", x=0.01, ha="left", fontweight="bold",
                   fontsize=12, color=INK)
    save(pyplot, chart, path)


def per_second(series, column):
    """Times, and counts of that column per second, in steps of STEP_S; without what is left at the end."""
    width = series[1][0] - series[0][0]
    many = max(1, round(STEP_S / width))
    steps = [series[i:i + many] for i in range(0, len(series) - many + 1, many)]
    return ([step[0][0] + many * width / 2 for step in steps],
            [sum(row[column] for row in step) / (many * width) for step in steps])


def in_time(series, column):
    """Times, and that column in ms, of whatever has answers."""
    rows = [row for row in series if row[column]]
    return [row[0] for row in rows], [row[column] / 1000 for row in rows]


def in_ms(axes):
    axes.set_yscale("log")
    axes.set_yticks(MS_TICKS, [str(tick) for tick in MS_TICKS])
    axes.minorticks_off()
    axes.set_ylim(bottom=15)


def style(pyplot):
    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})


def titles(axes, texts):
    for each, text in zip(axes, texts):
        each.set_title(text, loc="left", fontsize=9, color=INK)
        dress(each)
    axes[-1].set_xlabel("seconds", color=QUIET)


def dress(axes):
    axes.tick_params(axis="both", length=0, colors=QUIET)
    axes.yaxis.grid(True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def save(pyplot, chart, path):
    chart.tight_layout(rect=(0, 0, 1, 0.95))
    chart.savefig(path, dpi=144, facecolor="white")
    pyplot.close(chart)
