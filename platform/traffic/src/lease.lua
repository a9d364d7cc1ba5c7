-- Lends tokens: as many as are asked for, or as there are, of each key by itself; tokens that were lent before come back first.
-- KEYS: one for each loan. ARGV: 0, the time in microseconds (0: this server's), then for each loan ten figures: tokens that come back,
-- tokens asked for, the least that is of use, algorithm, limit, period, burst, bucket in microseconds and its part over the limit, and the
-- end of the window that tokens come back to (0: of a bucket).
-- Answers for each: tokens lent, tokens left, microseconds until there is the least that is of use, microseconds for which they are lent.
local out = {}
for i, key in ipairs(KEYS) do
  local f = {}
  for n = 1, 10 do f[n] = tonumber(ARGV[2 + (i - 1) * 10 + n]) end
  local back, want, least, alg, limit, per, burst, full, full_part = f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9]
  local quota = table.concat({ ARGV[2 + (i - 1) * 10 + 4], ARGV[2 + (i - 1) * 10 + 5], ARGV[2 + (i - 1) * 10 + 6], ARGV[2 + (i - 1) * 10 + 7] }, ':')
  local window = f[10]
  local u, x, y, free, retry, valid = 0, 0, 0, 0, 0, math.min(per, 60000000)
  if alg == LOG then
    if back > 0 then redis.call('ZREMRANGEBYRANK', key, -back, -1) end
    back = 0
  end
  local seen = alg == LOG and {} or redis.call('HMGET', key, 'u', 'x', 'y', 'q')
  if seen[1] then
    u, x, y = tonumber(seen[1]), tonumber(seen[2]), tonumber(seen[3])
    if seen[4] ~= quota then u, x, y = rescaled(seen[4], alg, limit, per, full, u, x, y) end
  end
  local lent = 0
  if alg >= FIXED and u == window then x = math.max(x - back, 0) end
  if alg == LOG then free = 0
  elseif alg <= LEAKY then
    if u < now then u, x = now, 0 elseif u - now > 2 * full + 2 then u, x = now + full, full_part end
    -- In units of a microsecond over the limit, in which a token is `per` long.
    local debt = math.max((u - now) * limit + x - back * per, 0)
    local room = full * limit + full_part - debt
    free = math.max(math.floor(room / per), 0)
    if free >= least then lent = math.min(want, free) else retry = math.max(math.ceil((least * per - room) / limit), 1) end
    debt = debt + lent * per
    u = now + math.floor(debt / limit)
    x = debt - (u - now) * limit
  elseif alg == FIXED then
    if now >= u or u - now > per then u, x = window_end(per), 0 end
    free = math.max(limit - x, 0)
    if free >= least then lent = math.min(want, free) else retry = u - now end
    x = x + lent
    valid = math.min(valid, u - now)
  else
    local start = u - per
    if now >= u then start, x, y = window_end(per), 0, 0
    elseif now >= start then start, x, y = u, 0, x
    elseif start - now > per then start = window_end(per) end
    u = start + per
    free = math.max(math.floor(limit - x - y * (start - now) / per), 0)
    if free >= least then lent = math.min(want, free) else retry = math.max(math.min(start - now, math.ceil(per / limit)), 1) end
    x = x + lent
  end
  if lent > 0 or back > 0 then
    redis.call('HSET', key, 'u', text(u), 'x', text(x), 'y', text(y), 'q', quota)
    redis.call('PEXPIRE', key, text(math.ceil((u - now) / 1000) + 1000))
  end
  local n = #out
  out[n + 1], out[n + 2], out[n + 3], out[n + 4] = lent, free - lent, retry, valid
end
return out
