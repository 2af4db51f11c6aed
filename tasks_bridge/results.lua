-- KEYS: entries of Celery's result backend. ARGV: expires_s (0: never), (entry, token)…
-- Run twice, the second run writes the same. Neither an outcome nor a report under a higher token is overwritten.
local FINAL = {SUCCESS = true, FAILURE = true, REVOKED = true}
for i, key in ipairs(KEYS) do
  local entry, token = ARGV[2 * i], tonumber(ARGV[2 * i + 1])
  local known, is_newer = redis.call('GET', key), false
  if known then
    local readable, old = pcall(cjson.decode, known)
    if readable and type(old) == 'table' then
      local info = type(old.result) == 'table' and old.result
      local job = info and type(info.job) == 'table' and info.job
      is_newer = FINAL[old.status] or (job and (tonumber(job.token) or -1) > token)
    end
  end
  if not is_newer then
    if ARGV[1] == '0' then redis.call('SET', key, entry) else redis.call('SETEX', key, ARGV[1], entry) end
    redis.call('PUBLISH', key, entry)
  end
end
