"""The part of an ONNX file that a server looks at, so that it needs no package `onnx`.

It lives in a descriptor pool of its own, since that package has messages of the same names.
"""
