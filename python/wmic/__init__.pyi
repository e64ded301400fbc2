import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Literal, Optional, Sequence, Tuple, Union, overload

import numpy as np
import pandas
from numpy.typing import NDArray

_Path = Union[str, os.PathLike[str]]
_Progress = Union[bool, None, Callable[[str, int, int, Any], object]]
_Threshold = Union[float, str, None]
_Arithmetic = Optional[Literal["f32", "f16"]]
_Scale = Optional[Literal["unit", "byte"]]
_Samples = Tuple[NDArray[np.floating[Any]], int]

__version__: str

class DeviceError(OSError): ...

@dataclass(frozen=True, eq=False)
class Result:
    file: str
    duration: float
    classes: List[str]
    probabilities: NDArray[np.float64]
    spread: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    present: NDArray[np.bool_]
    segments: NDArray[np.void]
    timeline: NDArray[np.float32]
    attention: Optional[NDArray[np.float32]]
    cell: float
    model: str
    seeds: List[int]
    warnings: List[str]
    distance: Optional[float]
    summary: str
    def to_json(self) -> str: ...
    def to_jams(self) -> str: ...
    def to_dataframe(self) -> pandas.DataFrame: ...

class Model:
    name: str
    classes: List[str]
    device: str
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, recordings: Union[_Path, _Samples], *, on_error: str = ..., progress: _Progress = ...
    ) -> Result: ...
    @overload
    def predict(
        self, recordings: Sequence[_Path], *, on_error: Literal["raise"] = ..., progress: _Progress = ...
    ) -> List[Result]: ...
    @overload
    def predict(
        self, recordings: Sequence[_Path], *, on_error: Literal["skip"], progress: _Progress = ...
    ) -> List[Optional[Result]]: ...
    def predict_features(
        self, features: Union[_Path, NDArray[Any]], *, feature_scale: _Scale = ...
    ) -> List[Result]: ...
    def embed(self, recording: _Path) -> NDArray[np.float32]: ...

@dataclass(frozen=True)
class Run:
    path: str
    evaluation: Dict[str, Any]
    def load(self, device: Union[int, str, None] = ..., **options: Any) -> Model: ...

def load(
    run: Union[_Path, Sequence[_Path], None] = ...,
    device: Union[int, str, None] = ...,
    *,
    frontend: Optional[Literal["auto", "musicnn", "yamnet", "vggish"]] = ...,
    frontend_weights: Optional[_Path] = ...,
    width: Union[int, str, None] = ...,
    pca: Optional[_Path] = ...,
    threshold: _Threshold = ...,
    precision: Optional[float] = ...,
    arithmetic: _Arithmetic = ...,
    calibrate: bool = ...,
    hop: Optional[float] = ...,
    aggregate: Optional[Literal["power", "mean", "max", "attention"]] = ...,
    gate: Optional[float] = ...,
    keep_unreliable: bool = ...,
    min_duration: Optional[float] = ...,
    median: Optional[float] = ...,
) -> Model: ...
def train(
    dataset: Optional[_Path] = ...,
    model: Optional[str] = ...,
    seeds: Union[int, Sequence[int], None] = ...,
    *,
    out: Optional[_Path] = ...,
    force: bool = ...,
    config: Optional[_Path] = ...,
    resume: Optional[_Path] = ...,
    device: Union[int, str, None] = ...,
    progress: _Progress = ...,
    **options: Any,
) -> Run: ...
def evaluate(
    run: Union[_Path, Run],
    dataset: _Path,
    split: Literal["test", "val", "train", "all"] = ...,
    *,
    threshold: _Threshold = ...,
    arithmetic: _Arithmetic = ...,
    force: bool = ...,
    features: Optional[_Path] = ...,
    feature_scale: _Scale = ...,
    frontend_weights: Optional[_Path] = ...,
    device: Union[int, str, None] = ...,
    progress: _Progress = ...,
) -> Dict[str, Any]: ...
@dataclass(frozen=True)
class Comparison:
    path: str
    comparison: Optional[Dict[str, Any]]
    skipped: List[str]

def compare(
    experiment: _Path,
    dataset: _Path,
    *,
    seeds: Union[int, Sequence[int], None] = ...,
    out: Optional[_Path] = ...,
    force: bool = ...,
    device: Union[int, str, None] = ...,
    progress: _Progress = ...,
    **options: Any,
) -> Comparison: ...
def options() -> List[Dict[str, Any]]: ...
def devices() -> List[Dict[str, Any]]: ...
def check(
    op: Optional[str] = ..., device: Union[int, str, None] = ..., *, progress: _Progress = ...
) -> List[Dict[str, Any]]: ...
