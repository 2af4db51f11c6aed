-- ARGV: now, prefix, (id, record, body, delay_s, phase, version, lane, beside, its value, its ttl_s, queue, message,
-- model)…
-- Reply: {is_new, state, record}…  `beside` is a key to be set along with a new job, '' for none; its ttl_s 0 is for ever.
-- The message is pushed first: should Redis refuse that to this user, nothing has been written.
-- Run twice by a client that lost the answer, the record is still the very one it sent, and nobody has touched it: new.
local reply = {}
for i = 3, #ARGV, 13 do
  local id, record, phase, beside = ARGV[i], ARGV[i + 1], ARGV[i + 4], ARGV[i + 7]
  local job = read_job(id)
  if job then
    local again = job.record == record and job.token == 0 and job.phase == phase and job.claims == 0
    reply[#reply + 1] = {again and 1 or 0, job.state, job.record}
  else
    job = {version = tonumber(ARGV[i + 5]), lane = tonumber(ARGV[i + 6]), state = 'QUEUED', token = 0, phase = phase,
      claims = 0, record = record}
    if ARGV[i + 10] ~= '' then redis.call('LPUSH', ARGV[i + 10], ARGV[i + 11]) end
    write_job(id, job)
    redis.call('SET', body_key(id), ARGV[i + 2])
    schedule(id, job, now + tonumber(ARGV[i + 3]))
    count_job('QUEUED', ARGV[i + 12], 1)
    if ARGV[i + 9] ~= '0' then
      redis.call('SETEX', beside, ARGV[i + 9], ARGV[i + 8])
    elseif beside ~= '' then
      redis.call('SET', beside, ARGV[i + 8])
    end
    reply[#reply + 1] = {1, 'QUEUED', record}
  end
end
return reply
