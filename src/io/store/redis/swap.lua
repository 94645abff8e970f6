-- Writes an agent's state if nobody else has written it since it was read, and tells all gateways.
-- KEYS: the agent's. ARGV: tag that was read, new tag, new state, lifetime in ms, '1' if the new state ends something,
-- channel, agent.
-- Answers 1: written. 2: full, and what was to be ended is gone. A list: the present tag, state and mark instead.
local tag = redis.pcall('HGET', KEYS[1], 'tag')
if type(tag) == 'table' and tag.err then
  if not string.find(tag.err, 'WRONGTYPE', 1, true) then
    return tag
  end
  -- Something else is kept under this name. To expire it is the deletion that the documented rights allow.
  redis.call('PEXPIRE', KEYS[1], 0)
  tag = false
end
if (tag or '') ~= ARGV[1] then
  return redis.call('HMGET', KEYS[1], 'tag', 'state', 'seen')
end
local outcome = 1
local written = redis.pcall('HSET', KEYS[1], 'seen', '1', 'tag', ARGV[2], 'state', ARGV[3])
if type(written) == 'table' and written.err then
  -- A full Redis still deletes. An end must win, if need be at the cost of the agent's other previews; the mark stays
  -- and says that there is nothing, which is more than to know nothing.
  if ARGV[5] ~= '1' then
    return written
  end
  redis.call('HDEL', KEYS[1], 'tag', 'state')
  outcome = 2
else
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
-- A user without the right to publish may still write: then other gateways learn of it when they read.
redis.pcall('PUBLISH', ARGV[6], ARGV[7] .. ' ' .. (outcome == 1 and ARGV[2] or '') .. ' ' .. ARGV[3])
return outcome
