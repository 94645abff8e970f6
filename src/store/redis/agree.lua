-- The key of the hashes of GUIDs, which all gateways share. The first one that asks sets it.
-- KEYS: where it is kept. ARGV: the key to set if there is none.
local key = redis.call('HGET', KEYS[1], 'key')
if not key then
  redis.call('HSET', KEYS[1], 'key', ARGV[1])
  key = ARGV[1]
end
return key
