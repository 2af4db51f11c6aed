-- ARGV: now, prefix, delay_s, id… Reply: how many are open
local open = 0
for i = 4, #ARGV do
  local job = read_job(ARGV[i])
  if job and OPEN[job.state] then
    open = open + 1
    local due, at = due_at(ARGV[i], job), now + tonumber(ARGV[3])
    if job.phase == WAITING and due and due > at then schedule(ARGV[i], job, at) end
  end
end
return open
