-- What every script about limits begins with: the time, and what was counted by a quota that has been changed.
local TOKEN, LEAKY, FIXED, LOG = 0, 1, 2, 3
local now = tonumber(ARGV[2])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local function text(number) return string.format('%.0f', number) end
local function window_end(per) return (math.floor(now / per) + 1) * per end

-- What was counted by another quota, as the same share of this one.
local function rescaled(old, alg, limit, per, full, u, x, y)
  local o = {}
  for figure in string.gmatch(old, '[^:]+') do o[#o + 1] = tonumber(figure) end
  local oalg, olimit, oper, oburst = o[1], o[2], o[3], o[4]
  if u <= now then return 0, 0, 0 end
  if oalg == alg and oper == per and alg >= FIXED then
    local function scale(count) return math.min(math.ceil(count * limit / olimit), limit) end
    return u, scale(x), scale(y)
  end
  local used
  if oalg <= LEAKY then used = (u - now) / math.max(oburst * oper / olimit, 1)
  elseif oalg == FIXED then used = x / olimit
  else
    local start = u - oper
    used = now < start and (y * (start - now) / oper + x) / olimit or x * (u - now) / oper / olimit
  end
  used = math.min(used, 1)
  if alg <= LEAKY then return now + math.ceil(used * full), 0, 0 end
  if alg == FIXED then return window_end(per), math.ceil(used * limit), 0 end
  return window_end(per) + per, math.ceil(used * limit), 0
end

