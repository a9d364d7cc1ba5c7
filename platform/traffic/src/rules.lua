-- Keeps rules for all nodes, unless what is there was changed as late.
-- KEYS: where. ARGV: when they were changed, and their text. Answers 1 if they are there now.
local there = tonumber(redis.call('HGET', KEYS[1], 'changed_at') or '0')
if there >= tonumber(ARGV[1]) then return { 0 } end
redis.call('HSET', KEYS[1], 'changed_at', ARGV[1], 'text', ARGV[2])
return { 1 }
