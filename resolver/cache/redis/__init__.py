"""The cache that resolvers share: Redis. `RedisCache` is what others use.

settings     what can be set
cache        what is done with Redis
layout       names, shelves and commands;  scripts: what is done inside Redis
servers      which server holds which shelf;  line: the way to one of them;  connecting: TLS, login, finding them
border       what goes wrong, as kinds, metrics and lines in the log
hearing      indexes that whoever marks changes tells
"""

from resolver.cache.redis.cache import RedisCache
from resolver.cache.redis.settings import RedisSettings

__all__ = ["RedisCache", "RedisSettings"]
