-- ARGV: now, prefix, delay_s, id… Reply: how many are open
local open = 0
for i = 4, #ARGV do
  local job = redis.call('HMGET', job_key(ARGV[i]), 'state', 'lease')
  if job[1] and OPEN[job[1]] then
    open = open + 1
    local _, phase = read_lease(job[2])
    local due, at = due_at(ARGV[i]), now + tonumber(ARGV[3])
    if phase == WAITING and due and due > at then schedule(ARGV[i], at) end
  end
end
return open
