"""Says in words what is wrong with one row of a trace. Slow and thorough: only runs on a fault.

Each function returns None for a sound row, else the field, its value and what it must be.
"""

from typing import Any

Row = dict[str, Any]

_ID = "an integer in 0..18446744073709551615 or a string"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_id(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str) or (isinstance(value, int) and 0 <= value < 2**64)


def _id_fault(field: str, value: object, example: object) -> str | None:
    if not _is_id(value):
        return f"{field}: needs {_ID}, got {_shown(value)}"
    if isinstance(value, str) != isinstance(example, str):
        return f"{field}: integer and string ids are mixed, got {_shown(value)}"
    return None


def _time_fault(field: str, value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        return f"{field}: needs integer milliseconds, got {_shown(value)}"
    return None


def _items_of(row: Row) -> list[Any]:
    items = row.get("items", [row.get("item")])
    return items if isinstance(items, list) else []


def row_fault(row: Row, first: Row) -> str | None:
    """Fault of a request or event row; its ids must be of the kinds of the block's first row."""
    for field in ("t_ms", "user"):
        if field not in row:
            return f"field {field!r} is missing"
    if "items" not in row and "item" not in row:
        return "field 'items' (a list) or 'item' (one id) is missing"
    return (
        _time_fault("t_ms", row["t_ms"])
        or _id_fault("user", row["user"], first.get("user"))
        or _items_fault(row, first)
        or _clicked_fault(row)
        or _per_item_fault(row, "labels")
        or _per_item_fault(row, "features")
    )


def _items_fault(row: Row, first: Row) -> str | None:
    if "items" in row and not isinstance(row["items"], list):
        return f"items: needs a list of ids, got {_shown(row['items'])}"
    items, example = _items_of(row), _items_of(first)
    if not items:
        return "items: needs at least one id, got an empty list"
    kind = example[0] if example else items[0]
    for at, item in enumerate(items):
        field = f"items[{at}]" if "items" in row else "item"
        fault = _id_fault(field, item, kind)
        if fault is not None:
            return fault
        if item in items[:at]:
            return f"{field}: {_shown(item)} is there twice"
    return None


def _clicked_fault(row: Row) -> str | None:
    clicked = row.get("clicked")
    if clicked is None or ("item" in row and clicked in (0, 1)):
        return None
    if not isinstance(clicked, list):
        return f"clicked: needs a list of ids from items, got {_shown(clicked)}"
    for at, item in enumerate(clicked):
        if item not in _items_of(row):
            return f"clicked[{at}]: {_shown(item)} is not among the items"
    return None


def _per_item_fault(row: Row, member: str) -> str | None:
    columns = row.get(member, {})
    if not isinstance(columns, dict):
        return f"{member}: needs an object of lists, got {_shown(columns)}"
    count = len(_items_of(row))
    for name, values in columns.items():
        if not isinstance(values, list) or len(values) != count:
            return f"{member}.{name}: needs {count} numbers, one per item, got {_shown(values)}"
        for at, value in enumerate(values):
            if not isinstance(value, int | float | None):
                return f"{member}.{name}[{at}]: needs a number or null, got {_shown(value)}"
    return None


def otto_fault(row: Row, first: Row) -> str | None:
    """Fault of an OTTO session row."""
    for field in ("session", "events"):
        if field not in row:
            return f"field {field!r} is missing"
    fault = _id_fault("session", row["session"], first.get("session"))
    if fault is not None:
        return fault
    if not isinstance(row["events"], list) or not row["events"]:
        return f"events: needs a list of events, got {_shown(row['events'])}"
    for at, event in enumerate(row["events"]):
        fault = _otto_event_fault(f"events[{at}]", event)
        if fault is not None:
            return fault
    return None


def _otto_event_fault(field: str, event: Any) -> str | None:
    if not isinstance(event, dict):
        return f"{field}: needs an object, got {_shown(event)}"
    for name in ("aid", "ts", "type"):
        if name not in event:
            return f"{field}.{name} is missing"
    if event["type"] not in ("clicks", "carts", "orders"):
        return f"{field}.type: needs clicks, carts or orders, got {_shown(event['type'])}"
    return _id_fault(f"{field}.aid", event["aid"], 0) or _time_fault(f"{field}.ts", event["ts"])
