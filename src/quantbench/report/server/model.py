"""The integer network of a run as an MLflow model, which ``mlflow.pyfunc.load_model`` loads.

It predicts with the exact program that the run stored: the native kernels where they are built, and
the simulation, which gives the same codes, where they are not. The model holds no pickled objects:
MLflow runs the code of :mod:`quantbench.report.server.served`, so quantbench must be installed
where it is loaded.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.pyfunc import PythonModel

from quantbench import __version__
from quantbench.integer.backends.base import Compiled, backend, compile  # noqa: A004 - its word
from quantbench.integer.store import load

PROGRAM = "program"  # name of the artifact

SERVED = Path(__file__).with_name("served.py")


class IntegerNetwork(PythonModel):  # type: ignore[misc]  # mlflow has no types here
    """Logits of images.

    Attributes:
        compiled: the program, once it was loaded.

    """

    compiled: Compiled | None = None

    def load_context(self, context: Any) -> None:
        """Read and check the program; raises BadInput for a damaged one."""
        program = load(Path(context.artifacts[PROGRAM]))
        name = "simulation" if backend("native").available() else "native"
        self.compiled = compile(program, name)

    # MLflow reads type hints as the signature, which is given when the model is saved
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """float32 logits (N, outputs) of float32 images (N, C, H, W)."""
        del context, params
        assert self.compiled is not None, "mlflow calls load_context first"
        return self.compiled(np.ascontiguousarray(model_input, np.float32))


def save(program: Path, folder: Path) -> None:
    """Write the model into a new folder, as MLflow has models."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    images = TensorSpec(np.dtype(np.float32), (-1, *load(program).shape))
    logits = TensorSpec(np.dtype(np.float32), (-1, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to those who write models by hand
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(SERVED),
            artifacts={PROGRAM: str(program)},
            signature=ModelSignature(Schema([images]), Schema([logits])),
            pip_requirements=[f"quantbench=={__version__}"],
        )
