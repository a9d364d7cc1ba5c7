-- Decides several levels about one request, all or none, by this server's clock. The same arithmetic as src/algorithm.rs.
-- KEYS: one for each level. ARGV: take (0 or 1), the time in microseconds (0: this server's), then for each level ten figures:
-- algorithm, cost, limit, period, burst, cost in microseconds and its part over the limit, bucket in microseconds and its part, on trial.
-- Answers the time, and for each level: admitted, retry, delay, until, x, y. All numbers are whole and below 2^53.
local out, writes, all = { now }, {}, true
for i, key in ipairs(KEYS) do
  local f = {}
  for n = 1, 10 do f[n] = tonumber(ARGV[2 + (i - 1) * 10 + n]) end
  local alg, cost, limit, per, burst = f[1], f[2], f[3], f[4], f[5]
  local add, add_part, full, full_part, trial = f[6], f[7], f[8], f[9], f[10] == 1
  local ok, retry, delay, u, x, y = false, 0, 0, 0, 0, 0
  local nu, nx, ny = 0, 0, 0
  local quota = table.concat({ ARGV[2 + (i - 1) * 10 + 1], ARGV[2 + (i - 1) * 10 + 3], ARGV[2 + (i - 1) * 10 + 4], ARGV[2 + (i - 1) * 10 + 5] }, ':')
  if alg == LOG then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - per))
    x = redis.call('ZCARD', key)
    local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
    u = last[2] and tonumber(last[2]) + per or 0
    nu, nx = now + per, x + cost
    ok = nx <= limit
    if not ok then
      local leaves = redis.call('ZRANGE', key, nx - limit - 1, nx - limit - 1, 'WITHSCORES')
      retry = leaves[2] and math.max(tonumber(leaves[2]) + per - now, 1) or per
    end
  else
    local seen = redis.call('HMGET', key, 'u', 'x', 'y', 'q')
    if seen[1] then
      u, x, y = tonumber(seen[1]), tonumber(seen[2]), tonumber(seen[3])
      if seen[4] ~= quota then u, x, y = rescaled(seen[4], alg, limit, per, full, u, x, y) end
    end
    if alg <= LEAKY then
      if u < now then u, x = now, 0 elseif u - now > 2 * full + add + 2 then u, x = now + full, full_part end
      nu, nx = u + add, x + add_part
      if nx >= limit then nu, nx = nu + 1, nx - limit end
      local at, part = nu - now, nx
      if alg == LEAKY then at, part = u - now, x end
      ok = at < full or (at == full and part <= full_part)
      if not ok then retry = at - full + (part > full_part and 1 or 0) end
      if alg == LEAKY then
        if cost > math.max(burst, 1) then ok = false end
        if ok then delay = u - now + (x > 0 and 1 or 0) end
      end
    elseif alg == FIXED then
      if now >= u then u, x = window_end(per), 0 elseif u - now > per then u = window_end(per) end
      nu, nx = u, x + cost
      ok = nx <= limit
      if not ok then retry = u - now end
    else
      local start = u - per
      if now >= u then start, x, y = window_end(per), 0, 0
      elseif now >= start then start, x, y = u, 0, x
      elseif start - now > per then start = window_end(per) end
      local left = start - now
      u = start + per
      nu, nx, ny = u, x + cost, y
      ok = y * left + nx * per <= limit * per
      if not ok then
        local function slides(count, room) if count == 0 then return per end return math.min(math.floor(room * per / count), per) end
        local room = limit - nx
        if room >= 0 then retry = left - math.min(slides(y, room), left) else retry = left + per - slides(x, math.max(limit - cost, 0)) end
        retry = math.max(retry, 1)
      end
    end
  end
  if not ok and not trial then all = false end
  writes[i] = { key, alg, ok, nu, nx, ny, quota, cost, per }
  local n = #out
  out[n + 1], out[n + 2], out[n + 3], out[n + 4], out[n + 5], out[n + 6] = ok and 1 or 0, retry, delay, u, x, y
end

if all and ARGV[1] == '1' then
  for i, w in ipairs(writes) do
    local key, alg, ok, u, x, y = w[1], w[2], w[3], w[4], w[5], w[6]
    if ok then
      if alg == LOG then
        for n = 1, w[8] do redis.call('ZADD', key, text(now), text(now) .. ':' .. text(x - n)) end
      else
        redis.call('HSET', key, 'u', text(u), 'x', text(x), 'y', text(y), 'q', w[7])
      end
      redis.call('PEXPIRE', key, text(math.ceil((u - now) / 1000) + 1000))
      local n = 1 + (i - 1) * 6
      out[n + 4], out[n + 5], out[n + 6] = u, x, y
    end
  end
end
return out
