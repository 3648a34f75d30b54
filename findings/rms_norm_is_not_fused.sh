#!/bin/sh
# onnxruntime 1.32.0 runs torch 2.13.0's exported nn.RMSNorm as seven operators; written with a division it runs as one.
#
# torch.onnx has no operator for the norm below opset 23, and writes it as Pow, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul.
# onnxruntime's fusion looks for Sqrt, Div, Mul, so that it leaves these as they are, and makes one SimplifiedLayerNormalization
# of x / sqrt(mean(x²) + ε) · w. At batch 1, where a step costs the number of its operators, this is worth writing by hand.
#
# Seen with Python 3.11, torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0:
#     opset 20 nn.RMSNorm  Pow ReduceMean Add Sqrt Reciprocal Mul Mul
#     opset 20 by hand  SimplifiedLayerNormalization
#     opset 23 nn.RMSNorm  RMSNormalization
# Fails if onnxruntime runs another number of operators.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy 2>/dev/null

cat >"$folder/norms.py" <<'END'
import sys

import onnx
import onnxruntime
import torch


class ByHand(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(32))

    def forward(self, x):
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def run(norm, opset):
    """Operators that onnxruntime makes of an exported norm."""
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, 32))
    program = torch.onnx.export(norm.eval(), (torch.randn(2, 4, 32),), dynamo=True, opset_version=opset, verbose=False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = sys.argv[1], 3
    onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(sys.argv[1]).graph.node]


found = {
    "opset 20 nn.RMSNorm": run(torch.nn.RMSNorm(32, eps=1e-5), 20),
    "opset 20 by hand": run(ByHand(), 20),
    "opset 23 nn.RMSNorm": run(torch.nn.RMSNorm(32, eps=1e-5), 23),
}
for name, operators in found.items():
    print(f"{name}  {' '.join(operators)}")
assert [len(operators) for operators in found.values()] == [7, 1, 1], found
END
"$folder/venv/bin/python" -W ignore "$folder/norms.py" "$folder/run.onnx"
echo "as described"
