"""Networks are tested where their extra is installed, on few threads."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need pip install 'segpipe[nets]'")
torch.set_num_threads(2)
