-- Starts an empty session with its settings.
-- KEYS: the eight of base.lua
-- ARGV: ttl (in seconds, "" for none), record... (field, value, …)
-- Returns OK head | KNOWN fingerprint | EXISTS | NOT_FOUND (made by this op, and gone since) | CORRUPT
local ttl = unpack(ARGV, 8, 8)
local record = 9
local x, code = load()
if not x then return { (code == 'CORRUPT' or adopts == '2') and code or 'EXISTS' } end
local op = knownOp(opId)
if op then return { x.none and 'NOT_FOUND' or 'KNOWN', op.fingerprint } end
if not x.none then return { 'EXISTS' } end
local p = plan(x)
for i = record, #ARGV, 2 do p.set[ARGV[i]] = ARGV[i + 1] end
p.set.ttl = ttl ~= '' and ttl or nil
defaultTtl = ttl
commit(p)
return { 'OK', headOf(x) }
