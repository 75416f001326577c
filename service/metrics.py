"""Figures for Prometheus, read from the store when it asks for them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipelines.home import Home
from pipelines.store import checkpoints, figures
from pipelines.store.connection import connect

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposed(home: Home) -> bytes:
    """All figures of a home, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Figures(home))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, home: Home) -> None:
        self._home = home

    def describe(self) -> list[Metric]:
        return []  # or it would be collected once more

    def collect(self) -> Iterator[Metric]:
        with closing(connect(self._home.store)) as db:
            for table in figures.WITH_STATES:
                name = table.replace("_", " ")
                yield _by("state", table, f"{name} by their state", figures.states(db, table))
            stored = {table: figures.rows(db, table) for table in figures.COUNTED}
            yield _by("kind", "stored", "what is stored", stored)
            read, written = figures.tokens(db)
            asked = {"read": read, "written": written}
            yield _by("direction", "tokens", "tokens of models that were asked", asked)
            answered = figures.exchanges(db)
            yield _by("status", "exchanges", "of the last 30 days with students", answered)
            read, written = figures.served(db)
            served = {"read": read, "written": written}
            yield _by("direction", "served_tokens", "of those exchanges", served)
            yield _by("decision", "gates", "gates' decisions", figures.decisions(db))
            newest = figures.training(db)
            yield _by("metric", "training", "the newest training run's last figures", newest)
            champion = checkpoints.champion_id(db) or "base"
        yield _by("checkpoint", "champion", "what `champion` stands for", {champion: 1})
        yield _by("kind", "bytes", "of the store, and free on its disk", self._space())

    def _space(self) -> dict[str, float]:
        store = self._home.store
        return {"store": store.stat().st_size, "disk_free": shutil.disk_usage(store.parent).free}


def _by(label: str, name: str, about: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"preceptor_{name}", about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
