-- Behind store/lua/common.lua: put jobs that wait for their next poll straight into the store, with their result entries.
-- ARGV: now, prefix, version, lane, (id, record, due in s, result key, result entry)…
for i = 5, #ARGV, 5 do
  local job = {version = tonumber(ARGV[3]), lane = tonumber(ARGV[4]), state = 'RUNNING', token = 4, phase = WAITING,
    claims = 0, record = ARGV[i + 1]}
  write_job(ARGV[i], job)
  schedule(ARGV[i], job, now + tonumber(ARGV[i + 2]))
  redis.call('SETEX', ARGV[i + 3], 86400, ARGV[i + 4])
end
return #ARGV
