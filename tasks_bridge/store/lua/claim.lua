-- ARGV: now, prefix, limit, submits, lease_s, version. Reply: {id, state, record or '', phase before, …} flat
-- Run twice, the second run finds nothing due: the jobs of a lost answer are due again after the lease.
local left, submits, lease_s, version = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', newer_key, '-inf', version, 'LIMIT', 0, left)) do
  local job = read_job(id)
  if job then schedule(id, job, now) else redis.call('ZREM', newer_key, id) end
end

local lanes = {}
each_lane(function(key, is_submit)
  local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if head[1] and tonumber(head[2]) <= now then
    lanes[#lanes + 1] = {key = key, is_submit = is_submit, head = tonumber(head[2]), taken = 0,
      due = redis.call('ZCOUNT', key, '-inf', stamp(now))}
  end
end)
-- Equal shares, and what a lane does not need is shared by the others. That which has waited longest comes first, so
-- that it gets its turn also where there are more lanes than places.
table.sort(lanes, function(a, b) return a.head < b.head or (a.head == b.head and a.key < b.key) end)
repeat
  local before, share = left, math.max(math.floor(left / #lanes), 1)
  for _, lane in ipairs(lanes) do
    local take = math.min(share, lane.due - lane.taken, left, lane.is_submit and submits or left)
    lane.taken, left = lane.taken + take, left - take
    if lane.is_submit then submits = submits - take end
  end
until left == before

local reply = {}
for _, lane in ipairs(lanes) do
  for _, id in ipairs(lane.taken > 0 and redis.call('ZRANGE', lane.key, 0, lane.taken - 1) or {}) do
    local job = read_job(id)
    if not job or job.phase == ENDED or lane_of(job) ~= lane.key then
      redis.call('ZREM', lane.key, id)
    elseif job.version > version then
      leave_to_newer(id, job)
    else
      schedule(id, job, now + lease_s * 2 ^ math.min(job.claims, 6))
      local phase = job.phase
      job.phase, job.claims = CLAIMED, job.claims + 1
      write_job(id, job)
      reply[#reply + 1] = id
      reply[#reply + 1] = job.state
      reply[#reply + 1] = POLLED[job.state] and '' or job.record
      reply[#reply + 1] = phase
    end
  end
end
return reply
