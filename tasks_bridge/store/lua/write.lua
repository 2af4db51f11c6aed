-- ARGV: now, prefix, keep_body, (id, token, state, record, delay_s, phase, saw_cancel, notice, version, model)… Reply: {1 or 0, …}
-- Run twice, the second run writes the same: as long as the token is in place, nobody else has begun. That the lease ran
-- out and the message was published again meanwhile makes no difference: whoever gets it finds the job as written here.
local keep_body = ARGV[3] == '1'
local reply = {}
for i = 4, #ARGV, 10 do
  local id, state, version = ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 8])
  local job = read_job(id)
  if not job or job.token ~= tonumber(ARGV[i + 1]) or job.version > version
    or (not OPEN[job.state] and job.state ~= state) then
    reply[#reply + 1] = 0
  elseif job.phase == ENDED then
    reply[#reply + 1] = 1
  else
    if state ~= job.state then
      unschedule(id, job)  -- another state may be another lane
      count_job(job.state, ARGV[i + 9], -1)
      count_job(state, ARGV[i + 9], 1)
    end
    job.version, job.state, job.record, job.phase, job.claims = version, state, ARGV[i + 3], ARGV[i + 5], 0
    write_job(id, job)
    if state ~= 'QUEUED' and not keep_body then redis.call('DEL', body_key(id)) end
    -- a cancel that came while the holder worked must not wait for the countdown
    local unseen = job.cancel and OPEN[state] and ARGV[i + 6] == '0'
    local at = unseen and now or now + tonumber(ARGV[i + 4])
    -- nor must what was announced meanwhile; only `begin` clears it, so that a repeated write finds it too
    if job.recheck and POLLED[state] then at = math.min(at, math.max(now, job.heard)) end
    schedule(id, job, at)
    if ARGV[i + 7] ~= '' then redis.call('PUBLISH', prefix .. 'notice:' .. id, ARGV[i + 7]) end
    reply[#reply + 1] = 1
  end
end
return reply
