import os
from typing import Any, Literal, Optional, Sequence, Tuple, Union

import pyarrow as pa
import ray.data

from . import Comparison

_Path = Union[str, os.PathLike[str]]

SCHEMA: pa.Schema

def device() -> Optional[int]: ...
def predict(
    paths: Union[Sequence[_Path], ray.data.Dataset],
    run: Union[_Path, Sequence[_Path], None] = ...,
    *,
    num_gpus: float = ...,
    concurrency: Union[int, Tuple[int, int]] = ...,
    out: Optional[str] = ...,
    format: Literal["parquet", "jsonl"] = ...,
    batch_size: int = ...,
    **options: Any,
) -> ray.data.Dataset: ...
def compare(
    experiment: _Path,
    dataset: _Path,
    *,
    seeds: Union[int, Sequence[int], None] = ...,
    seed_block: Optional[int] = ...,
    out: Optional[_Path] = ...,
    force: bool = ...,
    num_gpus: float = ...,
    **options: Any,
) -> Comparison: ...
