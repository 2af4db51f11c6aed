-- The latest ends of one model. KEYS[1]: the list, newest first, of '<how many jobs it stands for> <the end, as JSON>'.
-- ARGV: how many to keep, seconds to keep them for, then for each end: its time, the least distance in time from the
-- one kept before it, its JSON, which is an array that begins with its time. Reply: how many are kept now.
-- Run twice or late, the second run finds a newer one and counts those ends once more: a little weight, no job.
for i = 3, #ARGV, 3 do
  local newest = redis.call('LINDEX', KEYS[1], 0)
  local count, entry, at = string.match(newest or '', '^(%d+)( %[([%d.]+).*)$')
  if at and tonumber(ARGV[i]) - tonumber(at) < tonumber(ARGV[i + 1]) then
    redis.call('LSET', KEYS[1], 0, string.format('%d', count + 1) .. entry)
  else
    redis.call('LPUSH', KEYS[1], '1 ' .. ARGV[i + 2])
  end
end
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('LLEN', KEYS[1])
