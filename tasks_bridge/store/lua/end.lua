-- ARGV: now, prefix, id, token, ttl_s, record, its version. Reply: 1 or 0
local id = ARGV[3]
local job = read_job(id)
if not job or job.token ~= tonumber(ARGV[4]) then return 0 end
if job.phase == ENDED then return 1 end
job.phase, job.record, job.version = ENDED, ARGV[6], tonumber(ARGV[7])
write_job(id, job)
unschedule(id, job)
redis.call('ZREM', newer_key, id)
local ttl_ms = math.ceil(tonumber(ARGV[5]) * 1000)
redis.call('PEXPIRE', job_key(id), ttl_ms)
redis.call('PEXPIRE', body_key(id), ttl_ms)
return 1
