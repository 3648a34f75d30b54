"""Models: the bundle format, and training and export of bundles.

A server needs only `spec` and `bundle`, which never import torch.
"""
