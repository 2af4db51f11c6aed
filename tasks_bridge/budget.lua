-- The books of the spend guard, in millionths of a credit. The layout of the keys stands at the top of budget.py.
-- Behind store/lua/common.lua. ARGV: now ('' for the server's), prefix, period_s, keep_s, operation, job id (a label for 'read'), then
--   'reserve', label, model, most, unknown, limit for all, for the label, for the job    ('' where there is none)
--   'adjust', estimate, limit for all, for the label, force
--   'settle', used ('' if nobody knows: then what was reserved counts)
--   'read', how many periods ago
--   'list', how many periods ago
-- KEYS[1]: the job's entry, or any other key of the prefix. Reply: see each operation.
-- Run twice or late: an entry is made once, only while the job is QUEUED, and settled once; adjusting sets, never adds.
local entry_key, period, keep_s, operation, id = KEYS[1], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local number = math.floor(now / tonumber(period))

local function book_key(name) return prefix .. 'spend:' .. name end
local function name_of(n) return string.format('%s:%d', period, n) end
local function text(amount) return string.format('%.0f', amount) end
local function read(book, field) return tonumber(redis.call('HGET', book, field)) or 0 end
local function add(book, field, amount)
  redis.call('HSET', book, field, text(math.max(read(book, field) + amount, 0)))
end

-- A scope is '' for all, or ':<label>': the end of its fields' names.
local function scopes_of(label) return label == '' and {''} or {'', ':' .. label} end
local function change(book, label, field, amount)
  for _, scope in ipairs(scopes_of(label)) do add(book, field .. scope, amount) end
end

-- Books last as long as something is reserved in them; after that, keep_s beyond their period.
local function keep(name)
  local book = book_key(name)
  if read(book, 'reserved') > 0 then
    redis.call('PERSIST', book)
  else
    local length, n = string.match(name, '^(.*):(%d+)$')
    redis.call('PEXPIRE', book, math.ceil(math.max((n + 1) * length - now + keep_s, 1) * 1000))
  end
end

local function learn(model, amount)
  local book, field = book_key(name_of(number)), 'model:' .. model
  if amount > read(book, field) then redis.call('HSET', book, field, text(amount)) end
  keep(name_of(number))
end

-- The limit that `more` would break, as {scope, limit, more or wanted, booked}.
local function broken(book, label, more, wanted, limits)
  for i, scope in ipairs(scopes_of(label)) do
    local limit = tonumber(limits[i])
    if limit then
      local booked = read(book, 'used' .. scope) + read(book, 'reserved' .. scope)
      if booked + more > limit or (more == 0 and booked >= limit) then
        return {i == 1 and 'all' or 'label:' .. label, text(limit), text(wanted), text(booked)}
      end
    end
  end
end

if operation == 'read' or operation == 'list' then  -- Reply: {start of the period, label ('' for all), used, reserved, …}
  local n = number - tonumber(ARGV[7])
  local book, reply = book_key(name_of(n)), {string.format('%.6f', n * period)}
  local labels = {id}
  if operation == 'list' then
    for _, field in ipairs(redis.call('HKEYS', book)) do labels[#labels + 1] = string.match(field, '^reserved:(.+)$') end
  end
  for _, label in ipairs(labels) do
    local scope = label == '' and '' or ':' .. label
    reply[#reply + 1] = label
    reply[#reply + 1] = text(read(book, 'used' .. scope))
    reply[#reply + 1] = text(read(book, 'reserved' .. scope))
  end
  return reply
end

local entry = redis.call('HMGET', entry_key, 'period', 'label', 'model', 'reserved', 'used')
local reserved, used = tonumber(entry[4]), tonumber(entry[5])

if operation == 'reserve' then  -- Reply: {'ok'}, {'stale'}, or the broken limit
  if reserved then return {'ok'} end
  -- whoever comes late must leave no reservation that nobody settles
  local job = read_job(id)
  if not job or job.state ~= 'QUEUED' then return {'stale'} end
  local label, model, most, unknown = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
  local name = name_of(number)
  local wanted = most
  if not wanted then
    local field = 'model:' .. model
    wanted = math.max(read(book_key(name), field), read(book_key(name_of(number - 1)), field))
    if wanted == 0 then wanted = unknown end
    -- a guess beyond a limit must not shut the model out for good
    for i = 11, 12 do wanted = math.min(wanted, tonumber(ARGV[i]) or wanted) end
  end
  wanted = math.min(wanted, tonumber(ARGV[13]) or wanted)
  local refusal = broken(book_key(name), label, wanted, wanted, {ARGV[11], ARGV[12]})
  if refusal then return refusal end
  change(book_key(name), label, 'reserved', wanted)
  redis.call('HSET', entry_key, 'period', name, 'label', label, 'model', model, 'reserved', text(wanted))
  keep(name)
  return {'ok'}
end

if not reserved then return {'ok'} end
local name, label, model = entry[1], entry[2], entry[3]
local book = book_key(name)

if operation == 'adjust' then  -- Reply: {'ok'} or the broken limit
  if used then return {'ok'} end
  local estimate, force = tonumber(ARGV[7]), ARGV[10] == '1'
  local more = estimate - reserved
  if more > 0 and not force then
    local refusal = broken(book, label, more, estimate, {ARGV[8], ARGV[9]})
    if refusal then
      refusal[4] = text(refusal[4] - reserved)  -- by others
      return refusal
    end
  end
  change(book, label, 'reserved', more)
  redis.call('HSET', entry_key, 'reserved', text(estimate))
  keep(name)
  if not force then learn(model, estimate) end
  return {'ok'}
end

-- settle. Reply: {'ok'}
local cost = tonumber(ARGV[7])
if used then
  -- settled; but a late answer may know of a charge that was not known then
  if cost and cost > used then change(book, label, 'used', cost - used) else cost = used end
else
  cost = cost or reserved
  change(book, label, 'reserved', -reserved)
  change(book, label, 'used', cost)
end
redis.call('HSET', entry_key, 'used', text(cost))
redis.call('PEXPIRE', entry_key, math.ceil(keep_s * 1000))
keep(name)
if cost > 0 then learn(model, cost) end
return {'ok'}
