-- ARGV: now, prefix, id… Reply: how many were released
-- Run twice, the second run finds nothing claimed.
local released = 0
for i = 3, #ARGV do
  local job = read_job(ARGV[i])
  if job and job.phase == CLAIMED then
    job.phase, job.claims = WAITING, math.max(job.claims - 1, 0)
    write_job(ARGV[i], job)
    schedule(ARGV[i], job, now)
    released = released + 1
  end
end
return released
