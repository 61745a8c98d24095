"""Rows of a data set on the hub, streamed at one commit."""

from __future__ import annotations

from pathlib import Path

from lib.data.readers import Rows, check_columns
from lib.data.registry import Source
from lib.errors import UserError
from lib.files import read_commits, write_json


def read(source: Source, split: str, commits: Path) -> Rows:
    """Stream one split of a data set.

    Args:
        commits: see `commit`.
    Yields:
        place ("HUB_ID split SPLIT, row 1") and row, with values as the hub gives them.
    Raises:
        UserError: the hub cannot be reached or cannot give the data set, or a column is missing.
    """
    from datasets import load_dataset  # slow to import, and only needed with a hub

    place = f"{source.hub_id} split {split}"
    try:
        options = {"split": split, "revision": commit(source, commits), "streaming": True}
        for number, row in enumerate(load_dataset(source.hub_id, source.config, **options), 1):
            if number == 1:
                check_columns(place, source.columns, list(row))
            yield f"{place}, row {number}", row
    except UserError:
        raise
    except Exception as error:  # the libraries below raise dozens of kinds
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        raise UserError(
            f"cannot read {place} from the hub ({type(error).__name__}: {reason}). Check the "
            "network and HF_HUB_OFFLINE, use local files (sources: [local]), or remove the source "
            "from 01_gold_data.sources"
        ) from error


def commit(source: Source, commits: Path) -> str:
    """The pinned revision of a data set, or the newest commit when it was first asked for.

    Args:
        commits: JSON file of those asked for, hub id -> commit: all splits are read at one commit,
            also after an interruption.
    Raises:
        UserError: that file is damaged.
    """
    if source.revision:
        return source.revision
    known = read_commits(commits)
    if source.hub_id not in known:
        from huggingface_hub import HfApi

        known[source.hub_id] = HfApi().dataset_info(source.hub_id, timeout=30).sha
        write_json(commits, known)
    return known[source.hub_id]
