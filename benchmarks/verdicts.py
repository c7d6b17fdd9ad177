"""Several runs joined into rows, and the targets computed from them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.grid import GRID
from benchmarks.records import (
    NOT_RIVALS,
    OURS,
    Record,
    best_rival,
    least_milliseconds,
    limit_of,
    milliseconds,
    ours,
    row_cost,
    share_of_limit,
    speed_up,
)
from benchmarks.targets import Bounds, Target

Figure = Callable[[Record, dict[str, Any]], "float | None"]


@dataclass(frozen=True)
class Row:
    """The same case, mode and thread count in every run that has it: (record, its run) pairs."""

    pairs: tuple[tuple[Record, dict[str, Any]], ...]

    @property
    def record(self) -> Record:
        """What describes the case: the first run's record."""
        return self.pairs[0][0]

    @property
    def quiet(self) -> bool:
        """Whether at least one run measured it undisturbed."""
        return any(record.get("quiet", True) for record, _ in self.pairs)

    def with_most_rivals(self) -> Row:
        """The runs that timed the most other libraries."""
        counts = [sum(name not in NOT_RIVALS for name in record.get("spreads", ())) for record, _ in self.pairs]
        return Row(tuple(pair for pair, n in zip(self.pairs, counts, strict=True) if n == max(counts)))

    def values(self, figure: Figure) -> list[float]:
        """The figure in each run that was undisturbed, or in all of them where none was."""
        chosen = [pair for pair in self.pairs if pair[0].get("quiet", True)] or self.pairs
        found = (figure(record, run) for record, run in chosen)
        return [value for value in found if value is not None]

    def median(self, figure: Figure) -> float | None:
        values = self.values(figure)
        return statistics.median(values) if values else None

    def spread(self, figure: Figure) -> float:
        """Largest less smallest value of the runs, as a share of their median."""
        values = self.values(figure)
        return (max(values) - min(values)) / abs(statistics.median(values)) if values else 0.0


