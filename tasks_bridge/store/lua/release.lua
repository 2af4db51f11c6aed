-- ARGV: now, prefix, id… Reply: how many were released
-- Run twice, the second run finds nothing claimed.
local released = 0
for i = 3, #ARGV do
  local key = job_key(ARGV[i])
  local token, phase, claims = read_lease(redis.call('HGET', key, 'lease'))
  if phase == CLAIMED then
    redis.call('HSET', key, 'lease', lease_text(token, WAITING, math.max(claims - 1, 0)))
    schedule(ARGV[i], now)
    released = released + 1
  end
end
return released
