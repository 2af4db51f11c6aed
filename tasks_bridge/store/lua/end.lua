-- ARGV: now, prefix, id, token, ttl_s. Reply: 1 or 0
local id, key = ARGV[3], job_key(ARGV[3])
local token, phase, claims = read_lease(redis.call('HGET', key, 'lease'))
if token ~= tonumber(ARGV[4]) then return 0 end
if phase == ENDED then return 1 end
redis.call('HSET', key, 'lease', lease_text(token, ENDED, claims))
redis.call('ZREM', due_key, id)
redis.call('ZREM', newer_key, id)
local ttl_ms = math.ceil(tonumber(ARGV[5]) * 1000)
redis.call('PEXPIRE', key, ttl_ms)
redis.call('PEXPIRE', body_key(id), ttl_ms)
return 1
