-- ARGV: now, prefix, keep_body, (id, token, state, record, delay_s, phase, saw_cancel, notice, version)… Reply: {1 or 0, …}
-- Run twice, the second run writes the same: as long as the token is in place, nobody else has begun. That the lease ran
-- out and the message was published again meanwhile makes no difference: whoever gets it finds the job as written here.
local keep_body = ARGV[3] == '1'
local reply = {}
for i = 4, #ARGV, 9 do
  local id, state, phase = ARGV[i], ARGV[i + 2], ARGV[i + 5]
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'state', 'lease', 'cancel', 'version', 'heard', 'recheck')
  local token, held = read_lease(job[2])
  local is_newer = (tonumber(job[4]) or 0) > tonumber(ARGV[i + 8])
  if not token or token ~= tonumber(ARGV[i + 1]) or is_newer or (not OPEN[job[1]] and job[1] ~= state) then
    reply[#reply + 1] = 0
  elseif held == ENDED then
    reply[#reply + 1] = 1
  else
    redis.call('HSET', key, 'state', state, 'record', ARGV[i + 3], 'lease', lease_text(token, phase, 0),
      'version', ARGV[i + 8])
    if state ~= 'QUEUED' and not keep_body then redis.call('DEL', body_key(id)) end
    -- a cancel that came while the holder worked must not wait for the countdown
    local unseen = job[3] and OPEN[state] and ARGV[i + 6] == '0'
    local at = unseen and now or now + tonumber(ARGV[i + 4])
    -- nor must what was announced meanwhile; only `begin` clears it, so that a repeated write finds it too
    if job[6] and (state == 'PENDING' or state == 'RUNNING') then at = math.min(at, math.max(now, tonumber(job[5]))) end
    schedule(id, at)
    if ARGV[i + 7] ~= '' then redis.call('PUBLISH', prefix .. 'notice:' .. id, ARGV[i + 7]) end
    reply[#reply + 1] = 1
  end
end
return reply
