-- ARGV: now, prefix, purpose, lease_s, version, id…
-- Reply: {now, {id, token, claims, state, record, cancel or '', body or ''}, …}
-- Run twice, the second run finds the jobs leased: those of a lost answer are due again after the lease.
local purpose, lease_s, version = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local reply = {stamp(now)}
for i = 6, #ARGV do
  local id = ARGV[i]
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'state', 'lease', 'cancel', 'version', 'recheck')
  local state, due = job[1], due_at(id)
  local token, phase, claims = read_lease(job[2])
  local written = tonumber(job[4]) or 0
  if state and token and due and phase ~= ENDED and (phase == CLAIMED or due <= now) then
    local polled = state == 'PENDING' or state == 'RUNNING'
    if written > version then
      -- its message is lost on us: as if it had never been published
      if phase == CLAIMED then
        redis.call('HSET', key, 'lease', lease_text(token, WAITING, math.max(claims - 1, 0)))
      end
      leave_to_newer(id, written)
    elseif polled == (purpose == 'poll') then
      token = token + 1
      redis.call('HSET', key, 'lease', lease_text(token, LEASED, claims))
      if job[5] then redis.call('HDEL', key, 'recheck') end
      schedule(id, now + lease_s)
      local body = state == 'QUEUED' and redis.call('GET', body_key(id))
      reply[#reply + 1] = {id, token, claims, state, redis.call('HGET', key, 'record'), job[3] or '', body or ''}
    end
  end
end
return reply
