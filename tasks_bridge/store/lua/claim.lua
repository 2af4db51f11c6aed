-- ARGV: now, prefix, limit, lease_s, version. Reply: {id, state, record or '', …} flat
-- Run twice, the second run finds nothing due: the jobs of a lost answer are due again after the lease.
local version = tonumber(ARGV[5])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', newer_key, '-inf', version, 'LIMIT', 0, ARGV[3])) do
  schedule(id, now)
end
local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due_key, '-inf', stamp(now), 'LIMIT', 0, ARGV[3])) do
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'state', 'lease', 'version')
  local token, phase, claims = read_lease(job[2])
  local written = tonumber(job[3]) or 0
  if not job[1] or not token or phase == ENDED then
    redis.call('ZREM', due_key, id)
  elseif written > version then
    leave_to_newer(id, written)
  else
    redis.call('HSET', key, 'lease', lease_text(token, CLAIMED, claims + 1))
    schedule(id, now + tonumber(ARGV[4]) * 2 ^ math.min(claims, 6))
    local polled = job[1] == 'PENDING' or job[1] == 'RUNNING'
    reply[#reply + 1] = id
    reply[#reply + 1] = job[1]
    reply[#reply + 1] = polled and '' or redis.call('HGET', key, 'record')
  end
end
return reply
