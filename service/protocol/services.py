"""Full names of the server's gRPC services."""

from __future__ import annotations

INFERENCE = "statestream.v1.Inference"
ADMIN = "statestream.v1.Admin"
OIP = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
STREAM = f"/{INFERENCE}/Stream"
"""Method that streams rows."""
