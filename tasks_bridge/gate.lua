-- KEYS[1], the circuit breaker's hash: failures, interval_s, probe_at (only while open), probing.
-- KEYS[2], the places for submits: a sorted set of job ids, scored by when a place is free again at the latest.
-- ARGV: 'take', limit, id, timeout_s          Reply: 1 if it has a place. Run twice, it has the same.
-- ARGV: 'free', id                            Reply: 1 if it had one
-- ARGV: 'taken'                               Reply: how many places are taken
-- ARGV: 'admit', requests, _, _, _            Reply: {admitted, wait_s, failures so far}
-- ARGV: 'report', good, bad, threshold, interval_min_s, interval_max_s    Reply: 'opened', 'closed' or ''
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

local state = redis.call('HMGET', KEYS[1], 'failures', 'interval_s', 'probe_at', 'probing')
local failures, interval_s = tonumber(state[1]) or 0, tonumber(state[2]) or 0
local probe_at = tonumber(state[3])

if ARGV[1] == 'admit' then
  if not probe_at then return {ARGV[2], '0', failures} end
  if now < probe_at then return {'0', tostring(probe_at - now), failures} end
  redis.call('HSET', KEYS[1], 'probe_at', string.format('%.3f', now + interval_s), 'probing', 1)
  return {'1', tostring(interval_s), failures}
end

local good, bad = tonumber(ARGV[2]), tonumber(ARGV[3])
if good > 0 then
  redis.call('DEL', KEYS[1])
  return probe_at and 'closed' or ''
end
failures = failures + bad
local reply = ''
if not probe_at and failures >= tonumber(ARGV[4]) then
  interval_s, reply = tonumber(ARGV[5]), 'opened'
elseif probe_at and state[4] then
  interval_s = math.min(interval_s * 2, tonumber(ARGV[6]))
elseif probe_at then
  return ''  -- a request that was under way when the circuit opened says nothing new
end
redis.call('HSET', KEYS[1], 'failures', failures)
if interval_s > 0 then
  redis.call('HSET', KEYS[1], 'interval_s', tostring(interval_s), 'probe_at', string.format('%.3f', now + interval_s))
  redis.call('HDEL', KEYS[1], 'probing')
end
redis.call('EXPIRE', KEYS[1], 3600)
return reply
