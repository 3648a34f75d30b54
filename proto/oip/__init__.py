"""The Open Inference Protocol's messages.

They live in a descriptor pool of their own, since tritonclient has messages of the same names, and one may want both in
one process.
"""
