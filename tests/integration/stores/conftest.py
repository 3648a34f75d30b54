"""What the tests of stores need."""

from tests.support.redis_server import redis_cluster, redis_server, sentinels

__all__ = ["redis_cluster", "redis_server", "sentinels"]
