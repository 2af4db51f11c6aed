-- ARGV: now, prefix, id, record, body, delay_s, phase, version. Reply: {is_new, state, record, now}
-- Run twice by a client that lost the answer, the record is still the very one it sent, and nobody has touched it: new.
local id, record, body, delay, phase = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local key = job_key(id)
local lease = lease_text(0, phase, 0)
local known = redis.call('HMGET', key, 'state', 'record', 'lease')
if known[1] then
  local again = known[2] == record and known[3] == lease
  return {again and 1 or 0, known[1], known[2], stamp(now)}
end
redis.call('HSET', key, 'state', 'QUEUED', 'record', record, 'lease', lease, 'version', ARGV[8])
redis.call('SET', body_key(id), body)
schedule(id, now + delay)
return {1, 'QUEUED', record, stamp(now)}
