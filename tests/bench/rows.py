"""One line of the benchmark's table, and the file that keeps them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measurement, beside a peer's where there is one.

    `ratio` says how many times smaller `value` is than `peer_value`: how many times faster. A goal limits either the
    ratio from below or the value from above. `note` says what a reader of the number must know, or why it is missing.
    """

    name: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio_at_least: float | None = None
    value_at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.peer_value / self.value if self.value and self.peer_value is not None else None

    @property
    def goal(self) -> str | None:
        if self.ratio_at_least is not None:
            return f"ratio >= {self.ratio_at_least:g}"
        return f"value <= {self.value_at_most:g}" if self.value_at_most is not None else None

    @property
    def met(self) -> bool | None:
        """None without a goal, or when what it speaks of could not be measured."""
        if self.ratio_at_least is not None:
            return self.ratio >= self.ratio_at_least if self.ratio is not None else None
        if self.value_at_most is not None and self.value is not None:
            return self.value <= self.value_at_most
        return None

    def record(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.met,
            "note": self.note,
        }


def keep(path: Path, rows: Iterable[Row], about: dict[str, object]) -> None:
    """Write the rows to `path`; rows of other names in it stay if they are of the same scale and machine."""
    records: dict[str, dict[str, object]] = {}
    if path.is_file():
        kept = json.loads(path.read_text())
        if all(kept.get(key) == about[key] for key in ("scale", "cpu")):
            records = {record["name"]: record for record in kept["rows"]}
    for row in rows:
        records[row.name] = row.record()
    text = json.dumps({**about, "rows": list(records.values())}, indent=2)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text + "\n")
    temporary.replace(path)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one line each, and a line below for a note."""
    head = ["", "value", "unit", "peer", "its value", "ratio", "goal", "met"]
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = []
    for line, row in zip(lines, [None, *rows], strict=True):
        cells = [
            cell.rjust(width) if i in (1, 4, 5) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
        if row is not None and row.note:
            text.append(f"    {row.note}")
    return "\n".join(text)


def _cells(row: Row) -> list[str]:
    numbers = [_number(number) for number in (row.value, row.peer_value, row.ratio)]
    met = {True: "yes", False: "NO", None: ""}[row.met]
    return [row.name, numbers[0], row.unit, row.peer or "", *numbers[1:], row.goal or "", met]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
