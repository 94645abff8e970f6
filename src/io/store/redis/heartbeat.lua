-- Says whether this Redis can be used, and agrees on the key of the hashes of GUIDs. Writes, because a replica and a node
-- that is being replaced still answer reads.
-- KEYS: where the key is kept, where the number of this gateway's last heartbeat is kept. ARGV: the key to set if there is none,
-- the epoch to set if there is none, the epoch and that number as the gateway knows them, and how long the number is kept, in ms.
-- If the number kept is a lower one, writes were lost. Then a new epoch begins, so that each gateway learns of it. If one
-- has begun already, another gateway has found the same loss.
-- Answers: the key, the epoch, the number of this heartbeat, and the time in seconds and microseconds, which is absent if the
-- user may not ask for it.
local known = redis.pcall('HMGET', KEYS[1], 'key', 'epoch', 'beats')
if known.err then
  if not string.find(known.err, 'WRONGTYPE', 1, true) then
    return known
  end
  redis.call('PEXPIRE', KEYS[1], 0)
  known = {}
end
local key, epoch = known[1] or ARGV[1], known[2] or ARGV[2]
local last = tonumber(ARGV[4])
local kept = tonumber(redis.call('HGET', KEYS[2], 'number') or '0') or 0
if kept < last and epoch == ARGV[3] and ARGV[2] ~= '' then
  epoch = ARGV[2]
end
local number = string.format('%.0f', last + 1)
-- Gateways of earlier versions count all heartbeats together.
local beats = string.format('%.0f', (tonumber(known[3] or '0') or 0) + 1)
local written = redis.pcall('HSET', KEYS[1], 'key', key, 'epoch', epoch, 'beats', beats)
if type(written) ~= 'table' then
  written = redis.pcall('HSET', KEYS[2], 'number', number)
end
-- A full Redis is in use: it answers reads, and still deletes.
if type(written) == 'table' and written.err then
  if not string.find(written.err, 'OOM', 1, true) then
    return written
  end
  number = ''
else
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
local time = redis.pcall('TIME')
if time.err then
  return {key, epoch, number}
end
return {key, epoch, number, time[1], time[2]}
