"""Where jobs live between the moments somebody works on them."""

from tasks_bridge.store.base import Claim, Entry, Lease, Phase, Purpose, Registered, Store
from tasks_bridge.store.redis import RedisStore

__all__ = ["Claim", "Entry", "Lease", "Phase", "Purpose", "RedisStore", "Registered", "Store"]
