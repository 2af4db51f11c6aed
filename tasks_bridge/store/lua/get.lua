-- ARGV: now, prefix, id… Reply: {now, {state, record, cancel or '', due or ''} or '', …}
local reply = {stamp(now)}
for i = 3, #ARGV do
  local job = redis.call('HMGET', job_key(ARGV[i]), 'state', 'record', 'cancel')
  local due = job[1] and due_at(ARGV[i])
  reply[#reply + 1] = job[1] and {job[1], job[2], job[3] or '', due and stamp(due) or ''} or ''
end
return reply
