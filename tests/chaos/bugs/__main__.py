"""`python -m tests.chaos.bugs`: the checker must catch every known bug, and nothing where there is none."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from tests.chaos.bugs.scenarios import SCENARIOS


def main() -> int:
    """Run every scenario with its bug and without, and tell by the exit status whether all were caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="these bugs only", choices=[scenario.bug for scenario in SCENARIOS])
    parser.add_argument("--report", type=Path, help="write what was found as JSON to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = [scenario for scenario in SCENARIOS if not options.only or scenario.bug in options.only]
    caught = false_alarms = 0
    report = {}
    for scenario in chosen:
        for with_bug in (True, False):
            start = time.monotonic()
            found = scenario.run(with_bug=with_bug)
            shown = [line for line in found if line.startswith(scenario.shows_as)]
            caught += with_bug and bool(shown)
            false_alarms += not with_bug and bool(found)
            name = f"{'with' if with_bug else 'without'} {scenario.bug}"
            report[name] = found
            first = (shown or found or ["all promises kept"])[0]
            print(f"{time.monotonic() - start:4.0f} s  {name:30} {len(found):3} violations: {first}", flush=True)
    if options.report:
        options.report.write_text(json.dumps(report, indent=1))
    print(f"caught {caught} of {len(chosen)}, {false_alarms} false alarms")
    return 0 if caught == len(chosen) and not false_alarms else 1


if __name__ == "__main__":
    sys.exit(main())
