-- Says whether this Redis can be used, and agrees on the key of the hashes of GUIDs. Writes, because a replica and a node
-- that is being replaced still answer reads.
-- KEYS: where the key is kept. ARGV: the key to set if there is none.
-- Answers: the key, and the time in seconds and microseconds, which are absent if the user may not ask for it.
local key = redis.pcall('HGET', KEYS[1], 'key')
if type(key) == 'table' and key.err then
  if not string.find(key.err, 'WRONGTYPE', 1, true) then
    return key
  end
  redis.call('PEXPIRE', KEYS[1], 0)
  key = false
end
local written = redis.pcall('HSET', KEYS[1], 'key', key or ARGV[1])
-- A full Redis is in use: it answers reads, and still deletes.
if type(written) == 'table' and written.err and not string.find(written.err, 'OOM', 1, true) then
  return written
end
local time = redis.pcall('TIME')
if time.err then
  return {key or ARGV[1]}
end
return {key or ARGV[1], time[1], time[2]}
