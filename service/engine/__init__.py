"""Inference engine: runs a bundle's graphs with ONNX Runtime."""
