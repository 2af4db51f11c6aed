-- ARGV: now, prefix, lease_s, (id, token)…
for i = 4, #ARGV, 2 do
  local job = read_job(ARGV[i])
  if job and job.token == tonumber(ARGV[i + 1]) and job.phase == LEASED then
    schedule(ARGV[i], job, now + tonumber(ARGV[3]))
  end
end
