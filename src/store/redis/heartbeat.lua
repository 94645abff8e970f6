-- Says whether this Redis can be used, and agrees on the key of the hashes of GUIDs. Writes, because a replica and a node
-- that is being replaced still answer reads.
-- KEYS: where the key is kept. ARGV: the key to set if there is none, the epoch to set if there is none.
-- Answers: the key, the epoch, the number of this heartbeat in that epoch, and the time in seconds and microseconds, which is
-- absent if the user may not ask for it.
local known = redis.pcall('HMGET', KEYS[1], 'key', 'epoch', 'beats')
if known.err then
  if not string.find(known.err, 'WRONGTYPE', 1, true) then
    return known
  end
  redis.call('PEXPIRE', KEYS[1], 0)
  known = {}
end
local key, epoch = known[1] or ARGV[1], known[2] or ARGV[2]
local beats = string.format('%.0f', (tonumber(known[3] or '0') or 0) + 1)
local written = redis.pcall('HSET', KEYS[1], 'key', key, 'epoch', epoch, 'beats', beats)
-- A full Redis is in use: it answers reads, and still deletes.
if type(written) == 'table' and written.err then
  if not string.find(written.err, 'OOM', 1, true) then
    return written
  end
  beats = ''
end
local time = redis.pcall('TIME')
if time.err then
  return {key, epoch, beats}
end
return {key, epoch, beats, time[1], time[2]}
