"""Rows of a data set on the hub, streamed at its pinned revision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lib.errors import SourceUnavailable
from lib.readers import Rows, check_columns


def read(
    hub_id: str, config: str | None, split: str, revision: str | None, needed: Sequence[str]
) -> Rows:
    """Stream one split of a data set.

    Args:
        needed: columns that must be there.
    Yields:
        place ("HUB_ID split SPLIT, row 1") and row, with values as the hub gives them.
    Raises:
        SourceUnavailable: the hub cannot be reached, or it cannot give the data set.
        UserError: a column is missing.
    """
    place = f"{hub_id} split {split}"
    for number, row in enumerate(_stream(hub_id, config, split, revision), 1):
        if number == 1:
            check_columns(place, needed, (), list(row))
        yield f"{place}, row {number}", row


def _stream(
    hub_id: str, config: str | None, split: str, revision: str | None
) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset  # slow to import, and only needed with a hub

    try:
        yield from load_dataset(hub_id, config, split=split, revision=revision, streaming=True)
    except Exception as error:  # the libraries below raise dozens of kinds
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        raise SourceUnavailable(
            f"cannot read {hub_id} (split {split}) from the hub ({type(error).__name__}: {reason})."
            " Check the network and HF_HUB_OFFLINE, use local files (sources: [local]), remove the "
            "source from 01_gold_data.sources, or set skip_unavailable to true"
        ) from error
