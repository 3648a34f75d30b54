"""Models: what a bundle is, and how one is trained and exported.

`spec` and `bundle` are all that a server needs and never import torch; everything else here does.
"""
