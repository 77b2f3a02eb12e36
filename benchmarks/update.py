"""Updates per second: FMQ at the paper's and at the demo's size, and an update like QC's beside it.

``python -m benchmarks update``. All are timed in one process, a block of each in turn.
"""

from typing import Any

from benchmarks import measure
from flowpolicy.bench import flops, setting
from flowpolicy.bench.peak import peak

REPEATS = 9
LIMITS = {"share": 0.70, "ratio": 3.0}


def main() -> None:
    """Measures, prints, writes ``results/update-<device>.json``."""
    machine, cases = measure.machine(), _cases()
    for case in cases:
        case["run"]()
    before = peak()
    works = [(case["blocks"], case["run"]) for case in cases]
    measure.interleave(REPEATS, works)
    after = peak()
    best = {k: max(before[k], after[k]) for k in ("gflops", "gflops_per_cpu_second")}
    results = {case["name"]: _result(case, best) for case in cases}
    lines = _wanted(results)
    path = measure.write(
        "update",
        {
            "benchmark": "update",
            "machine": machine,
            "protocol": f"{REPEATS} blocks of each case in turn, sampling included; the peak is "
            "the best size before or after; shares are of medians",
            "peak": {**best, "before": before, "after": after},
            "results": results,
            "wanted": lines,
        },
    )
    _show(results, best)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


def _cases() -> list[dict[str, Any]]:
    paper, demo, qc = setting.paper(), setting.demo(), setting.like_qc()
    return [
        _case("paper offline", paper, setting.PAPER, 4, online=False),
        _case("paper online", paper, setting.PAPER, 4, online=True),
        _case("like QC, 10 Euler steps", qc, setting.PAPER, 2, online=False),
        _case("demo offline", demo, setting.DEMO, 50, online=False),
        _case("demo online", demo, setting.DEMO, 50, online=True),
    ]


def _case(
    name: str, agent: Any, problem: flops.Problem, count: int, *, online: bool
) -> dict[str, Any]:
    steps = getattr(agent.bootstrap, "steps", 1)
    candidates = agent.bootstrap.n
    terms = (
        flops.online(agent, problem, candidates)
        if online
        else flops.offline(agent, problem, candidates, steps)
    )
    training = setting.Training(agent, problem, online=online)
    counted = flops.counted_by_xla(terms, training.slices, steps)
    return {
        "name": name,
        "terms": terms,
        "xla": {"flops": training.xla_flops(), "formula_for_it": counted},
        "blocks": measure.Blocks(count),
        "run": training.block(count),
    }


def _result(case: dict[str, Any], best: dict[str, float]) -> dict[str, Any]:
    timing = case["blocks"].summary()
    total = sum(case["terms"].values())
    wall, cpu = (timing[k]["median"] / 1000.0 for k in ("wall_ms", "cpu_ms"))
    xla = case["xla"]
    return {
        **timing,
        "updates_per_second": round(1.0 / wall, 3),
        "gflop": round(total / 1e9, 4),
        "gflop_by_term": {k: round(v / 1e9, 4) for k, v in case["terms"].items()},
        "xla_over_formula": round(xla["flops"] / xla["formula_for_it"], 4),
        "share_of_peak": round(total / wall / 1e9 / best["gflops"], 4),
        "share_of_peak_by_cpu_seconds": round(total / cpu / 1e9 / best["gflops_per_cpu_second"], 4),
    }


def _wanted(results: dict[str, Any]) -> list[dict[str, Any]]:
    paper, qc = results["paper offline"], results["like QC, 10 Euler steps"]
    ratio = qc["wall_ms"]["median"] / paper["wall_ms"]["median"]
    by_cpu = qc["cpu_ms"]["median"] / paper["cpu_ms"]["median"]
    share, times = LIMITS["share"], LIMITS["ratio"]
    lines = [
        measure.wanted(f"{name}: share of peak", results[name][key], share, at_most=False)
        for name in ("paper offline", "paper online", "demo offline", "demo online")
        for key in ("share_of_peak", "share_of_peak_by_cpu_seconds")
    ]
    lines += [
        measure.wanted("like QC over paper offline, wall", ratio, times, at_most=False),
        measure.wanted("like QC over paper offline, CPU", by_cpu, times, at_most=False),
    ]
    return lines


def _show(results: dict[str, Any], best: dict[str, float]) -> None:
    rows = [
        (
            name,
            _range(r["wall_ms"]),
            _range(r["cpu_ms"]),
            r["updates_per_second"],
            r["gflop"],
            r["xla_over_formula"],
            f"{100 * r['share_of_peak']:.0f} %",
            f"{100 * r['share_of_peak_by_cpu_seconds']:.0f} %",
        )
        for name, r in results.items()
    ]
    columns = (
        "update", "wall ms: median (range)", "CPU ms", "per s", "GFLOP", "XLA's / ours", "of peak",
        "by CPU s",
    )  # fmt: skip
    title = (
        f"updates; peak {best['gflops']:.0f} GFLOP/s, "
        f"{best['gflops_per_cpu_second']:.0f} a CPU second"
    )
    measure.show(title, columns, rows)


def _range(ms: dict[str, float]) -> str:
    return f"{ms['median']:.1f} ({ms['min']:.1f}-{ms['max']:.1f})"


if __name__ == "__main__":
    main()
