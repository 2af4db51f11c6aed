-- ARGV: now, prefix, version, overdue_s
-- Reply: {now, to be submitted, others on the schedule, overdue, earliest due time or '', left to newer workers,
-- {field, count…} of `census`}
local submits, others, overdue, earliest = 0, 0, 0, nil
each_lane(function(key, is_submit)
  local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if head[1] then
    local count = redis.call('ZCARD', key)
    if is_submit then submits = submits + count else others = others + count end
    overdue = overdue + redis.call('ZCOUNT', key, '-inf', stamp(now - tonumber(ARGV[4])))
    earliest = math.min(earliest or head[2], head[2])
  end
end)
local newer = redis.call('ZCOUNT', newer_key, '(' .. ARGV[3], '+inf')
-- a job whose key somebody deleted by hand is counted until then
if submits + others + redis.call('ZCARD', newer_key) == 0 then redis.call('DEL', census_key) end
return {stamp(now), submits, others, overdue, earliest and stamp(earliest) or '', newer,
  redis.call('HGETALL', census_key)}
