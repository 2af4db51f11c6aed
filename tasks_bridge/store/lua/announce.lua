-- ARGV: now, prefix, id, gap_s. Reply: 1 if the job is known and open, else 0
-- `heard` is the latest moment that an announcement set, `recheck` is there while one waits for the end of a lease.
-- Run twice, the second run finds the job due no later than it would have it.
local id, key = ARGV[3], job_key(ARGV[3])
local job = redis.call('HMGET', key, 'state', 'lease', 'heard', 'recheck')
if not job[1] or not OPEN[job[1]] then return 0 end
local _, phase = read_lease(job[2])
local heard = tonumber(job[3] or '')
local at = heard and math.max(now, heard + tonumber(ARGV[4])) or now
if phase == LEASED then
  -- whoever holds it may have asked already
  if not job[4] then redis.call('HSET', key, 'heard', stamp(at), 'recheck', '1') end
elseif phase == WAITING and job[1] ~= 'QUEUED' then
  local due = due_at(id)
  if due and due > at then
    redis.call('HSET', key, 'heard', stamp(at))
    schedule(id, at)
  end
end
return 1
