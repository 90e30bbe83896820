"""Charts of load/overload: what is served and how fast, by load, and over time."""

import os

COLORS = {"weir": "#0969da", "weir auto": "#54aeff", "nginx": "#57606a", "haproxy": "#8c959f",
          "nghttpx": "#c9d1d9"}
INK, QUIET, RULE = "#24292f", "#57606a", "#eaeef2"


def draw(result, folder):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
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
    axes[1].set_yscale("log")
    axes[1].set_yticks([20, 50, 100, 200, 500, 1000], ["20", "50", "100", "200", "500", "1000"])
    axes[1].minorticks_off()
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
    for entry in (e for e in entries if e["load"] == load):
        times, ok, _, _, _, p99 = zip(*entry["series"])
        step = times[1] - times[0]
        color = COLORS[entry["proxy"]]
        axes[0].plot(times, [n / step for n in ok], color=color, label=entry["proxy"])
        axes[1].plot(times, [us / 1000 if us else float("nan") for us in p99], color=color)
        if entry["over_time"]:
            seen, queued, limit, _ = zip(*entry["over_time"])
            axes[2].plot(seen, queued, color=color)
            axes[3].plot(seen, limit, color=color)
    axes[1].set_yscale("log")
    titles(axes, ["Goodput per second", "p99 of answers, ms", "weir's queue", "weir's limit"])
    protocol = "HTTP/1.1" if kind == "http1" else "gRPC"
    chart.suptitle(f"{load} load over time ({protocol})", x=0.01, ha="left", fontweight="bold", fontsize=12, color=INK)
    chart.legend(*axes[0].get_legend_handles_labels(), loc="upper right", frameon=False, ncols=5, handlelength=1)
    save(pyplot, chart, path)


def varying(pyplot, entry, path):
    chart, axes = pyplot.subplots(4, 1, figsize=(8.6, 7.2), sharex=True)
    times, ok, refused, _, p50, p99 = zip(*entry["series"])
    step = times[1] - times[0]
    axes[0].plot(times, [n / step for n in ok], color=COLORS["weir"], label="served")
    axes[0].plot(times, [n / step for n in refused], color=COLORS["haproxy"], linewidth=0.8, label="refused")
    axes[0].legend(frameon=False, ncols=2, loc="center right")
    axes[1].plot(times, [us / 1000 if us else float("nan") for us in p99], color=COLORS["weir auto"], label="p99")
    axes[1].plot(times, [us / 1000 if us else float("nan") for us in p50], color=COLORS["weir"], label="p50")
    axes[1].set_yscale("log")
    axes[1].legend(frameon=False, ncols=2, loc="upper right")
    seen, queued, limit, _ = zip(*entry["over_time"])
    axes[2].plot(seen, queued, color=COLORS["weir"])
    axes[3].plot(seen, limit, color=COLORS["weir"])
    for i, service in enumerate(entry["services"]):
        for each in axes:
            each.axvline(i * entry["phase_s"], color=QUIET, linewidth=0.8, linestyle=":")
        axes[0].text(i * entry["phase_s"] + 0.2, 1.02, f"the engine takes {service} ms", color=QUIET,
                     transform=axes[0].get_xaxis_transform())
    titles(axes, ["", "Answers, ms", "weir's queue", 'weir\'s limit, "auto"'])
    chart.suptitle(f"An engine whose capacity varies, {entry['load']} load", x=0.01, ha="left", fontweight="bold",
                   fontsize=12, color=INK)
    save(pyplot, chart, path)


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
