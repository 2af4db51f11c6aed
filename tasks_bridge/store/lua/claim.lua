-- ARGV: now, prefix, limit, lease_s, version. Reply: {id, state, record or '', …} flat
-- Run twice, the second run finds nothing due: the jobs of a lost answer are due again after the lease.
local version = tonumber(ARGV[5])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', newer_key, '-inf', version, 'LIMIT', 0, ARGV[3])) do
  schedule(id, now)
end
local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due_key, '-inf', stamp(now), 'LIMIT', 0, ARGV[3])) do
  local job = read_job(id)
  if not job or job.phase == ENDED then
    redis.call('ZREM', due_key, id)
  elseif job.version > version then
    leave_to_newer(id, job.version)
  else
    schedule(id, now + tonumber(ARGV[4]) * 2 ^ math.min(job.claims, 6))
    job.phase, job.claims = CLAIMED, job.claims + 1
    write_job(id, job)
    reply[#reply + 1] = id
    reply[#reply + 1] = job.state
    reply[#reply + 1] = POLLED[job.state] and '' or job.record
  end
end
return reply
