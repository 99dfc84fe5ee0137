"""What is done inside Redis, whole or not at all: entries and markers that give way to newer ones, and states.

The layout of entries and states is that of `resolver.shelves`. Lua counts in doubles, which are exact up to 2^53.
Scripts are sent as they are: a server that was started anew, or has taken over, needs no preparation.
"""

from typing import Final

_READING: Final = b"""
local function number(octets, at) return (struct.unpack('>I8', octets, at)) end
local state = redis.call('GET', KEYS[1])
"""

_KEEPING: Final = b"""
local era = string.sub(state or '', 1, 4)
local function keep(name, value, life)
  local held = redis.call('GETRANGE', name, 0, 20)
  if held ~= '' and string.sub(held, 2, 5) == era then
    local was, is = number(held, 6), number(value, 6)
    local waits = string.byte(held) == 3 and string.byte(value) ~= 3
    if is < was or (is == was and not waits and number(value, 14) <= number(held, 14)) then return 0 end
    life = math.max(life, redis.call('PTTL', name))
  end
  redis.call('SET', name, value, 'PX', life)
  return 1
end
"""
"""What takes the place of a marker lives as long as the marker would have: by its version it is one too."""

FILL: Final = (
    _READING
    + _KEEPING
    + b"""
local kept = 0
if not state then return kept end
for i = 2, #KEYS do
  local value, life = ARGV[2 * i - 3], tonumber(ARGV[2 * i - 2])
  if string.sub(value, 2, 5) == era and number(value, 14) >= number(state, 5) then
    kept = kept + keep(KEYS[i], value, life)
  end
end
return kept
"""
)
"""Keeps entries (names behind the state's; for each its value and its life in milliseconds) and counts them."""

MARK: Final = (
    _READING
    + _KEEPING
    + b"""
if not state or number(state, 21) < number(ARGV[1], 1) then return 0 end
for i = 2, #KEYS do
  local index = ARGV[i + 1]
  keep(KEYS[i], string.char(3) .. era .. index .. index, tonumber(ARGV[2]))
end
return 1
"""
)
"""Leaves markers (names behind the state's; from where on, how long, then each one's index) if nothing is missing."""

RAISE: Final = (
    _READING
    + b"""
if not state then return -1 end
local below, after, upto = ARGV[1], ARGV[2], ARGV[3]
local marked = number(state, 21)
if marked < number(after, 1) then return marked end
if number(below, 1) < number(state, 13) then below = string.sub(state, 13, 20) end
if number(upto, 1) < marked then upto = string.sub(state, 21, 28) end
local new = string.sub(state, 1, 12) .. below .. upto
if new ~= state then redis.call('SET', KEYS[1], new) end
return number(upto, 1)
"""
)
"""Raises a state to the newest unnamed change and to the index up to which all are marked; gives that index."""
