-- ARGV: now, prefix, id, reason. Reply: state, false if unknown
-- The first reason stands. A leased job is left to its holder, who finds the request when it writes back.
local id, key = ARGV[3], job_key(ARGV[3])
local job = redis.call('HMGET', key, 'state', 'lease')
if not job[1] or not OPEN[job[1]] then return job[1] end
redis.call('HSETNX', key, 'cancel', ARGV[4])
local _, phase = read_lease(job[2])
if phase ~= LEASED then schedule(id, math.min(now, due_at(id) or now)) end
return job[1]
