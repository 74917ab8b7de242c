"""Serves the same `model.onnx` with LitServe, following its documentation.

Run with `python litserve_server.py MODEL PORT MAX_BATCH_SIZE` in a separate environment that has
LitServe; it shares only the model file with this project.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Scorer(litserve.LitAPI):  # type: ignore[misc]  # not installed where this is checked
    """Takes an image as JSON and returns its goodness, with the same fields as this project's route."""

    def setup(self, device: str) -> None:
        """Load the model as the service does."""
        del device
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.labels = [str(label) for label in range(10)]

    # LitServe inspects this method's annotations; there are none, as in its documentation.
    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Read one image, [1, 28, 28]."""
        return np.array(request["images"], np.float32).reshape(1, 28, 28) / np.float32(255)

    def predict(self, x: Any) -> Any:  # noqa: ANN401 -- LitServe's own shapes
        """Score one image, or a batch stacked by LitServe."""
        if x.ndim == 3:  # noqa: PLR2004 -- channels, rows, columns
            return [output[0] for output in self.session.run(None, {"images": x[np.newaxis]})]
        return list(zip(*self.session.run(None, {"images": x}), strict=True))

    def unbatch(self, output: Any) -> Any:  # noqa: ANN401 -- LitServe's own shapes
        """Return the outputs, which are already grouped by image."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:  # noqa: ANN401 -- LitServe's own shapes
        """Build the response."""
        goodness, unit_goodness, probability = output
        second, best = np.partition(goodness, -2)[-2:]
        prediction = {
            "label": self.labels[int(goodness.argmax())],
            "goodness": goodness.tolist(),
            "probability_positive": probability.tolist(),
            "margin": float(best - second),
            "unit_goodness": unit_goodness.tolist(),
        }
        return {"model": "mdl", "labels": self.labels, "predictions": [prediction]}


if __name__ == "__main__":
    most = int(sys.argv[3])
    api = Scorer(max_batch_size=most, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
