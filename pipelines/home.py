"""Where everything of one installation lives."""

import os
from pathlib import Path
from typing import NamedTuple

from teachers.errors import ConfigError


class Home(NamedTuple):
    """A folder with the store, models, training runs, datasets and logs."""

    root: Path

    @classmethod
    def find(cls) -> "Home":
        """`PRECEPTOR_HOME`, or `.preceptor` in the user's home folder.

        Raises:
            ConfigError: there is a file in its place.
        """
        root = Path(os.environ.get("PRECEPTOR_HOME") or Path.home() / ".preceptor").absolute()
        if root.exists() and not root.is_dir():
            raise ConfigError(
                f"{root} is no folder, and everything of an installation lies in one.",
                hint="Set PRECEPTOR_HOME to a folder; it is made if it is not there.",
            )
        return cls(root)

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
