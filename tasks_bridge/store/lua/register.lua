-- ARGV: now, prefix, id, record, body, delay_s, phase, version. Reply: {is_new, state, record}
-- Run twice by a client that lost the answer, the record is still the very one it sent, and nobody has touched it: new.
local id, record, body, delay, phase = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local known = read_job(id)
if known then
  local again = known.record == record and known.token == 0 and known.phase == phase and known.claims == 0
  return {again and 1 or 0, known.state, known.record}
end
write_job(id, {version = tonumber(ARGV[8]), state = 'QUEUED', token = 0, phase = phase, claims = 0, record = record})
redis.call('SET', body_key(id), body)
schedule(id, now + delay)
return {1, 'QUEUED', record}
