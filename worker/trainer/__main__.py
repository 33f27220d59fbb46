"""``python -m worker.trainer …``: the trainer as a plain program, and what shares its data door.

    train JOB_FOLDER    one attempt of a run (see ``attempt``)
    report FOLDER       what a dataset costs in tokens of a model (see ``report``)
    preview             the tokens of one row, JSON in and out (see ``preview``)
    preflight FOLDER    does a run fit, how fast is it, what would be better (see ``preflight``)
    trial FOLDER        a few steps of one setting, for a preflight (see ``trial``)

Each imports only what it needs: a preview starts in a third of a second. Knows neither database nor
broker nor HTTP.
"""

import os
import sys
from pathlib import Path

USAGE = (
    "usage: python -m worker.trainer "
    "train JOB_FOLDER | preflight FOLDER | trial FOLDER | report FOLDER | preview"
)
EXIT_USAGE = 2


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    match arguments:
        case ["preview"]:
            from worker.trainer import preview

            return preview.main()
        case ["rank", name, rank, count]:  # started by the rank that leads
            from worker.trainer import attempt

            return attempt.follow(Path(name), int(rank), int(count))
        case ["train" | "report" | "preflight" | "trial" as command, name]:
            folder = Path(name).resolve()
        case _:
            print(USAGE, file=sys.stderr)
            return EXIT_USAGE
    if not folder.is_dir():
        print(f"{folder} is no folder; {USAGE}", file=sys.stderr)
        return EXIT_USAGE
    return _run(command, folder)


def _run(command: str, folder: Path) -> int:
    if command == "report":
        from worker.trainer import report

        return report.main(folder)
    if command == "preflight":
        from worker.trainer import preflight

        return preflight.main(folder)
    if command == "trial":
        from worker.trainer import trial

        return trial.main(folder)
    from worker.trainer import attempt

    return attempt.attempt(folder)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # torch's exit handlers take a second and may hang; all files are closed
