-- Prepended to every script. ARGV[1] is the time to assume ('' for the server's own), ARGV[2] the key prefix.
-- Keys of jobs and schedules are computed from the prefix: its hash tag puts them all into the slot of KEYS[1].
local prefix = ARGV[2]
local newer_key = prefix .. 'newer'
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local OPEN = {QUEUED = true, PENDING = true, RUNNING = true}
local POLLED = {PENDING = true, RUNNING = true}
local WAITING, CLAIMED, LEASED, ENDED = 'w', 'c', 'l', 'e'

local function stamp(seconds) return string.format('%.6f', seconds) end
local function job_key(id) return prefix .. 'job:' .. id end
local function body_key(id) return prefix .. 'body:' .. id end

-- Schedules: LANES for jobs that are to be submitted, as many for all others, and the one of version 1.
local LANES = 32
local function submit_lane(lane) return prefix .. 'due:submit:' .. lane end
local function poll_lane(lane) return prefix .. 'due:poll:' .. lane end
local first_lane = prefix .. 'due'
local function lane_of(job)
  if not job.lane then return first_lane end
  return job.state == 'QUEUED' and submit_lane(job.lane) or poll_lane(job.lane)
end
local function each_lane(visit)
  visit(first_lane)
  for lane = 0, LANES - 1 do
    visit(submit_lane(lane), true)
    visit(poll_lane(lane))
  end
end
local function due_at(id, job)
  return tonumber(redis.call('ZSCORE', lane_of(job), id)) or (redis.call('ZSCORE', newer_key, id) and now)
end
local function schedule(id, job, at)
  redis.call('ZADD', lane_of(job), stamp(at), id)
  redis.call('ZREM', newer_key, id)
end
local function unschedule(id, job) redis.call('ZREM', lane_of(job), id) end
-- How many open jobs of each state and model there are; what would fall below zero was never counted.
local census_key = prefix .. 'census'
local function count_job(state, model, by)
  local field = state .. ' ' .. model
  if OPEN[state] and redis.call('HINCRBY', census_key, field, by) <= 0 then redis.call('HDEL', census_key, field) end
end
-- Off the schedule that older workers read, and due now for those who know records of this version.
local function leave_to_newer(id, job)
  unschedule(id, job)
  redis.call('ZADD', newer_key, job.version, id)
end

-- A job is one value, the smallest that Redis has: its fields as msgpack, in this order, the last three only if needed,
-- and of the state two letters.
local STATES = {}
for _, state in ipairs({'QUEUED', 'PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'EXPIRED'}) do
  STATES[string.sub(state, 1, 2)] = state
end
local function write_job(id, job)
  local value = cmsgpack.pack(job.version, job.lane, string.sub(job.state, 1, 2), job.token, job.phase, job.claims,
    job.record)
  if job.cancel or job.heard then value = value .. cmsgpack.pack(job.cancel, job.heard, job.recheck) end
  redis.call('SET', job_key(id), value)
end
-- Version 1 kept a hash, whose field `lease` was '<token>:<phase>:<claims>'.
local function read_hash(id)
  local kept = redis.call('HMGET', job_key(id), 'state', 'lease', 'record', 'cancel', 'heard', 'recheck')
  local token, phase, claims = string.match(kept[2], '^(%d+):(%l):(%d+)$')
  return {version = 1, state = kept[1], token = tonumber(token), phase = phase, claims = tonumber(claims),
    record = kept[3], cancel = kept[4] or nil, heard = tonumber(kept[5] or ''), recheck = kept[6] and true or nil}
end
local function read_job(id)
  local value = redis.pcall('GET', job_key(id))
  if not value then return nil end
  if value.err then return read_hash(id) end
  local job = {}
  job.version, job.lane, job.state, job.token, job.phase, job.claims, job.record, job.cancel, job.heard, job.recheck =
    cmsgpack.unpack(value)
  job.state = STATES[job.state] or job.state
  return job
end
