-- ARGV: now, prefix, id… Reply: {now, {state, record, cancel or '', due or ''} or '', …}
local reply = {stamp(now)}
for i = 3, #ARGV do
  local job = read_job(ARGV[i])
  local due = job and due_at(ARGV[i], job)
  reply[#reply + 1] = job and {job.state, job.record, job.cancel or '', due and stamp(due) or ''} or ''
end
return reply
