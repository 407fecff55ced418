"""Found through PYTHONPATH by every process of a fault test: adds the method beside it."""

from pathlib import Path

import segpipe.methods

segpipe.methods.__path__.append(str(Path(__file__).parent / "methods"))
