-- ARGV: now, prefix, purpose, lease_s, version, id…
-- Reply: {now, {id, token, claims, state, record, cancel or '', body or '', heard or ''}, …}
-- Run twice, the second run finds the jobs leased: those of a lost answer are due again after the lease.
local purpose, lease_s, version = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local reply = {stamp(now)}
for i = 6, #ARGV do
  local id = ARGV[i]
  local job = read_job(id)
  local due = job and due_at(id, job)
  if due and job.phase ~= ENDED and (job.phase == CLAIMED or due <= now) then
    if job.version > version then
      -- its message is lost on us: as if it had never been published
      if job.phase == CLAIMED then
        job.phase, job.claims = WAITING, math.max(job.claims - 1, 0)
        write_job(id, job)
      end
      leave_to_newer(id, job)
    elseif (POLLED[job.state] or false) == (purpose == 'poll') then
      job.token, job.phase, job.recheck = job.token + 1, LEASED, nil
      write_job(id, job)
      schedule(id, job, now + lease_s)
      local body = job.state == 'QUEUED' and redis.call('GET', body_key(id))
      reply[#reply + 1] = {id, job.token, job.claims, job.state, job.record, job.cancel or '', body or '',
        job.heard and stamp(job.heard) or ''}
    end
  end
end
return reply
