"""Small files of `torch.save` in both layouts: torch-zip.pth and torch-legacy.pth."""
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

tensors = OrderedDict()
tensors["transposed"] = torch.arange(6, dtype=torch.float32).reshape(2, 3).t()
tensors["part"] = torch.arange(10, dtype=torch.float32)[4:7]
tensors["parameter"] = torch.nn.Parameter(torch.tensor([[0.5, -0.25]]))
tensors["scalar"] = torch.tensor(7.0)
tensors["numpy"] = np.array([[1.5, 2.5], [3.5, -128.0]], dtype="f4")
tensors["numpy64"] = np.array([0.1, 0.2])
here = Path(__file__).parent
torch.save(tensors, here / "torch-zip.pth")
torch.save(tensors, here / "torch-legacy.pth", _use_new_zipfile_serialization=False)