def rows_of(runs: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of all runs, in the order of the first that has them; those of memory have the group "memory"."""
    joined: dict[tuple[Any, ...], list[tuple[Record, dict[str, Any]]]] = {}
    for run in runs:
        memory = ({**record, "group": "memory"} for record in run.get("memory", []))
        for record in (*run["records"], *memory):
            key = (record["threads"], record["mode"], record["key"])
            joined.setdefault(key, []).append((record, run))
    return [Row(tuple(pairs)) for pairs in joined.values()]


# ---- figures of one record; None where it does not have what they need


def over(peer: str, mine: str = OURS) -> Figure:
    def figure(record: Record, run: dict[str, Any]) -> float | None:
        spreads = record["spreads"]
        return milliseconds(record, peer) / milliseconds(record, mine) if peer in spreads and mine in spreads else None

    return figure


def over_best_peer(record: Record, run: dict[str, Any]) -> float | None:
    """None where torch.nn is the only other library: that says nothing of the best of all."""
    rival, others = best_rival(record), {*record["spreads"]} - {*NOT_RIVALS, "torch"}
    return None if rival is None or OURS not in record["spreads"] or not others else speed_up(record, rival)


def percent_of_limit(record: Record, run: dict[str, Any]) -> float | None:
    share = share_of_limit(record, run["limits"]) if OURS in record["spreads"] else None
    return None if share is None else 100 * share


def percent_of_peak(record: Record, run: dict[str, Any]) -> float | None:
    bound = limit_of(record, run["limits"])
    return percent_of_limit(record, run) if bound and bound[0] == "FMA" else None


def error_ratio(record: Record, run: dict[str, Any]) -> float | None:
    errors = record.get("errors", {})
    return errors[OURS] / errors["torch"] if OURS in errors and errors.get("torch") else None


def memory_ratio(record: Record, run: dict[str, Any]) -> float | None:
    return record["mib"][OURS] / record["mib"]["torch"] if record["mib"].get("torch") else None


def scaling(record: Record, run: dict[str, Any]) -> float | None:
    """Percent of the multiply-adds' own speed-up by the second thread that our call has."""
    probe = run["limits"].get("probe", {})
    one = next(
        (r for r in run["records"] if (r["key"], r["mode"], r["threads"]) == (record["key"], record["mode"], 1)), 0
    )
    if not one or "1" not in probe or str(record["threads"]) not in probe:
        return None
    ideal = probe[str(record["threads"])]["fma fp32 GF/s"] / probe["1"]["fma fp32 GF/s"]
    return 100 * milliseconds(one, OURS) / milliseconds(record, OURS) / ideal


def most_over(peer: str) -> Figure:
    """The speed-up over the peer of a call that takes the least time that the machine's limits allow. None where we
    take less than that: a part of the weights stays in a nearer cache then, and the farther one's rate is no limit."""

    def figure(record: Record, run: dict[str, Any]) -> float | None:
        least = least_milliseconds(record, run["limits"])
        if not least or peer not in record["spreads"] or least > milliseconds(record, ours(record)):
            return None
        return milliseconds(record, peer) / least

    return figure


VALUES: Mapping[str, Figure] = {
    "over torch": over("torch"),
    "over onednn": over("onednn"),
    "over best peer": over_best_peer,
    "over companion": over("companion"),
    "over torch in AVX2": over("torch-avx2", "fastrnn-avx2"),
    "microseconds": lambda record, run: 1e3 * milliseconds(record, OURS),
    "percent of limit": percent_of_limit,
    "percent of peak": percent_of_peak,
    "error ratio": error_ratio,
    "row cost": lambda record, run: row_cost(record) if "companion" in record["spreads"] else None,
    "memory ratio": memory_ratio,
    "scaling": scaling,
}

CEILINGS: Mapping[str, Figure] = {
    "over torch": most_over("torch"),
    "over onednn": most_over("onednn"),
    "over torch in AVX2": most_over("torch-avx2"),
}
"""What no code could exceed on the machine, for the values that have such a bound."""


# ---- verdicts


@dataclass(frozen=True)
class Check:
    """One bound and what was measured. `name` is the row's, `spread` that between the runs, `ceiling` the most that the
    machine's limits allow."""

    cell: str
    name: str
    value: float
    bound: float
    met: bool
    spread: float
    ceiling: float | None = None

    @property
    def beyond(self) -> bool:
        """Whether the bound is more than the machine can do."""
        return self.ceiling is not None and self.ceiling < self.bound

    def margin(self, at_most: bool) -> float:
        """Value over bound, or bound over value: below 1 where the bound is not met."""
        return self.bound / max(self.value, 1e-12) if at_most else self.value / self.bound


@dataclass(frozen=True)
class Verdict:
    """`missing` counts the cases of the grid that no run has measured undisturbed."""

    target: Target
    checks: tuple[Check, ...]
    missing: int = 0

    @property
    def met(self) -> bool | None:
        """None where nothing was measured."""
        return all(check.met for check in self.checks) if self.checks else None

    @property
    def worst(self) -> Check | None:
        return min(self.checks, key=lambda check: check.margin(self.target.at_most), default=None)


def bound_of(bounds: Bounds, cell: str, name: str) -> float | None:
    of_cell = bounds.get(cell, {})
    return of_cell.get(name, of_cell.get("*"))


def _takes(target: Target, record: Record) -> bool:
    fits = (record["mode"], record["threads"]) == (target.mode, target.threads) and record["group"] in target.groups
    # a field that is not recorded is one that the case does not have
    return fits and all(record.get(name, False) == value for name, value in target.only.items())


def _expected(target: Target) -> set[str]:
    """Keys of the grid's cases that the target is about."""
    keys = set()
    for case in GRID:
        fields = {"ragged": case.ragged is not None, "unrolled": case.unrolled}
        fits = case.group in target.groups and target.mode in case.modes
        if fits and all(fields[name] == value for name, value in target.only.items()):
            keys |= {case.key} if bound_of(target.bounds, case.cell, case.name) is not None else set()
    return keys


def _mean(
    values: Sequence[float], spreads: Sequence[float], ceilings: Sequence[float | None]
) -> tuple[float, float, float | None]:
    known = [c for c in ceilings if c is not None]
    most = statistics.geometric_mean(known) if len(known) == len(values) else None
    return statistics.geometric_mean(values), max(spreads), most


def judge(target: Target, rows: Iterable[Row]) -> Verdict:
    """The target's checks, from rows that were undisturbed in at least one run."""
    figure = VALUES[target.value]
    ceiling = CEILINGS.get(target.value, lambda record, run: None)
    found: list[tuple[str, str, float, float, float | None]] = []  # cell, case, value, spread, ceiling
    missing = _expected(target)
    for given in rows:
        row = given.with_most_rivals() if target.value == "over best peer" else given
        record = row.record
        if not row.quiet or not _takes(target, record):
            continue
        missing.discard(record["key"])
        if (value := row.median(figure)) is not None:
            name = record["key"].partition("/")[2]
            found.append((record["cell"], name, value, row.spread(figure), row.median(ceiling)))
    if target.mean:
        cells = {cell: [rest for c, _, *rest in found if c == cell] for cell, *_ in found}
        found = [(cell, cell, *_mean(*zip(*values, strict=True))) for cell, values in cells.items()]
    checks = []
    for cell, name, value, spread, most in found:
        bound = bound_of(target.bounds, cell, name.partition("/")[0])
        if bound is not None:
            met = value <= bound if target.at_most else value >= bound
            checks.append(Check(cell, name, value, bound, met, spread, most))
    return Verdict(target, tuple(checks), len(missing))
