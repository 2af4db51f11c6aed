-- Prepended to every script. ARGV[1] is the time to assume ('' for the server's own), ARGV[2] the key prefix.
-- Keys of single jobs are computed from the prefix: its hash tag puts them all into the slot of KEYS[1], the schedule.
local due_key = KEYS[1]
local prefix = ARGV[2]
local newer_key = prefix .. 'newer'
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local OPEN = {QUEUED = true, PENDING = true, RUNNING = true}
local WAITING, CLAIMED, LEASED, ENDED = 'w', 'c', 'l', 'e'

local function stamp(seconds) return string.format('%.6f', seconds) end
local function job_key(id) return prefix .. 'job:' .. id end
local function body_key(id) return prefix .. 'body:' .. id end
local function due_at(id)
  return tonumber(redis.call('ZSCORE', due_key, id)) or (redis.call('ZSCORE', newer_key, id) and now)
end
local function schedule(id, at)
  redis.call('ZADD', due_key, stamp(at), id)
  redis.call('ZREM', newer_key, id)
end
-- Off the schedule that older workers read, and due now for those who know records of this version.
local function leave_to_newer(id, version)
  redis.call('ZREM', due_key, id)
  redis.call('ZADD', newer_key, version, id)
end

-- The field `lease` is '<token>:<phase>:<claims>'.
local function read_lease(text)
  local token, phase, claims = string.match(text or '', '^(%d+):(%l):(%d+)$')
  return tonumber(token), phase, tonumber(claims)
end
local function lease_text(token, phase, claims) return string.format('%d:%s:%d', token, phase, claims) end
