# pyright: basic
# (`datasets` is optional and has no type stubs)
"""Data sets of the Hugging Face hub, through the optional `datasets` library."""

from __future__ import annotations

from collections.abc import Iterator

from accord.data.rows import RawRow
from accord.errors import DataError


def read_hub(hub_id: str, split: str) -> Iterator[RawRow]:
    """Yield the rows of a data set on the hub.

    Args:
        hub_id: "owner/name".
        split: its split; "" when it has only one.

    Raises:
        DataError: `datasets` is not installed, unknown name, no network, or several splits and none named.
    """
    try:
        import datasets
        import httpx
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError(
            f"there is no file '{hub_id}', and reading from the hub needs the `datasets` library",
            where=hub_id,
            fix="pip install 'accord-rlhf[hub]', or download the data and give its path",
        ) from error
    try:
        loaded = datasets.load_dataset(hub_id, split=split or None)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError, DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot load '{hub_id}' from the Hugging Face hub: {reason[:200]}",
            where=hub_id,
            fix="check the name and the network, or download the data and give its path",
        ) from error
    if isinstance(loaded, dict):  # DatasetDict: no split was asked for
        names = sorted(map(str, loaded))
        if len(names) != 1:
            raise DataError(
                f"'{hub_id}' has {len(names)} splits: {', '.join(names)}",
                where=hub_id,
                fix=f"write {hub_id}:{'train' if 'train' in names else names[0]}",
            )
        loaded = loaded[names[0]]
    for number, row in enumerate(loaded, 1):
        yield RawRow(f"{hub_id}:{number}", dict(row))
