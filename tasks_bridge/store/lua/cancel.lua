-- ARGV: now, prefix, id, reason. Reply: state, false if unknown
-- The first reason stands. A leased job is left to its holder, who finds the request when it writes back.
local id = ARGV[3]
local job = read_job(id)
if not job then return false end
if not OPEN[job.state] then return job.state end
if not job.cancel then
  job.cancel = ARGV[4]
  write_job(id, job)
end
if job.phase ~= LEASED then schedule(id, job, math.min(now, due_at(id, job) or now)) end
return job.state
