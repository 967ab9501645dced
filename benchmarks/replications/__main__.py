"""Runs a replication, writes its page: python -m benchmarks.replications fastserve [DATA_DIR]."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from benchmarks.replications import experiment, page, settings

HERE: Final = Path(__file__).resolve().parent
DOCS: Final = HERE.parents[1] / "docs"
DATA: Final = HERE.parents[2] / "shared" / "data"


def main() -> None:
    """Run, check what must hold, write the page and the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replications", description=__doc__)
    parser.add_argument("name", choices=["fastserve"], help="which paper")
    parser.add_argument("data", nargs="?", type=Path, default=DATA, help="folder with lengths/")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    given = parser.parse_args()
    chosen = settings.read(HERE / f"{given.name}.toml")
    for work in chosen.workloads:
        if work.lengths and not (given.data / work.lengths).is_file():
            raise SystemExit(f"nothing to run: {given.data / work.lengths} does not exist")
    points = experiment.run_all(chosen, given.data, given.jobs)
    broken = experiment.broken(chosen, points)
    if broken:
        raise SystemExit("what must hold does not:\n" + "\n".join(broken))
    text, figure = page.write(chosen, points)
    (DOCS / "_static").mkdir(exist_ok=True)
    (DOCS / "_static" / f"{given.name}.svg").write_text(figure, encoding="utf-8")
    (DOCS / "explanation" / f"{given.name}.md").write_text(text, encoding="utf-8")
    print(f"wrote docs/explanation/{given.name}.md and docs/_static/{given.name}.svg")


if __name__ == "__main__":
    main()
