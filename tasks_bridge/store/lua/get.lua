-- ARGV: now, prefix, id… Reply: {now, {state, record, cancel or '', due or '', phase, token, claims, version it waits for or 0} or '', …}
local reply = {stamp(now)}
for i = 3, #ARGV do
  local job = read_job(ARGV[i])
  local due = job and due_at(ARGV[i], job)
  local left_to = job and redis.call('ZSCORE', newer_key, ARGV[i])
  reply[#reply + 1] = job and {job.state, job.record, job.cancel or '', due and stamp(due) or '', job.phase, job.token,
    job.claims, tonumber(left_to or 0)} or ''
end
return reply
