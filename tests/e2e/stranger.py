"""A program that has never heard of this project: it runs a model's ONNX file on images, with two packages."""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = np.asarray(json.load(sys.stdin), dtype=np.float32)  # [N, C, H, W], 0 to 1
(goodness,) = session.run(["goodness"], {"images": images})
assert not any(name.split(".")[0] in {"intff", "torch", "service", "store"} for name in sys.modules)
json.dump(goodness.tolist(), sys.stdout)
