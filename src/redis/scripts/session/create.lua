-- Starts an empty session with its settings.
-- KEYS: the eight of base.lua
-- ARGV: 8 TTL in seconds, "" for none; then field, value, … of the record
-- Returns OK head | KNOWN fingerprint | EXISTS | NOT_FOUND (made by this op, and gone since) | CORRUPT
local x, code = load()
if not x then return { (code == 'CORRUPT' or adopts == '2') and code or 'EXISTS' } end
local op = knownOp(ARGV[5])
if op then return { x.none and 'NOT_FOUND' or 'KNOWN', op.fingerprint } end
if not x.none then return { 'EXISTS' } end
local p = plan(x)
for i = 9, #ARGV, 2 do p.set[ARGV[i]] = ARGV[i + 1] end
p.set.ttl = ARGV[8] ~= '' and ARGV[8] or nil
ARGV[4] = ARGV[8]
commit(p)
return { 'OK', headOf(x) }
