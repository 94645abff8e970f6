-- Tries each command that the gateway needs, on a key that no agent has. Answers the ones that are refused.
-- KEYS: the key. ARGV: the channel.
local refused = {}
local function try(name, ...)
  local answer = redis.pcall(name, ...)
  if type(answer) == 'table' and answer.err then
    local text = string.lower(answer.err)
    -- The words differ between versions.
    for _, word in ipairs({'permission', 'acl', "can't run", "can't publish", 'no access'}) do
      if string.find(text, word, 1, true) then
        table.insert(refused, string.lower(name))
        break
      end
    end
  end
end
try('HMGET', KEYS[1], 'tag')
try('HGET', KEYS[1], 'tag')
try('HSET', KEYS[1], 'tag', '')
try('HDEL', KEYS[1], 'tag')
try('PEXPIRE', KEYS[1], 1)
try('TIME')
try('PUBLISH', ARGV[1], '')
return refused
