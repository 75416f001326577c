"""Where everything of one installation lives."""

import os
from pathlib import Path
from typing import NamedTuple


class Home(NamedTuple):
    """A folder with the store, models, training runs, datasets and logs."""

    root: Path

    @classmethod
    def find(cls) -> "Home":
        """`PRECEPTOR_HOME`, or `.preceptor` in the user's home folder."""
        return cls(Path(os.environ.get("PRECEPTOR_HOME") or Path.home() / ".preceptor").absolute())

    @property
    def store(self) -> Path:
        return self.root / "store.db"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        return self.root / "logs"
