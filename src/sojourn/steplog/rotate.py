"""Numbered files in a folder, of which the oldest go when there are too many."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sojourn.errors import UserError
from sojourn.steplog.write import write_table

if TYPE_CHECKING:
    import pyarrow as pa


class NumberedFiles:
    """The files NAME-000001.parquet, NAME-000002.parquet, ... of a folder.

    Numbers go on from the highest one there, so that a new run keeps an older run's files until
    they are the oldest.

    Attributes:
        files_max: Files kept; older ones are deleted.
    """

    def __init__(self, folder: Path, name: str, files_max: int) -> None:
        self.folder = folder
        self.name = name
        self.files_max = files_max
        self._pattern = re.compile(re.escape(name) + r"-(\d{6,})\.parquet")

    def make_folder(self) -> None:
        """Make the folder if it is not there.

        Raises:
            UserError: If it cannot be made or is a file.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"step log: cannot make the folder {str(self.folder)!r}: "
                f"{error.strerror or error}; name one that can be written"
            ) from error

    def present(self) -> list[tuple[int, Path]]:
        """Return the files there, with their numbers, oldest first.

        Raises:
            OSError: If the folder cannot be listed.
        """
        found = []
        for path in self.folder.iterdir():
            match = self._pattern.fullmatch(path.name)
            if match:
                found.append((int(match[1]), path))
        return sorted(found)

    def write(self, table: pa.Table) -> Path:
        """Write a table to the next file and delete those that are too many.

        Raises:
            UserError, OSError: If it cannot be written, or an old one cannot be deleted.
        """
        before = self.present()
        number = before[-1][0] + 1 if before else 1
        path = self.folder / f"{self.name}-{number:06d}.parquet"
        write_table(path, table)
        for _, old in before[: max(0, len(before) + 1 - self.files_max)]:
            old.unlink(missing_ok=True)
        return path
