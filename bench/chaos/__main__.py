"""`python -m bench.chaos --seed 1 --minutes 20 --database postgresql`: 0 when nothing is wrong, 1 when something is."""

import argparse
import sys

from bench.chaos.run import Options, run


def main() -> int:
    """One run."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="of disturbance, without healing")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--gap-seconds", type=float, default=3.0, help="from action to action, on average")
    parser.add_argument("--keep", action="store_true", help="keep the directory even if nothing is wrong")
    given = parser.parse_args()
    options = Options(
        seed=given.seed,
        database=given.database,
        seconds=60.0 * given.minutes,
        jobs=given.jobs,
        mean_gap_seconds=given.gap_seconds,
        keep=given.keep,
    )
    return 1 if run(options, say=lambda line: print(line, flush=True)) else 0


if __name__ == "__main__":
    sys.exit(main())
