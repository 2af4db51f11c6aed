-- ARGV: now, prefix, id, gap_s. Reply: 1 if the job is known and open, else 0
-- `heard` is the latest moment that an announcement set, `recheck` is there while one waits for the end of a lease.
-- Run twice, the second run finds the job due no later than it would have it.
local id = ARGV[3]
local job = read_job(id)
if not job or not OPEN[job.state] then return 0 end
local at = job.heard and math.max(now, job.heard + tonumber(ARGV[4])) or now
if job.phase == LEASED then
  -- whoever holds it may have asked already
  if not job.recheck then
    job.heard, job.recheck = at, true
    write_job(id, job)
  end
elseif job.phase == WAITING and job.state ~= 'QUEUED' then
  local due = due_at(id, job)
  if due and due > at then
    job.heard = at
    write_job(id, job)
    schedule(id, job, at)
  end
end
return 1
