-- ARGV: now, prefix, version. Reply: {now, open, due, earliest due time or ''}; what `newer` holds for us is due now
local open, due, earliest = redis.call('ZCARD', newer_key), redis.call('ZCARD', newer_key), nil
if redis.call('ZCOUNT', newer_key, '-inf', ARGV[3]) > 0 then earliest = now end
each_lane(function(key)
  local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if head[1] then
    open = open + redis.call('ZCARD', key)
    due = due + redis.call('ZCOUNT', key, '-inf', stamp(now))
    earliest = math.min(earliest or head[2], head[2])
  end
end)
return {stamp(now), open, due, earliest and stamp(earliest) or ''}
