-- KEYS[1], the circuit breaker's hash: failures; while it is open, opened_at, interval_s and probe_at.
-- KEYS[2], the places for submits: a sorted set of job ids, scored by when a place is free again at the latest.
-- ARGV: 'take', limit, id, timeout_s          Reply: 1 if it has a place. Run twice, it has the same.
-- ARGV: 'free', id                            Reply: 1 if it had one
-- ARGV: 'taken'                               Reply: how many places are taken
-- ARGV: 'admit', requests, interval_max_s     Reply: {admitted, wait_s, failures so far}
-- ARGV: 'report', good, bad, threshold, interval_min_s, asked_at ('' for now)    Reply: 'opened', 'closed' or ''
-- Run twice: a probe may be admitted and lost, the next one comes an interval later; failures may be counted double.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

if ARGV[1] == 'free' then return redis.call('ZREM', KEYS[2], ARGV[2]) end
if ARGV[1] == 'take' or ARGV[1] == 'taken' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  local taken = redis.call('ZCARD', KEYS[2])
  if ARGV[1] == 'taken' then return taken end
  if taken >= tonumber(ARGV[2]) and not redis.call('ZSCORE', KEYS[2], ARGV[3]) then return 0 end
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), ARGV[3])
  redis.call('EXPIRE', KEYS[2], 3600)
  return 1
end

local state = redis.call('HMGET', KEYS[1], 'failures', 'interval_s', 'probe_at', 'opened_at')
local failures, interval_s = tonumber(state[1]) or 0, tonumber(state[2]) or 0
local probe_at = tonumber(state[3])
local function next_probe(after_s)
  redis.call('HSET', KEYS[1], 'interval_s', tostring(after_s), 'probe_at', string.format('%.3f', now + after_s))
end

if ARGV[1] == 'admit' then
  if not probe_at then return {ARGV[2], '0', failures} end
  -- further ahead than that was never set: the clock has jumped back
  if now < probe_at and probe_at - now <= interval_s + 1 then return {'0', tostring(probe_at - now), failures} end
  -- before its answer is known: where requests hang, that may take longer than the interval
  interval_s = math.min(interval_s * 2, tonumber(ARGV[3]))
  next_probe(interval_s)
  return {'1', tostring(interval_s), failures}
end

local good, bad = tonumber(ARGV[2]), tonumber(ARGV[3])
-- what was asked before it opened says nothing new, neither way; and that a probe fails was to be expected
if good > 0 and (tonumber(ARGV[6]) or now) >= (tonumber(state[4]) or 0) then
  redis.call('DEL', KEYS[1])
  return probe_at and 'closed' or ''
end
if not probe_at then redis.call('HINCRBY', KEYS[1], 'failures', bad) end
redis.call('EXPIRE', KEYS[1], 3600)
if probe_at or failures + bad < tonumber(ARGV[4]) then return '' end
redis.call('HSET', KEYS[1], 'opened_at', string.format('%.3f', now))
next_probe(tonumber(ARGV[5]))
return 'opened'
