"""Native engine: graphs run by ONNX Runtime's C API, and plain turns in C++."""
