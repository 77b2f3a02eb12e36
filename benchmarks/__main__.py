"""``python -m benchmarks``: all of them; ``python -m benchmarks update``: one of them."""

import sys

from benchmarks import act, environments, guards, loop, methods, ports, streaming, update

BENCHMARKS = {
    "update": update.main,
    "act": act.main,
    "loop": loop.main,
    "guards": guards.main,
    "ports": ports.main,
    "environments": environments.main,
    "methods": lambda: methods.main([]),
    "streaming": lambda: streaming.main([]),
}


def main(names: list[str]) -> int:
    """Runs those named, or all."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
